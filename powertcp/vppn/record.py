"""Sealed segments: whole plain segments under one key and counter for each direction and epoch.

```
+------------------------------------------------------------------+
| header of type SEALED, 20 octets: flow and ESN as the privacy says |
| SEAL {epoch u32, counter u64} [PROFILE], padded to 4 octets         |
| ChaCha20-Poly1305 (plain segments, zero padding), tag of 16 octets  |
+------------------------------------------------------------------+
```
VPPN section 3.
"""

from collections.abc import Iterator
from enum import StrEnum
from struct import Struct
from typing import Final, NamedTuple

from powertcp.crypto import DECRYPT, TAG_OCTETS
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, OptionKind, Reason, SegmentType
from powertcp.units import NS_PER_S, Duration, Instant
from powertcp.vppn.noise import Cipher
from powertcp.wire.frames import HEADER, HEADER_OCTETS, MAX_MSP, RawSegment, check_header
from powertcp.wire.options import Options, Seal, decode_options, encode_options

# header, SEAL and tag: what sealing adds to what it carries
OVERHEAD_OCTETS: Final = HEADER_OCTETS + 16 + TAG_OCTETS
# VPPN-3-07: what the length of a payload leaves to plain text
MAX_PLAIN: Final = MAX_MSP - TAG_OCTETS
# VPPN-3-05: what the length says of private power
PAD_OCTETS: Final = 1024
PRIVATE_ESN: Final = (1 << 64) - 1
# the field of a fault that is no fault of the octets: the peer seals in the other mode
OTHER_MODE: Final = "privacy"
# VPPN-3-04: how often a firewall is shown what was granted, and of how many flows
SHOW_NS: Final[Duration] = 5 * NS_PER_S
FLOWS_MAX: Final = 256

# of a header
_FLOW: Final = slice(8, 12)
_ESN: Final = slice(12, 20)
_SEALED: Final = int(SegmentType.SEALED)
_DATA: Final = int(SegmentType.DATA)
_READY: Final = int(SegmentType.READY)
_CTL: Final = int(SegmentType.CTL)
_ENDS: Final = int(Flag.FIN | Flag.RST)
_ECE: Final = int(Flag.ECE)
# kind, length, epoch, counter, END and padding
_AREA: Final = Struct(">BBIQH")
_unpack_area = _AREA.unpack
_SEAL: Final = int(OptionKind.SEAL)
_SEAL_LENGTH: Final = 14
_WORDS: Final = (HEADER_OCTETS + _AREA.size) >> 2
_MAGIC: Final = 0x504F
_VERSION: Final = 1
# magic, version and data offset as one number, type, flags, payload length, flow, ESN
_unpack_head = Struct(">IBBHIQ").unpack_from
# of one: magic, version and data offset, type, payload length, flow
_unpack_data = Struct(">IBxHI").unpack_from
_PLAIN: Final = _MAGIC << 16 | _VERSION << 8 | HEADER_OCTETS >> 2


class Privacy(StrEnum):
    """What the outer header tells who is on the path."""

    POLICE = "police"
    PRIVATE = "private"

    @property
    def other(self) -> "Privacy":
        """The other one of the two."""
        return Privacy.PRIVATE if self is Privacy.POLICE else Privacy.POLICE


class Ends(NamedTuple):
    """What one direction carries in one epoch at most: sealed segments, and plain octets in them."""

    segments: int = 1 << 21
    octets: int = 1 << 37

    # VPPN-4-04
    def check(self, segments: int, octets: int) -> None:
        """Raise DecodeError 510 when a direction that has carried so much carries no more."""
        if segments >= self.segments:
            raise DecodeError(0, "segments", Reason.EPOCH, segments, self.segments)
        if octets >= self.octets:
            raise DecodeError(0, "octets", Reason.EPOCH, octets, self.octets)


ENDS: Final = Ends()


class Sealer:
    """One direction in one epoch: plain segments to sealed ones."""

    __slots__ = ("_cipher", "_ends", "epoch", "octets")

    def __init__(self, epoch: int, key: bytes, ends: Ends = ENDS) -> None:
        """Take the number of the epoch and the key of this direction, 32 octets."""
        self._ends = ends
        self.epoch = epoch
        # plain octets sealed
        self.octets = 0
        self._cipher = Cipher("ChaChaPoly", key)

    @property
    def segments(self) -> int:
        """Sealed segments made: the counter of the next one."""
        return self._cipher.counter

    def seal(self, plain: bytes, flow: int, esn: int, profile: PowerProfile | None = None) -> bytes:
        """Return a whole sealed segment. flow, esn, profile: what its outer header says in clear.

        Raises DecodeError 510 when the epoch is at its end.
        """
        # VPPN-3-03
        counter = self._cipher.counter
        self._ends.check(counter, self.octets)
        if profile is None:
            words, area = _WORDS, _AREA.pack(_SEAL, _SEAL_LENGTH, self.epoch, counter, 0)
        else:
            options = Options(profiles=(profile,), seal=Seal(self.epoch, counter))
            area = encode_options(options)
            words = (HEADER_OCTETS + len(area)) >> 2
        size = len(plain)
        head = HEADER.pack(_MAGIC, _VERSION, words, _SEALED, 0, size + TAG_OCTETS, flow, esn) + area
        self.octets += size
        # VPPN-3-02
        return head + self._cipher.seal(plain, head)


