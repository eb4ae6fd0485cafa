"""A consumer's path to its provider: one connection after the other, with the flows on it."""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from powertcp.drivers.appliance import NO, Appliance, refusal_facts
from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.dial import connect, format_address
from powertcp.drivers.guide import Guide
from powertcp.drivers.patience import NEVER
from powertcp.drivers.price import MaxPrice
from powertcp.drivers.quest import Quest
from powertcp.drivers.reply import answer_page, lease_until, reply
from powertcp.drivers.sealing import seal_client, sealed_limits
from powertcp.drivers.stream import SegmentMachine, SegmentStream
from powertcp.drivers.tracer import Tracer
from powertcp.drivers.wheel import Wheel
from powertcp.dve import default_sampling
from powertcp.errors import LocalProtocolError, WireBroken
from powertcp.loads import Fresh, Stale
from powertcp.machine import Event
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    Ask,
    ConnectionFresh,
    ConnectionStale,
    ConnectionTerminated,
    FlowClosed,
    FlowEvent,
    FlowRefused,
    LeaseRenewed,
    PowerGranted,
    PowerOffered,
    PowerReady,
    SamplesReceived,
)
from powertcp.potcp.traced import TracedConnection
from powertcp.profile import PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant
from powertcp.vppn.config import SealConfig
from powertcp.vppn.tunnel import TunnelBroken, TunnelOpened

