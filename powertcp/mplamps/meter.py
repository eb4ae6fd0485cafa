"""The meter of an edge LSR: registers of what the headers of Power over TCP say has passed.

The ESN is cumulative, so that any one header makes a register exact up to it. MPLampS section 3.
"""

from collections import deque
from typing import Final, NamedTuple

from powertcp.errors import DecodeError
from powertcp.mplamps.packet import find_segment
from powertcp.registry import Flag, SegmentType
from powertcp.units import NS_PER_S, Duration, Instant
from powertcp.wire.frames import HEADER, HEADER_OCTETS, check_header

# the connections of a session that are remembered one by one: what is older is only a sum
MAX_REGISTERS: Final = 1024
OVERLOAD_PERCENT: Final = 125
# what a circuit could not carry while its way was broken comes at once when there is another
# or until a source has taken terms that are less: as long, at most, counts the grant before
CATCH_UP_NS: Final[Duration] = 5 * NS_PER_S
# grants before that count at a time
MAX_FALLS: Final = 8
# of the flags of TCP: those that tell a SYN that opens
_OPENING = Flag.SYN | Flag.ACK | Flag.RST | Flag.FIN
_U64 = 0xFFFF_FFFF_FFFF_FFFF
# a private seal shows this ESN, on flow 0
_HIDDEN = _U64
# mW * ns in a uJ
_PER_UJ = 1_000_000
_MAGIC = b"\x50\x4f\x01"


class Reading(NamedTuple):
    """What a meter shows: uJ, whole seconds, packets, octets of packets; see METER."""

    energy_uj: int
    seconds: int
    packets: int
    octets: int
    is_estimated: bool


