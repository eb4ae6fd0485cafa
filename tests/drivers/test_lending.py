"""Lending from a reservoir, over real sockets: to the microjoule, above the floor, with reasons."""

# ruff: noqa: SIM117 - one `async with` for each end reads better

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from powertcp.crypto import ExchangeKey
from powertcp.drivers.admission import nothing_more
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import listen
from powertcp.drivers.lending import LEASE_S, Lender
from powertcp.errors import LocalProtocolError
from powertcp.potcp import ConnectionConfig
from powertcp.potcp.events import (
    FlowClosed,
    FlowRefused,
    PowerOffered,
    PowerReady,
    SamplesReceived,
    ShedReceived,
    TicketReceived,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason
from powertcp.sources import Drawn, LendTerms, Reservoir, ReservoirTerms, parse_supply
from powertcp.vppn.config import SealConfig
from tests.drivers.processes import running
from tests.drivers.test_provider import Client, client, eventually
from tests.drivers.test_sealed_processes import ALICE, SITE, write_key

J = 1_000_000
HOME = "127.0.0.1"


class Lent:
    """What a lender told of its draws, by who has drawn."""

    def __init__(self) -> None:
        self.out_uj: Counter[str] = Counter()
        self.heat_uj: Counter[str] = Counter()

    def __call__(self, who: str, drawn: Drawn) -> None:
        assert drawn.out_uj + drawn.heat_uj > 0
        self.out_uj[who] += drawn.out_uj
        self.heat_uj[who] += drawn.heat_uj


def store(stored_uj: int = 50_000 * J, **more: object) -> Reservoir:
    made = replace(ReservoirTerms(name="main", capacity_uj=100_000 * J), **more)  # type: ignore[arg-type]
    return Reservoir(made, stored_uj)


def lend(offer: str = "12V/5A,prio=5", above_percent: int = 20, **more: object) -> LendTerms:
    terms = LendTerms(
        reservoir="main",
        supply=parse_supply(offer),
        above_percent=above_percent,
        listen=(HOME, 0),
    )
    return replace(terms, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def lending(
    reservoir: Reservoir, terms: LendTerms | None = None, **options: Any
) -> AsyncIterator[tuple[Lender, str, Lent]]:
    lent = Lent()
    lender = Lender(terms or lend(), reservoir, lent, **options)
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(lender.run)
        yield lender, address, lent
        nursery.cancel_scope.cancel()


async def close(sink: Client, flow: int, count: int = 1) -> FlowClosed:
    sink.stream.queue(sink.machine.close_flow, flow, now=now_ns())
    closed = await sink.until(FlowClosed, count)
    assert isinstance(closed, FlowClosed)
    return closed


async def take(sink: Client, energy_uj: int) -> int:
    """Wait until the register of the first flow has `energy_uj`; return it."""
    count = 0
    while True:
        count += 1
        last = await sink.until(SamplesReceived, count)
        assert isinstance(last, SamplesReceived)
        if last.esn_uj >= energy_uj:
            return last.esn_uj


# -- to the microjoule -------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-01")
async def test_what_a_consumer_has_is_drawn_to_the_microjoule() -> None:
    reservoir = store()
    async with lending(reservoir) as (lender, address, lent), client(address) as sink:
        flow = sink.ask("12V/5A,prio=5")
        await sink.until(PowerReady)
        await take(sink, 70 * J)
        # a look in the middle: it is drawn while it flows
        assert lent.out_uj[HOME] > 0
        closed = await close(sink, flow)
        await eventually(lambda: not len(lender.loans))
        assert lent.out_uj == {HOME: closed.esn_uj}
        assert reservoir.out_uj == lender.loans.out_uj == closed.esn_uj
        assert reservoir.stored_uj == 50_000 * J - closed.esn_uj - lent.heat_uj[HOME]
        assert lent.heat_uj[HOME] >= closed.esn_uj * 5 // 95
        assert (reservoir.promised_uj, lender.loans.unpaid_uj) == (0, 0)
        assert lender.status()["lent_uj"] == closed.esn_uj


async def test_two_flows_of_two_addresses_are_drawn_apart() -> None:
    reservoir = store()
    terms = lend(listen=("::", 0))
    async with lending(reservoir, terms) as (lender, address, lent):
        port = address.rpartition(":")[2]
        async with client(f"127.0.0.1:{port}") as one, client(f"[::1]:{port}") as two:
            flows = [sink.ask("12V/1A") for sink in (one, two)]
            for sink in (one, two):
                await sink.until(SamplesReceived, 3)
            first, second = await close(one, flows[0]), await close(two, flows[1])
            await eventually(lambda: not len(lender.loans))
        assert lent.out_uj == {"127.0.0.1": first.esn_uj, "::1": second.esn_uj}


async def test_a_flow_that_a_ticket_moved_is_drawn_once() -> None:
    reservoir = store()
    async with lending(reservoir) as (lender, address, lent), client(address) as old:
        old.ask("12V/1A")
        ticket = await old.until(TicketReceived)
        assert isinstance(ticket, TicketReceived)
        await old.until(SamplesReceived, 2)
        esn_uj = old.machine.status(old.machine.flows[0]).esn_uj
        async with client(address) as new:
            new.ask("12V/1A", ticket=ticket.ticket, esn_uj=esn_uj)
            await new.until(SamplesReceived, 2)
            await old.until(FlowClosed)
            closed = await close(new, new.machine.flows[0])
            await eventually(lambda: not len(lender.loans))
        assert lent.out_uj[HOME] == closed.esn_uj > esn_uj


async def test_what_was_acknowledged_is_drawn_when_the_lender_is_ended() -> None:
    reservoir = store()
    async with lending(reservoir) as (lender, address, lent), client(address) as sink:
        sink.ask("12V/5A")
        await sink.until(SamplesReceived, 3)
        [session] = lender.provider.sessions
        [record] = session.flows.values()
        await eventually(lambda: session.machine.status(record.flow).acked_uj > 10 * J)
        acked_uj = session.machine.status(record.flow).acked_uj
    assert lent.out_uj[HOME] >= acked_uj
    assert reservoir.out_uj == lent.out_uj[HOME]
    assert reservoir.heat_uj == lent.heat_uj[HOME]
    assert (reservoir.promised_uj, len(lender.loans)) == (0, 0)


async def test_a_drain_ends_flows_with_601_and_the_lender() -> None:
    reservoir = store()
    lent = Lent()
    lender = Lender(lend(), reservoir, lent)
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(lender.run)
        async with client(address) as sink:
            sink.ask("12V/1A")
            await sink.until(SamplesReceived, 2)
            nursery.start_soon(lender.drain)
            closed = await sink.until(FlowClosed)
            assert isinstance(closed, FlowClosed)
            assert closed.refusal is not None
            assert closed.refusal.code == Reason.DRAINING
    assert lent.out_uj[HOME] == closed.esn_uj
    assert reservoir.promised_uj == 0


async def test_real_consumers_have_what_was_drawn(tmp_path: Path) -> None:
    reservoir = store()
    async with lending(reservoir) as (lender, address, lent):
        words = ("consumer", "--connect", address, "--request", "12V/2A", "--for", "2s")
        async with running(tmp_path, *words) as one, running(tmp_path, *words) as two:
            assert [await one.end(), await two.end()] == [0, 0]
        had_uj = sum(done["energy_uj"] for sink in (one, two) for done in sink.all("done"))
        await eventually(lambda: not len(lender.loans))
    assert lent.out_uj[HOME] == reservoir.out_uj == had_uj == 96 * J


async def test_a_sealed_consumer_is_named_by_its_key(tmp_path: Path) -> None:
    reservoir, lent = store(), Lent()
    lender = Lender(lend(), reservoir, lent)
    lender.seal(SealConfig(key=ExchangeKey(SITE.octets)), is_required=True)
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(lender.run)
        words = (
            "consumer", "--connect", address, "--request", "12V/2A", "--for", "1s", "--seal",
            "--peer", str(SITE.public), "--key", write_key(tmp_path / "alice", ALICE),
        )  # fmt: skip
        async with running(tmp_path, *words) as sink:
            assert await sink.end() == 0
        await eventually(lambda: not len(lender.loans))
        async with client(address) as stranger:
            stranger.ask("12V/1A")
            refused = await stranger.until(FlowRefused)
            assert isinstance(refused, FlowRefused)
            assert refused.refusal.code == Reason.SEAL_REQUIRED
        nursery.cancel_scope.cancel()
    assert lent.out_uj == {str(ALICE.public): 24 * J}


# -- above the floor ---------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-01")
async def test_nothing_takes_a_reservoir_below_its_floor_and_what_there_is_is_had() -> None:
    # 30 J can be drawn: 3 W for ten seconds, less a tenth
    reservoir = store(10_032 * J, floor_percent=10)
    async with lending(reservoir, lend("12V/5A", 0)) as (lender, address, lent):
        assert lender.status()["rating_mw"] == 0
        assert not lender.is_open
        reservoir.bank(1_000 * J)
        lender.look()
        assert lender.is_open
        async with client(address) as sink:
            flow = sink.ask("12V/5A")
            await sink.until(PowerReady)
            before_uj = reservoir.stored_uj
            # somebody else draws all but 19 J
            reservoir.draw(reservoir.available_uj - 19 * J)
            assert reservoir.promised_uj > 0
            shed = await sink.until(ShedReceived)
            assert isinstance(shed, ShedReceived)
            closed = await close(sink, flow)
            await eventually(lambda: not len(lender.loans))
            assert before_uj > reservoir.stored_uj >= reservoir.terms.floor_uj
            assert lent.out_uj[HOME] == closed.esn_uj
            assert lender.loans.unpaid_uj == 0


@pytest.mark.requirement("FWRL-4-04")
async def test_power_times_lease_is_within_what_is_above_the_floor() -> None:
    reservoir = store(20_500 * J, floor_percent=20)
    async with lending(reservoir) as (lender, address, _), client(address) as sink:
        most_uj = 500 * J * 95 // 100
        rating_mw = lender.provider.breaker.rating_mw
        assert 0.8 * most_uj < rating_mw * 1000 * LEASE_S <= 0.9 * most_uj
        sink.ask("12V/5A", "12V/1A")
        ready = await sink.until(PowerReady)
        assert isinstance(ready, PowerReady)
        assert ready.profile.power_mw <= rating_mw
        assert reservoir.promised_uj <= 0.9 * most_uj


async def test_a_rating_is_at_most_max_out_and_rises_when_there_is_more() -> None:
    reservoir = store(20_100 * J, floor_percent=20, max_out_mw=24_000)
    async with lending(reservoir) as (lender, _, _):
        breaker = lender.provider.breaker
        assert breaker.rating_mw == 7_500
        assert breaker.because == "reservoir main: 95 J above its floor"
        # one step of a sixteenth is not worth a change
        reservoir.bank(20 * J)
        lender.look()
        assert breaker.rating_mw == 7_500
        reservoir.bank(20_000 * J)
        lender.look()
        assert (breaker.rating_mw, breaker.because) == (24_000, "")


@pytest.mark.requirement("FWRL-4-04")
@pytest.mark.parametrize("lease", ["", ",lease=5s", ",lease=300s"])
async def test_a_lease_is_short_and_leaves_nothing_granted(lease: str) -> None:
    async with lending(store()) as (_, address, _), client(address) as sink:
        floor = PowerProfile.parse("12V/0.1A", ProfileType.FALLBACK)
        flow = sink.ask(f"12V/1A{lease}", fallback=floor)
        ready = await sink.until(PowerReady)
        assert isinstance(ready, PowerReady)
        assert ready.profile.lease_s == (5 if lease == ",lease=5s" else LEASE_S)
        assert ready.profile.giveback
        assert sink.machine.status(flow).fallback is None


async def test_a_lease_that_could_not_be_kept_is_refused_as_ever() -> None:
    async with lending(store()) as (_, address, _), client(address) as sink:
        sink.ask("12V/1A,lease=2s")
        refused = await sink.until(FlowRefused)
        assert isinstance(refused, FlowRefused)
        assert refused.refusal.code == Reason.LEASE_RANGE


async def test_the_best_class_is_that_of_the_offer() -> None:
    async with lending(store()) as (_, address, _), client(address) as sink:
        sink.ask("12V/1A,prio=4")
        refused = await sink.until(FlowRefused)
        assert isinstance(refused, FlowRefused)
        assert (refused.refusal.code, refused.refusal.limit) == (Reason.PRIORITY_DENIED, 5)
        sink.ask("12V/1A,prio=5")
        await sink.until(PowerReady)


# -- the threshold -----------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-04")
async def test_below_its_threshold_flows_are_shed_with_the_numbers_of_the_reservoir() -> None:
    reservoir = store(30_000 * J)
    async with lending(reservoir) as (lender, address, lent), client(address) as sink:
        flow = sink.ask("12V/1A")
        await sink.until(SamplesReceived, 2)
        reservoir.draw(12_000 * J)
        lender.look()
        assert not lender.is_open
        shed = await sink.until(ShedReceived)
        assert isinstance(shed, ShedReceived)
        assert shed.ceiling.power_mw == 0
        assert shed.refusal is not None
        assert shed.refusal.code == Reason.BUDGET
        assert shed.refusal.text == "reservoir main: 17% is stored, it lends from 22%"
        other = sink.ask("12V/1A")
        refused = await sink.until(FlowRefused)
        assert isinstance(refused, FlowRefused)
        assert refused.flow == other
        assert refused.refusal.text == shed.refusal.text
        # a little above is not enough to open again
        reservoir.bank(5_000 * J - reservoir.stored_uj + 16_000 * J)
        assert reservoir.percent in (20, 21)
        lender.look()
        assert not lender.is_open
        reservoir.bank(3_000 * J)
        lender.look()
        assert lender.is_open
        closed = await close(sink, flow, 2)
        await eventually(lambda: not len(lender.loans))
        assert lent.out_uj[HOME] == closed.esn_uj > 0


async def test_a_reservoir_that_falls_sheds_and_says_what_is_left() -> None:
    reservoir = store(21_000 * J, floor_percent=20)
    async with lending(reservoir) as (lender, address, _), client(address) as sink:
        sink.ask("12V/5A", "12V/0.1A")
        await sink.until(PowerReady)
        reservoir.draw(600 * J)
        lender.look()
        shed = await sink.until(ShedReceived)
        assert isinstance(shed, ShedReceived)
        assert 0 < shed.ceiling.power_mw < 60_000
        assert shed.refusal is not None
        assert shed.refusal.text.startswith("reservoir main: ")
        assert shed.refusal.text.endswith(" J above its floor")
        lowered = await sink.until(PowerReady, 2)
        assert isinstance(lowered, PowerReady)
        assert lowered.profile.power_mw <= lender.provider.breaker.rating_mw


async def test_a_closed_lender_offers_nothing_and_opens_when_it_is_filled() -> None:
    reservoir = store(0)
    async with lending(reservoir) as (lender, address, _), client(address) as sink:
        assert lender.provider.breaker.because == (
            "reservoir main: 0% is stored, it lends from 22%"
        )
        sink.ask("12V/1A")
        refused = await sink.until(FlowRefused)
        assert isinstance(refused, FlowRefused)
        reservoir.bank(60_000 * J)
        # by itself, within a second
        await eventually(lambda: lender.is_open)
        sink.ask("12V/1A")
        await sink.until(PowerReady)


async def test_more_than_is_rated_is_offered_in_part() -> None:
    async with lending(store(max_out_mw=24_000)) as (_, address, _), client(address) as sink:
        sink.ask("12V/5A")
        offered = await sink.until(PowerOffered)
        assert isinstance(offered, PowerOffered)
        assert offered.refusal is not None
        assert (offered.refusal.code, offered.refusal.limit) == (Reason.NO_CAPACITY, 24_000)


# -- a loop ------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-04")
async def test_its_own_power_that_comes_back_only_loses() -> None:
    reservoir = store()
    async with lending(reservoir) as (lender, address, lent), client(address) as sink:
        flow = sink.ask("12V/5A")
        banked = had = 0
        count = 0
        while banked < 60 * J:
            count += 1
            event = await sink.until(SamplesReceived, count)
            assert isinstance(event, SamplesReceived)
            # whatever comes out of it is banked again
            reservoir.bank(event.esn_uj - had)
            banked += event.esn_uj - had
            had = event.esn_uj
        closed = await close(sink, flow)
        reservoir.bank(closed.esn_uj - had)
        await eventually(lambda: not len(lender.loans))
        assert reservoir.in_uj == reservoir.out_uj == closed.esn_uj == lent.out_uj[HOME]
        lost_uj = 50_000 * J - reservoir.stored_uj
        assert lost_uj == reservoir.heat_uj
        # 5 % of what comes in, 5/95 of what goes out
        assert lost_uj * 1000 >= closed.esn_uj * 102


# -- orders ------------------------------------------------------------------------------------


async def test_other_terms_are_taken_but_for_what_is_settled_at_the_start() -> None:
    reservoir = store()
    async with lending(reservoir) as (lender, address, _), client(address) as sink:
        lender.change(replace(lender.terms, supply=parse_supply("12V/2A,prio=9")))
        assert lender.provider.breaker.rating_mw == 24_000
        sink.ask("12V/1A,prio=5")
        refused = await sink.until(FlowRefused)
        assert isinstance(refused, FlowRefused)
        assert refused.refusal.limit == 9
        lender.change(replace(lender.terms, above_percent=60))
        assert not lender.is_open
        for other in ({"reservoir": "spare"}, {"listen": (HOME, 1)}, {"announce": "x"}):
            with pytest.raises(LocalProtocolError, match="settled at the start"):
                lender.change(replace(lender.terms, **other))


@pytest.mark.requirement("FWRL-4-04")
async def test_two_lenders_of_one_reservoir_promise_nothing_twice() -> None:
    reservoir = store(20_200 * J, floor_percent=20)
    async with lending(reservoir) as (one, here, _), lending(reservoir) as (two, there, _):
        async with client(here) as first, client(there) as second:
            first.ask("12V/5A", "12V/0.1A")
            await first.until(SamplesReceived, 2)
            two.look()
            assert two.provider.breaker.rating_mw < one.provider.breaker.rating_mw
            second.ask("12V/5A", "12V/0.1A")
            with trio.move_on_after(1.5):
                await second.until(SamplesReceived, 3)
            assert reservoir.promised_uj <= reservoir.drawable_uj
    assert one.loans.unpaid_uj == two.loans.unpaid_uj == 0
    assert reservoir.stored_uj >= reservoir.terms.floor_uj


async def test_an_address_that_is_taken_is_an_error_and_nothing_is_left_open() -> None:
    [taken] = listen([(HOME, 0)])
    with taken:
        lender = Lender(lend(listen=(HOME, taken.getsockname()[1])), store(), Lent())
        with pytest.raises(OSError, match="in use"):
            await lender.run()


# -- what goes wrong ---------------------------------------------------------------------------


async def test_what_a_cut_left_on_its_way_is_heat() -> None:
    reservoir = store()
    async with lending(reservoir) as (lender, address, lent):
        # as long as a cut is waited for
        lender.provider.config = replace(
            lender.provider.config, connection=ConnectionConfig(lease_s=LEASE_S, grace_ns=0)
        )
        async with client(address) as sink:
            sink.ask("12V/5A")
            await sink.until(SamplesReceived, 2)
            [session] = lender.provider.sessions
            [record] = session.flows.values()
            # nothing is read any more, and it delivers what credit there is
            await eventually(lambda: record.blocked)
            status = session.machine.status(record.flow)
            sink.stream.abort()
            await eventually(lambda: not len(lender.loans))
        assert status.esn_uj > status.acked_uj
        assert lent.out_uj[HOME] == status.acked_uj
        assert lent.heat_uj[HOME] >= status.esn_uj - status.acked_uj
        assert reservoir.stored_uj == 50_000 * J - sum(lent.out_uj.values()) - lent.heat_uj[HOME]
        assert reservoir.promised_uj == 0


async def test_what_a_smaller_reservoir_cannot_pay_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reservoir = store()
    terms = lend(above_percent=0)
    async with lending(reservoir, terms) as (lender, address, lent), client(address) as sink:
        flow = sink.ask("12V/5A")
        await sink.until(SamplesReceived, 2)
        lender.loans.settle()
        had_uj = lent.out_uj[HOME]
        reservoir.change(replace(reservoir.terms, capacity_uj=100))
        closed = await close(sink, flow)
        await eventually(lambda: not len(lender.loans))
    assert lent.out_uj[HOME] == had_uj + 95
    assert lender.loans.unpaid_uj == closed.esn_uj - lent.out_uj[HOME] > 0
    assert (reservoir.stored_uj, reservoir.promised_uj) == (0, 0)
    assert "more than there was" in caplog.text


async def test_a_flow_that_ended_unsaid_has_nothing_promised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reservoir = store()
    async with lending(reservoir) as (lender, address, _), client(address) as sink:
        lender.provider.admissions.on_closed = nothing_more
        flow = sink.ask("12V/5A")
        await sink.until(SamplesReceived, 2)
        await close(sink, flow)
        await eventually(lambda: not len(lender.loans))
        assert reservoir.promised_uj == 0
    assert "power was still promised to it" in caplog.text


async def test_an_address_has_at_most_so_many_connections() -> None:
    async with lending(store(), per_address=1) as (lender, address, _), client(address) as sink:
        sink.ask("12V/1A")
        await sink.until(PowerReady)
        async with client(address):
            await eventually(lambda: lender.provider.refused_connections == 1)