class Opener:
    """One direction in one epoch: sealed segments to plain ones, in the order of their making."""

    __slots__ = ("_cipher", "_ends", "epoch", "octets")

    def __init__(self, epoch: int, key: bytes, ends: Ends = ENDS) -> None:
        """Take the number of the epoch and the key of this direction, 32 octets."""
        self._ends = ends
        self.epoch = epoch
        self.octets = 0
        self._cipher = Cipher("ChaChaPoly", key)

    @property
    def segments(self) -> int:
        """Sealed segments opened."""
        return self._cipher.counter

    def open(self, raw: RawSegment, counter: int) -> bytes:
        """Return what a sealed segment holds, padding included.

        counter: of its SEAL option. Raises DecodeError 509 for another counter than the next one
        and for anything that the peer did not seal; the direction is of no use then. 510 when the
        epoch is at its end.
        """
        self._ends.check(self._cipher.counter, self.octets)
        # VPPN-3-03
        if counter != self._cipher.counter:
            raise DecodeError(HEADER_OCTETS, "counter", DECRYPT, counter, self._cipher.counter)
        kind, flags, flow, esn, options, payload = raw
        words = (HEADER_OCTETS + len(options)) >> 2
        # VPPN-3-02
        clear = flags & ~_ECE
        head = HEADER.pack(_MAGIC, _VERSION, words, kind, clear, len(payload), flow, esn)
        plain = self._cipher.unseal(payload, head + options)
        self.octets += len(plain)
        return plain


def read_seal(raw: RawSegment) -> Seal:
    """Return the SEAL option of a sealed segment. Raises DecodeError 509 where there is none."""
    options = raw[4]
    if len(options) == _AREA.size:
        kind, length, epoch, counter, rest = _unpack_area(options)
        if kind == _SEAL and length == _SEAL_LENGTH and not rest:
            return Seal(epoch, counter)
    try:
        seal = decode_options(options).seal
    except DecodeError as error:
        raise DecodeError(error.offset, error.field, DECRYPT, error.value) from error
    if seal is None:
        raise DecodeError(HEADER_OCTETS, "SEAL", DECRYPT, 0)
    return seal


# ---- what is inside -----------------------------------------------------------------------------


