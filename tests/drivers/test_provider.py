"""The provider on real sockets: admission, delivery, shedding, drain, limits."""

# ruff: noqa: SIM117, ASYNC110 - polled is what has no event of its own

import gc
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import connect, listen, parse_address
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.drivers.session import AddressLimit, Session, party_of, peer_of
from powertcp.drivers.stream import SegmentStream
from powertcp.drivers.wheel import Wheel
from powertcp.drivers.wire import Wire
from powertcp.machine import Event
from powertcp.potcp import ConnectionConfig, PowerConnection
from powertcp.potcp.events import (
    Ask,
    FlowClosed,
    FlowRefused,
    FlowResumed,
    FlowTripped,
    PowerOffered,
    PowerReady,
    SamplesReceived,
    ShedReceived,
    TicketReceived,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from powertcp.sources import make_source, parse_supply
from powertcp.units import NS_PER_S


class Client:
    """A consumer of one connection, driven by the test."""

    def __init__(self, stream: SegmentStream[Event], machine: PowerConnection) -> None:
        self.stream = stream
        self.machine = machine
        self.seen: list[Event] = []

    def ask(self, request: str, minimum: str | None = None, **options: object) -> int:
        least = PowerProfile.parse(minimum, ProfileType.MINIMUM) if minimum else None
        asks = [Ask(PowerProfile.parse(request), least)]
        flow = self.stream.queue(
            self.machine.open_flow,
            asks,
            now=now_ns(),
            **options,  # type: ignore[arg-type]
        )
        assert isinstance(flow, int)
        return flow

    async def until(self, kind: type[Event], count: int = 1) -> Event:
        with trio.fail_after(8):
            while True:
                found = [event for event in self.seen if isinstance(event, kind)]
                if len(found) >= count:
                    return found[count - 1]
                batch = await self.stream.receive_batch()
                assert batch, f"the connection ended before {kind.__name__}: {self.seen}"
                self.seen.extend(batch)


@asynccontextmanager
async def serving(
    *supplies: str, rating_mw: int = 100_000, addresses: tuple[str, ...] = ("127.0.0.1:0",),
    **options: object,
) -> AsyncIterator[tuple[Provider, list[str]]]:  # fmt: skip
    made = [parse_supply(text) for text in supplies or ("12V/50A",)]
    config = ProviderConfig(supplies=made, rating_mw=rating_mw, **options)  # type: ignore[arg-type]
    provider = Provider(config)
    listeners = listen(parse_address(text) for text in addresses)
    async with trio.open_nursery() as nursery:
        where = await nursery.start(provider.serve, listeners)
        yield provider, where
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def client(address: str, **config: int) -> AsyncIterator[Client]:
    sock = await connect(*parse_address(address))
    machine = PowerConnection(client=True, config=ConnectionConfig(**config), entropy=os.urandom)
    wheel = Wheel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wheel.run)
        stream = SegmentStream[Event](sock, machine, nursery=nursery, wheel=wheel)
        machine.start(now_ns())
        try:
            yield Client(stream, machine)
        finally:
            stream.close()
            nursery.cancel_scope.cancel()


async def eventually(truth: Callable[[], bool]) -> None:
    with trio.fail_after(8):
        while not truth():
            await trio.sleep(0.01)


