"""Admission on real sockets: power comes back whatever ends a flow, one time per wake-up."""

# ruff: noqa: SIM117 - a client belongs to its provider

import logging

import pytest

from powertcp.drivers.daemon import now_ns
from powertcp.errors import PowerError
from powertcp.potcp import ConnectionConfig, PowerConnection
from powertcp.potcp.events import (
    Ask,
    FlowClosed,
    FlowRefused,
    PowerReady,
    RenegotiationAnswered,
    SamplesReceived,
    ShedReceived,
    TicketReceived,
)
from powertcp.profile import PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.options import Maintain, Sampling
from tests.drivers.test_provider import client, eventually, serving

WHY = Refusal(Reason.OPERATOR)


@pytest.mark.requirement("PTCP-9-05")
async def test_a_connection_that_ends_while_a_flow_of_it_waits_gives_everything_back() -> None:
    async with serving("12V/5A", rating_mw=60_000) as (provider, [address]):
        async with client(address) as sink:
            sink.ask("12V/5A", "12V/0.1A")
            await sink.until(PowerReady)
            sink.ask("12V/3A,prio=1")
            sink.stream.flush()
            await eventually(lambda: bool(provider.breaker.waiting))
            sink.stream.queue(sink.machine.abort, WHY, now=now_ns())
            await eventually(lambda: not provider.sessions)
            assert provider.breaker.held_mw == 0
            assert not provider.breaker.waiting


@pytest.mark.requirement("PTCP-9-05")
async def test_a_wake_up_that_frees_power_and_asks_for_some_has_one_time() -> None:
    async with serving("12V/5A", rating_mw=60_000) as (provider, [address]):
        async with client(address) as sink:
            first = sink.ask("12V/5A", "12V/0.1A")
            await sink.until(PowerReady)
            sink.ask("12V/3A,prio=1")
            sink.stream.flush()
            await eventually(lambda: bool(provider.breaker.waiting))
            sink.machine.reset_flow(first, WHY, now=now_ns())
            sink.ask("230V/1A")
            refused = await sink.until(FlowRefused)
            ready = await sink.until(PowerReady, 2)
            assert isinstance(refused, FlowRefused)
            assert isinstance(ready, PowerReady)
            assert ready.profile.power_mw == 36_000
            assert provider.breaker.held_mw == 36_000


