"""A consumer's path to its provider: one connection after the other, with the flows on it."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import trio

from powertcp.drivers.appliance import NO, Appliance, refusal_facts
from powertcp.drivers.asking import Asker
from powertcp.drivers.crossing import Crossing, Strand
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.interfaces import Interface
from powertcp.drivers.path import Dialler, Path
from powertcp.drivers.patience import NEVER
from powertcp.drivers.quest import Quest
from powertcp.drivers.reply import answer_page, lease_until, reply
from powertcp.drivers.rover import Rover
from powertcp.drivers.tracer import Tracer
from powertcp.drivers.wheel import Wheel
from powertcp.drivers.wishes import Wishes
from powertcp.errors import LocalProtocolError, WireBroken
from powertcp.loads import Fresh, Stale
from powertcp.machine import Event
from powertcp.potcp.events import (
    ConnectionFresh,
    ConnectionStale,
    ConnectionTerminated,
    FlowClosed,
    FlowClosing,
    FlowEvent,
    FlowRefused,
    LeaseRenewed,
    PowerGranted,
    PowerOffered,
    PowerReady,
    SamplesReceived,
)
from powertcp.registry import Reason, Refusal
from powertcp.units import Instant
from powertcp.vppn.tunnel import TunnelBroken, TunnelOpened


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
        self._appliances = appliances
        self._path: Path | None = None  # that powers us
        self._moved = trio.Event()  # another path, or none
        self._scope, self._seeking = trio.CancelScope(), trio.CancelScope()
        self._dark_since: Instant | None = None  # without a flow, on a lease
        self._dialler = Dialler(wishes.connection, wheel, tracer, wishes.firewall)
        self._quest = Quest(wishes.guide, appliances, wishes.give_up_ns)
        self._asker = Asker(
            self._quest,
            wishes.via,
            lambda: self._path,
            self._settle,
            is_screened=wishes.firewall is not None,
        )
        self._rover = Rover(
            wishes.roam,
            wishes.guide,
            self._quest,
            self._dialler,
            wishes.max_price,
            current=lambda: self._path,
            ask=self._asker.ask,
            take_over=self._take_over,
            on_change=self._on_change,
        )
        for each in appliances:
            each.may_roam = self._rover.may_roam
            self._listen(each)

    def _listen(self, each: Appliance) -> None:
        """Hear when the answer to a page is known."""
        if each.book is not None:
            each.book.on_answer = partial(self._answer_page, each)

    @property
    def wanted(self) -> list[Appliance]:
        """The contracts that are not over."""
        return self._quest.wanted

    async def run(self) -> None:
        """Connect, serve, connect again, until every contract is over."""
        with self._scope:
            async with trio.open_nursery() as self._dialler.nursery:
                with self._seeking:
                    while self.wanted:
                        try:
                            await self._once()
                        except OSError as error:
                            self._quest.unreachable(error)
                        if self.wanted:
                            await self._asker.pause()
                self._rover.close()
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
        now, path = now_ns(), self._path
        self._rover.close()
        for each in appliances:
            each.end_load()
            if path is None or not each.flow:
                each.finish(0)
                continue
            try:
                path.queue(path.machine.close_flow, each.flow, refusal=refusal, now=now)
            except LocalProtocolError:
                each.finish(0)
            except WireBroken:
                continue  # its end is near
        if path is not None:
            self._settle()
        elif not self.wanted:
            self._seeking.cancel()
        self._asker.kick()
        self._moved.set()

    def abort(self) -> None:
        """End at once with a TCP reset."""
        for each in self.wanted:
            each.closing = True
        self._rover.abort()
        if self._path is not None:
            self._path.abort()
        self._scope.cancel()

    def close_one(self, appliance: Appliance) -> None:
        """Close one contract because its load ended or has had enough."""
        appliance.end_load()
        path = self._path
        if path is None or not appliance.flow:
            appliance.finish(0)
            self._asker.kick()
            return
        with suppress(LocalProtocolError):  # it tripped: its end comes by itself
            path.queue(path.machine.close_flow, appliance.flow, now=now_ns())

    def feed(self) -> None:
        """Ask for what each load keeps up with; called once a second."""
        self._rover.look()
        path, now = self._path, now_ns()
        self._tell_rest(now)
        if path is None:
            return
        self._lose_patience(path, now)
        for each in self.wanted:
            if each.flow not in path.machine.flows or each.profile is None:
                continue
            if not each.keeps_up():
                wanted_mw = each.appetite.demand_mw
                each.say("demand", {"demand_mw": min(wanted_mw, each.profile.power_mw)})
                path.queue(path.machine.set_demand, each.flow, wanted_mw, now=now)
            if path.machine.may_propose(each.flow) and each.needs_more(now):
                path.queue(path.machine.renegotiate, each.flow, [each.ask], now=now)

    # DPDP-10-04
    def _tell_rest(self, now: Instant) -> None:
        """Say once how long loads live that have no flow: nobody was found within a second."""
        dark = [each for each in self.wanted if each.is_on_lease(now)]
        if not dark:
            self._dark_since = None
        elif self._dark_since is None:
            self._dark_since = now
        elif self._dark_since != NEVER:
            self._dark_since = NEVER
            for each in dark:
                each.say_rest(now)

    @property
    def may_roam(self) -> bool:
        """Whether any provider is ever left by choice or need."""
        return self._rover.may_roam

    def uplinks(self, found: Sequence[Interface]) -> None:
        """Hear what interfaces there are."""
        self._rover.uplinks(found)

    def kick(self) -> None:
        """Look at once which SYN is due."""
        self._asker.kick()

    async def _once(self) -> None:
        """One provider and those that are roamed to, from a SYN until there is no path any more."""
        place = await self._quest.next()
        if place is None:
            return
        self._path = await self._dialler.dial(place, self._handle, self._ended)
        self._rover.arrived(self._path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._asker.run)
            while self._path is not None or (self.wanted and self._rover.crossing is not None):
                self._moved = trio.Event()
                await self._moved.wait()
            nursery.cancel_scope.cancel()

    def _ended(self, path: Path) -> None:
        """The connection is over; if something else is prepared it is moved to."""
        if path is self._path:
            self._path = None
            self._quest.cut()
            self._rover.look()
            self._moved.set()

    def _on_change(self) -> None:
        """A crossing has ended: pages that waited for it are answered."""
        for each in self.wanted:
            self._answer_page(each)
        self._moved.set()

    # DPDP-10-02
    def _take_over(self, crossing: Crossing, path: Path) -> None:
        """Live on the flows of a crossing; the provider of before is told 603."""
        before, now = self._path, now_ns()
        leaving = self._rover.leave(before, now) if before is not None else None
        was = self._quest.where
        flows = {held.appliance: held for held in crossing.held.values()}
        for each in dict.fromkeys([*self.wanted, *flows]):
            held = flows.get(each)
            if leaving is not None and each.flow and not (held and held.is_resumed):
                leaving.add(Strand.of(each))
                self._listen(each)
            each.flow = 0
            if held is not None:
                each.flow, each.flow_name, each.ticket = held.flow, held.name, None
            elif each.closing:
                each.finish(0)
        if leaving is not None:
            leaving.close(now)
        self._path, path.handle, path.on_end = path, self._handle, self._ended
        self._quest.arrive(path.place)
        self._rover.arrived(path, crossing.cause)
        for each, held in flows.items():
            facts = {"provider": was, "to": str(path.place), "cause": crossing.cause.value}
            said = f"{was}: {crossing.cause.sentence}"
            each.say("left", {**facts, "sentence": said, "resumed": held.is_resumed})
            self._handle(path, held.events)
            self._draw(path, each)
        if leaving is not None and before is not None:
            before.go_on()
        self._asker.kick()

    def _draw(self, path: Path, each: Appliance) -> None:
        """Ask for power on a flow of which nothing was drawn yet, unless it is wanted no more."""
        if each.flow not in path.machine.flows:
            return
        # what happened on it has been told to its machine later than the crossing began
        now = now_ns()
        # it may have tripped since: its end comes by itself
        with suppress(LocalProtocolError, WireBroken):
            if each.closing or each.done:
                path.queue(path.machine.close_flow, each.flow, now=now)
                return
            path.queue(path.machine.set_demand, each.flow, each.appetite.demand_mw, now=now)

    def _settle(self) -> None:
        """Say goodbye to TCP when nothing is wanted on this connection."""
        if not self.wanted and self._path is not None:
            self._path.finish()

    def _handle(self, path: Path, events: Sequence[Event]) -> None:
        """Give the events of one wake-up to their contracts."""
        now = now_ns()
        for event in events:
            if path is not self._path:
                # what else comes in the wake-up that moved us is of the path of before
                if path.handle != self._handle:
                    path.handle(path, [event])
                continue
            match event:
                case FlowEvent(flow=flow) | SamplesReceived(flow=flow):
                    self._of_flow(path, flow, event, now)
                case LeaseRenewed():
                    for each in self.wanted:
                        if until := lease_until(path.machine, each.flow):
                            each.renew(until)
                case ConnectionStale():
                    path.stale_at = now
                    self._all("stale", Stale())
                case ConnectionFresh():
                    path.stale_at = None
                    self._all("fresh", Fresh())
                case ConnectionTerminated(refusal=refusal):
                    self._terminated(path, refusal)
                case TunnelOpened() | TunnelBroken():
                    self._of_tunnel(path, event)
        self._asker.kick()

    def _of_flow(
        self, path: Path, flow: int, event: FlowEvent | SamplesReceived, now: Instant
    ) -> None:
        each = next((one for one in self._appliances if one.flow == flow), None)
        if each is None:
            return
        if isinstance(event, PowerGranted) and (lacks := path.lacks(event)):
            self._quest.distrusted(lacks)
            path.abort()  # without a word
            return
        if isinstance(event, FlowClosing | FlowClosed) and self._is_left(path, event):
            path.handle(path, [event])
            return
        each.take(event, now, lease_until(path.machine, flow))
        if isinstance(event, PowerReady | PowerOffered | FlowRefused):
            self._quest.heard()
        if isinstance(event, PowerReady):
            self._quest.powered(path.place, path.shown)
        if isinstance(event, FlowClosed):
            self._leave(path, event)
        elif each.flow in path.machine.flows:
            reply(path.machine, each, event, now, self._wishes.max_price)

    def _is_left(self, path: Path, event: FlowClosing | FlowClosed) -> bool:
        """Whether a provider that drains is left for one where all is READY."""
        if event.refusal is None or event.refusal.code != Reason.DRAINING:
            return False
        self._rover.drained()
        return path is not self._path

    def _answer_page(self, each: Appliance) -> None:
        """The answer to a page is known: tell the provider, or when a path resumes the flow."""
        path = self._path
        if path is not None and each.flow and not path.is_paused:
            with suppress(WireBroken):
                path.queue(answer_page, path.machine, each, now_ns())

    def _leave(self, path: Path, event: FlowClosed) -> None:
        """Hang up on a provider that drains, so that it can go, or that said no; ask another one."""
        drains = event.refusal is not None and event.refusal.code == Reason.DRAINING
        if drains and event.refusal is not None:
            self._quest.drained(event.refusal)
        drains |= self._quest.is_leaving
        if drains and not any(each.flow for each in self.wanted):
            path.finish()

    def _all(self, word: str, event: Stale | Fresh) -> None:
        for each in self.wanted:
            if each.flow:
                each.say(word)
                each.tell(event)

    def _terminated(self, path: Path, refusal: Refusal | None) -> None:
        for each in self.wanted:
            each.say("disconnected", refusal_facts(refusal))
        path.finish()

    def _of_tunnel(self, path: Path, event: TunnelOpened | TunnelBroken) -> None:
        """The provider has proven its key, or the seal broke: a cut, but for who never had it."""
        if isinstance(event, TunnelOpened):
            path.show(event.identity.certificate)
            for each in self.wanted:
                each.say("sealed", {"pattern": event.identity.pattern.word})
            return
        is_final = not path.is_sealed and event.refusal.code != Reason.TIMEOUT
        if is_final and self._quest.failed():
            is_final = False
        for each in self.wanted:
            each.say("seal broken", refusal_facts(event.refusal))
            if is_final and not each.was_ready:
                each.finish(NO, event.refusal)

    def _lose_patience(self, path: Path, now: Instant) -> None:
        """Give up a provider that is silent beyond patience and lease; TCP may wait far longer."""
        since = path.stale_at
        if not any(each.flow for each in self.wanted):
            # nobody answered a SYN since the path was lost; the next one is not due yet
            since = self._quest.lost_at or since
        if since is not None and self._quest.is_beyond(since, now):
            # PTCP-14-02: a busy machine may look here first; the lease is said to be over before
            path.handle_timer(now)
            self._quest.silent(since, now)
            path.abort()