class Meter:
    """The registers of one session: last minus first ESN of each inner connection and flow."""

    __slots__ = (
        "_allowed",
        "_allowed_at",
        "_checked_at",
        "_checked_granted_uj",
        "_checked_uj",
        "_falls",
        "_fresh",
        "_grant_mw",
        "_granted_at",
        "_granted_uj",
        "_in_force_at",
        "_is_hidden",
        "_past_uj",
        "_registers",
        "_since",
        "_spare_uj",
        "_syns",
        "octets",
        "packets",
    )

    def __init__(self, grant_mw: int, now: Instant) -> None:
        """Start at zero, with the power granted."""
        self._grant_mw = grant_mw
        self._since = self._granted_at = self._checked_at = self._allowed_at = now
        self._in_force_at = now
        self._granted_uj = 0
        self._checked_uj = self._checked_granted_uj = self._spare_uj = 0
        # mW * ns that may have passed since it was asked last
        self._allowed = 0
        # (until, mW) of higher grants before: later ones are lower, all are above the present one
        self._falls: deque[tuple[Instant, int]] = deque()
        self._past_uj = 0
        self._is_hidden = False
        self._registers: dict[tuple[bytes, int], tuple[int, int]] = {}
        # of connections: the number of the SYN that began each
        self._syns: dict[bytes, bytes] = {}
        # registers whose ESN may begin anew, as their connection has
        self._fresh: set[tuple[bytes, int]] = set()
        self.packets = 0
        self.octets = 0

    def grant(self, grant_mw: int, now: Instant) -> None:
        """Take another grant, from now on; a higher one counts as long again, for 5 s at most."""
        self._allow(now)
        if grant_mw < self._grant_mw:
            self._fall(now + min(now - self._in_force_at, CATCH_UP_NS))
        while self._falls and self._falls[-1][1] <= grant_mw:
            self._falls.pop()
        if grant_mw != self._grant_mw:
            self._in_force_at = now
        self._granted_uj = self._estimate(now)
        self._granted_at = now
        self._grant_mw = grant_mw

    def _fall(self, until: Instant) -> None:
        """Let the grant before count for a while, if it is not below one that counts as long."""
        is_new = not self._falls or self._falls[-1][0] < until
        if is_new and len(self._falls) < MAX_FALLS:
            self._falls.append((until, self._grant_mw))

    def _allow(self, now: Instant) -> None:
        """Count what may have passed until now: of each moment the highest grant that counts."""
        while self._falls and self._falls[0][0] <= now:
            until, before_mw = self._falls.popleft()
            self._allowed += before_mw * (until - self._allowed_at)
            self._allowed_at = until
        self._allowed += self._most_mw * (now - self._allowed_at)
        self._allowed_at = now

    @property
    def _most_mw(self) -> int:
        """The highest grant that counts."""
        return self._falls[0][1] if self._falls else self._grant_mw

    def note(self, packet: bytes, at: int = 0) -> None:
        """Read the header that the payload of the inner TCP begins with, if it begins with one.

        at: offset of the IPv4 header. Raises nothing: what is no header says nothing.
        """
        self.packets += 1
        self.octets += len(packet) - at
        try:
            body = find_segment(packet, at)
            if packet[body + 13] & _OPENING == Flag.SYN:
                self._begin(_connection_of(packet, at, body), packet[body + 4 : body + 8])
                return
            start = body + ((packet[body + 12] >> 4) << 2)
            # MPLA-3-02
            if packet[start : start + 3] != _MAGIC or start + HEADER_OCTETS > len(packet):
                return
            check_header(int.from_bytes(packet[start : start + 4], "big"), 0, 0)
        except DecodeError:
            return
        _, _, _, kind, flags, _, flow, esn = HEADER.unpack_from(packet, start)
        # an answer to a flow that is not there says 0, and so nothing about one that is
        is_control = kind == SegmentType.CTL and not flags & Flag.SYN
        if flow:
            key = _connection_of(packet, at, body), flow
            if not is_control or key in self._registers:
                is_early = kind == SegmentType.DATA or bool(flags & Flag.SYN)
                self._register(key, esn, is_early=is_early)
        elif esn == _HIDDEN:
            self._is_hidden = True

    def _begin(self, connection: bytes, seq: bytes) -> None:
        """Note the SYN of a connection: another one than before, between the same ports, is new."""
        before = self._syns.pop(connection, None)
        self._syns[connection] = seq
        if before is not None and before != seq:
            self._fresh.update(key for key in self._registers if key[0] == connection)
        if len(self._syns) > MAX_REGISTERS:
            del self._syns[next(iter(self._syns))]

    def _register(self, key: tuple[bytes, int], esn: int, *, is_early: bool) -> None:
        """Note an ESN; one that is sent again may be the first of all, if it is_early."""
        first, last = self._registers.pop(key, (esn, esn))
        if key in self._fresh:
            self._fresh.discard(key)
            # an ESN that goes on is that of the connection before
            if esn < last:
                self._past_uj += last - first
                first = last = esn
        # MPLA-3-02
        self._registers[key] = min(first, esn) if is_early else first, max(last, esn)
        if len(self._registers) > MAX_REGISTERS:
            oldest = next(iter(self._registers))
            first, last = self._registers.pop(oldest)
            self._fresh.discard(oldest)
            self._past_uj += last - first

    def _estimate(self, now: Instant) -> int:
        """Return the uJ that the grants allowed until now."""
        return self._granted_uj + self._grant_mw * (now - self._granted_at) // _PER_UJ

    def _energy(self, now: Instant) -> int:
        # MPLA-3-02
        if self._is_hidden:
            return self._estimate(now)
        return self._past_uj + sum(last - first for first, last in self._registers.values())

    def read(self, now: Instant) -> Reading:
        """Return what has passed since the meter was made."""
        energy_uj = min(self._energy(now), _U64)
        seconds = (now - self._since) // NS_PER_S
        return Reading(energy_uj, seconds, self.packets, self.octets, self._is_hidden)

    def is_over(self, now: Instant) -> bool:
        """Return whether the mean power since it was asked last is above 125 % of the grant.

        Each moment is judged by what was granted then. What was granted in the last 5 s and did
        not come may come now, and a grant before that was higher counts as long as it was in
        force, for 5 s at most: what a source sends by it is under way. Ask each second: within
        one second the answer is no, and the question is not counted.
        """
        if now - self._checked_at < NS_PER_S:
            return False
        self._allow(now)
        allowed, self._allowed = self._allowed, 0
        energy_uj, granted_uj = self._energy(now), self._estimate(now)
        passed_uj = energy_uj - self._checked_uj
        unused_uj = self._spare_uj + granted_uj - self._checked_granted_uj - passed_uj
        late_uj = max(passed_uj - self._spare_uj, 0)
        self._checked_at, self._checked_uj = now, energy_uj
        self._checked_granted_uj = granted_uj
        self._spare_uj = min(max(unused_uj, 0), self._grant_mw * CATCH_UP_NS // _PER_UJ)
        # MPLA-3-03
        return not self._is_hidden and late_uj * _PER_UJ * 100 > allowed * OVERLOAD_PERCENT


def _connection_of(packet: bytes, at: int, body: int) -> bytes:
    """Return the addresses and ports of both ends, the same for both directions."""
    one = packet[at + 12 : at + 16] + packet[body : body + 2]
    other = packet[at + 16 : at + 20] + packet[body + 2 : body + 4]
    return min(one, other) + max(one, other)
