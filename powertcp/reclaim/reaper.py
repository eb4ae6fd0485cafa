"""What is harvested on one connection: the firewall answers its source as a sink would.

A harvest is one flow of one side. Nothing of it passes to the other side. FWRL sections 3 and 4.
"""

from dataclasses import replace
from typing import Final

from powertcp.dve import BlockSums, integrate_many
from powertcp.errors import DecodeError
from powertcp.potcp.flow import first_of, sampling_fault
from powertcp.profile import ProfileType
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.firewall import refusal_of
from powertcp.reclaim.harvest import SILENT_NS, Harvest
from powertcp.reclaim.leg import Leg
from powertcp.reclaim.middle import Middle
from powertcp.reclaim.policy import Accept, Drop, Facts, Reclaim, State
from powertcp.reclaim.track import End, TrackedFlow
from powertcp.reclaim.watch import facts_of, is_due, way_of
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.units import NS_PER_MS, NS_PER_S, Instant
from powertcp.wire.frames import RawSegment, decode_segment, encode_segment, maintain_segment
from powertcp.wire.options import Options
from powertcp.wire.segments import (
    Answer,
    Blocked,
    Control,
    MaintainProbe,
    Reneg,
    Segment,
    Shed,
    Trip,
)

# T_DRAIN: for so long a full reservoir waits before it says so
DRAIN_NS: Final = 5 * NS_PER_S
_FIN_ACK: Final = Flag.FIN | Flag.ACK
_SYN_ACK: Final = Flag.SYN | Flag.ACK

Key = tuple[End, int]