def inner_segments(plain: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Return start, end, type, flow and ESN of each plain segment; zeros may follow the last.

    Raises DecodeError 509 for anything else than whole segments and zeros.
    """
    at, size = 0, len(plain)
    while at < size:
        if size - at < HEADER_OCTETS or not plain[at]:
            # VPPN-3-01
            if any(plain[at:]):
                raise DecodeError(at, "padding", DECRYPT, size - at, 0)
            return
        head, kind, _, length, flow, esn = _unpack_head(plain, at)
        if head != _PLAIN:
            _check_inner(head, at)
        end = at + ((head & 0xFF) << 2) + length
        # VPPN-3-01
        if end > size:
            raise DecodeError(at, "payload length", DECRYPT, end, size)
        yield at, end, kind, flow, esn
        at = end


def data_ends(plain: bytes, flow: int, limit: int) -> list[int]:
    """Return where to cut DATA of one flow into as few parts as possible, the last end included.

    Bulk goes this way, four times as fast as by `inner_segments`. Nothing is returned where the
    octets are anything else than whole DATA segments of `flow` without options, which fit into a
    sealed one: then those have to be looked at one by one. One above `limit` is a part alone.
    """
    ends: list[int] = []
    at = begin = 0
    last = len(plain) - HEADER_OCTETS
    while at <= last:
        head, kind, length, of = _unpack_data(plain, at)
        end = at + HEADER_OCTETS + length
        if head != _PLAIN or kind != _DATA or of != flow:
            return []
        if end - begin > limit:
            if end - at > MAX_PLAIN:
                return []
            if at > begin:
                ends.append(at)
                begin = at
        at = end
    if not at or at != len(plain):
        return []
    ends.append(at)
    return ends


def _check_inner(head: int, at: int) -> None:
    try:
        check_header(head, 0, MAX_MSP)
    except DecodeError as error:
        raise DecodeError(at + error.offset, error.field, DECRYPT, error.value) from error


def check_inner(plain: bytes, raw: RawSegment, privacy: Privacy) -> bytes:
    """Return the segments in `plain` without padding, marked as congested if the outer one is.

    Raises DecodeError 509 where they are not what the outer header of `raw` says; its field is
    OTHER_MODE where the peer, who has authenticated that header, seals in the other mode.
    """
    is_police = privacy is Privacy.POLICE
    outer_flow, outer_esn, is_marked = raw[2], raw[3], raw[1] & _ECE
    # VPPN-3-04
    is_meant = is_police and not is_marked and plain[_ESN] == outer_esn.to_bytes(8, "big")
    if is_meant and data_ends(plain, outer_flow, len(plain)):
        return plain
    marks: list[int] = []
    stop = 0
    for start, end, kind, flow, esn in inner_segments(plain):
        # VPPN-3-04
        if is_police and (flow != outer_flow or (not start and esn != outer_esn)):
            raise DecodeError(start, _field(plain, raw, privacy), DECRYPT, flow, outer_flow)
        # a segment in a segment, once
        if kind == _SEALED:
            raise DecodeError(start, "type", DECRYPT, kind)
        if is_marked and kind == _DATA:
            marks.append(start + 5)
        stop = end
    # VPPN-3-05
    if not is_police and (outer_flow or outer_esn != PRIVATE_ESN):
        raise DecodeError(8, _field(plain, raw, privacy), DECRYPT, outer_flow, 0)
    # VPPN-3-01
    if not stop:
        raise DecodeError(0, "plain", DECRYPT, len(plain))
    if not marks:
        return plain if stop == len(plain) else plain[:stop]
    # VPPN-3-06
    marked = bytearray(plain[:stop])
    for at in marks:
        marked[at] |= _ECE
    return bytes(marked)


def _field(plain: bytes, raw: RawSegment, privacy: Privacy) -> str:
    """Return what is wrong with an outer header that `privacy` does not make."""
    if privacy is Privacy.POLICE:
        is_other = raw[2:4] == (0, PRIVATE_ESN)
    else:
        outside = raw[2].to_bytes(4, "big") + raw[3].to_bytes(8, "big")
        is_other = plain[_FLOW.start : _ESN.stop] == outside
    return OTHER_MODE if is_other else "flow identifier"


class Batcher:
    """Plain segments of one side on their way into sealed ones: what is queued, as few as possible.

    privacy: what the outer header shows. Bound: FLOWS_MAX profiles, those shown last.
    """

    __slots__ = ("_privacy", "_shown")

    def __init__(self, privacy: Privacy) -> None:
        self._privacy = privacy
        # of flows that we supply: the profile in force, and when it is due in clear
        self._shown: dict[int, tuple[PowerProfile, Instant]] = {}

    def seal(self, plain: bytes, limit: int, sealer: Sealer, now: Instant) -> list[bytes]:
        """Return `plain`, whole segments, sealed: plain octets per sealed segment at most `limit`.

        A segment above that is sealed alone. Raises LocalProtocolError for one above 65,519 octets.
        """
        is_police = self._privacy is Privacy.POLICE
        found: list[bytes] = []
        begin = stop = 0
        bulk = int.from_bytes(plain[_FLOW], "big")
        # VPPN-3-07
        for stop in data_ends(plain, bulk, limit):
            part = plain[begin:stop]
            esn = int.from_bytes(part[_ESN], "big")
            found.append(self._record(part, limit, bulk, esn, sealer, now))
            begin = stop
        if found:
            return found
        of, esn_there = -1, 0
        for start, end, kind, flow, esn in inner_segments(plain):
            # VPPN-3-07
            if end - start > MAX_PLAIN:
                text = f"a segment of {end - start:,} octets, {MAX_PLAIN:,} fit into a sealed one"
                raise LocalProtocolError(text)
            # VPPN-3-04
            if end - begin > limit or (is_police and flow != of):
                if stop:
                    found.append(self._record(plain[begin:stop], limit, of, esn_there, sealer, now))
                begin, of, esn_there = start, flow, esn
            if kind in (_READY, _CTL):
                self._note(plain[start:end], kind, flow, now)
            stop = end
        if stop:
            found.append(self._record(plain[begin:stop], limit, of, esn_there, sealer, now))
        return found

    def _record(
        self, plain: bytes, limit: int, flow: int, esn: int, sealer: Sealer, now: Instant
    ) -> bytes:
        # VPPN-3-05
        if self._privacy is Privacy.PRIVATE:
            size = min(-(-len(plain) // PAD_OCTETS) * PAD_OCTETS, limit)
            return sealer.seal(plain.ljust(size, b"\0"), 0, PRIVATE_ESN)
        # VPPN-3-04
        shown = self._shown.get(flow)
        if shown is None or now < shown[1]:
            return sealer.seal(plain, flow, esn)
        self._show(flow, shown[0], now + SHOW_NS)
        return sealer.seal(plain, flow, esn, shown[0])

    def _note(self, segment: bytes, kind: int, flow: int, now: Instant) -> None:
        """Take the profile of a READY; forget that of a flow that ends."""
        if kind == _CTL:
            if segment[5] & _ENDS:
                self._shown.pop(flow, None)
            return
        options = decode_options(segment[HEADER_OCTETS : segment[3] << 2])
        granted = [each for each in options.profiles if each.type is ProfileType.GRANT]
        if granted:
            self._show(flow, granted[0], now)

    def _show(self, flow: int, granted: PowerProfile, due: Instant) -> None:
        """Remember what a flow was granted; one that the peer ended is never shown again."""
        self._shown.pop(flow, None)
        if len(self._shown) >= FLOWS_MAX:
            del self._shown[next(iter(self._shown))]
        self._shown[flow] = (granted, due)
