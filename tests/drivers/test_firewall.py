"""The firewall on real sockets: who is let through, who is not, and what is left of it afterwards."""

# ruff: noqa: SIM117 - polled is what has no event of its own

import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from powertcp.drivers import firewall as driver
from powertcp.drivers.clock import unix_ns
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import listen, parse_address
from powertcp.drivers.firewall import SYN_NS, FirewallConfig, Mode
from powertcp.drivers.firewall_desk import FirewallDesk
from powertcp.drivers.ledger import Ledger, open_ledger
from powertcp.drivers.relay_wire import ROOM_HIGH, ROOM_LOW
from powertcp.drivers.wire import RECEIVE_OCTETS
from powertcp.potcp.events import (
    FlowClosed,
    FlowRefused,
    PowerReady,
    SamplesReceived,
)
from powertcp.reclaim import Attack, AttackTerms, Style
from powertcp.reclaim.policy_text import parse_policy
from powertcp.reclaim.track import End
from powertcp.registry import Reason
from powertcp.units import NS_PER_S
from tests.drivers.test_provider import Client, client, eventually, serving

POLICY = """\
reservoir main capacity 5kWh charge 95% discharge 95% max-in 2kW when-full stop
policy reclaim main
rule state invalid -> reject 506 log
rule sealed yes -> drop log
rule state unsolicited -> reclaim main count attacks
rule power > 50W -> reject 204
rule direction out -> accept
"""


class Guard:
    """A firewall that serves. address: where."""

    def __init__(self, desk: FirewallDesk, address: str, ledger: Ledger) -> None:
        self.desk, self.address, self.ledger = desk, address, ledger

    @property
    def port(self) -> int:
        return parse_address(self.address)[1]

    def take(self, text: str) -> None:
        self.desk.take(parse_policy(text.encode(), "again.policy"))

    def stored(self) -> int:
        account = self.ledger.account("reservoir:main")
        return -account.balance if account is not None else 0

    def is_clean(self) -> bool:
        """Whether nothing of any connection is left."""
        firewall, server = self.desk.firewall, self.desk.server
        left = len(server.sessions) + len(firewall.screens) + len(firewall.flows.live)
        left += len(server.poll) + len(server.wheel)
        promised = sum(intake.promised_uj for intake in firewall.intakes.values())
        return not left and not promised and not firewall.harvests


@asynccontextmanager
async def guarding(folder: Path, policy: str = POLICY, **config: Any) -> AsyncIterator[Guard]:
    """Run a firewall; at the end every joule is accounted for, and nothing is left over."""
    listeners = listen([("127.0.0.1", 0)])
    async with open_ledger(folder, lambda n: bytes(n)) as ledger, trio.open_nursery() as nursery:
        desk = FirewallDesk(
            FirewallConfig(**config),
            parse_policy(policy.encode(), "attic.policy"),
            ledger,
            node="here",
            unix_ns=unix_ns,
            clock=lambda: (0, 0),
        )
        nursery.start_soon(desk.run)
        [address] = await nursery.start(desk.serve, listeners)
        yield Guard(desk, address, ledger)
        assert desk.firewall.joules.residual_uj == 0
        nursery.cancel_scope.cancel()


async def powered(sink: Client, request: str, address: str | None) -> int:
    flow = sink.ask(request, via=address)
    await sink.until(PowerReady)
    return flow


async def rest(sink: Client) -> set[int]:
    """Return the reasons that a sink hears until the end of its connection."""
    with trio.fail_after(8):
        while batch := await sink.stream.receive_batch():
            sink.seen.extend(batch)
    refusals = (getattr(event, "refusal", None) for event in sink.seen)
    return {refusal.code for refusal in refusals if refusal is not None}


async def said(stream: trio.SocketStream) -> bytes:
    """Return all that comes until the end, which may be a reset."""
    heard = b""
    try:
        async for octets in stream:
            heard += octets
    except trio.BrokenResourceError:
        pass
    return heard