async def test_a_bug_at_one_event_loses_no_other_and_no_power(
    bugs: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ConnectionConfig(grace_ns=100_000_000)
    async with serving("12V/5A", connection=config) as (provider, [address]):
        async with client(address) as sink, client(address) as other:
            flow = sink.ask("12V/1A")
            await sink.until(PowerReady)
            other.ask("12V/1A")
            await other.until(PowerReady)

            def forget(*_: object) -> None:
                raise KeyError("gone")

            monkeypatch.setattr(provider.delivery, "stop", forget)
            sink.stream.queue(sink.machine.reset_flow, flow, WHY, now=now_ns())
            await eventually(lambda: provider.breaker.held_mw == 12_000)
            assert len(bugs) == 1
            monkeypatch.undo()
            bugs.clear()


async def test_a_change_that_cannot_be_proposed_ends_its_connection_and_no_other(
    bugs: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving("12V/50A", rating_mw=60_000) as (provider, [address]):
        async with client(address) as bad, client(address) as good:
            for sink, request in ((bad, "12V/2A,prio=9"), (good, "12V/2A,prio=5")):
                sink.ask(request, "12V/0.1A")
                await sink.until(PowerReady)

            def refuse(*_: object, **__: object) -> None:
                monkeypatch.undo()
                raise KeyError("contract")

            monkeypatch.setattr(PowerConnection, "shed", refuse)
            provider.set_rating(10_000)
            shed = await good.until(ShedReceived)
            assert isinstance(shed, ShedReceived)
            assert len(bugs) == 1
            assert sum(session.wire.closed for session in provider.sessions) == 1
            bugs.clear()


async def test_a_block_that_cannot_be_sent_ends_its_connection_at_once_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = ConnectionConfig(grace_ns=100_000_000)
    async with serving("12V/5A", connection=config) as (provider, [address]):
        async with client(address) as bad, client(address) as good:
            for sink in (bad, good):
                sink.ask("12V/1A")
                await sink.until(PowerReady)

            def refuse(*_: object, **__: object) -> bool:
                monkeypatch.undo()
                raise PowerError("no block")

            monkeypatch.setattr(PowerConnection, "send_block", refuse)
            await eventually(lambda: provider.breaker.held_mw == 12_000)
            assert sum(not session.wire.closed for session in provider.sessions) == 1


@pytest.mark.requirement("PTCP-7-05", "PTCP-5-03")
async def test_a_sink_that_answers_no_probes_is_shed_all_the_same() -> None:
    config = ConnectionConfig(maintain_interval_ms=100, maintain_misses=2)
    async with serving("12V/5A", connection=config) as (provider, [address]):
        async with client(address) as sink:
            sink.ask("12V/4A", "12V/0.1A", maintain=Maintain(100, 2))
            await sink.until(PowerReady)
            await eventually(lambda: any(session.stale for session in provider.sessions))
            provider.set_rating(12_000)
            await eventually(lambda: provider.breaker.held_mw == 12_000)
            provider.set_rating(48_000)
            await sink.until(ShedReceived)


@pytest.mark.requirement("PTCP-7-06", "PTCP-10-03")
async def test_a_shed_flow_that_is_cut_and_resumed_is_restored() -> None:
    async with serving("12V/5A", rating_mw=60_000) as (provider, [address]):
        async with client(address) as old:
            old.ask("12V/4A", "12V/0.1A")
            await old.until(PowerReady)
            provider.set_rating(20_000)
            await old.until(PowerReady, 2)
            ticket = await old.until(TicketReceived)
            assert isinstance(ticket, TicketReceived)
            provider.set_rating(60_000)
            esn_uj = old.machine.status(old.machine.flows[0]).esn_uj
            old.stream.abort()
            await eventually(lambda: any(session.wire.closed for session in provider.sessions))
            async with client(address) as new:
                new.ask("12V/4A", "12V/0.1A", ticket=ticket.ticket, esn_uj=esn_uj)
                await new.until(PowerReady)
                [holding] = provider.breaker.holdings.values()
                assert holding.not_before < now_ns() + 11 * NS_PER_S
                assert provider.breaker.next_check(now_ns()) is not None


@pytest.mark.requirement("PTCP-10-03")
@pytest.mark.parametrize("is_cut", [False, True])
async def test_flows_of_one_path_that_are_resumed_at_once_keep_all_their_power(
    *, is_cut: bool
) -> None:
    async with serving("12V/5A") as (provider, [address]):
        async with client(address) as old, client(address) as new:
            tickets: list[bytes] = []
            for count in (1, 2, 3):
                old.ask("12V/1A")
                ticket = await old.until(TicketReceived, count)
                assert isinstance(ticket, TicketReceived)
                tickets.append(ticket.ticket)
            esns = [old.machine.status(flow).esn_uj for flow in old.machine.flows]
            if is_cut:
                old.stream.abort()
                await eventually(lambda: any(one.wire.closed for one in provider.sessions))
            asks = [Ask(PowerProfile.parse("12V/1A"))]
            for ticket_octets, esn_uj in zip(tickets, esns, strict=True):
                new.machine.open_flow(asks, ticket=ticket_octets, esn_uj=esn_uj, now=now_ns())
            # one segment of TCP: the provider wakes up once for all of them
            new.stream.flush()
            await new.until(PowerReady, 3)
            assert provider.breaker.held_mw == 36_000
            assert len(provider.breaker.holdings) == 3


@pytest.mark.requirement("PTCP-10-03")
async def test_a_ticket_is_no_way_round_the_limit_of_a_peer() -> None:
    async with serving("12V/5A", per_peer_mw=12_000) as (provider, [address]):
        async with client(address) as old, client(address) as new:
            old.ask("12V/1A")
            ticket = await old.until(TicketReceived)
            assert isinstance(ticket, TicketReceived)
            [session] = [one for one in provider.sessions if not one.has_flows()]
            peer, session.peer = session.peer, b"other"
            new.ask("12V/1A")
            await new.until(PowerReady)
            esn_uj = old.machine.status(old.machine.flows[0]).esn_uj
            new.ask("12V/1A", ticket=ticket.ticket, esn_uj=esn_uj)
            closed = await new.until(FlowClosed)
            assert isinstance(closed, FlowClosed)
            assert closed.refusal is not None
            assert closed.refusal.code == Reason.WATT_LIMIT
            assert provider.breaker.held_mw == 12_000
            session.peer = peer


@pytest.mark.requirement("PTCP-4-06")
async def test_a_lease_is_judged_by_the_probes_in_force() -> None:
    async with serving("12V/5A") as (_, [address]), client(address) as sink:
        sink.ask("12V/1A,lease=600s", maintain=Maintain(30_000, 2))
        await sink.until(PowerReady)
        sink.ask("12V/1A,lease=5s", maintain=Maintain(100, 2))
        refused = await sink.until(FlowRefused)
        assert isinstance(refused, FlowRefused)
        assert (refused.refusal.code, refused.refusal.limit) == (Reason.LEASE_RANGE, 61)


@pytest.mark.requirement("PTCP-2.3-03")
async def test_no_block_is_above_what_its_sink_takes() -> None:
    async with serving("230V/16A@50Hz/wye", rating_mw=10**8) as (provider, [address]):
        async with client(address, msp=1024) as sink:
            sink.ask("230V/1A@50Hz/wye")
            await sink.until(SamplesReceived, 2)
            [cohort] = provider.delivery.cohorts()
            assert cohort.generator.n == (1024 - 8) // 24


@pytest.mark.requirement("PTCP-3.2-01")
async def test_a_scale_too_fine_for_the_grant_is_refused_and_a_raise_to_such_terms_rejected() -> (
    None
):
    async with serving("12V/5A") as (provider, [address]), client(address) as sink:
        sink.ask("12V/1A", sampling=Sampling(1000, 1, 1000))
        refused = await sink.until(FlowRefused)
        assert isinstance(refused, FlowRefused)
        assert refused.refusal.code == Reason.SAMPLING
        assert provider.breaker.held_mw == 0
        flow = sink.ask("12V/0.1A", sampling=Sampling(1000, 1_000_000, 1))
        await sink.until(PowerReady)
        wish = [Ask(PowerProfile.parse("12V/1A"))]
        sink.stream.queue(sink.machine.renegotiate, flow, wish, now=now_ns())
        answered = await sink.until(RenegotiationAnswered)
        assert isinstance(answered, RenegotiationAnswered)
        assert not answered.accepted
        assert answered.refusal is not None
        assert answered.refusal.code == Reason.SAMPLING


@pytest.mark.requirement("PTCP-14-01")
@pytest.mark.parametrize(("flows", "held"), [(64, 64), (65, 64)])
async def test_so_many_flows_without_power_are_held_over_a_cut(flows: int, held: int) -> None:
    config = ConnectionConfig(grace_ns=NS_PER_S, churn_per_s=100)
    async with serving("12V/5A", connection=config) as (provider, [address]):
        async with client(address, churn_per_s=100) as sink:
            for _ in range(flows):
                sink.ask("12V/0A")
            await sink.until(PowerReady, flows)
            assert len(provider.breaker.holdings) == flows
            sink.stream.abort()
            await eventually(lambda: any(session.wire.closed for session in provider.sessions))
            assert len(provider.breaker.holdings) == held
            await eventually(lambda: not provider.sessions)


async def test_a_raise_that_nobody_answered_is_not_held_over_a_resume() -> None:
    async with serving("12V/5A", rating_mw=60_000) as (provider, [address]):
        async with client(address) as old, client(address) as new:
            old.ask("12V/4A", "12V/0.1A")
            ticket = await old.until(TicketReceived)
            assert isinstance(ticket, TicketReceived)
            provider.set_rating(20_000)
            await old.until(PowerReady, 2)
            esn_uj = old.machine.status(old.machine.flows[0]).esn_uj
            # what a plan does when there is room: more is held, a RENEG is under way
            provider.breaker.reload(60_000, provider.breaker.supplies, 0)
            [change] = provider.breaker.plan(now_ns() + 60 * NS_PER_S)
            assert change.raised
            assert provider.breaker.held_mw == 48_000
            new.ask("12V/4A", "12V/0.1A", ticket=ticket.ticket, esn_uj=esn_uj)
            await new.until(PowerReady)
            assert provider.breaker.held_mw == 19_992
