"""Two providers of one realm as processes: a contract goes on with the other one, counted once."""

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from powertcp.drivers.realm_file import Realm, write_realm
from powertcp.ledger import Page
from powertcp.store import LedgerStore, PageState
from tests.drivers.processes import Running, running
from tests.drivers.spaces import check_spaces, inside, ip, spaces

pytestmark = [pytest.mark.kernel, pytest.mark.interop]
MEMBERS = (("10.8.0.1", 3252), ("10.8.0.2", 3252))
WISH = ("--request", "12V/1A", "--give-up", "20s")


@pytest.fixture(scope="module", autouse=True)
def _allowed() -> None:
    """Skip with the reason: an async test would lose it."""
    check_spaces({})


def cable(one: str, name: str, two: str, other: str, net: int) -> None:
    """Lay a cable between two namespaces: 10.NET.0.1 and 10.NET.0.2."""
    ip("-n", one, "link", "add", name, "type", "veth", "peer", "name", other, "netns", two)
    for number, space, end in ((1, one, name), (2, two, other)):
        ip("netns", "exec", space, "sysctl", "-q", f"net.ipv6.conf.{end}.accept_dad=0")
        ip("-n", space, "addr", "add", f"10.{net}.0.{number}/24", "dev", end)
        ip("-n", space, "link", "set", end, "up")


@contextmanager
def hall() -> Iterator[tuple[str, str, str]]:
    """Make a consumer with a cable to each of two providers, which have one between them."""
    with spaces(3) as (sink, first, second):
        cable(first, "back", second, "back", 8)
        cable(sink, "e1", first, "e0", 1)
        cable(sink, "e2", second, "e0", 2)
        yield sink, first, second


@asynccontextmanager
async def member(
    folder: Path, space: str, number: int, *words: str, supply: str = "12V/5A"
) -> AsyncIterator[Running]:
    """Run a provider of the realm, announced to the consumer's cable only."""
    host = f"10.{number}.0.2"
    async with running(
        folder, "provider", "--listen", f"{host}:3251", "--supply", supply,
        "--name", f"Hall {number}", "--state-dir", str(folder / f"hall{number}"),
        "--realm", str(folder / "hall.realm"), "--member", MEMBERS[number - 1][0], "-v", *words,
        before=inside(space),
    ) as one:  # fmt: skip
        await one.until_logged("announced as")
        yield one


def make_realm(folder: Path) -> None:
    write_realm(folder / "hall.realm", Realm("hall", bytes(range(32)), MEMBERS))


def pages(*states: Path) -> list[Page]:
    """Return every page that both have signed, of some ledgers together, each once.

    Two that differ in one place are no page: they contradict each other. DPDP-10-09.
    """
    found: dict[tuple[bytes, int], Page] = {}
    for state in states:
        store = LedgerStore(state / "ledger.db")
        try:
            for row in store.pages():
                if row.state == PageState.COUNTERSIGNED:
                    page = Page.from_wire(row.body)
                    assert found.setdefault((page.transcript, page.page), page) == page
        finally:
            store.close()
    return sorted(found.values(), key=lambda page: (page.transcript, page.page))


async def drawing(sink: Running, power_mw: int) -> None:
    """Wait until power comes as it was asked for: the energy of 2 s, less a fifth.

    A reading comes each second whatever is given; the first one has what was under way.
    """
    first = await sink.until("readings", 1 + len(sink.all("readings")))
    wanted_uj = int(first["energy_uj"]) + 2 * power_mw * 800
    await sink.until("readings", when=lambda one: one["energy_uj"] >= wanted_uj, within_s=8)


@pytest.mark.requirement("DPDP-10-05")
@pytest.mark.requirement("DPDP-10-07")
@pytest.mark.requirement("DPDP-10-08")
async def test_a_contract_goes_on_with_the_other_one_when_a_provider_is_killed(
    tmp_path: Path,
) -> None:
    make_realm(tmp_path)
    with hall() as (here, first, second):
        async with member(tmp_path, first, 1) as one, member(tmp_path, second, 2) as two:
            await one.until_logged("told of our flows")
            await two.until_logged("told of our flows")
            async with running(
                tmp_path, "consumer", *WISH, "--run", "sleep 600", "--state-dir", str(tmp_path / "sink"),
                before=inside(here),
            ) as sink:  # fmt: skip
                await sink.until("ready")
                found = str(sink.all("found")[0]["provider"])
                source, other = (one, two) if found == "Hall 1" else (two, one)
                await sink.until("readings", 5)
                source.process.kill()
                again = await sink.until("ready", 2)
                assert again["resumed"] is True
                await drawing(sink, 12_000)
                sink.signal(signal.SIGTERM)
                assert await sink.end() == 0
                done = sink.events[-1]
            other.signal(signal.SIGTERM)
            assert await other.end() == 0
            assert "load ended" not in sink.names()
            assert done["unsigned_uj"] == 0
            assert done["signed_uj"] == done["energy_uj"] > 30_000_000
    written = pages(tmp_path / "hall1", tmp_path / "hall2")
    assert sum(page.energy_uj for page in written) == done["energy_uj"]
    assert [page.page for page in written] == list(range(len(written)))
