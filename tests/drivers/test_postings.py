"""What waits for the disk: in order, counted, bounded."""

import os
from pathlib import Path

import pytest
import trio
import trio.testing

from powertcp.drivers import postings
from powertcp.drivers.ledger import open_ledger
from powertcp.drivers.postings import Line, Postings
from powertcp.errors import PowerRefused
from powertcp.registry import Reason, Refusal


async def test_a_line_is_done_in_order_and_lines_do_not_wait_for_each_other(tmp_path: Path) -> None:
    done: list[str] = []
    go = trio.Event()

    async def job(name: str) -> None:
        if name == "a0":
            await go.wait()
        done.append(name)

    async with open_ledger(tmp_path, os.urandom) as ledger, trio.open_nursery() as nursery:
        waiting = Postings(ledger, lambda: None)
        first, second = Line("a"), Line("b")
        waiting.put(first, lambda: job("before there is a nursery"))
        waiting.nursery = nursery
        for line in (first, second):
            for number in range(2):
                waiting.put(line, lambda name=f"{line.name}{number}": job(name), 5)  # type: ignore[misc]
        assert (waiting.waiting, waiting.queued_uj, waiting.booked_uj) == (4, 20, 0)
        await trio.testing.wait_all_tasks_blocked()
        assert done == ["b0", "b1"]
        assert (waiting.waiting, waiting.queued_uj, waiting.booked_uj) == (2, 10, 10)
        go.set()
        await waiting.settle()
        assert done == ["b0", "b1", "a0", "a1"]
        assert (waiting.waiting, waiting.queued_uj, waiting.booked_uj) == (0, 0, 20)
        await waiting.settle()


async def test_what_is_refused_is_not_booked_and_the_line_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def refused() -> None:
        await trio.lowlevel.checkpoint()
        raise PowerRefused(Refusal(Reason.ENERGY_QUOTA, 2, 1))

    async with open_ledger(tmp_path, os.urandom) as ledger, trio.open_nursery() as nursery:
        waiting = Postings(ledger, lambda: None)
        waiting.nursery = nursery
        line = Line("lamp")
        waiting.put(line, refused, 7)
        waiting.put(line, trio.lowlevel.checkpoint, 3)
        await waiting.settle()
        assert (waiting.queued_uj, waiting.booked_uj) == (0, 3)
    assert "lamp: 205 ENERGY_QUOTA" in caplog.text


@pytest.mark.requirement("LEDG-7-07")
async def test_a_ledger_that_is_too_far_behind_is_taken_for_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings, "MAX_WAITING", 3)
    behind: list[bool] = []
    async with open_ledger(tmp_path, os.urandom) as ledger, trio.open_nursery() as nursery:
        waiting = Postings(ledger, lambda: behind.append(True))
        waiting.nursery = nursery
        for number in range(3):
            waiting.put(Line(f"{number}"), trio.sleep_forever)
        assert not waiting.is_stuck
        waiting.put(Line("one above"), trio.sleep_forever)
        assert waiting.is_stuck
        assert behind == [True]
        waiting.put(Line("no more"), trio.sleep_forever)
        assert waiting.waiting == 4
        await waiting.settle()
        nursery.cancel_scope.cancel()