@pytest.mark.requirement("PTCP-4-06")
async def test_a_request_without_lease_gets_the_configured_one_and_another_its_own() -> None:
    config = ConnectionConfig(lease_s=30)
    async with serving("12V/5A", connection=config) as (_, [address]), client(address) as sink:
        for request, lease_s in (("12V/1A", 30), ("12V/1A,lease=5s", 5)):
            flow = sink.ask(request)
            ready = await sink.until(PowerReady, flow // 2 + 1)
            assert isinstance(ready, PowerReady)
            assert ready.profile.lease_s == lease_s


@pytest.mark.requirement("PTCP-4-05")
async def test_a_flow_is_powered_and_both_registers_agree() -> None:
    async with serving("12V/5A") as (provider, [address]), client(address) as sink:
        flow = sink.ask("12V/1.5A")
        ready = await sink.until(PowerReady)
        assert isinstance(ready, PowerReady)
        assert ready.profile.power_mw == 18_000
        last = await sink.until(SamplesReceived, 3)
        assert isinstance(last, SamplesReceived)
        assert last.sim
        assert last.esn_uj == 3 * 1_800_000
        assert provider.breaker.held_mw == 18_000
        sink.stream.queue(sink.machine.close_flow, flow, now=now_ns())
        closed = await sink.until(FlowClosed)
        assert isinstance(closed, FlowClosed)
        await eventually(lambda: provider.breaker.held_mw == 0)
        books = provider.admissions
        assert books.delivered_uj + books.returned_uj == closed.esn_uj


@pytest.mark.requirement("PTCP-11-01")
async def test_two_voltages_on_one_connection() -> None:
    async with serving("5V/3A", "230V/16A@50Hz", rating_mw=4_000_000) as (provider, [address]):
        async with client(address) as sink:
            sink.ask("5V/1A")
            sink.ask("230V/2A@50Hz")
            await sink.until(PowerReady, 2)
            await sink.until(SamplesReceived, 8)
            assert provider.breaker.held_mw == 465_000


async def test_another_voltage_is_refused_with_numbers() -> None:
    async with serving("230V/16A@50Hz") as (provider, [address]), client(address) as sink:
        sink.ask("12V/1A")
        refused = await sink.until(FlowRefused)
        assert isinstance(refused, FlowRefused)
        assert refused.refusal.code == Reason.VOLTAGE_RANGE
        assert (refused.refusal.value, refused.refusal.limit) == (12_000, 230_000)
        assert len(provider.explanations) == 1
        assert provider.breaker.held_mw == 0


@pytest.mark.requirement("PTCP-4-03")
async def test_a_counter_offer_that_is_declined_gives_its_power_back() -> None:
    async with serving("12V/50A", rating_mw=20_000) as (provider, [address]):
        async with client(address) as sink:
            flow = sink.ask("12V/5A")
            offered = await sink.until(PowerOffered)
            assert isinstance(offered, PowerOffered)
            assert offered.refusal is not None
            assert offered.refusal.code == Reason.NO_CAPACITY
            sink.stream.queue(sink.machine.decline, flow, now=now_ns())
            await eventually(lambda: provider.breaker.held_mw == 0)


@pytest.mark.requirement("PTCP-7-05")
async def test_a_lower_rating_sheds_and_a_higher_one_restores() -> None:
    async with serving("12V/50A", rating_mw=60_000) as (provider, [address]):
        async with client(address) as sink:
            sink.ask("12V/5A", "12V/0.5A")
            await sink.until(PowerReady)
            provider.set_rating(15_000)
            shed = await sink.until(ShedReceived)
            assert isinstance(shed, ShedReceived)
            assert shed.ceiling.power_mw == 15_000
            lowered = await sink.until(PowerReady, 2)
            assert isinstance(lowered, PowerReady)
            assert lowered.profile.power_mw == 15_000
            assert provider.breaker.held_mw == 15_000


async def test_a_better_claim_is_served_after_others_were_shed() -> None:
    async with serving("12V/50A", rating_mw=60_000) as (provider, [address]):
        async with client(address) as low, client(address) as top:
            low.ask("12V/5A,prio=9", "12V/1A")
            await low.until(PowerReady)
            top.ask("12V/3A,prio=1")
            low_shed = trio.Event()

            async def serve_low() -> None:
                await low.until(PowerReady, 2)
                low_shed.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_low)
                ready = await top.until(PowerReady)
                await low_shed.wait()
            assert isinstance(ready, PowerReady)
            assert ready.profile.power_mw == 36_000
            assert provider.breaker.held_mw == 60_000


@pytest.mark.requirement("PTCP-10-02")
async def test_a_cut_flow_is_held_for_grace_and_then_given_back() -> None:
    config = ConnectionConfig(grace_ns=300_000_000)
    async with serving("12V/5A", connection=config) as (provider, [address]):
        async with client(address) as sink:
            sink.ask("12V/1A")
            await sink.until(PowerReady)
            sink.stream.abort()
            await eventually(lambda: not any(not s.wire.closed for s in provider.sessions))
            assert provider.breaker.held_mw == 12_000
            await eventually(lambda: provider.breaker.held_mw == 0)
            assert not provider.sessions


