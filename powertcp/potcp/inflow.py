"""The receiving half of a sink's flow: blocks are verified and banked, credit and demand stated."""

from powertcp.dve import BlockSums
from powertcp.errors import BrokenInvariant, known
from powertcp.potcp.events import SamplesReceived, SupplyBlocked
from powertcp.potcp.flow import Flow, Link
from powertcp.potcp.states import SINK, Cause, Sink
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS, Instant
from powertcp.wire.frames import credit_segment
from powertcp.wire.segments import DEMAND_MAX, Blocked

# what the limit of a CREDIT can say
MAX_LIMIT_UJ = (1 << 64) - 1
_BANKING = frozenset(state for (state, cause), row in SINK.items() if row[0] == "bank")


class Inflow(Flow):
    """A flow into which power comes; `SinkFlow` adds how it is agreed upon and ends.

    base_uj: ESN of the first block. counter: of the next sample, None before the first. full_uj:
    the ESN at which the store is full. wanted_mw, cap_mw: the owner's wish, and the ceiling that
    congestion leaves of it (PTCP-7-02).
    """

    __slots__ = (
        "base_uj",
        "batch",
        "blocks",
        "cap_mw",
        "counter",
        "credit_at",
        "ece_at",
        "ece_seen",
        "full_uj",
        "keeps",
        "last_credit",
        "minimum_mw",
        "rise_at",
        "wanted_mw",
        "wants_samples",
    )

    def __init__(self, link: Link, flow: int, *, wants_samples: bool = False) -> None:
        super().__init__(link, flow)
        self.wants_samples = self.keeps = wants_samples
        self.base_uj = 0
        self.counter: int | None = None
        self.full_uj: int | None = None
        self.wanted_mw = DEMAND_MAX
        self.cap_mw: int | None = None
        self.minimum_mw = 0
        self.ece_at: Instant | None = None
        self.ece_seen = False
        self.rise_at: Instant | None = None
        self.credit_at: Instant | None = None
        self.last_credit: Instant | None = None
        self.batch: SamplesReceived | None = None
        self.blocks: list[bytes] = []

    @property
    def esn_uj(self) -> int:
        """Energy verified and banked so far, uJ: what came beyond credit is not. PTCP-6-02."""
        # PTCP-6-02
        return min(self.register.esn_uj, self.limit_uj) if self.register else 0

    @property
    def banks(self) -> bool:
        """Whether a block that comes now is verified and banked."""
        return self.state in _BANKING

    # --- banking -----------------------------------------------------------------------------

    def check_block(self, sums: BlockSums, stated_esn: int) -> Refusal | None:
        """Return why a block is not banked: gap, meter, protection; in this order."""
        register, sampling, protector = self.register, self.sampling, self.protector
        if register is None or sampling is None or protector is None:
            raise BrokenInvariant("a sink that banks has register, sampling and protection")
        # PTCP-3.1-01
        if sums.pairs != sampling.pairs:
            return Refusal(Reason.SAMPLE_GAP, sums.pairs, sampling.pairs)
        if self.counter is not None and sums.counter != self.counter:
            return Refusal(Reason.SAMPLE_GAP, sums.counter, self.counter)
        # PTCP-3.3-02
        if stated_esn != register.esn_uj:
            return Refusal(Reason.METER_MISMATCH, stated_esn, register.esn_uj)
        return protector.check(sums)

    def bank_block(
        self, now: Instant, sums: BlockSums, stated_esn: int, payload: memoryview, *, ece: bool
    ) -> None:
        """Verify one block and bank it, or trip."""
        register = known(self.register, "a sink that banks has a register")
        refusal = self.check_block(sums, stated_esn)
        if refusal is not None:
            self._report()
            self.witness(sums, payload)
            self.count_heat(self.energy_of(sums), refusal)
            self.fire(Cause.VIOLATION, now, refusal)
            return
        self.counter = (sums.counter + sums.n) & 0xFFFF_FFFF
        before = register.esn_uj
        after = register.peek(sums.a)
        # PTCP-6-02
        if after > self.limit_uj:
            over = Refusal(Reason.CREDIT_OVERRUN, after, self.limit_uj)
            banked = self.limit_uj - before
            register.add(sums.a)
            self._note(sums, banked, self.limit_uj, payload, ece=ece)
            self._report()
            self.count_heat(after - self.limit_uj, over)
            self.fire(Cause.VIOLATION, now, over)
            return
        register.add(sums.a)
        self._note(sums, after - before, after, payload, ece=ece)
        protector = self.protector
        if protector is not None and protector.alert is not None:
            self.alert(2, protector.alert)
            protector.alert = None

    def _note(
        self, sums: BlockSums, energy_uj: int, esn_uj: int, payload: memoryview, *, ece: bool
    ) -> None:
        batch = self.batch
        if batch is None:
            batch = self.batch = SamplesReceived(flow=self.id, count=0, energy_uj=0, esn_uj=0)
        batch.count += sums.n
        batch.energy_uj += energy_uj
        batch.esn_uj = esn_uj
        batch.sim = batch.sim or payload[4] & 0x80 != 0
        if ece:
            batch.ece = self.ece_seen = True
        if self.keeps:
            self.keep(sums, payload)

    def keep(self, sums: BlockSums, payload: memoryview) -> None:
        """Keep what somebody wants of a block: its samples."""
        if self.wants_samples:
            self.blocks.append(bytes(payload[8:]))

    def witness(self, sums: BlockSums, payload: memoryview) -> None:
        """See a block that is not banked."""

    def _report(self) -> SamplesReceived | None:
        """Emit what was banked since the last call: before whatever ended the banking."""
        batch, self.batch = self.batch, None
        if batch is not None:
            if self.wants_samples:
                batch.samples = b"".join(self.blocks)
                self.blocks.clear()
            self.link.emit(batch)
        return batch

    def flush_batch(self, now: Instant) -> None:
        """Report what was banked since the last call and consider new credit."""
        batch = self._report()
        if batch is None:
            return
        if not self.banks or self.state is Sink.FIN_SENT:
            return
        if batch.ece:
            self._ease(now)
        self._consider_credit(now)

    # --- credit and demand -------------------------------------------------------------------

    @property
    def window_uj(self) -> int:
        """Credit window: 2 s at contract power, or the store's head-room. PTCP-6-04."""
        # PTCP-6-04
        power = known(self.profile, "credit is granted on terms").power_mw
        window = power * self.link.config.window_ns // NS_PER_MS
        return window if self.full_uj is None else min(window, max(0, self.full_uj - self.esn_uj))

    def demand_now(self) -> int:
        """Return the demand to state: the wish under the ceilings of congestion and lapse."""
        demand = self.wanted_mw
        if self.cap_mw is not None:
            demand = min(demand, self.cap_mw)
        # PTCP-5-06
        if self.lapsed:
            demand = min(demand, self.fallback.power_mw if self.fallback else 0)
        return demand

    def grant_credit(self, now: Instant, *, cwr: bool = False) -> None:
        """Queue CREDIT: limit never falls; states the demand. PTCP-6-01, PTCP-6-03."""
        # PTCP-6-01
        # a window may be wider than the field: power and time have 64 bits together
        self.limit_uj = min(max(self.limit_uj, self.esn_uj + self.window_uj), MAX_LIMIT_UJ)
        self.last_credit, self.credit_at = now, None
        self.demand_mw = self.demand_now()
        self.link.send(credit_segment(self.id, self.esn_uj, self.limit_uj, self.demand_mw, cwr))

    def _consider_credit(self, now: Instant) -> None:
        window, left = self.window_uj, self.limit_uj - self.esn_uj
        if 2 * left > window:
            return
        earliest = (self.last_credit or 0) + self.link.config.credit_gap_ns
        if 10 * left < window or now >= earliest:
            self.grant_credit(now)
        elif self.credit_at is None:
            self.credit_at = earliest

    def set_headroom(self, now: Instant, headroom_uj: int | None) -> None:
        """Bound the window by what the store takes from now on; what is banked fills it."""
        present = max(self.esn_uj, self.base_uj)
        self.full_uj = None if headroom_uj is None else present + headroom_uj
        if self.banks and self.state is not Sink.FIN_SENT:
            self._consider_credit(now)

    def set_demand(self, now: Instant, demand_mw: int) -> None:
        """State another demand, at most once per credit gap."""
        self.wanted_mw = demand_mw
        earliest = (self.last_credit or 0) + self.link.config.credit_gap_ns
        if not self.banks or self.state is Sink.FIN_SENT or self.demand_now() == self.demand_mw:
            return
        if self.last_credit is None or now >= earliest:
            self.grant_credit(now)
        else:
            self.credit_at = earliest

    # PTCP-7-02
    def _ease(self, now: Instant) -> None:
        """Lower the demand by an eighth, at most once per probe interval, and say CWR."""
        interval = self.link.interval_ms * NS_PER_MS
        if self.ece_at is not None and now < self.ece_at + interval:
            return
        self.ece_at, self.rise_at = now, now + interval
        self.ece_seen = False
        contract = known(self.profile, "a sink that banks has terms").power_mw
        present = min(self.demand_now(), contract)
        self.cap_mw = max(present - -(-present // 8), self.minimum_mw)
        self.grant_credit(now, cwr=True)

    def _rise(self, now: Instant) -> None:
        """Without ECE for an interval the ceiling of congestion rises by 1/32."""
        contract = known(self.profile, "congestion was of a contract").power_mw
        self.cap_mw = known(self.cap_mw, "congestion left a ceiling")
        if not self.ece_seen:
            self.cap_mw += max(1, contract // 32)
        self.ece_seen = False
        if self.cap_mw >= contract:
            self.cap_mw = self.rise_at = None
        else:
            self.rise_at = now + self.link.interval_ms * NS_PER_MS
        self.grant_credit(now)

    def note_blocked(self, now: Instant, blocked: Blocked) -> None:
        """BLOCKED: the source waits; grant again if there is room."""
        self.link.emit(SupplyBlocked(flow=self.id, limit_uj=blocked.limit_uj))
        if self.esn_uj + self.window_uj > self.limit_uj:
            self.grant_credit(now)

    # --- time and the end --------------------------------------------------------------------

    def other_times(self) -> tuple[Instant | None, ...]:
        """Credit and congestion have their own timers."""
        return (self.credit_at, self.rise_at)

    def pass_time(self, now: Instant) -> None:
        """Do what is due."""
        super().pass_time(now)
        if self.credit_at is not None and now >= self.credit_at and not self.is_over:
            self.grant_credit(now)
        if self.rise_at is not None and now >= self.rise_at and not self.is_over:
            self._rise(now)

    def farewell(self, refusal: Refusal) -> None:
        """Remember why we close."""
        super().farewell(refusal)
        self.credit_at = self.rise_at = None
