"""One connection under the policy of a firewall: plain segments pass octet for octet, or not at all.

Two legs, one for each TCP connection. What the policy lets pass is forwarded as it came, ECE
excepted; what it reclaims is answered here. FWRL sections 1 to 4.
"""

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from powertcp.dve import BlockSums, integrate_many
from powertcp.errors import LocalProtocolError
from powertcp.machine import Buffer, Event
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.firewall import Firewall
from powertcp.reclaim.flows import Flows
from powertcp.reclaim.intruder import Intruder
from powertcp.reclaim.leg import Hung, Leg
from powertcp.reclaim.opening import is_power, is_syn, note_msp, via_of
from powertcp.reclaim.policy import Drop, State
from powertcp.reclaim.reaper import Reaper
from powertcp.reclaim.sealed import SealedPower
from powertcp.reclaim.span import lawful_span, sums_of_read
from powertcp.reclaim.track import End, Sighting, TrackedFlow, What
from powertcp.reclaim.watch import STATES, Party, Watch, facts_of, terms_of, way_of
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.units import NS_PER_S, Instant
from powertcp.wire.frames import (
    MAX_MSP,
    RawSegment,
    Splitter,
    encode_segment,
    pack_segment,
    whole_segment,
)
from powertcp.wire.options import Options
from powertcp.wire.segments import Control, Data, Ready, Reneg, Shed

# PTCP-13-02: what is refused here within a second
REFUSALS_MAX: Final = 20
# octets of the client that wait until it is known where they go
PARKED_MAX: Final = 256 * 1024
# nothing heard for so long is stale: three probes of the default interval
STALE_NS: Final = 3 * NS_PER_S
_FIN_ACK: Final = Flag.FIN | Flag.ACK
_SYN_ACK: Final = Flag.SYN | Flag.ACK
_DATA: Final = int(SegmentType.DATA)
_HEAD: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class NameWanted(Event):
    """A request wants to go somewhere: resolve it, then call `settle`. via: None: the default."""

    via: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetWanted(Event):
    """Something waits for the far side: connect to it, or call `give_up`."""