@pytest.mark.requirement("PTCP-14-01")
async def test_a_peer_that_reads_nothing_loses_its_flows_with_507() -> None:
    async with serving("12V/5A") as (provider, [address]), client(address) as sink:
        await eventually(lambda: len(provider.sessions) == 1)
        [session] = provider.sessions
        assert session.wire.write_limit_ns == 65 * NS_PER_S
        sink.ask("12V/1A,lease=5s")
        await sink.until(PowerReady)
        assert session.wire.write_limit_ns == 10 * NS_PER_S
        refusal = Refusal(Reason.TIMEOUT, 10_000, 10_000)
        session.give_up(refusal, now_ns())
        session.wire.handle_timer(now_ns())
        assert provider.breaker.held_mw == 0
        session.wire.flush()
        closed = await sink.until(FlowClosed)
        assert isinstance(closed, FlowClosed)
        assert closed.refusal == refusal


@pytest.mark.requirement("PTCP-5-01")
async def test_probes_say_unix_time() -> None:
    async with serving("12V/5A") as (provider, [address]), client(address) as sink:
        sink.ask("12V/1A")
        await sink.until(PowerReady)
        [session] = provider.sessions
        says = now_ns() + session.machine.unix_offset_ns
        assert abs(time.time_ns() - says) < 10 * NS_PER_S


@pytest.mark.requirement("PTCP-10-03")
async def test_a_resumed_flow_keeps_its_power_once() -> None:
    async with serving("12V/5A") as (provider, [address]):
        async with client(address) as old:
            old.ask("12V/1A")
            ticket = await old.until(TicketReceived)
            assert isinstance(ticket, TicketReceived)
            await old.until(SamplesReceived, 2)
            flow = old.machine.flows[0]
            esn_uj = old.machine.status(flow).esn_uj
            async with client(address) as new:
                new.ask("12V/1A", ticket=ticket.ticket, esn_uj=esn_uj)
                ready = await new.until(PowerReady)
                assert isinstance(ready, PowerReady)
                assert provider.breaker.held_mw == 12_000
                more = await new.until(SamplesReceived, 2)
                assert isinstance(more, SamplesReceived)
                assert more.esn_uj > esn_uj
                moved = await old.until(FlowClosed)
                assert isinstance(moved, FlowClosed)
                [again] = new.machine.flows
                new.stream.queue(new.machine.close_flow, again, now=now_ns())
                closed = await new.until(FlowClosed)
                assert isinstance(closed, FlowClosed)
                await eventually(lambda: provider.breaker.held_mw == 0)
        # PTCP-10-04: what went over either path, once
        books = provider.admissions
        assert books.delivered_uj == closed.esn_uj
        assert 0 <= books.returned_uj < moved.esn_uj + 10_000_000
    assert FlowResumed.__slots__


@pytest.mark.requirement("PTCP-14-01")
async def test_an_address_has_at_most_so_many_connections() -> None:
    async with serving(per_address=2) as (provider, [address]):
        host, port = parse_address(address)
        socks = [socket.create_connection((host, port)) for _ in range(3)]
        await eventually(lambda: provider.refused_connections == 1)
        socks[0].close()
        await eventually(lambda: len(provider.sessions) == 1)
        for sock in socks:
            sock.close()


async def test_ipv4_and_ipv6_listeners() -> None:
    async with serving(addresses=("127.0.0.1:0", "[::1]:0")) as (_, [four, six]):
        for address in (four, six):
            async with client(address) as sink:
                sink.ask("12V/1A")
                await sink.until(PowerReady)


async def test_a_drain_says_601_and_ends() -> None:
    made = [parse_supply("12V/5A")]
    provider = Provider(ProviderConfig(supplies=made, rating_mw=60_000))
    listeners = listen([("127.0.0.1", 0)])
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(provider.serve, listeners)
        async with client(address) as sink:
            sink.ask("12V/1A")
            await sink.until(PowerReady)
            nursery.start_soon(provider.drain)
            closed = await sink.until(FlowClosed)
            assert isinstance(closed, FlowClosed)
            assert closed.refusal is not None
            assert closed.refusal.code == Reason.DRAINING
    assert provider.breaker.held_mw == 0


