"""A provider that is killed at any moment: what it acknowledged is in its books, and once."""

import logging
import random
from pathlib import Path

import pytest
import trio

from powertcp.drivers.daemon import now_ns
from powertcp.ledger import Code, Page
from powertcp.potcp.events import PageReceived
from powertcp.store import LedgerStore, PageState
from powertcp.wire.options import Meter
from tests.drivers.processes import provider
from tests.drivers.test_billing import KEY, Payer
from tests.drivers.test_provider import client
from tests.full import size

FLOWS = 4
EACH_SECOND = Meter(1, 0, KEY.public)
_log = logging.getLogger("test")


async def pay(address: str, seed: int, acknowledged: list[bytes]) -> None:
    """Take power and sign for it until the provider is gone.

    A page that follows another one acknowledges it: the source has its copy.
    """
    async with client(address) as sink:
        payers = {sink.ask("12V/1A", meter=EACH_SECOND): Payer(sink) for _ in range(FLOWS)}
        signed: dict[int, bytes] = {}
        while batch := await sink.stream.receive_batch():
            for event in batch:
                if not isinstance(event, PageReceived):
                    continue
                before = signed.get(event.flow)
                if before is not None:
                    acknowledged.append(before)
                payer = payers[event.flow]
                payer.answer(event)
                signed[event.flow] = payer.pages[-1].to_wire()
                if len(payer.pages) == 3 and event.flow % 4 == seed % 4:
                    sink.stream.queue(sink.machine.close_flow, event.flow, now=now_ns())


def check(folder: Path, acknowledged: list[bytes]) -> tuple[int, int]:
    """Compare the books with what was acknowledged; returns their pages and their energy."""
    with LedgerStore(folder / "ledger.db", read_only=True) as store:
        assert store.verify() == []
        pages = {row.body: row.state for row in store.pages()}
        for body in acknowledged:
            assert pages[body] == PageState.COUNTERSIGNED
        signed = [body for body, state in pages.items() if state == PageState.COUNTERSIGNED]
        posted = sum(entry.amount for entry in store.entries() if entry.code == Code.RECEIPT)
        assert posted == sum(Page.from_wire(body).energy_uj for body in signed)
        sums: dict[str, int] = {}
        for account in store.accounts():
            sums[account.unit] = sums.get(account.unit, 0) + account.balance
        assert set(sums.values()) <= {0}
    return len(signed), posted


@pytest.mark.requirement("LEDG-7-06")
async def test_a_provider_that_is_killed_has_every_receipt_it_acknowledged_once(
    tmp_path: Path,
) -> None:
    chance = random.Random(2007)
    state = tmp_path / "books"
    acknowledged: list[bytes] = []
    rounds = size(3, 200)
    for number in range(rounds):
        words = ("--supply", "12V/50A", "--state-dir", str(state))
        async with provider(tmp_path, *words) as (source, address):
            async with trio.open_nursery() as nursery:
                for seed in range(2):
                    nursery.start_soon(pay, address, number + seed, acknowledged)
                await trio.sleep(chance.uniform(0.5, 5))
                source.process.kill()
            await source.end()
        pages, posted_uj = check(state, acknowledged)
    assert len(acknowledged) >= rounds
    said = "%d rounds, %d pages acknowledged, %d in the books, %d uJ posted, balance 0"
    _log.info(said, rounds, len(acknowledged), pages, posted_uj)
