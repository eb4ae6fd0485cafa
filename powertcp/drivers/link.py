"""A consumer's path to its provider: one connection after the other, with the flows on it."""

import os
import random
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import trio

from powertcp.dpdp.trust import Shown
from powertcp.drivers.appliance import NO, NO_ANSWER, Appliance, refusal_facts
from powertcp.drivers.clock import unix_ns
from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.dial import connect, format_address
from powertcp.drivers.flow_book import party
from powertcp.drivers.guide import Guide, Place
from powertcp.drivers.patience import NEVER, back_off_ns
from powertcp.drivers.price import MaxPrice
from powertcp.drivers.proof import shown_by
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
from powertcp.units import NS_PER_S, Duration, Instant, format_duration
from powertcp.vppn.config import SealConfig
from powertcp.vppn.tunnel import TunnelBroken, TunnelOpened

OPEN_S = 5  # T_OPEN
LOSSES = 3  # connections without an answer, for who never had power
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
        self._heard = False  # this connection brought power or a no
        self._losses = 0  # connections in a row that brought neither
        self._lost_at: Instant | None = None
        self._stale_at: Instant | None = None
        self._is_sealed = False  # this connection is
        self._place: Place | None = None  # the provider that is asked, or was last
        self._shown = Shown()  # what the provider has shown of itself on this connection
        self._is_leaving = False  # it said no, and another one may be asked
        self._asking_since: Instant | None = None  # without power since then
        self._no: Refusal | None = None  # the last one since then
        for each in appliances:
            each.elsewhere = self._elsewhere
            if each.book is not None:
                each.book.on_answer = partial(self._answer_page, each)

    @property
    def wanted(self) -> list[Appliance]:
        """The contracts that are not over."""
        return [each for each in self._appliances if not each.done]

    async def run(self) -> None:
        """Connect, serve, connect again, until every contract is over."""
        with self._scope:
            while self.wanted:
                try:
                    await self._once()
                except OSError as error:
                    self._unreachable(error)
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

    def kick(self) -> None:
        """Look at once which SYN is due."""
        self._kick.set()

    async def _once(self) -> None:
        """One connection, from SYN to its end."""
        self._heard = self._is_sealed = self._is_leaving = False
        self._shown = Shown()
        before, place = self._place, await self._whom()
        self._place = place
        if place is None:
            return
        if before is not None and before.provider != place.provider:
            for each in self.wanted:
                each.ticket = None  # only who gave it can take it
        sock = None
        with trio.move_on_after(OPEN_S):
            sock = await connect(place.host, place.port)
        if sock is None:
            raise TimeoutError(f"no answer within {OPEN_S} s")
        self._where = format_address(*sock.getsockname()[:2])
        peer = str(place)
        self._name_books(party(peer))
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
        self._after()

    def _name_books(self, there: str) -> None:
        """Tell the books whose power comes."""
        for each in self.wanted:
            if each.book is not None:
                each.book.there = there

    async def _whom(self) -> Place | None:
        """Return whom to ask; None, and the contracts are over, when nobody was found in time."""
        since = self._asking_since = self._asking_since or now_ns()
        leases = (each.lease_until for each in self._appliances)
        with trio.CancelScope() as scope:
            scope.deadline = max(since + self._wishes.give_up_ns, *leases) / NS_PER_S
            return await self._wishes.guide.place([each.ask for each in self.wanted])
        silent = format_duration(now_ns() - since)
        for each in self.wanted:
            each.say("unreachable", {"provider": "", "sentence": f"no power found for {silent}"})
            each.finish(NO if self._no else NO_ANSWER, self._no)
        return None

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
            if self._is_leaving:
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
        if isinstance(event, PowerGranted) and not self._is_believed(event):
            return
        each.take(event, now, lease_until(machine, flow))
        if isinstance(event, PowerReady | PowerOffered | FlowRefused):
            self._heard, self._losses, self._lost_at = True, 0, None
        if isinstance(event, PowerReady):
            self._powered()
        if isinstance(event, FlowClosed):
            self._leave(event)
        elif each.flow in machine.flows:
            reply(machine, each, event, now, self._wishes.max_price)

    def _answer_page(self, each: Appliance) -> None:
        """The answer to a page is known: tell the provider, or when a path resumes the flow."""
        if self._machine is not None and self._stream is not None and each.flow:
            with suppress(WireBroken):
                self._stream.queue(answer_page, self._machine, each, now_ns())

    def _powered(self) -> None:
        self._asking_since = self._no = None
        if self._place is not None:
            self._wishes.guide.powered(self._place, self._shown)

    # DPDP-7-07
    def _is_believed(self, event: PowerGranted) -> bool:
        """Whether the provider has proved to be whom we trust; if not, it is left without a word."""
        meter_key = event.meter.key if event.meter is not None else None
        self._shown = replace(self._shown, meter_key=meter_key)
        place = self._place
        lacks = place.proof.missing(self._shown) if place is not None and place.proof else ""
        if not lacks:
            return True
        others = self._others()
        for each in self.wanted:
            each.say("not trusted", {"provider": str(place), "sentence": f"{place}: {lacks}"})
            if not others and not each.was_ready:
                each.finish(NO)
        if self._stream is not None:
            self._stream.abort()
        return False

    # DPDP-6-02
    def _elsewhere(self, refusal: Refusal) -> bool:
        """Whether another provider is asked instead of the one that said no."""
        self._no = refusal
        if self._place is None or any(each.flow and each.was_ready for each in self._appliances):
            return False
        self._is_leaving = self._wishes.guide.refused(self._place, refusal)
        return self._is_leaving

    def _leave(self, event: FlowClosed) -> None:
        """Hang up on a provider that drains, so that it can go, or that said no; ask another one."""
        drains = event.refusal is not None and event.refusal.code == Reason.DRAINING
        if drains and event.refusal is not None and self._place is not None:
            self._wishes.guide.refused(self._place, event.refusal)
        drains |= self._is_leaving
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
            if self._place is not None:
                now_s = unix_ns() // NS_PER_S
                self._shown = shown_by(self._place, event.identity.certificate, now_s)
            for each in self.wanted:
                each.say("sealed", {"pattern": event.identity.pattern.word})
            return
        is_final = not self._is_sealed and event.refusal.code != Reason.TIMEOUT
        if is_final and self._others():
            is_final = False
        for each in self.wanted:
            each.say("seal broken", refusal_facts(event.refusal))
            if is_final and not each.was_ready:
                each.finish(NO, event.refusal)

    def _after(self) -> None:
        """The connection is over: what is still wanted loses its flow, not yet its power."""
        now = now_ns()
        self._losses += not self._heard
        is_over = not self._heard and self._is_beyond(self._lost_at, now)
        if not self._heard and self._others():
            self._losses = 0
        self._lost_at = self._lost_at or now
        self._stale_at = None
        for each in self.wanted:
            each.flow = 0
            if each.closing:
                each.finish(0)
            elif is_over or (not each.was_ready and self._losses >= LOSSES):
                each.say("lost", {"sentence": "the provider closed the connection"})
                each.finish(NO_ANSWER)

    def _lose_patience(self, stream: SegmentStream[Event], now: Instant) -> None:
        """Give up a provider that is silent beyond patience and lease; TCP may wait far longer."""
        since = self._stale_at
        if not any(each.flow for each in self.wanted):
            # nobody answered a SYN since the path was lost; the next one is not due yet
            since = self._lost_at or since
        if since is not None and self._is_beyond(since, now):
            # PTCP-14-02: a busy machine may look here first; the lease is said to be over before
            stream.handle_timer(now)
            where = str(self._place)
            silent = format_duration(now - since)
            for each in self.wanted:
                said = f"{where}: no answer for {silent}"
                each.say("unreachable", {"provider": where, "sentence": said})
                each.finish(NO_ANSWER)
            stream.abort()

    def _is_beyond(self, since: Instant | None, now: Instant) -> bool:
        """Whether patience and every lease are over for a provider that is gone since `since`."""
        if since is None:
            return False
        patience = since + self._wishes.give_up_ns
        return now >= max(patience, *(each.lease_until for each in self._appliances))

    def _unreachable(self, error: OSError) -> None:
        """Nobody answers: final for who never had power, else until the patience ends."""
        now = now_ns()
        where = str(self._place)
        reason = error.strerror or str(error)
        self._lost_at = self._lost_at or now
        others = self._others()
        self._losses = 0 if others else self._losses + 1
        patience = now - self._lost_at < self._wishes.give_up_ns
        for each in self.wanted:
            is_over = not patience or not (each.was_ready or others)
            if is_over or others:
                facts = {"provider": where, "sentence": f"{where}: {reason}", "again": not is_over}
                each.say("unreachable", facts)
            if is_over:
                each.finish(NO_ANSWER)

    def _others(self) -> bool:
        """Whether others may be asked, now that nobody answers where we asked."""
        return self._place is not None and self._wishes.guide.failed(self._place)

    async def _pause(self) -> None:
        """Wait before the next connection: a little after a cut, longer when nobody answers.

        It is made when a SYN is due: a provider hangs up on who says nothing for T_SYN.
        """
        base = back_off_ns(self._losses) if self._losses else NS_PER_S // 10
        earliest = now_ns() + round(base * random.uniform(0.8, 1.2))
        while self.wanted:
            due = max(earliest, min(each.patience.due for each in self.wanted))
            if due <= now_ns():
                return
            self._kick = trio.Event()
            with trio.CancelScope() as scope:
                if due < NEVER:
                    scope.deadline = due / NS_PER_S
                await self._kick.wait()