@pytest.mark.requirement("PTCP-6-06", "PTCP-13-01")
@pytest.mark.parametrize("how", ["drained", "energy delivered"])
async def test_a_flow_that_says_fin_sends_no_more_and_waits_for_its_sink(how: str) -> None:
    request = "12V/1A,energy=1J" if how == "energy delivered" else "12V/1A"
    async with serving("12V/5A") as (provider, [address]), client(address) as sink:
        flow = sink.ask(request)
        await sink.until(PowerReady)
        [session] = provider.sessions
        if how == "drained":
            session.machine.shutdown(refusal=Refusal(Reason.DRAINING), now=now_ns())
            session.wire.flush()
        # the sink reads nothing: several ticks pass between FIN and FIN+ACK
        await eventually(lambda: session.machine.status(flow).state == "FIN_SENT")
        for _ in range(3):
            cohort = session.flows[flow].cohort
            before = cohort.next_ns
            await eventually(lambda: cohort.next_ns > before)  # noqa: B023 - awaited at once
        assert not session.wire.closed
        closed = await sink.until(FlowClosed)
        assert isinstance(closed, FlowClosed)
        assert not closed.truncated
        assert closed.refusal is not None
        assert closed.refusal.code == (Reason.DRAINING if how == "drained" else Reason.NORMAL)
        await eventually(lambda: provider.breaker.held_mw == 0)
        books = provider.admissions
        assert books.delivered_uj + books.returned_uj == closed.esn_uj


def test_peers_are_counted_by_address_or_by_64() -> None:
    assert peer_of("10.0.0.9") == peer_of("::ffff:10.0.0.9")
    assert peer_of("2001:db8::1") == peer_of("2001:db8::ffff") != peer_of("2001:db8:0:1::1")
    assert peer_of("fe80::1%eth0") == peer_of("fe80::2")
    assert peer_of("somewhere") == b"somewhere"
    names = {
        "10.0.0.9": "10.0.0.9",
        "::ffff:10.0.0.9": "10.0.0.9",
        "2001:db8::ffff": "2001:db8::/64",
        "fe80::2%eth0": "fe80::/64",
        "::1": "::1",
        "somewhere": "somewhere",
    }
    assert {host: party_of(host) for host in names} == names


@pytest.mark.requirement("PTCP-14-01")
def test_the_limit_per_address_at_it_and_one_above() -> None:
    limit = AddressLimit(64)
    assert all(limit.enter(b"a") for _ in range(64))
    assert not limit.enter(b"a")
    assert limit.enter(b"b")
    limit.leave(b"a")
    assert limit.enter(b"a")


@pytest.mark.requirement("PTCP-14-01")
async def test_half_open_connections_do_not_keep_a_good_client_waiting() -> None:
    """The flood of the bench in small: silent connections, then one READY within a second."""
    async with serving(per_address=400) as (provider, [address]):
        host, port = parse_address(address)
        socks = [socket.create_connection((host, port)) for _ in range(300)]
        await eventually(lambda: len(provider.sessions) == 300)
        start = trio.current_time()
        async with client(address) as sink:
            sink.ask("12V/1A")
            await sink.until(PowerReady)
        assert trio.current_time() - start < 1
        for sock in socks:
            sock.close()


async def test_a_swell_of_the_source_trips_the_flow_and_frees_its_budget() -> None:
    source = make_source("mains:swell=150%@100ms/100ms")
    async with serving("12V/5A", source=source) as (provider, [address]), client(address) as sink:
        sink.ask("12V/1A")
        tripped = await sink.until(FlowTripped)
        assert isinstance(tripped, FlowTripped)
        assert tripped.refusal.code == Reason.OVER_VOLTAGE
        assert (tripped.refusal.value, tripped.refusal.limit) == (18_000, 13_200)
        await sink.until(FlowClosed)
        await eventually(lambda: provider.breaker.held_mw == 0)


async def test_what_belonged_to_a_connection_goes_with_it() -> None:
    def kept() -> int:
        alive = gc.get_objects()
        machines = [one for one in alive if isinstance(one, PowerConnection) and not one.client]
        return len(machines) + sum(type(one) in (Session, Wire) for one in alive)

    async with serving("12V/5A") as (provider, [address]):
        gc.collect()
        gc.disable()
        try:
            before = kept()
            for ends_well in (True, False):
                async with client(address) as sink:
                    flow = sink.ask("12V/1A")
                    await sink.until(PowerReady)
                    assert kept() == before + 3
                    if ends_well:
                        sink.stream.queue(sink.machine.close_flow, flow, now=now_ns())
                        await sink.until(FlowClosed)
                    else:
                        [session] = provider.sessions
                        session.machine.abort(Refusal(Reason.OPERATOR), now=now_ns())
                        session.wire.handle_timer(now_ns())
                        del session
                await eventually(lambda: not provider.sessions)
                # none of them waits for the collector, neither in a cycle nor in the wheel; whoever
                # handles the last event still names them until it is done
                await eventually(lambda: kept() == before)
        finally:
            gc.enable()
