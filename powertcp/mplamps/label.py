"""Labels that are volts, the stack that carries them, and the flow labels that a node gives out.

```
 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+---------------------------------------+-----+-+---------------+
|   voltage of this link, or 0 neutral  | TC  |0|      TTL      |
+---------------------------------------+-----+-+---------------+
|              flow label               | TC  |1|      TTL      |
+---------------------------------------+-----+-+---------------+
```
MPLampS section 2; the entries are those of RFC 3032.
"""

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from struct import Struct
from typing import Final, NamedTuple

from powertcp.errors import DecodeError, LocalProtocolError, PowerRefused
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant
from powertcp.wire.buffer import Buffer

NEUTRAL: Final = 0
# special-purpose labels, beside the neutral: RFC 7274
LAST_SPECIAL: Final = 15
FIRST_FLOW_LABEL: Final = 16
MAX_LABEL: Final = 0xF_FFFF
MAX_VOLTAGE_MV: Final = 1_000_000_000
# below it a voltage in volts would be a special-purpose label
EXTRA_LOW_MV: Final = 16_000
_LOW = 1_000_000
# labels from here on are no voltage
VOLTAGE_LABELS: Final = _LOW + EXTRA_LOW_MV
FIRST_TTL: Final = 64
# two are in use; the rest is room for a voltage of several labels
MAX_DEPTH: Final = 8
MAX_PRIORITY: Final = 7
# as long as a packet of a circuit that is gone may still be on its way
REST_NS: Final[Duration] = 10 * NS_PER_S

_ENTRY = Struct(">I")
_OCTETS = _ENTRY.size


def label_of(voltage_mv: int) -> int:
    """Return the label of a voltage, 0..1,000,000,000 mV.

    Raises PowerRefused 101 for a higher one, LocalProtocolError for one below 0. MPLA-2.1-01.
    """
    if voltage_mv < 0:
        raise LocalProtocolError(f"a voltage of {voltage_mv:,} mV has no label")
    # MPLA-2.1-01
    if voltage_mv > MAX_VOLTAGE_MV:
        refusal = Refusal(
            Reason.VOLTAGE_RANGE, voltage_mv, MAX_VOLTAGE_MV, requirement="MPLA-2.1-01"
        )
        raise PowerRefused(refusal)
    ## rfc3251#7.1
    ## "Under MPLampS, a voltage is equated to a label."
    if voltage_mv >= EXTRA_LOW_MV:
        return (voltage_mv + 500) // 1000
    return _LOW + voltage_mv if voltage_mv else NEUTRAL


def is_voltage(label: int) -> bool:
    """Return whether a label is that of a voltage; the neutral, 0 mV, is one. MPLA-2.1-03."""
    # MPLA-2.1-02, MPLA-2.1-03
    return label == NEUTRAL or LAST_SPECIAL < label < VOLTAGE_LABELS


def voltage_of(label: int) -> int:
    """Return the mV of a label. Raises DecodeError 503 for one that is no voltage."""
    if not is_voltage(label):
        raise DecodeError(0, "label", Reason.BAD_OPTION, label, VOLTAGE_LABELS - 1)
    if label > _LOW:
        return label - _LOW
    return label * 1000


def traffic_class(holding_priority: int) -> int:
    """Return the TC of the packets of a circuit, 7 for the most important one. MPLA-2.2-03."""
    if not 0 <= holding_priority <= MAX_PRIORITY:
        raise LocalProtocolError(f"a holding priority is 0..7, got {holding_priority}")
    # MPLA-2.2-03
    return MAX_PRIORITY - holding_priority


class StackEntry(NamedTuple):
    """One entry of a label stack: label 0..2^20-1, tc 0..7, ttl 0..255; is_last is the bit S."""

    label: int
    tc: int
    ttl: int
    is_last: bool

    def to_wire(self) -> bytes:
        """Return 4 octets. Raises LocalProtocolError for a label that is never sent."""
        # MPLA-2.1-02
        if NEUTRAL < self.label <= LAST_SPECIAL or not 0 <= self.label <= MAX_LABEL:
            raise LocalProtocolError(f"label {self.label:,} is never sent")
        if not (0 <= self.tc <= MAX_PRIORITY and 0 <= self.ttl <= 255):
            raise LocalProtocolError(f"TC is 0..7 and TTL 0..255, got {self.tc} and {self.ttl}")
        return _ENTRY.pack(self.label << 12 | self.tc << 9 | self.is_last << 8 | self.ttl)


