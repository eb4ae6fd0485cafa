"""A hostile provider without a socket: it pushes power that nobody asked for, exactly.

It keeps what honest providers keep where it is told to (credit, to the microjoule) and lies where
it is told to (the energy in its headers). For the simulations of a firewall and for tests of it;
the same terms and the same times give the same octets. FWRL section 5.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from struct import Struct
from typing import Final

import numpy as np

from powertcp.dve import EnergyRegister, encode_block
from powertcp.errors import DecodeError
from powertcp.machine import Buffer
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag
from powertcp.units import NS_PER_S, Duration, Instant
from powertcp.wire.frames import (
    MAX_MSP,
    Splitter,
    data_header,
    decode_segment,
    encode_segment,
    maintain_segment,
    pack_segment,
)
from powertcp.wire.options import Maintain, Options, Sampling, Seal
from powertcp.wire.segments import (
    Blocked,
    Control,
    Credit,
    MaintainProbe,
    Ready,
    Sealed,
    Segment,
    Trip,
)

# octets that data_to_send gives out at once
SEND_MAX: Final = 256 * 1024
# FIN+ACK, or it is over without
DRAIN_NS: Final[Duration] = 5 * NS_PER_S
_BLOCKED_NS: Final[Duration] = NS_PER_S
_LEASE_S: Final = 60
# 1 mV and 1 uA per LSB, 1000 Hz
_SAMPLING: Final = Sampling(1000)
_SYN_ACK: Final = Flag.SYN | Flag.ACK
_FIN_ACK: Final = Flag.FIN | Flag.ACK
_ESN_MAX: Final = (1 << 64) - 1
_COUNTER: Final = 1 << 32
_UJ_DENOMINATOR: Final = 10**12
_NV_PER_MV: Final = 1_000_000
# flow and ESN of a header; the counter of the block behind it
_HEAD: Final = Struct(">IQ")
_HEAD_AT: Final = 8
_COUNT: Final = Struct(">I")
_COUNT_AT: Final = 20


class Style(Enum):
    """What an attack looks like."""

    # DATA, and nothing before it
    CLEAR = auto()
    # SYN+ACK for which nobody asked, READY once it was accepted; DATA meanwhile
    ANSWER = auto()
    # SEALED of a tunnel that nobody shares; its headers say what it pretends to deliver
    SEALED = auto()
    # well-formed headers around noise
    JUNK = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackTerms:
    """What an attack does. The default is 250 V, 4 A: 1 kW for 60 s in 600 blocks of 100 samples.

    current_ua: uA. block_samples: samples of a block, 1 to 2000. flow: the first one it uses;
    flows: how many, two apart, which take turns. claim_factor: what headers say, times what was
    sent. spike_block: the block, from 0, of which one sample has spike_mv. honours_credit: nothing
    beyond CREDIT, but for the first block of each flow, which comes before any. is_stubborn: goes
    on after RST, FIN and TRIP. probe_ns: how often it asks whether somebody is there, 0: never.
    """

    voltage_mv: int = 250_000
    current_ua: int = 4_000_000
    sampling: Sampling = _SAMPLING
    block_samples: int = 100
    duration_ns: Duration = 60 * NS_PER_S
    style: Style = Style.CLEAR
    flow: int = 1
    flows: int = 1
    claim_factor: int = 1
    spike_block: int | None = None
    spike_mv: int = 400_000_000
    honours_credit: bool = True
    is_stubborn: bool = False
    probe_ns: Duration = 0
    seed: int = 0

    @property
    def block_ns(self) -> Duration:
        """What a block lasts."""
        return self.block_samples * NS_PER_S // self.sampling.rate_hz

    @property
    def power_mw(self) -> int:
        """What it pushes."""
        return self.voltage_mv * self.current_ua // 1_000_000


# firewall-ledger section 5; what is missing there is not the attacker's
SCENARIO_TERMS: Final[Mapping[str, AttackTerms]] = {
    "S1": AttackTerms(),
    "S2": AttackTerms(spike_block=300),
    "S3": AttackTerms(style=Style.SEALED),
    "S4": AttackTerms(block_samples=1),
    "S5": AttackTerms(),
    "S6": AttackTerms(),
    "S7": AttackTerms(claim_factor=10),
    "S8": AttackTerms(),
    "S9": AttackTerms(),
    "S10": AttackTerms(),
}


class _Flow:
    """One flow of an attack: what was sent of it, and what it may send."""

    __slots__ = ("counter", "credit_uj", "is_over", "number", "register")

    def __init__(self, number: int, sampling: Sampling) -> None:
        self.number = number
        self.register = EnergyRegister(sampling)
        self.counter = 0
        # up to where it may deliver, None: nobody said anything
        self.credit_uj: int | None = None
        self.is_over = False


class Attack:
    """The machine: `data_to_send(now)` gives what is due, `receive` takes the answers.

    sent_uj: what all samples that were given out are worth, exactly. claimed_uj: the most that a
    header said beyond what was sent before it. blocks, segments: DATA, and all of what was given
    out. credit_uj: the credit of its first flow. answers: segments of the other side, by type name.
    Bounds: `terms.flows`; answers are counted and not kept.
    """

    def __init__(self, terms: AttackTerms) -> None:
        """Begin at the first call of data_to_send."""
        self.terms = terms
        self.sent_uj = self.claimed_uj = self.blocks = self.segments = self.blocked = 0
        self.answers: dict[str, int] = {}
        self._noise = np.random.Generator(np.random.PCG64(terms.seed))
        sampling = terms.sampling
        self._flows = [_Flow(terms.flow + 2 * n, sampling) for n in range(terms.flows)]
        self._by_number = {flow.number: flow for flow in self._flows}
        self._turn = 0
        self._v = terms.voltage_mv * _NV_PER_MV // sampling.nv_per_lsb
        self._i = terms.current_ua * 1000 // sampling.na_per_lsb
        self._block_a = self._v * self._i * terms.block_samples
        self._template = self._encode(terms.block_samples, self._i)
        self._splitter = Splitter(MAX_MSP)
        self._queue: deque[bytes] = deque()
        self._next_at: Instant | None = None
        self._end_at: Instant = 0
        self._probe_at: Instant | None = None
        self._blocked_at: Instant | None = None
        self._gone_at: Instant | None = None
        self._nonce = 0
        self._is_over = False

    @property
    def credit_uj(self) -> int | None:
        """Up to where the first flow may deliver, None when nobody said anything."""
        return self._flows[0].credit_uj

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes: it is done, or was ended."""
        return self._is_over and not self._queue

    # --- what comes back ----------------------------------------------------------------------

    def receive(self, data: Buffer, now: Instant) -> None:
        """Take octets of whoever is attacked; never raises on their content."""
        for raw in self._splitter.receive(data):
            try:
                segment = decode_segment(raw)
            except DecodeError:
                segment = None
            name = type(segment).__name__
            self.answers[name] = self.answers.get(name, 0) + 1
            if segment is not None:
                self._hear(raw[2], segment, now)

    def _hear(self, number: int, segment: Segment, now: Instant) -> None:
        flow = self._by_number.get(number)
        match segment:
            case MaintainProbe() if segment.nonce:
                self._queue.append(maintain_segment(0, segment.nonce, segment.time_ns))
            case Control() if number == 0 and segment.flags == Flag.RST:
                self._end_all()
            case _ if flow is None:
                pass
            case Credit():
                if flow.credit_uj is None or segment.limit_uj > flow.credit_uj:
                    flow.credit_uj = segment.limit_uj
                    self._resume(now)
            case Control():
                self._control(flow, segment.flags)
            case Trip():
                self._bow(flow)
            case _:
                pass

    def _control(self, flow: _Flow, flags: int) -> None:
        if flags == Flag.ACK and self.terms.style is Style.ANSWER:
            options = Options(contract=1, profiles=(self._grant(),))
            self._say(Ready(flow.number, self._claim(flow), options))
        elif flags == Flag.FIN:
            self._bow(flow)
        elif flags in (Flag.RST, _FIN_ACK):
            self._leave(flow)

    def _bow(self, flow: _Flow) -> None:
        if not self.terms.is_stubborn:
            self._say(Control(flow.number, _FIN_ACK, self._claim(flow)))
            self._leave(flow)

    def _leave(self, flow: _Flow) -> None:
        if self.terms.is_stubborn and self._gone_at is None:
            return
        flow.is_over = True
        if all(one.is_over for one in self._flows):
            self._is_over = True

    def _end_all(self) -> None:
        """The connection is over, for the stubborn too."""
        for flow in self._flows:
            flow.is_over = True
        self._is_over = True

    def _resume(self, now: Instant) -> None:
        """Power that could not be sent in time is lost; it goes on from now."""
        if self._blocked_at is not None and self._next_at is not None:
            self._blocked_at = None
            self._next_at = max(self._next_at, now)

    # --- what goes out ------------------------------------------------------------------------

    def data_to_send(self, now: Instant) -> bytes:
        """Drain what is due at `now`: whole segments, at most 256 KiB and one segment."""
        if self._next_at is None:
            self._begin(now)
        found: list[bytes] = []
        size = 0
        while size < SEND_MAX:
            octets = self._queue.popleft() if self._queue else self._due(now)
            if octets is None:
                break
            found.append(octets)
            size += len(octets)
        self.segments += len(found)
        return b"".join(found)

    def get_timer(self) -> Instant | None:
        """Return when something more is due; None when it is over or has not begun."""
        if self._next_at is None or self._is_over:
            return None
        if self._gone_at is not None:
            return self._gone_at
        power_at = self._next_at if self._blocked_at is None else self._blocked_at
        times = (min(power_at, self._end_at), self._probe_at)
        return min(at for at in times if at is not None)

    def _begin(self, now: Instant) -> None:
        terms = self.terms
        self._next_at, self._end_at = now, now + terms.duration_ns
        if terms.probe_ns:
            self._probe_at = now
        if terms.style is not Style.ANSWER:
            return
        options = Options(
            contract=1, profiles=(self._grant(),), sampling=terms.sampling, maintain=Maintain()
        )
        for flow in self._flows:
            self._say(Control(flow.number, _SYN_ACK, 0, options))

    def _due(self, now: Instant) -> bytes | None:
        """Return the next segment that is due at `now`, None if there is none."""
        if self._is_over or self._next_at is None:
            return None
        if self._gone_at is not None:
            if now >= self._gone_at:
                self._end_all()
            return None
        if self._probe_at is not None and self._probe_at <= now:
            self._probe_at += self.terms.probe_ns
            self._nonce += 1
            return maintain_segment(self._nonce, 0, 0)
        if self._next_at >= self._end_at or (self._blocked_at is not None and now >= self._end_at):
            return self._finish(now) if now >= self._end_at else None
        if self._next_at > now:
            return None
        match self.terms.style:
            case Style.SEALED:
                return self._pretend()
            case Style.JUNK:
                return self._babble()
            case _:
                return self._push(now)

    def _push(self, now: Instant) -> bytes | None:
        """Return a block of the flow whose turn it is, or BLOCKED."""
        for _ in self._flows:
            flow = self._flows[self._turn]
            self._turn = (self._turn + 1) % len(self._flows)
            if not flow.is_over and (block := self._block(flow)) is not None:
                self._blocked_at = None
                return block
        if self._blocked_at is not None and now < self._blocked_at:
            return None
        # PTCP-6-05
        self._blocked_at = now + _BLOCKED_NS
        self.blocked += 1
        flow = next(one for one in self._flows if not one.is_over)
        return encode_segment(Blocked(flow.number, self._claim(flow), flow.credit_uj or 0))

    def _block(self, flow: _Flow) -> bytes | None:
        """Return the next block of a flow, cut to its credit; None without credit."""
        terms, register = self.terms, flow.register
        if self.blocks == terms.spike_block:
            return self._spike(flow)
        esn_uj = register.esn_uj
        may_begin = flow.credit_uj is None and not flow.counter
        limit_uj = flow.credit_uj or 0
        if not terms.honours_credit or may_begin or register.peek(self._block_a) <= limit_uj:
            return self._send(flow, self._template, terms.block_samples, self._block_a)
        if esn_uj >= limit_uj:
            return None
        # the least A whose energy is the limit, as whole samples and a last one of less current
        numerator = terms.sampling.nv_per_lsb * terms.sampling.na_per_lsb
        least_a = -(-limit_uj * terms.sampling.rate_hz * _UJ_DENOMINATOR // numerator)
        n, rest = divmod(least_a - register.a, self._v * self._i)
        i = -(-rest // self._v)
        if register.peek(self._v * (self._i * n + i)) > limit_uj:
            i -= 1
        last = (i,) if i > 0 else ()
        if n + len(last) == 0:
            return None
        template = self._encode(n, self._i, *last)
        return self._send(flow, template, n + len(last), self._v * (self._i * n + sum(last)))

    def _spike(self, flow: _Flow) -> bytes:
        """Return a block with a surge in its middle; no credit stops it."""
        terms = self.terms
        surge = terms.spike_mv * _NV_PER_MV // terms.sampling.nv_per_lsb
        samples = self._samples(terms.block_samples, self._i)
        samples[terms.block_samples // 2, 0] = surge
        template = bytearray(_data(flow.number, encode_block(0, samples)))
        block_a = self._block_a + (surge - self._v) * self._i
        return self._send(flow, template, terms.block_samples, block_a)

    def _send(self, flow: _Flow, template: bytearray, n: int, a: int) -> bytes:
        before_uj = flow.register.esn_uj
        claim_uj = self._claim(flow)
        _HEAD.pack_into(template, _HEAD_AT, flow.number, claim_uj)
        _COUNT.pack_into(template, _COUNT_AT, flow.counter % _COUNTER)
        self.sent_uj += flow.register.add(a) - before_uj
        flow.counter += n
        self.blocks += 1
        self._pass(n)
        return bytes(template)

    def _pass(self, samples: int) -> None:
        """Time goes on by `samples`."""
        if self._next_at is not None:
            self._next_at += samples * NS_PER_S // self.terms.sampling.rate_hz

    def _pretend(self) -> bytes:
        """Return a sealed segment whose header says that power came until now."""
        terms = self.terms
        self.blocks += 1
        self._pass(terms.block_samples)
        block_uj = EnergyRegister(terms.sampling).add(self._block_a)
        claim_uj = min(self.blocks * block_uj * terms.claim_factor, _ESN_MAX)
        self.claimed_uj = max(self.claimed_uj, claim_uj)
        options = Options(seal=Seal(0, self.blocks - 1))
        octets = 16 + 28 + 8 * terms.block_samples
        return encode_segment(Sealed(terms.flow, 0, claim_uj, options, self._noise.bytes(octets)))

    def _babble(self) -> bytes:
        """Return a segment of a random type with noise for options and payload."""
        self.blocks += 1
        self._pass(self.terms.block_samples)
        kind, flags, flow, words, octets = self._noise.integers(0, (256, 256, 5, 20, 200)).tolist()
        options = self._noise.bytes(4 * words)
        esn = int.from_bytes(self._noise.bytes(8), "big")
        return pack_segment(kind, flags, flow, esn, options, self._noise.bytes(octets))

    def _finish(self, now: Instant) -> bytes | None:
        """Say goodbye on every flow that lasts."""
        self._gone_at = now + DRAIN_NS
        if self.terms.style in (Style.SEALED, Style.JUNK):
            self._end_all()
            return None
        for flow in self._flows:
            if not flow.is_over:
                self._say(Control(flow.number, Flag.FIN, self._claim(flow)))
        return self._queue.popleft() if self._queue else None

    # --- octets -------------------------------------------------------------------------------

    def _say(self, segment: Segment) -> None:
        self._queue.append(encode_segment(segment))

    def _claim(self, flow: _Flow) -> int:
        """Return the ESN that a header says, and remember how much it is beyond the truth."""
        esn_uj = flow.register.esn_uj
        claim_uj = min(esn_uj * self.terms.claim_factor, _ESN_MAX)
        self.claimed_uj = max(self.claimed_uj, claim_uj - esn_uj)
        return claim_uj

    def _grant(self) -> PowerProfile:
        current_ma = -(-self.terms.current_ua // 1000)
        return PowerProfile.make(
            ProfileType.GRANT, self.terms.voltage_mv, current_ma, lease_s=_LEASE_S
        )

    def _samples(self, n: int, *currents: int) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
        """Return `n` samples of the first current and one of each further one."""
        i = [currents[0]] * n + list(currents[1:])
        return np.column_stack((np.full(len(i), self._v, np.int64), np.array(i, np.int64)))

    def _encode(self, n: int, *currents: int) -> bytearray:
        """Return the octets of such a block; flow, ESN and counter are filled in when it is sent."""
        return bytearray(_data(self.terms.flow, encode_block(0, self._samples(n, *currents))))


def _data(flow: int, payload: bytes) -> bytes:
    return data_header(flow, 0, len(payload)) + payload