OPEN_S = 5  # T_OPEN
SILENT_INTERVALS = 2  # STALE for so long: another provider is asked
# between two SYNs of a connection: 16 a second, four less than the peer bears (PTCP-13-02)
OPEN_GAP_NS = NS_PER_S // 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a consumer is asked to do.

    guide: names the provider. asks: one flow each. fallbacks: what each asks to keep after its
    lease, None nothing. mux: all on one connection. for_ns, energy_uj: of each flow, time in
    samples. give_up_ns: how long a lost provider is looked for. max_price: the most that is paid,
    None whatever is asked. via: the provider behind a gateway, None: as it chooses.
    """

    guide: Guide
    asks: Sequence[Ask]
    fallbacks: Sequence[PowerProfile | None] = ()
    mux: bool = False
    for_ns: Duration | None = None
    energy_uj: int | None = None
    give_up_ns: Duration = 600 * NS_PER_S
    max_price: MaxPrice | None = None
    via: str | None = None
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)


class Link:
    """One connection after the other to the provider, for the contracts that share it."""

    def __init__(
        self,
        wishes: Wishes,
        appliances: Sequence[Appliance],
        wheel: Wheel,
        tracer: Tracer | None = None,
    ) -> None:
        """Serve `appliances`; `run` connects. tracer: each connection gets a file of it."""
        self._wishes = wishes
        self._tracer = tracer
        self._appliances = appliances
        self._wheel = wheel
        self._machine: PowerConnection | None = None
        self._stream: SegmentStream[Event] | None = None
        self._kick = trio.Event()
        self._scope = trio.CancelScope()
        self._where = ""  # our end, by which the provider names our flows
        self._stale_at: Instant | None = None
        self._is_sealed = False  # this connection is
        self._quest = Quest(wishes.guide, appliances, wishes.give_up_ns)
        for each in appliances:
            if each.book is not None:
                each.book.on_answer = partial(self._answer_page, each)

    @property
    def wanted(self) -> list[Appliance]:
        """The contracts that are not over."""
        return self._quest.wanted

    async def run(self) -> None:
        """Connect, serve, connect again, until every contract is over."""
        with self._scope:
            while self.wanted:
                try:
                    await self._once()
                except OSError as error:
                    self._quest.unreachable(error)
                if self.wanted:
                    await self._pause()
        for each in self.wanted:
            each.finish(0)

    def close(self) -> None:
        """Close every contract in order; what has no flow is over at once."""
        self._close(self.wanted)

    # LEDG-7-07
    def refuse(self, refusal: Refusal) -> None:
        """The ledger cannot be written: close all but flows without METER, with this reason."""
        owing = [one for one in self.wanted if not one.flow or (one.book and one.book.is_metered)]
        for each in owing:
            each.status = each.status or NO
        self._close(owing, refusal)

    def _close(self, appliances: Sequence[Appliance], refusal: Refusal | None = None) -> None:
        now = now_ns()
        for each in appliances:
            each.end_load()
            if self._machine is None or not each.flow:
                each.finish(0)
                continue
            try:
                self._machine.close_flow(each.flow, refusal=refusal, now=now)
            except LocalProtocolError:
                each.finish(0)
        if self._stream is not None:
            self._stream.queue(self._settle)
        if not self.wanted and self._stream is None:
            self._scope.cancel()
        self._kick.set()

    def abort(self) -> None:
        """End at once with a TCP reset."""
        for each in self.wanted:
            each.closing = True
        if self._stream is not None:
            self._stream.abort()
        self._scope.cancel()

    def close_one(self, appliance: Appliance) -> None:
        """Close one contract because its load ended or has had enough."""
        appliance.end_load()
        if self._machine is None or self._stream is None or not appliance.flow:
            appliance.finish(0)
            self._kick.set()
            return
        with suppress(LocalProtocolError):  # it tripped: its end comes by itself
            self._stream.queue(self._machine.close_flow, appliance.flow, now=now_ns())

    def feed(self) -> None:
        """Ask for what each load keeps up with; called once a second."""
        if self._machine is None or self._stream is None:
            return
        now = now_ns()
        # DPDP-10-03
        if self._is_silent(now) and self._quest.is_left():
            self._stream.abort()
            return
        self._lose_patience(self._stream, now)
        for each in self.wanted:
            if each.flow not in self._machine.flows or each.profile is None:
                continue
            if not each.keeps_up():
                wanted_mw = each.appetite.demand_mw
                each.say("demand", {"demand_mw": min(wanted_mw, each.profile.power_mw)})
                self._stream.queue(self._machine.set_demand, each.flow, wanted_mw, now=now)
            if self._machine.may_propose(each.flow) and each.needs_more(now):
                self._stream.queue(self._machine.renegotiate, each.flow, [each.ask], now=now)

    def _is_silent(self, now: Instant) -> bool:
        """Whether the provider has been STALE for two intervals."""
        interval_ns = self._wishes.connection.maintain_interval_ms * NS_PER_MS
        return self._stale_at is not None and now - self._stale_at >= SILENT_INTERVALS * interval_ns

    def kick(self) -> None:
        """Look at once which SYN is due."""
        self._kick.set()

    async def _once(self) -> None:
        """One connection, from SYN to its end."""
        self._is_sealed = False
        place = await self._quest.next()
        if place is None:
            return
        sock = None
        with trio.move_on_after(OPEN_S):
            sock = await connect(place.host, place.port)
        if sock is None:
            raise TimeoutError(f"no answer within {OPEN_S} s")
        self._where = format_address(*sock.getsockname()[:2])
        peer = str(place)
        config = self._wishes.connection
        trace = self._tracer.open("sink", peer) if self._tracer else None
        kind = PowerConnection if trace is None else TracedConnection
        machine = kind(
            client=True,
            config=sealed_limits(config) if place.seal else config,
            entropy=os.urandom,
            peer=peer.encode(),
            trace=trace,
        )
        machine.unix_offset_ns = unix_offset_ns()
        try:
            await self._talk(sock, machine, place.seal)
        finally:
            if trace is not None:
                trace.close()
        self._machine = self._stream = None
        self._stale_at = None
        self._quest.cut()

    async def _talk(
        self, sock: socket.socket, machine: PowerConnection, seal: SealConfig | None
    ) -> None:
        """Serve one connection until its end."""
        carrier: SegmentMachine[Event] = machine
        if seal is not None:
            carrier = seal_client(machine, seal, os.urandom, now_ns())
        async with trio.open_nursery() as nursery:
            self._machine = machine
            self._stream = SegmentStream(
                sock,
                carrier,
                self._handle,
                nursery=nursery,
                wheel=self._wheel,
                give_up=self._give_up,
                write_ns=lambda: machine.write_limit_ns,
            )
            try:
                nursery.start_soon(self._open_due)
                await self._stream.read()
            finally:
                self._stream.abort()
            nursery.cancel_scope.cancel()

    async def _open_due(self) -> None:
        """Send the SYN of each contract when it is due."""
        next_open = 0
        while True:
            now = now_ns()
            waiting = [each for each in self.wanted if not each.flow and not each.closing]
            if self._quest.is_leaving:
                waiting = []
            for each in waiting:
                # PTCP-13-02
                if each.patience.due <= now >= next_open:
                    self._open(each, now)
                    next_open = now + OPEN_GAP_NS
            self._settle()
            due = [max(each.patience.due, next_open) for each in waiting if not each.flow]
            self._kick = trio.Event()
            with trio.CancelScope() as scope:
                if due and min(due) < NEVER:
                    scope.deadline = min(due) / NS_PER_S
                await self._kick.wait()

    def _open(self, each: Appliance, now: Instant) -> None:
        if self._machine is None or self._stream is None or self._machine.is_terminated:
            return
        refusal = each.book.refusal() if each.book else None
        if refusal is not None:
            each.say("refused", refusal_facts(refusal) | {"again": False})
            each.finish(NO, refusal)
            return
        ticket, each.ticket = each.ticket, None
        # the path may go with the first octet: the contract knows its flow before that
        self._stream.queue(self._ask, self._machine, each, ticket, now)
        if not each.flow:
            each.ticket = ticket

    def _ask(
        self, machine: PowerConnection, each: Appliance, ticket: bytes | None, now: Instant
    ) -> None:
        """Queue the SYN of `each`."""
        mark = each.mark if ticket else None
        # a flow that had no receipts goes on without
        is_metered = each.book is not None and (mark is not None or not ticket)
        each.flow = machine.open_flow(
            [each.ask],
            fallback=each.fallback,
            ticket=ticket,
            want_samples=True,
            esn_uj=each.esn_uj if ticket else 0,
            before=each.profile if ticket else None,
            meter=each.book.meter if each.book and is_metered else None,
            pages=mark,
            via=self._wishes.via,
            now=now,
        )
        each.flow_name = f"{self._where}/{each.flow}"
        desired = each.ask.desired
        wanted_uj = each.quota.headroom_uj(desired, default_sampling(desired))
        machine.set_headroom(each.flow, wanted_uj, now=now)

    def _give_up(self, refusal: Refusal, now: Instant) -> None:
        if self._machine is not None:
            self._machine.abort(refusal, now=now)

    def _settle(self) -> None:
        """Say goodbye to TCP when nothing is wanted on this connection."""
        if not self.wanted and self._stream is not None:
            self._stream.finish()

    def _handle(self, events: list[Event]) -> None:
        """Give the events of one wake-up to their contracts."""
        machine = self._machine
        if machine is None:
            return
        now = now_ns()
        for event in events:
            match event:
                case FlowEvent(flow=flow) | SamplesReceived(flow=flow):
                    self._of_flow(machine, flow, event, now)
                case LeaseRenewed():
                    for each in self.wanted:
                        if each.flow:
                            each.renew(lease_until(machine, each.flow))
                case ConnectionStale():
                    self._stale_at = now
                    self._all("stale", Stale())
                case ConnectionFresh():
                    self._stale_at = None
                    self._all("fresh", Fresh())
                case ConnectionTerminated(refusal=refusal):
                    self._terminated(refusal)
                case TunnelOpened() | TunnelBroken():
                    self._of_tunnel(event)
        self._kick.set()

    def _of_flow(
        self,
        machine: PowerConnection,
        flow: int,
        event: FlowEvent | SamplesReceived,
        now: Instant,
    ) -> None:
        each = next((one for one in self._appliances if one.flow == flow), None)
        if each is None:
            return
        if isinstance(event, PowerGranted) and not self._quest.is_believed(event):
            if self._stream is not None:
                self._stream.abort()  # without a word
            return
        each.take(event, now, lease_until(machine, flow))
        if isinstance(event, PowerReady | PowerOffered | FlowRefused):
            self._quest.heard()
        if isinstance(event, PowerReady):
            self._quest.powered()
        if isinstance(event, FlowClosed):
            self._leave(event)
        elif each.flow in machine.flows:
            reply(machine, each, event, now, self._wishes.max_price)

    def _answer_page(self, each: Appliance) -> None:
        """The answer to a page is known: tell the provider, or when a path resumes the flow."""
        if self._machine is not None and self._stream is not None and each.flow:
            with suppress(WireBroken):
                self._stream.queue(answer_page, self._machine, each, now_ns())

    def _leave(self, event: FlowClosed) -> None:
        """Hang up on a provider that drains, so that it can go, or that said no; ask another one."""
        drains = event.refusal is not None and event.refusal.code == Reason.DRAINING
        if drains and event.refusal is not None:
            self._quest.drained(event.refusal)
        drains |= self._quest.is_leaving
        if drains and self._stream is not None and not any(each.flow for each in self.wanted):
            self._stream.finish()

    def _all(self, word: str, event: Stale | Fresh) -> None:
        for each in self.wanted:
            if each.flow:
                each.say(word)
                each.tell(event)

    def _terminated(self, refusal: Refusal | None) -> None:
        for each in self.wanted:
            each.say("disconnected", refusal_facts(refusal))
        if self._stream is not None:
            self._stream.finish()

    def _of_tunnel(self, event: TunnelOpened | TunnelBroken) -> None:
        """The provider has proven its key, or the seal broke: a cut, but for who never had it."""
        if isinstance(event, TunnelOpened):
            self._is_sealed = True
            self._quest.show(event.identity.certificate)
            for each in self.wanted:
                each.say("sealed", {"pattern": event.identity.pattern.word})
            return
        is_final = not self._is_sealed and event.refusal.code != Reason.TIMEOUT
        if is_final and self._quest.failed():
            is_final = False
        for each in self.wanted:
            each.say("seal broken", refusal_facts(event.refusal))
            if is_final and not each.was_ready:
                each.finish(NO, event.refusal)

    def _lose_patience(self, stream: SegmentStream[Event], now: Instant) -> None:
        """Give up a provider that is silent beyond patience and lease; TCP may wait far longer."""
        since = self._stale_at
        if not any(each.flow for each in self.wanted):
            # nobody answered a SYN since the path was lost; the next one is not due yet
            since = self._quest.lost_at or since
        if since is not None and self._quest.is_beyond(since, now):
            # PTCP-14-02: a busy machine may look here first; the lease is said to be over before
            stream.handle_timer(now)
            self._quest.silent(since, now)
            stream.abort()

    async def _pause(self) -> None:
        """Wait before the next connection: a little after a cut, longer when nobody answers.

        It is made when a SYN is due: a provider hangs up on who says nothing for T_SYN.
        """
        earliest = self._quest.earliest()
        while self.wanted:
            due = max(earliest, min(each.patience.due for each in self.wanted))
            if due <= now_ns():
                return
            self._kick = trio.Event()
            with trio.CancelScope() as scope:
                if due < NEVER:
                    scope.deadline = due / NS_PER_S
                await self._kick.wait()