def parse_stack(packet: Buffer, offset: int = 0) -> tuple[tuple[StackEntry, ...], int]:
    """Return the entries of the stack at `offset`, top first, and the offset of what follows it.

    Raises DecodeError: 502 when the packet ends within the stack, 508 for more than 8 entries.
    """
    entries: list[StackEntry] = []
    end = offset
    # MPLA-2.2-05
    while len(entries) < MAX_DEPTH:
        if end + _OCTETS > len(packet):
            left = len(packet) - end
            raise DecodeError(end, "label stack", Reason.BAD_LENGTH, left, _OCTETS)
        word = _ENTRY.unpack_from(packet, end)[0]
        end += _OCTETS
        is_last = bool(word & 0x100)
        entries.append(StackEntry(word >> 12, word >> 9 & 7, word & 0xFF, is_last))
        if is_last:
            return tuple(entries), end
    raise DecodeError(end, "label stack", Reason.LIMIT, MAX_DEPTH + 1, MAX_DEPTH)


def stack_octets(labels: Sequence[int], tc: int, ttl: int = FIRST_TTL) -> bytes:
    """Return the stack of `labels`, top first, 1 to 8 of them, all with this TC and TTL.

    Raises LocalProtocolError for another number of labels or one that is never sent.
    """
    if not 1 <= len(labels) <= MAX_DEPTH:
        raise LocalProtocolError(f"a stack has 1 to {MAX_DEPTH} labels, got {len(labels)}")
    last = len(labels) - 1
    # MPLA-2.2-03, MPLA-2.2-04
    return b"".join(
        StackEntry(label, tc, ttl, at == last).to_wire() for at, label in enumerate(labels)
    )


class _Returned:
    """Labels that were taken back: those that rest, and those that may be given out again."""

    __slots__ = ("_free", "_resting", "labels")

    def __init__(self) -> None:
        self.labels: set[int] = set()
        self._free: list[int] = []
        self._resting: deque[tuple[Instant, int]] = deque()

    def add(self, label: int, now: Instant) -> None:
        """Let a label rest for 10 s."""
        self.labels.add(label)
        self._resting.append((now + REST_NS, label))

    def take(self, now: Instant) -> int | None:
        """Return the lowest label that has rested, None if there is none."""
        while self._resting and self._resting[0][0] <= now:
            heappush(self._free, self._resting.popleft()[1])
        if not self._free:
            return None
        label = heappop(self._free)
        self.labels.remove(label)
        return label

    def wait_ns(self, now: Instant) -> Duration:
        """Return for how long the next one still rests, 0 if none does."""
        return self._resting[0][0] - now if self._resting else 0


class LabelSpace:
    """The flow labels of one voltage of a node, or of its neutral: given out lowest free first.

    last: the greatest label of this space. `len` is how many are given out. MPLA-2.2-01.
    """

    __slots__ = ("_last", "_next", "_returned")

    def __init__(self, last: int = MAX_LABEL) -> None:
        self._last = last
        self._next = FIRST_FLOW_LABEL
        # most spaces of a city never take one back
        self._returned: _Returned | None = None

    def __len__(self) -> int:
        back = len(self._returned.labels) if self._returned is not None else 0
        return self._next - FIRST_FLOW_LABEL - back

    def __contains__(self, label: object) -> bool:
        if not isinstance(label, int) or not FIRST_FLOW_LABEL <= label < self._next:
            return False
        return self._returned is None or label not in self._returned.labels

    def allocate(self, now: Instant) -> int:
        """Return the lowest free label. Raises PowerRefused 508 when there is none (error 24/9)."""
        # MPLA-2.2-01
        if self._returned is not None and (label := self._returned.take(now)) is not None:
            return label
        if self._next > self._last:
            count = self._last - FIRST_FLOW_LABEL + 1
            wait_ns = self._returned.wait_ns(now) if self._returned is not None else 0
            retry_ms = -(-wait_ns // NS_PER_MS)
            raise PowerRefused(
                Refusal(Reason.LIMIT, count + 1, count, retry_ms, requirement="MPLA-2.2-01")
            )
        label = self._next
        self._next += 1
        return label

    def free(self, label: int, now: Instant) -> None:
        """Take a label back; it rests for 10 s. Raises LocalProtocolError if it is not given out."""
        if label not in self:
            raise LocalProtocolError(f"flow label {label:,} is not given out")
        if self._returned is None:
            self._returned = _Returned()
        # MPLA-2.2-01
        self._returned.add(label, now)
