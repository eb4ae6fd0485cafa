"""What a connection and a flow open with: is it power, where does it go, how much may be said."""

from contextlib import suppress

from powertcp.errors import DecodeError
from powertcp.reclaim.leg import Leg
from powertcp.registry import Flag, SegmentType
from powertcp.wire.frames import CTL_FLAGS, MAX_WORDS, MIN_WORDS, RawSegment, decode_segment
from powertcp.wire.options import Options
from powertcp.wire.segments import Control


# FWRL-2-01
def is_power(head: bytes) -> bool:
    """Say whether octets begin like a segment: magic, version and a legal offset."""
    return head[:3] == b"\x50\x4f\x01" and MIN_WORDS <= head[3] <= MAX_WORDS


def is_syn(raw: RawSegment) -> bool:
    """Say whether a segment asks for a flow; PTCP-2.1-04: flags that say nothing of it are ignored."""
    return raw[0] == SegmentType.CTL and raw[1] & CTL_FLAGS == Flag.SYN


# FWRL-2-03
def via_of(raw: RawSegment) -> str | None:
    """Return where a SYN wants to go, None for the default."""
    with suppress(DecodeError):
        segment = decode_segment(raw)
        return segment.options.via if isinstance(segment, Control) else None
    return None


def note_msp(leg: Leg, options: Options) -> None:
    """Take note of how much a side takes at once, if it says so."""
    if options.msp is not None:
        leg.peer_msp = options.msp
