"""Thousands of packets of one link through a label table at once, rewritten where they lie.

It does on columns what `Lfib.forward` does on one packet, and hands it what is no plain swap.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powertcp.mplamps.label import MAX_LABEL, NEUTRAL
from powertcp.mplamps.lfib import KEPT, ONE_HOP, SHAPE, STACK_OCTETS, SWAP, TWO, Lfib, Verdict

_Words = NDArray[np.uint64]
_Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of the packets. links: by packet, the link it leaves on, 0: see `others`.

    Those with a link have their new stack in place. others: by packet, what `Lfib.forward` says.
    """

    links: NDArray[np.int32]
    others: dict[int, Verdict]


def forward_batch(
    lfib: Lfib, link: int, octets: bytearray, starts: _Places, sizes: _Places
) -> Batch:
    """Forward packets that came in on `link`; swap labels in `octets`, and return where they leave.

    starts, sizes: offset and octets of each packet; they lie within `octets` and do not overlap.
    Raises LocalProtocolError for a link that the node does not have.
    """
    label = lfib.label_of_link(link)
    count = len(starts)
    links = np.zeros(count, np.int32)
    if len(octets) < STACK_OCTETS or not count:
        return Batch(links, _others(lfib, link, octets, starts, sizes, np.arange(count)))
    # a word at every octet, so that packets may begin anywhere
    shape = (len(octets) - STACK_OCTETS + 1,)
    everywhere: NDArray[np.uint64] = np.ndarray(shape, ">u8", octets, 0, (1,))
    is_long = sizes >= STACK_OCTETS
    words: _Words = everywhere[np.where(is_long, starts, 0)].astype(np.uint64)
    slots = _slots(lfib, label, words)
    columns = lfib.columns
    kinds = np.frombuffer(columns.kinds, np.uint8)[slots]
    ttl = np.uint64(0xFF)
    # MPLA-2.2-02, MPLA-2.2-04
    is_swap = is_long & (kinds == SWAP) & ((words & np.uint64(SHAPE)) == np.uint64(TWO))
    origins = np.frombuffer(columns.origins, np.int32)[slots]
    # MPLA-2.2-05
    is_swap &= (origins == link) | (origins == 0)
    is_swap &= ((words & ttl) > 1) & ((words >> np.uint64(32) & ttl) > 1)
    swapped = slots[is_swap]
    heads = np.frombuffer(columns.heads, np.uint64)[swapped]
    # MPLA-2.2-03, MPLA-2.3-01
    everywhere[starts[is_swap]] = (heads | (words[is_swap] & np.uint64(KEPT))) - np.uint64(ONE_HOP)
    links[is_swap] = np.frombuffer(columns.links, np.int32)[swapped]
    np.add.at(np.frombuffer(columns.packets, np.uint64), swapped, np.uint64(1))
    long = sizes[is_swap].astype(np.uint64)
    np.add.at(np.frombuffer(columns.octets, np.uint64), swapped, long)
    left = np.flatnonzero(~is_swap)
    return Batch(links, _others(lfib, link, octets, starts, sizes, left))


def _slots(lfib: Lfib, label: int, words: _Words) -> NDArray[np.int32]:
    """Return the slot of each pair of labels, 0 where there is none."""
    tops = words >> np.uint64(44)
    flows = (words >> np.uint64(12) & np.uint64(MAX_LABEL)).astype(np.int64)
    found = np.zeros(len(words), np.int32)
    for context in (NEUTRAL, label):
        space = np.frombuffer(lfib.spaces[context], np.int32)
        # the last element of a space is no entry
        at = space[np.minimum(flows, len(space) - 1)]
        found = np.where(tops == np.uint64(context), at, found)
    return found


def _others(
    lfib: Lfib, link: int, octets: bytearray, starts: _Places, sizes: _Places, which: _Places
) -> dict[int, Verdict]:
    """Forward one by one what is no plain swap."""
    others: dict[int, Verdict] = {}
    for index in which.tolist():
        start = int(starts[index])
        packet = bytes(octets[start : start + int(sizes[index])])
        others[index] = lfib.forward(link, packet)
    return others
