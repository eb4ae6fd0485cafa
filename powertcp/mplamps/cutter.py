"""Where the packets of a circuit begin: the octets of a splice, cut at the borders of segments.

MPLampS sections 3 and 9: a meter reads the header that the payload of a packet begins with.
"""

from typing import Final

from powertcp.errors import DecodeError
from powertcp.registry import SegmentType
from powertcp.wire.buffer import Buffer
from powertcp.wire.frames import HEADER, HEADER_OCTETS, MAX_MSP, check_header

# what carries energy, and its end; sealed, it may be either
_METERED: Final = frozenset({SegmentType.DATA, SegmentType.CTL, SegmentType.SEALED})
_MAGIC: Final = b"PO\x01"
# what a private seal shows
_HIDDEN: Final = (1 << 64) - 1


class Cutter:
    """Follows the segments of one direction. No octet is altered, added or lost.

    Once the octets are no segments any more they are passed on as they come. esn_uj: the greatest
    ESN of a flow that a header has shown; metered: headers of what may carry energy, so far.
    """

    __slots__ = ("_is_lost", "_kept", "_left", "esn_uj", "metered")

    def __init__(self) -> None:
        """Begin at the first octet of a stream."""
        self._kept = b""
        # octets of the segment that has begun
        self._left = 0
        self._is_lost = False
        self.esn_uj = 0
        self.metered = 0

    # MPLA-9-03
    def cut(self, data: Buffer) -> list[tuple[bytes, bool]]:
        """Return the octets to be sent, in order, each piece with whether it begins a packet.

        A header that is not whole is kept until it is, or until `finish`: at most 19 octets.
        """
        octets = self._kept + bytes(data)
        self._kept = b""
        pieces: list[tuple[bytes, bool]] = []
        start, begins = 0, False
        at = self._left
        while at < len(octets) and not self._is_lost:
            length, kind = self._look(octets, at)
            if not length:
                break
            if kind in _METERED:
                if at > start:
                    pieces.append((octets[start:at], begins))
                start, begins = at, True
                self.metered += 1
            at += length
        if at < len(octets) and not self._is_lost:
            octets, self._kept = octets[:at], octets[at:]
        self._left = max(0, at - len(octets))
        if start < len(octets):
            pieces.append((octets[start:], begins))
        return pieces

    def finish(self) -> bytes:
        """Return what was kept: nothing more will come."""
        kept, self._kept = self._kept, b""
        return kept

    def _look(self, octets: bytes, at: int) -> tuple[int, int]:
        """Return length and type of the segment at `at`, 0 for one whose header is not whole."""
        if len(octets) - at < HEADER_OCTETS:
            seen = octets[at : at + len(_MAGIC)]
            self._is_lost = not _MAGIC.startswith(seen)
            return 0, 0
        magic, version, words, kind, _, length, flow, esn_uj = HEADER.unpack_from(octets, at)
        try:
            check_header(magic << 16 | version << 8 | words, length, MAX_MSP)
        except DecodeError:
            self._is_lost = True
            return 0, 0
        if flow and esn_uj != _HIDDEN:
            self.esn_uj = max(self.esn_uj, esn_uj)
        return (words << 2) + length, kind
