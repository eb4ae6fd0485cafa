"""Consumers that roam, as processes: power comes from elsewhere before it ends where it was."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.drivers.processes import Running, running
from tests.drivers.spaces import check_spaces, inside, spaces
from tests.drivers.test_finder import WISH, held, offering

pytestmark = [pytest.mark.kernel, pytest.mark.interop]


@pytest.fixture(scope="module", autouse=True)
def _allowed() -> None:
    """Skip with the reason: an async test would lose it."""
    check_spaces({})


@asynccontextmanager
async def consuming(
    folder: Path, space: str, *words: str, run: str = "sleep 600"
) -> AsyncIterator[Running]:
    """Run a consumer of WISH in a namespace, until it has power."""
    async with running(
        folder, "consumer", *WISH, "--run", run, *words, before=inside(space)
    ) as one:
        await one.until("ready")
        yield one


def place(sink: Running, name: str, count: int = 1) -> int:
    """Return the place of the `count`th event of a name among all events."""
    places = [at for at, one in enumerate(sink.events) if one["event"] == name]
    return places[count - 1]


@pytest.mark.requirement("DPDP-10-02", "DPDP-10-03")
async def test_who_drains_is_left_when_all_is_ready_elsewhere(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Half", "12V/0.5A") as other:
            async with offering(tmp_path, space, "Full", "12V/5A") as best:
                async with consuming(tmp_path, space) as sink:
                    await sink.until("readings", 1, when=lambda one: one["energy_uj"] > 0)
                    best.signal(signal.SIGTERM)
                    left = await sink.until("left")
                    await sink.until("ready", 2)
                    assert await best.end() == 0
                    await sink.until("readings", 3)
                    assert await held(tmp_path, other) == 6000
                    sink.signal(signal.SIGTERM)
                    assert await sink.end() == 0
    assert not {"lost", "drained", "lease over"} & set(sink.names())
    assert left["cause"] == "goodbye"
    done = sink.events[-1]
    assert done["unsigned_uj"] == 0
    assert done["signed_uj"] == done["energy_uj"]