# ---- who comes ----------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-2-01")
async def test_who_says_nothing_or_less_than_a_word_is_closed_without_one(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard:
        for begin in (b"", b"\x50\x4f\x01"):
            async with await trio.open_tcp_stream("127.0.0.1", guard.port) as stream:
                if begin:
                    await stream.send_all(begin)
                started = trio.current_time()
                assert await said(stream) == b""
                assert trio.current_time() - started <= SYN_NS / NS_PER_S + 3
        await eventually(guard.is_clean)


@pytest.mark.requirement("FWRL-2-01")
async def test_another_protocol_is_closed_before_anything_of_it_passes(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard:
        async with await trio.open_tcp_stream("127.0.0.1", guard.port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            assert await said(stream) == b""
        await eventually(guard.is_clean)


@pytest.mark.requirement("PTCP-14-01")
async def test_connections_of_one_address_are_limited(tmp_path: Path) -> None:
    async with guarding(tmp_path, per_address=2) as guard:
        streams = [await trio.open_tcp_stream("127.0.0.1", guard.port) for _ in range(2)]
        await eventually(lambda: len(guard.desk.server.sessions) == 2)
        async with await trio.open_tcp_stream("127.0.0.1", guard.port) as third:
            assert await said(third) == b""
        assert guard.desk.server.refused_connections == 1
        for stream in streams:
            await stream.aclose()
        await eventually(guard.is_clean)


# ---- where it goes ------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-2-03")
@pytest.mark.parametrize(
    ("via", "code", "words"),
    [
        (None, Reason.POLICY, "name the provider: VIA HOST:PORT"),
        ("127.0.0.1:x", Reason.POLICY, "a port is a number"),
        ("[::1", Reason.POLICY, "an IPv6 address is written"),
        ("nobody.invalid:3251", Reason.NO_CAPACITY, "nobody.invalid"),
        ("127.0.0.1:1", Reason.NO_CAPACITY, "Connection refused"),
        ("SELF", Reason.POLICY, "is the firewall itself"),
    ],
)
async def test_a_request_that_leads_nowhere_is_refused_and_the_next_one_is_not(
    tmp_path: Path, via: str | None, code: Reason, words: str
) -> None:
    async with guarding(tmp_path) as guard, serving("12V/5A") as (_, [address]):
        async with client(guard.address) as sink:
            flow = sink.ask("12V/1A", via=guard.address if via == "SELF" else via)
            refused = await sink.until(FlowRefused)
            assert isinstance(refused, FlowRefused)
            assert (refused.flow, refused.refusal.code) == (flow, code)
            assert words in refused.refusal.text
            if code == Reason.POLICY:
                assert await powered(sink, "12V/1A", address) == flow + 2
        await eventually(guard.is_clean)


@pytest.mark.requirement("FWRL-2-03")
async def test_one_connection_goes_to_one_provider(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard, serving("12V/5A") as (_, [address]):
        async with client(guard.address) as sink:
            await powered(sink, "12V/1A", address)
            sink.ask("12V/1A", via="127.0.0.1:1")
            refused = await sink.until(FlowRefused)
            assert isinstance(refused, FlowRefused)
            assert refused.refusal.code == Reason.POLICY
            sink.ask("12V/1A", via=address)
            await sink.until(PowerReady, 2)


@pytest.mark.requirement("FWRL-2-03")
async def test_who_names_nobody_gets_the_upstream(tmp_path: Path) -> None:
    async with serving("12V/5A") as (_, [address]):
        async with guarding(tmp_path, upstream=parse_address(address)) as guard:
            async with client(guard.address) as sink:
                await powered(sink, "12V/1A", None)


@pytest.mark.requirement("FWRL-2-03")
async def test_names_that_take_for_ever_hold_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enough = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *words: Any, **options: Any) -> Any:
        if host == "slow.test":
            enough.wait(20)
        return real(host, *words, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(driver, "DIAL_S", 0.5)
    try:
        async with guarding(tmp_path) as guard, serving("12V/5A") as (_, [address]):
            async with trio.open_nursery() as nursery:

                async def ask_slow() -> None:
                    async with client(guard.address) as sink:
                        sink.ask("12V/1A", via="slow.test:3251")
                        refused = await sink.until(FlowRefused)
                        assert isinstance(refused, FlowRefused)
                        assert refused.refusal.code == Reason.NO_CAPACITY

                for _ in range(20):
                    nursery.start_soon(ask_slow)
                async with client(guard.address) as sink:
                    await powered(sink, "12V/1A", address)
            await eventually(guard.is_clean)
    finally:
        enough.set()


@pytest.mark.requirement("FWRL-2-04")
async def test_what_was_not_diverted_is_closed_in_transparent_modes(tmp_path: Path) -> None:
    async with guarding(tmp_path, mode=Mode.REDIRECT) as guard:
        async with await trio.open_tcp_stream("127.0.0.1", guard.port) as stream:
            assert await said(stream) == b""
        assert guard.is_clean()


# ---- power --------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-1-03", "FWRL-5-01")
async def test_registers_agree_and_the_ledger_has_nothing_of_it(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard, serving("12V/5A") as (provider, [address]):
        async with client(guard.address) as sink:
            flow = await powered(sink, "12V/1.5A", address)
            await sink.until(SamplesReceived, 3)
            sink.stream.queue(sink.machine.close_flow, flow, now=now_ns())
            closed = await sink.until(FlowClosed)
        assert isinstance(closed, FlowClosed)
        joules = guard.desk.firewall.joules
        assert joules.authorised_uj == joules.in_uj == closed.esn_uj
        await eventually(lambda: provider.admissions.delivered_uj == closed.esn_uj)
        await eventually(guard.is_clean)
        assert guard.ledger.account("intercepted:127.0.0.1") is None


async def attack(port: int, terms: AttackTerms, scope: trio.CancelScope | None = None) -> Attack:
    """Attack whoever listens, until it is over or hung up."""
    machine = Attack(terms)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        with scope or trio.CancelScope():
            async with trio.open_nursery() as nursery:

                async def hear() -> None:
                    try:
                        async for octets in stream:
                            machine.receive(octets, now_ns())
                    except trio.BrokenResourceError:
                        pass
                    nursery.cancel_scope.cancel()

                nursery.start_soon(hear)
                try:
                    while not machine.is_over:
                        if octets := machine.data_to_send(now_ns()):
                            await stream.send_all(octets)
                        else:
                            await trio.sleep(0.01)
                except trio.BrokenResourceError:
                    pass
                nursery.cancel_scope.cancel()
    return machine


@pytest.mark.requirement("FWRL-4-01", "FWRL-5-01")
async def test_an_attack_fills_the_reservoir_as_the_ledger_says(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard:
        machine = await attack(guard.port, AttackTerms(duration_ns=2 * NS_PER_S))
        await eventually(guard.is_clean)
        joules = guard.desk.firewall.joules
        assert joules.in_uj == machine.sent_uj == 2_000_000_000
        assert joules.reclaimed_uj + joules.heat_uj == 2_000_000_000
        await eventually(lambda: guard.stored() == joules.reclaimed_uj > 1_800_000_000)
    # what is in the ledger is what it begins with
    async with guarding(tmp_path) as again:
        assert again.desk.firewall.stored_uj == joules.reclaimed_uj


@pytest.mark.requirement("FWRL-3-02")
async def test_a_reload_in_mid_attack_ends_it_and_good_flows_go_on(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard, serving("12V/5A") as (_, [address]):
        async with client(guard.address) as sink, trio.open_nursery() as nursery:
            await powered(sink, "12V/1A", address)
            nursery.start_soon(attack, guard.port, AttackTerms())
            await eventually(lambda: guard.desk.firewall.harvests == 1)
            guard.take(POLICY.replace("unsolicited -> reclaim main", "unsolicited -> reject 206"))
            await eventually(lambda: guard.desk.firewall.harvests == 0)
            before = len(sink.seen)
            await sink.until(SamplesReceived, before + 2)


@pytest.mark.requirement("FWRL-3-12")
async def test_drop_closes_both_sides_without_a_word(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard, serving("12V/5A") as (provider, [address]):
        async with client(guard.address) as sink:
            await powered(sink, "12V/1A", address)
            guard.take("policy drop\n")
            assert await rest(sink) == set()
        await eventually(guard.is_clean)
        await eventually(lambda: all(one.wire.closed for one in provider.sessions))


@pytest.mark.requirement("FWRL-1-01")
async def test_a_ledger_that_cannot_be_written_ends_everything_with_602(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard, serving("12V/5A") as (_, [address]):
        async with client(guard.address) as sink:
            await powered(sink, "12V/1A", address)
            guard.desk.books._fail("the disk is full")  # noqa: SLF001 - as a disk does
            closed = await sink.until(FlowClosed)
            assert isinstance(closed, FlowClosed)
            assert closed.refusal is not None
            assert closed.refusal.code == Reason.MAINTENANCE
        async with client(guard.address) as sink:
            sink.ask("12V/1A", via=address)
            assert await rest(sink) == {Reason.MAINTENANCE}
        machine = await attack(guard.port, AttackTerms(duration_ns=NS_PER_S))
        assert machine.sent_uj
        assert guard.desk.firewall.joules.reclaimed_uj == 0


async def test_a_drain_ends_flows_with_601_and_nothing_is_left(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard, serving("12V/5A") as (_, [address]):
        async with client(guard.address) as sink, trio.open_nursery() as nursery:
            await powered(sink, "12V/1A", address)
            nursery.start_soon(attack, guard.port, AttackTerms())
            await eventually(lambda: guard.desk.firewall.harvests == 1)
            await guard.desk.drain()
            assert Reason.DRAINING in await rest(sink)
        firewall, server = guard.desk.firewall, guard.desk.server
        assert not server.sessions
        assert not firewall.screens
        assert not firewall.flows.live


# ---- load ---------------------------------------------------------------------------------------


async def test_an_upstream_that_never_reads_stops_who_sends_to_it(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    upstream = ("127.0.0.1", listener.getsockname()[1])
    sealed = Attack(AttackTerms(style=Style.SEALED)).data_to_send(0) * 200
    with listener:
        async with guarding(tmp_path, "policy accept\n", upstream=upstream) as guard:
            async with await trio.open_tcp_stream("127.0.0.1", guard.port) as stream:
                sent = 0
                with trio.move_on_after(2):
                    while True:
                        await stream.send_all(sealed)
                        sent += len(sealed)
                (pair,) = guard.desk.server.sessions
                assert pair.client is not None
                assert pair.client.is_paused
                assert ROOM_LOW < pair.backlog(End.SERVER) < ROOM_HIGH + 2 * RECEIVE_OCTETS
                assert 0 < sent < 64 * 1024 * 1024
                # T_WRITE: what nobody reads is held for nobody
                assert pair.server is not None
                pair.server.handle_timer(now_ns() + 66 * NS_PER_S)
            await eventually(guard.is_clean)


@pytest.mark.requirement("FWRL-5-01")
async def test_a_thousand_flows_pass_beside_an_attack(tmp_path: Path) -> None:
    # PTCP-13-02: a connection opens 20 in a second, asked for a cookie twice
    flows, connections = 10, 100
    power = serving("12V/2000A", rating_mw=24_000_000, per_address=connections)
    async with guarding(tmp_path, per_address=2 * connections) as guard, power as (_, [address]):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(attack, guard.port, AttackTerms(), scope)
            done: list[int] = []
            all_done = trio.Event()

            async def draw(number: int) -> None:
                async with client(guard.address) as sink:
                    for _ in range(flows):
                        sink.ask("12V/0.1A", via=address)
                    while sum(isinstance(one, PowerReady) for one in sink.seen) < flows:
                        batch = await sink.stream.receive_batch()
                        assert batch, sink.seen
                        sink.seen.extend(batch)
                    done.append(number)
                    if len(done) == connections:
                        all_done.set()

            for number in range(connections):
                nursery.start_soon(draw, number)
            # a host that is busy with other things takes its time
            with trio.fail_after(60):
                await all_done.wait()
            scope.cancel()
        assert guard.desk.firewall.failures == 0
        await eventually(guard.is_clean)
        assert guard.desk.firewall.joules.authorised_uj > 0


async def test_a_stop_resets_everything(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard, serving("12V/5A") as (_, [address]):
        async with client(guard.address) as sink:
            await powered(sink, "12V/1A", address)
            guard.desk.stop()
            assert await rest(sink) == set()


@pytest.mark.requirement("FWRL-1-01")
async def test_a_fault_of_its_own_drops_the_connection_and_serves_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with guarding(tmp_path) as guard, serving("12V/5A") as (_, [address]):

        def fail(_: object) -> None:
            raise ZeroDivisionError("planted")

        async with client(guard.address) as sink:
            await powered(sink, "12V/1A", address)
            with monkeypatch.context() as planted:
                planted.setattr(type(guard.desk.firewall.policy), "evaluate", fail)
                guard.desk.firewall.tick(now_ns())
                sink.ask("12V/1A", via=address)
                assert await rest(sink) == set()
        assert guard.desk.firewall.failures == 1
        async with client(guard.address) as sink:
            await powered(sink, "12V/1A", address)
        await eventually(guard.is_clean)


async def test_a_provider_that_stands_still_holds_up_nobody_else(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guard, serving("12V/5A") as (_, [address]):
        listener = socket.create_server(("127.0.0.1", 0))
        still = f"127.0.0.1:{listener.getsockname()[1]}"
        with listener:
            async with client(guard.address) as waiting, client(guard.address) as sink:
                # it is connected to, and never answers
                waiting.ask("12V/1A", via=still)
                await powered(sink, "12V/1A", address)
                await sink.until(SamplesReceived, 3)
                assert not [one for one in waiting.seen if isinstance(one, FlowClosed)]
        await eventually(guard.is_clean)
