"""A read that is nothing but lawful blocks of one flow: verified in one pass, passed as one piece.

Work per read, never per segment. What is not lawful beyond doubt is taken block by block.
"""

from typing import Final, NamedTuple

from powertcp.dve import BlockSums, integrate_run
from powertcp.errors import DecodeError
from powertcp.machine import Buffer
from powertcp.potcp.protect import sums_of
from powertcp.reclaim.flows import Flows
from powertcp.reclaim.track import End
from powertcp.reclaim.watch import Watch
from powertcp.registry import SegmentType
from powertcp.wire.frames import HEADER_OCTETS, RawSegment, whole_segment

_DATA: Final = int(SegmentType.DATA)


class Span(NamedTuple):
    """Octets that may pass, the flow they are of, and what they carry."""

    watch: Watch
    energy_uj: int
    octets: bytes


def lawful_span(
    flows: Flows, sender: End, raws: list[RawSegment], data: Buffer, end: int
) -> Span | None:
    """Take a read at once, whose segments lie in `data` up to `end`, but for a first one.

    None, and nothing was taken: something else is among them, or they are of a flow that is marked,
    measured for a rule, or not lawful at first sight.
    """
    if not raws:
        return None
    kind, _, number, _, options, payload = raws[0]
    watch, flow = flows.watches.get(number), flows.tracker.flow(number)
    if watch is None or flow is None or flow.profile is None or kind != _DATA or options:
        return None
    if watch.is_marking or watch.mark_uj is not None:
        return None
    said, size = [], len(payload)
    for raw in raws:
        if raw[0] != _DATA or raw[2] != number or len(raw[5]) != size or raw[4]:
            return None
        said.append(raw[3])
    octets = _octets(raws, data, end)
    run = integrate_run(octets, len(raws), HEADER_OCTETS)
    energy_uj = flows.tracker.run(flow, sender, said, run) if run is not None else None
    return Span(watch, energy_uj, octets) if energy_uj is not None else None


def sums_of_read(flows: Flows, raws: list[RawSegment]) -> list[BlockSums | None] | None:
    """Return the sums of the blocks among the segments of a read; None if there are none.

    None, too, if one of them is no block: it is found when they are taken singly.
    """
    places = [index for index, raw in enumerate(raws) if raw[0] == _DATA]
    if not places:
        return None
    protectors = []
    for index in places:
        flow = flows.tracker.flow(raws[index][2])
        protectors.append(flow.protector if flow is not None else None)
    try:
        sums = sums_of(protectors, [raws[index][5] for index in places])
    except DecodeError:
        return None
    found: list[BlockSums | None] = [None] * len(raws)
    for index, one in zip(places, sums, strict=True):
        found[index] = one
    return found


def _octets(raws: list[RawSegment], data: Buffer, end: int) -> bytes:
    """Return the octets of segments that are all of one size and without options."""
    size = HEADER_OCTETS + len(raws[0][5])
    start = end - size * len(raws)
    if start >= 0:
        return bytes(memoryview(data)[start:end])
    # the first one began in an earlier read
    return whole_segment(raws[0]) + bytes(memoryview(data)[start + size : end])