class Screen:
    """What is between a client, who opened its connection, and where that goes.

    client, target: who they are; target None: it is yet to be named. is_client_inside: which side
    is protected. passes_other: octets that are not PoTCP pass, to a known target. Bounds: those of
    its flows, PARKED_MAX octets; what is queued for one side is bounded by who reads the other.
    """

    def __init__(
        self,
        firewall: Firewall,
        client: Party,
        target: Party | None,
        *,
        is_client_inside: bool,
        passes_other: bool = False,
    ) -> None:
        self.firewall, self.party, self.target = firewall, client, target
        self.client, self.server = Leg(self, End.CLIENT), Leg(self, End.SERVER)
        # is_dropped: it is over without a word, and what was queued is not sent
        self.is_over = self.is_opaque = self.is_dropped = False
        self.via: str | None = None
        self.is_client_inside = is_client_inside
        # FWRL-2-04: in a transparent mode VIA is for somebody else
        self._takes_via = target is None
        self._passes_other = passes_other
        self._reaper = Reaper(self)
        self._flows = Flows(self, self._reaper)
        self._intruder = Intruder(self, self._flows, self._reaper)
        self._sealed = SealedPower(self)
        self._parked: bytearray | None = None
        self._head: bytearray | None = bytearray()
        self._is_wanted = False
        # a side that is gone while the other is being harvested
        self._gone: End | None = None
        self._refusals: deque[Instant] = deque(maxlen=REFUSALS_MAX + 1)
        self._heard: dict[End, Instant] = {}
        firewall.screens[self] = None

    # --- who is where -------------------------------------------------------------------------

    def leg(self, end: End) -> Leg:
        """Return one side."""
        return self.client if end is End.CLIENT else self.server

    def ends(self, sender: End) -> tuple[Party, Party | None]:
        """Return who sends, and the other."""
        if sender is End.CLIENT:
            return self.party, self.target
        return self.target or self.party, self.party

    def name_of(self, number: int | str) -> str:
        """Return a flow as people see it: ADDRESS:PORT/FLOW."""
        return f"{self.party.name}/{number}"

    def account_of(self, number: int, source: End, now: Instant, what: str = "") -> FlowAccount:
        """Open the account of a flow whose power `source` sends. what: its name, if no number is."""
        whose, other = self.ends(source)
        name, far = self.name_of(what or number), other.name if other is not None else ""
        account = FlowAccount(name, self.firewall.known_as(whose.account), now, far)
        self.firewall.flows.open(account)
        return account

    @property
    def is_idle(self) -> bool:
        """Whether there is no flow."""
        has_none = not self._flows.tracker.flows and not self._reaper.count
        return has_none and not self.is_opaque and self._sealed.is_idle

    # --- the target ---------------------------------------------------------------------------

    def settle(self, target: Party | None, refusal: Refusal | None, now: Instant) -> None:
        """Go on with what waits: it goes to `target`, or nowhere for `refusal`."""
        parked, self._parked = self._parked, None
        if self.is_over or parked is None:
            return
        octets = bytes(parked)
        if target is None:
            octets = self._refuse_parked(octets, refusal or Refusal(Reason.POLICY), now)
        self.target = target
        if octets and not self._is_condemned(now):
            raws = Splitter(MAX_MSP).receive(octets)
            self._take_all(self.client, raws, octets, len(octets), now)

    # FWRL-2-03
    def _refuse_parked(self, octets: bytes, refusal: Refusal, now: Instant) -> bytes:
        """Refuse the request that waited; return what came after it."""
        raw = Splitter(MAX_MSP).receive(octets)[0]
        if raw[0] != SegmentType.CTL:
            # nobody knows what is sealed there
            self.drop(self.client, now)
            return b""
        account = self.account_of(raw[2], End.SERVER, now)
        self.refuse_stray(self.client, raw[2], account, refusal, now)
        return octets[len(whole_segment(raw)) :]

    def give_up(self, refusal: Refusal, now: Instant) -> None:
        """The far side does not answer: whoever asked for it is refused."""
        if self.is_over:
            return
        for flow in self._flows.tracker.flows:
            self._flows.deny(self.leg(flow.sink), flow, refusal, now)
        self.cut(End.SERVER, None, now)

    def park(self, via: str | None, raw: RawSegment) -> None:
        """Let a request and all that follows wait until it is known where it goes."""
        self._parked = bytearray(whole_segment(raw))
        self.client.events.append(NameWanted(via=via))

    def want(self) -> None:
        """Something passes to the far side: it must be there."""
        if not self._is_wanted:
            self._is_wanted = True
            self.client.events.append(TargetWanted())

    # --- what comes ---------------------------------------------------------------------------

    def receive(self, leg: Leg, data: Buffer, splitter: Splitter, now: Instant) -> None:
        """Take octets of one side; never raises on their content."""
        if not self._heard:
            self.firewall.meet(self.party, self.target, now)
        self._heard[leg.end] = now
        if not self.is_over and not self._is_condemned(now):
            self._receive(leg, data, splitter, now)
            self._is_condemned(now)

    # FWRL-1-01
    def _is_condemned(self, now: Instant) -> bool:
        """Close the connection if a layer failed at it."""
        is_condemned = self.party.name in self.firewall.condemned
        if is_condemned:
            self.drop(self.client, now)
        return is_condemned

    def _receive(self, leg: Leg, data: Buffer, splitter: Splitter, now: Instant) -> None:
        if self.is_opaque:
            self.leg(leg.end.other).send(bytes(data))
            return
        if self._parked is not None and leg is self.client:
            # what is cut stays in the splitter
            self._parked += b"".join(map(whole_segment, splitter.receive(data)))
            if len(self._parked) > PARKED_MAX:
                self.fail(leg, Refusal(Reason.LIMIT, len(self._parked), PARKED_MAX), now)
            self._look_at_frames(leg, splitter, now)
            return
        if self._head is not None and leg is self.client:
            self._head += data
            if len(self._head) < _HEAD:
                return
            data, self._head = bytes(self._head), None
            if not is_power(data):
                self._take_other(data, now)
                return
        raws = splitter.receive(data)
        # of octets that are no segments it is not known where they begin
        end = len(data) - splitter.pending if splitter.error is None else None
        self._take_all(leg, raws, data, end, now)
        self._look_at_frames(leg, splitter, now)

    def _look_at_frames(self, leg: Leg, splitter: Splitter, now: Instant) -> None:
        """End the connection when one side speaks no segments any more."""
        error = splitter.error
        if error is not None:
            # PTCP-2.1-03
            self.fail(leg, Refusal(error.code, error.value, error.limit), now)

    # FWRL-2-01
    def _take_other(self, data: bytes, now: Instant) -> None:
        """The client speaks something else."""
        if not self._passes_other or self.target is None or self.firewall.is_shut:
            self.drop(self.client, now)
            return
        self.is_opaque = True
        self.want()
        self.server.send(data)

    def _take_all(
        self, leg: Leg, raws: list[RawSegment], data: Buffer, end: int | None, now: Instant
    ) -> None:
        """Take the segments of one read, which lie in `data` up to `end`, but for a first one.

        end: None if that is not known.
        """
        span = lawful_span(self._flows, leg.end, raws, data, end) if end is not None else None
        if span is not None:
            self.firewall.pass_on(span.watch.account, span.energy_uj)
            self.leg(leg.end.other).send(span.octets)
            return
        known = sums_of_read(self._flows, raws)
        touched: dict[int, Watch] = {}
        for index, raw in enumerate(raws):
            sums = known[index] if known is not None else None
            if self._reaper.takes(leg.end, raw[2]):
                self._reaper.take(leg, raw, sums, now)
            elif sums is not None and raw[2] and not raw[4]:
                self._take_block(leg, raw, sums, touched, now)
            else:
                self._take(leg, raw, now)
            if self.is_over or self._is_condemned(now):
                break
            if self._parked is not None:
                for rest in raws[index + 1 :]:
                    self._parked += whole_segment(rest)
                break
        for watch in touched.values():
            self._flows.count(watch)

    def _take_block(
        self,
        leg: Leg,
        raw: RawSegment,
        sums: BlockSums,
        touched: dict[int, Watch],
        now: Instant,
    ) -> None:
        """Take DATA without options: of a flow under a contract this is arithmetic only."""
        flows, number = self._flows, raw[2]
        flow, watch = flows.tracker.flow(number), flows.watches.get(number)
        if flow is None or watch is None:
            self._intruder.take_stray(leg, raw, sums, now)
            return
        window = flow.protector.window_samples if flow.protector is not None else 0
        if sums.window_samples != window:
            # its contract came into force in this very read
            [sums] = integrate_many([raw[5]], window)
        sighting = flows.tracker.block(flow, leg.end, raw[3], sums)
        if sighting.what is not What.BLOCK:
            self._intruder.take(leg, raw, sums, flow, sighting, now)
            return
        watch.passed_uj += sighting.energy_uj
        touched[number] = watch
        self._pass_block(leg, raw, flow, watch, now)

    def _pass_block(
        self, leg: Leg, raw: RawSegment, flow: TrackedFlow, watch: Watch, now: Instant
    ) -> None:
        """Hand on a lawful block; its flow is judged again where its energy says so."""
        self.pass_raw(leg, raw, is_marked=watch.is_marking)
        # FWRL-3-01
        if watch.mark_uj is not None and flow.verified_uj >= watch.mark_uj:
            self._flows.may_hold(flow, STATES[flow.phase], terms_of(flow), now)

    def _take(self, leg: Leg, raw: RawSegment, now: Instant) -> None:
        if raw[0] in (SegmentType.SEALED, SegmentType.FEED):
            self._sealed.take(leg, raw, now)
            return
        if leg is self.client and self.target is None and is_syn(raw):
            self.park(via_of(raw), raw)
            return
        sighting = self._flows.tracker.see(leg.end, raw, now)
        flow, what = sighting.flow, sighting.what
        if what is What.INVALID:
            self._invalid(leg, raw, sighting, now)
        elif isinstance(sighting.segment, Data):
            self._take_singly(leg, raw, sighting.segment, sighting, now)
        elif what is What.ASKED and flow is not None:
            self._asked(leg, raw, flow, sighting, now)
        elif flow is not None:
            self._take_of_flow(leg, raw, flow, sighting, now)
        else:
            self._take_of_nobody(leg, raw, sighting, now)

    def _take_singly(
        self, leg: Leg, raw: RawSegment, data: Data, sighting: Sighting, now: Instant
    ) -> None:
        """Take DATA with options, or beside one that no decoder takes."""
        flow = sighting.flow
        watch = self._flows.watches.get(raw[2])
        [sums] = integrate_many([data.payload])
        if flow is None or watch is None:
            self._intruder.take_stray(leg, raw, sums, now)
        elif sighting.what is What.BLOCK:
            self.firewall.pass_on(watch.account, sighting.energy_uj)
            self._pass_block(leg, raw, flow, watch, now)
        else:
            self._intruder.take(leg, raw, sums, flow, sighting, now)

    def _take_of_nobody(self, leg: Leg, raw: RawSegment, sighting: Sighting, now: Instant) -> None:
        """Take what is of no flow: of the connection, or too late."""
        what, segment = sighting.what, sighting.segment
        if what is What.STRAY:
            # PTCP-13-01: a goodbye that crossed ours
            flags = segment.flags if isinstance(segment, Control) else 0
            if flags == Flag.FIN:
                self.say(leg, Control(raw[2], _FIN_ACK, 0))
            elif flags == _SYN_ACK and isinstance(segment, Control):
                self._intruder.take_offer(leg, raw, segment, now)
            return
        # what no decoder knows passes with a flow that does
        is_hidden = what is What.SKIPPED and self._flows.tracker.flow(raw[2]) is None
        if self._is_wanted and self._gone is not leg.end.other:
            if not is_hidden:
                self.pass_raw(leg, raw)
        elif what is What.PROBE:
            self._reaper.answer_probe(leg, segment)
        if what is What.TERMINATED:
            reason = segment.options.reason if isinstance(segment, Control) else None
            self._hang(leg, reason, now)

    # --- requests and terms -------------------------------------------------------------------

    # FWRL-3-01
    def _asked(
        self, leg: Leg, raw: RawSegment, flow: TrackedFlow, sighting: Sighting, now: Instant
    ) -> None:
        """Take a SYN."""
        syn = sighting.segment
        options = syn.options if isinstance(syn, Control) else Options()
        self._flows.open(flow, leg.end, now).entity = options.entity
        takes_via = leg is self.client and self._takes_via
        via = options.via if takes_via else None
        if self._is_wanted and via is not None and via != self.via:
            # one connection to the far side for each of a client
            other = Refusal(Reason.POLICY, rule="VIA: this connection goes elsewhere")
            self._flows.deny(leg, flow, other, now)
        elif self._reaper.takes(leg.end.other, flow.number):
            # its source is at it without having been asked
            taken = Refusal(Reason.POLICY, rule="the other side's power of this flow is reclaimed")
            self._flows.deny(leg, flow, taken, now)
        elif self._flows.may_ask(leg, flow, now):
            if leg is self.client and not self._is_wanted:
                self.via = via
                self.want()
            # FWRL-2-03: VIA is for us
            octets = flow.handshake if takes_via else whole_segment(raw)
            self.leg(leg.end.other).send(octets)
            note_msp(leg, options)

    def _take_of_flow(
        self, leg: Leg, raw: RawSegment, flow: TrackedFlow, sighting: Sighting, now: Instant
    ) -> None:
        """Take what is said of a flow after its SYN."""
        what, segment, flows = sighting.what, sighting.segment, self._flows
        watch = flows.watches.get(flow.number)
        if isinstance(segment, Reneg):
            if not flows.may_propose(leg, flow, segment, sighting.asks, now):
                return
        elif watch is not None and what in (What.OFFERED, What.ACCEPTED, What.READY, What.SHED):
            options = segment.options if isinstance(segment, Control | Ready | Shed) else Options()
            watch.tariff = options.tariff or watch.tariff
            note_msp(leg, options)
            if not flows.may_take(flow, options.profiles, now, is_shed=what is What.SHED):
                return
        is_credit = what is What.CREDITED and watch is not None
        if is_credit and not flows.may_credit(flow, raw, now):
            return
        self.pass_raw(leg, raw)
        if what in (What.CLOSING, What.TRIPPED):
            flows.begin_end(flow, now)
        if what in (What.RESET, What.CLOSED):
            reason = segment.options.reason if isinstance(segment, Control) else None
            flows.leave(flow, "closed", reason, now)
        elif watch is not None and what in (What.READY, What.TRIPPED):
            said = "powered" if what is What.READY else "tripped"
            self.firewall.tell(watch.account, said, now, refusal=flow.fault)

    def _invalid(self, leg: Leg, raw: RawSegment, sighting: Sighting, now: Instant) -> None:
        """What no endpoint takes never passes; the policy says how that is answered."""
        refusal = sighting.refusal or Refusal(Reason.STATE, raw[0])
        flow, number = sighting.flow, raw[2]
        watch = self._flows.watches.get(number) if flow is not None else None
        account = watch.account if watch is not None else self.account_of(number, leg.end, now)
        way = way_of(leg.end, is_client_inside=self.is_client_inside)
        facts = facts_of(State.INVALID, way, self.ends(leg.end), flow=flow)
        decision = self.firewall.judge(account, facts, now)
        if isinstance(decision.verdict, Drop):
            self.drop_stray(leg, number, account, now)
        elif number == 0:
            self._flows.close(account, "refused", refusal, now)
            self.fail(leg, refusal, now)
        elif flow is not None and watch is not None:
            self._flows.reset_both(flow, refusal)
            self._flows.leave(flow, "refused", refusal, now)
            self.churn(leg, now)
        elif raw[1] & Flag.RST == 0:
            self.refuse_stray(leg, number, account, refusal, now)
        else:
            self._flows.close(account, "refused", refusal, now)
            self.churn(leg, now)

    # FWRL-3-02
    def judge_again(self, now: Instant) -> None:
        """Judge every flow again: by another policy, load or time."""
        if self.is_over:
            return
        if self.is_opaque:
            if self.firewall.is_shut:
                self.drop(self.client, now)
            return
        is_quiet = any(now - at > STALE_NS for at in self._heard.values())
        # first those that are harvested: what a flow becomes is not judged twice
        self._reaper.judge_again(now)
        if not self.is_over:
            self._flows.judge_again(now, is_quiet=is_quiet)
        if not self.is_over:
            self._sealed.judge_again(now)
        # FWRL-1-01
        if self.firewall.is_shut:
            self.close(Refusal(Reason.MAINTENANCE), now)
        self._is_condemned(now)

    # --- refusals -----------------------------------------------------------------------------

    def drop_stray(self, leg: Leg, number: int, account: FlowAccount, now: Instant) -> None:
        """Close the connection for what is no flow of the tracker."""
        self._flows.close(account, "dropped", None, now)
        self.drop(leg, now)

    def refuse_stray(
        self, leg: Leg, number: int, account: FlowAccount, refusal: Refusal, now: Instant
    ) -> None:
        """Say RST to what is no flow of the tracker."""
        self._flows.note_end(number, now)
        self.say(leg, Control(number, Flag.RST, 0, Options(reason=refusal)))
        self._flows.close(account, "refused", refusal, now)
        self.churn(leg, now)

    def note_harvest_over(self, number: int, now: Instant) -> None:
        """A harvest ended: with nobody left, so does the connection."""
        self._flows.note_end(number, now)
        if self._gone is not None and not self._reaper.count:
            self._finish(Hung(end=self._gone, refusal=None), now)

    def churn(self, leg: Leg, now: Instant) -> None:
        """Too much that is answered here within a second ends the connection."""
        times = self._refusals
        times.append(now)
        # PTCP-13-02, FWRL-3-14
        if len(times) > REFUSALS_MAX and now - times[0] < NS_PER_S:
            self.fail(leg, Refusal(Reason.CHURN, len(times), REFUSALS_MAX), now)

    # --- time ---------------------------------------------------------------------------------

    def get_timer(self) -> Instant | None:
        """Return when held credit may pass, or a harvest has something to say."""
        if self.is_over:
            return None
        times = [at for at in (self._flows.get_timer(), self._reaper.get_timer()) if at is not None]
        return min(times, default=None)

    def handle_timer(self, now: Instant) -> None:
        """Let go what may pass by now."""
        if not self.is_over:
            self._flows.handle_timer(now)
            self._reaper.handle_timer(now)
            self._is_condemned(now)

    # --- the connection -----------------------------------------------------------------------

    def cut(self, end: End, refusal: Refusal | None, now: Instant) -> None:
        """One side is gone; the other goes on only as long as it is being harvested."""
        if not self.is_over:
            self._hang(self.leg(end), refusal, now)

    def close(self, refusal: Refusal, now: Instant) -> None:
        """End the connection with RST on flow 0 to both sides."""
        self.fail(self.client, refusal, now)

    def end_all(self, refusal: Refusal, now: Instant) -> None:
        """End every flow with a reason, e.g. as we drain."""
        for flow in self._flows.tracker.flows:
            self._flows.reset_both(flow, refusal)
            self._flows.leave(flow, "closed", refusal, now)
        self._reaper.end_all(refusal, now)

    # FWRL-3-12
    def drop(self, leg: Leg, now: Instant) -> None:
        """Close the connection without a word."""
        self.is_dropped = self.is_dropped or not self.is_over
        for each in (self.client, self.server):
            each.drop_all()
        self._finish(Hung(end=leg.end, refusal=None), now)

    def fail(self, leg: Leg, refusal: Refusal, now: Instant) -> None:
        """The connection is over for what one side did."""
        if self.is_over:
            return
        for each in (self.client, self.server):
            self.say(each, Control(0, Flag.RST, 0, Options(reason=refusal)))
        self._finish(Hung(end=leg.end, refusal=refusal), now)

    def _hang(self, leg: Leg, refusal: Refusal | None, now: Instant) -> None:
        hung = Hung(end=leg.end, refusal=refusal)
        self._flows.leave_all("cut", refusal, now)
        self._reaper.cut(leg.end, now)
        if self.is_over:
            return
        if self._gone is None and self._reaper.has(leg.end.other):
            self._gone = leg.end
            leg.events.append(hung)
            return
        self._finish(hung, now)

    def _finish(self, hung: Hung, now: Instant) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._flows.leave_all("cut", hung.refusal, now)
        for end in End:
            self._reaper.cut(end, now)
        self._sealed.close(now)
        self.firewall.screens.pop(self, None)
        self.firewall.condemned.discard(self.party.name)
        self.leg(hung.end).events.append(hung)

    # --- saying -------------------------------------------------------------------------------

    # FWRL-1-03, FWRL-3-07
    def pass_raw(self, leg: Leg, raw: RawSegment, *, is_marked: bool = False) -> None:
        """Hand a segment to the other side as it came; PTCP-2.1-05: with ECE if that is marked."""
        other = self.leg(leg.end.other)
        if self._gone is other.end or not self._is_wanted:
            return
        if is_marked and not raw[1] & Flag.ECE:
            # PTCP-2.1-05
            flags = raw[1] | Flag.ECE
            other.send(pack_segment(raw[0], flags, raw[2], raw[3], bytes(raw[4]), bytes(raw[5])))
            return
        other.send(whole_segment(raw))

    def say(self, leg: Leg, control: Control) -> None:
        """Say something of our own to one side."""
        if leg.end is self._gone or (leg is self.server and not self._is_wanted):
            return
        with suppress(LocalProtocolError):
            leg.send(encode_segment(control))
