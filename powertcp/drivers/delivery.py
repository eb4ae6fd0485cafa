"""Delivery: one generator per supply and sampling, flows ticking in cohorts on the wheel (P9)."""

from collections.abc import Callable, Iterator

from powertcp.drivers.session import FlowRecord, Session
from powertcp.drivers.wheel import SLOT_NS, Wheel
from powertcp.errors import PowerError
from powertcp.profile import PowerProfile
from powertcp.sources import Generator, Source
from powertcp.sources.generator import Tick
from powertcp.units import Instant
from powertcp.wire.options import Sampling

COHORT_FLOWS = 64  # in one step of the wheel: about 2 ms, P19
QUEUE_OCTETS = 256 * 1024  # a congested wire misses its ticks, D3
BLOCK_OCTETS = 16_384  # of a block, unless its sink takes less

# blocks of one tick: flows that began together carry the same octets
Made = dict[tuple[int, int], Tick]
# a supply as octets say it, how it is sampled, and the most octets of a block
Key = tuple[bytes, Sampling, int]


class Cohort:
    """Flows of one generator that tick at the same moments."""

    __slots__ = ("_congested", "generator", "key", "members", "next_ns", "phase")

    def __init__(
        self,
        generator: Generator,
        key: Key,
        phase: int,
        next_ns: Instant,
        congested: Callable[[], bool],
    ) -> None:
        """Tick first at `next_ns`, then every period of `generator`."""
        self.generator = generator
        self.key, self.phase = key, phase
        self.next_ns = next_ns
        self.members: list[FlowRecord] = []
        self._congested = congested

    def get_timer(self) -> Instant | None:
        """Return the next tick, None without members."""
        return self.next_ns if self.members else None

    def flush(self) -> bool:
        """Do nothing: every tick flushes its own wire."""
        return True

    def handle_timer(self, now: Instant) -> None:
        """Send one block on each flow that may have one; ticks that are over are not made up."""
        if now < self.next_ns:
            return
        period = self.generator.period_ns
        self.next_ns += period
        if self.next_ns <= now:
            self.next_ns = now - (now - self.next_ns) % period + period
        ece = self._congested()
        made: Made = {}
        for record in self.members.copy():
            wanted_mw = record.wanted_mw
            if not wanted_mw or record.blocked:
                continue
            key = (record.counter, wanted_mw)
            tick = made.get(key)
            if tick is None:
                tick = made[key] = self.generator.block(*key)
            # PTCP-7-01: marked until the sink has said that it reduces
            marked = ece and now >= record.relieved_until
            # PTCP-7-03: a lowered voltage is always marked
            _send(record, tick, now, ece=marked or tick.is_low)


def _send(record: FlowRecord, tick: Tick, now: Instant, *, ece: bool) -> None:
    """Send one block on one flow; its errors end at its connection (P12)."""
    session = record.session
    wire = session.wire
    if not wire.has_room(QUEUE_OCTETS):
        return
    if record.allowed_uj is not None and not _is_allowed(record, tick, record.allowed_uj):
        record.blocked = True
        return
    try:
        taken = session.machine.send_block(record.flow, tick.payload, tick.sums, ece=ece, now=now)
    except PowerError as error:
        # PTCP-13-01: FIN or TRIP was said, by a drain or with the last joule; the sink answers it
        if _is_ending(session, record.flow):
            record.blocked = True
            return
        wire.fail(error)
        return
    if taken:
        record.counter += tick.n
    else:
        record.blocked = True
        wire.handle_timer(now)
    wire.flush()


# LEDG-7-05
def _is_allowed(record: FlowRecord, tick: Tick, allowed_uj: int) -> bool:
    """Say whether a block stays within what is reserved for its flow."""
    sampling = record.sampling
    if sampling is None:
        return False
    scale = sampling.nv_per_lsb * sampling.na_per_lsb
    block_uj = -(-tick.sums.a * scale // (sampling.rate_hz * 10**12))
    status = record.session.machine.status(record.flow)
    return status.esn_uj + block_uj <= allowed_uj


def _is_ending(session: Session, flow: int) -> bool:
    """Say whether a flow waits for the answer to its FIN or TRIP."""
    machine = session.machine
    ending = ("FIN_SENT", "TRIPPED", "SETTLING")
    return flow in machine.flows and machine.status(flow).state in ending


class Delivery:
    """All cohorts of a provider."""

    def __init__(
        self,
        wheel: Wheel,
        draw: Callable[[int], int],
        congested: Callable[[], bool],
        source: Source,
    ) -> None:
        """Arm cohorts on `wheel`; draw(n) returns 0..n-1 and spreads phases."""
        self._source = source
        self._wheel = wheel
        self._draw = draw
        self._congested = congested
        # each with its cohorts by phase
        self._lines: dict[Key, tuple[Generator, dict[int, list[Cohort]]]] = {}

    def start(
        self, record: FlowRecord, supply: PowerProfile, sampling: Sampling, now: Instant
    ) -> None:
        """Let `record` tick from now on, at a random phase of its period."""
        # PTCP-2.3-03
        machine = record.session.machine
        # VPPN-3-07
        msp = min(machine.peer_msp - machine.wrapping, BLOCK_OCTETS)
        key = (supply.to_wire(), sampling, msp)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = (Generator(supply, sampling, self._source, msp), {})
        generator, by_phase = line
        phase = self._draw(max(1, generator.period_ns // SLOT_NS))
        cohorts = by_phase.setdefault(phase, [])
        for cohort in cohorts:
            if len(cohort.members) < COHORT_FLOWS:
                break
        else:
            period = generator.period_ns
            first = now - now % period + phase * SLOT_NS
            first += 0 if first > now else period
            cohort = Cohort(generator, key, phase, first, self._congested)
            cohorts.append(cohort)
        record.cohort = cohort
        cohort.members.append(record)
        if cohort.next_ns <= now:
            cohort.next_ns = now + SLOT_NS
        self._wheel.arm(cohort, cohort.next_ns)

    def stop(self, record: FlowRecord) -> None:
        """Take `record` out; what nobody uses any more is forgotten."""
        cohort = record.cohort
        if cohort is None:
            return
        cohort.members.remove(record)
        record.cohort = None
        if cohort.members:
            return
        self._wheel.disarm(cohort)
        _, by_phase = self._lines[cohort.key]
        cohorts = by_phase[cohort.phase]
        cohorts.remove(cohort)
        if not cohorts:
            del by_phase[cohort.phase]
            if not by_phase:
                del self._lines[cohort.key]

    def cohorts(self) -> Iterator[Cohort]:
        """Yield every cohort."""
        for _, by_phase in self._lines.values():
            for cohorts in by_phase.values():
                yield from cohorts