class Reaper:
    """The harvests of one connection. Bound: HARVESTS_MAX of the firewall."""

    __slots__ = ("_admitted", "_harvests", "_middle")

    def __init__(self, middle: Middle) -> None:
        self._middle = middle
        self._harvests: dict[Key, Harvest] = {}
        # the sides of which flows may be harvested, or not; None: nobody asked
        self._admitted: dict[End, bool] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._harvests)

    def has(self, end: End) -> bool:
        """Whether something of that side is harvested."""
        return any(key[0] is end for key in self._harvests)

    def takes(self, end: End, number: int) -> bool:
        """Whether that flow of that side is harvested."""
        return (end, number) in self._harvests

    # FWRL-4-05
    def begin(
        self,
        leg: Leg,
        number: int,
        account: FlowAccount,
        verdict: Reclaim,
        flow: TrackedFlow | None,
        esn_uj: int,
        now: Instant,
    ) -> Refusal | None:
        """Become the sink of a flow; return why not.

        flow: as it was followed, None for one that nobody agreed upon. esn_uj: where its source
        stands, by our own integral.
        """
        firewall = self._middle.firewall
        if leg.end not in self._admitted:
            self._admitted[leg.end] = firewall.admit(self._origin(leg.end), now)
        if not self._admitted[leg.end]:
            return Refusal(Reason.CHURN, 2, 1, 1000)
        if (many := firewall.too_many(self._origin(leg.end))) is not None:
            return many
        harvest = Harvest(
            number,
            account,
            firewall.intakes[verdict.reservoir],
            firewall.limit_of(verdict, now),
            sampling=flow.sampling if flow is not None else None,
            profile=flow.profile if flow is not None else None,
            esn_uj=esn_uj,
        )
        self._harvests[leg.end, number] = harvest
        harvest.heard_at = now
        firewall.count_harvest(self._origin(leg.end), 1)
        firewall.tell(account, "intercepted", now)
        return None

    # --- what comes ---------------------------------------------------------------------------

    def take(self, leg: Leg, raw: RawSegment, sums: BlockSums | None, now: Instant) -> None:
        """Take a segment of a harvested flow. sums: of its block, if they are known."""
        harvest = self._harvests[leg.end, raw[2]]
        try:
            if raw[0] != SegmentType.DATA:
                self._take_other(leg, harvest, decode_segment(raw), now)
                return
            if sums is None:
                [sums] = integrate_many([raw[5]])
        except DecodeError as error:
            refusal = Refusal(error.code, error.value, error.limit)
            self._fail(leg, harvest, refusal, now)
            return
        self._claim(harvest, raw[3], harvest.esn_uj)
        came_uj, bankable_uj = harvest.take(sums, now)
        self._middle.firewall.keep(harvest.account, harvest, came_uj, bankable_uj)
        self._grant(leg, harvest, now)

    def _claim(self, harvest: Harvest, said_uj: int, esn_uj: int) -> None:
        """Count what a header says beyond what was integrated. LEDG-8-03."""
        beyond_uj = said_uj - esn_uj - harvest.claimed_uj
        if beyond_uj > 0:
            harvest.claimed_uj += beyond_uj
            self._middle.firewall.claim(harvest.account, beyond_uj)

    # FWRL-4-08
    def _take_other(
        self, leg: Leg, harvest: Harvest, segment: Segment | None, now: Instant
    ) -> None:
        """Answer what is no power as its sink would."""
        match segment:
            case Control(flags=Flag.FIN):
                self._claim(harvest, segment.esn, harvest.esn_uj)
                self._middle.say(leg, Control(harvest.number, _FIN_ACK, harvest.esn_uj))
                self._leave(leg.end, harvest, "closed", segment.options.reason, now)
            case Control() if segment.flags == _SYN_ACK:
                self._agree(leg, harvest, segment, now)
            case Control() if segment.flags in (Flag.RST, _FIN_ACK):
                self._leave(leg.end, harvest, "closed", segment.options.reason, now)
            case Control():
                self._fail(leg, harvest, Refusal(Reason.STATE, segment.flags), now)
            case Trip():
                self._middle.say(leg, Control(harvest.number, _FIN_ACK, harvest.esn_uj))
                self._leave(leg.end, harvest, "closed", segment.options.reason, now)
            case Blocked():
                self._grant(leg, harvest, now)
            case Reneg():
                # FWRL-4-08
                self._answer(leg, harvest, segment.options, Refusal(Reason.POLICY))
            case Shed():
                self._answer(leg, harvest, segment.options, None)
            case _:
                # READY, receipts that nobody signs, alerts
                pass

    def _answer(
        self, leg: Leg, harvest: Harvest, proposed: Options, refusal: Refusal | None
    ) -> None:
        """Answer a proposal: rejected for `refusal`, or accepted."""
        options = Options(contract=proposed.contract, reason=refusal)
        answer = Answer(harvest.number, harvest.esn_uj, accepted=refusal is None, options=options)
        leg.send(encode_segment(answer))

    # FWRL-4-08
    def _agree(self, leg: Leg, harvest: Harvest, offer: Control, now: Instant) -> None:
        """Take an offer that nobody asked for: its sampling and its terms."""
        options = offer.options
        sampling = options.sampling
        if sampling is None or not (sampling.nv_per_lsb and sampling.na_per_lsb):
            self._fail(leg, harvest, Refusal(Reason.SAMPLING, 0), now)
            return
        # PTCP-3.2-01
        if (fault := sampling_fault(sampling, ())) is not None:
            self._fail(leg, harvest, fault, now)
            return
        grant = first_of(options.profiles, ProfileType.GRANT)
        if harvest.esn_uj == 0:
            harvest.agree(sampling, grant, 0)
        profiles = (grant,) if grant is not None else ()
        taken = Options(contract=options.contract, profiles=profiles)
        self._middle.say(leg, Control(harvest.number, Flag.ACK, 0, taken))
        self._grant(leg, harvest, now)

    # FWRL-4-09
    def answer_probe(self, leg: Leg, segment: Segment | None) -> None:
        """Answer MAINTAIN of a source that nobody else is there for. PTCP-5-01."""
        if isinstance(segment, MaintainProbe) and segment.nonce and self.has(leg.end):
            leg.send(maintain_segment(0, segment.nonce, segment.time_ns))

    # --- credit -------------------------------------------------------------------------------

    def grant(self, leg: Leg, number: int, now: Instant) -> None:
        """Let the source of a flow go on."""
        self._grant(leg, self._harvests[leg.end, number], now)

    def _grant(self, leg: Leg, harvest: Harvest, now: Instant) -> None:
        if (octets := harvest.grant(now)) is not None:
            leg.send(octets)
            harvest.refuse_at = None
        # FWRL-4-02
        elif harvest.is_full and harvest.refuse_at is None:
            harvest.refuse_at = now + DRAIN_NS

    def get_timer(self) -> Instant | None:
        """Return when one of them has something to say."""
        times = (harvest.get_timer() for harvest in self._harvests.values())
        return min((at for at in times if at is not None), default=None)

    def handle_timer(self, now: Instant) -> None:
        """Grant what may be granted, and end what a full reservoir does not want."""
        for (end, _), harvest in tuple(self._harvests.items()):
            leg = self._middle.leg(end)
            if is_due(harvest.refuse_at, now):
                room_uj = harvest.room_uj
                if harvest.is_full:
                    refusal = Refusal(Reason.RESERVOIR_FULL, harvest.power_mw * 1000, room_uj)
                    self._end(leg, harvest, refusal, now)
                    continue
                harvest.refuse_at = None
            # FWRL-4-05
            if is_due(harvest.silent_at, now):
                limit_ms = SILENT_NS // NS_PER_MS
                self._end(leg, harvest, Refusal(Reason.TIMEOUT, limit_ms, limit_ms), now)
                continue
            if is_due(harvest.get_timer(), now):
                self._grant(leg, harvest, now)

    # --- endings ------------------------------------------------------------------------------

    # FWRL-3-02
    def judge_again(self, now: Instant) -> None:
        """Judge every harvest by another policy."""
        middle = self._middle
        for (end, number), harvest in tuple(self._harvests.items()):
            facts = self._facts(end, harvest)
            decision = middle.firewall.judge(harvest.account, facts, now)
            verdict = decision.verdict
            if isinstance(verdict, Reclaim):
                intake = middle.firewall.intakes[verdict.reservoir]
                harvest.go_by(intake, middle.firewall.limit_of(verdict, now))
                continue
            leg = middle.leg(end)
            if isinstance(verdict, Drop):
                self._forget(end, harvest)
                middle.drop_stray(leg, number, harvest.account, now)
                return
            # of what is accepted by now there is nobody behind us who asked for it
            code = Reason.POLICY if isinstance(verdict, Accept) else None
            self._end(leg, harvest, refusal_of(decision, facts, code), now)

    def _facts(self, end: End, harvest: Harvest) -> Facts:
        """Return a harvest as it was when it was judged last, with what came since."""
        middle, before = self._middle, harvest.account.facts
        energy_uj = harvest.account.joules.in_uj
        if before is None:
            way = way_of(end, is_client_inside=middle.is_client_inside)
            before = facts_of(State.UNSOLICITED, way, middle.ends(end))
        power_mw = harvest.power_mw or before.power_mw
        return replace(before, power_mw=power_mw, energy_uj=energy_uj)

    def _end(self, leg: Leg, harvest: Harvest, refusal: Refusal, now: Instant) -> None:
        """Say RST to a source."""
        options = Options(reason=refusal)
        self._middle.say(leg, Control(harvest.number, Flag.RST, harvest.esn_uj, options))
        self._leave(leg.end, harvest, "refused", refusal, now)

    def _fail(self, leg: Leg, harvest: Harvest, refusal: Refusal, now: Instant) -> None:
        """Say RST to a source that is at fault."""
        self._end(leg, harvest, refusal, now)
        self._middle.churn(leg, now)

    def end_all(self, refusal: Refusal, now: Instant) -> None:
        """Say RST to every source."""
        for (end, _), harvest in tuple(self._harvests.items()):
            self._end(self._middle.leg(end), harvest, refusal, now)

    def cut(self, end: End, now: Instant) -> None:
        """One side is gone."""
        for key, harvest in tuple(self._harvests.items()):
            if key[0] is end:
                self._leave(end, harvest, "cut", None, now)

    def _leave(
        self, end: End, harvest: Harvest, what: str, refusal: Refusal | None, now: Instant
    ) -> None:
        self._forget(end, harvest)
        firewall = self._middle.firewall
        firewall.tell(harvest.account, what, now, refusal=refusal)
        firewall.flows.close(harvest.account)
        self._middle.note_harvest_over(harvest.number, now)

    def _forget(self, end: End, harvest: Harvest) -> None:
        del self._harvests[end, harvest.number]
        harvest.close()
        self._middle.firewall.count_harvest(self._origin(end), -1)

    def _origin(self, end: End) -> str:
        """Return who that side is, for the bounds of harvesting."""
        return self._middle.ends(end)[0].account
