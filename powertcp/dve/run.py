"""A run of blocks: DATA of one flow that lie one behind the other, measured in one pass.

What comes out decides whether every block is lawful beyond doubt; a run that is not is taken block
by block. Equal to `integrate_many` wherever it answers at all.
"""

from typing import Final, NamedTuple

import numpy as np

from powertcp.dve.block import BLOCK_HEADER_OCTETS, block_header
from powertcp.dve.measure import GROUP_SAMPLES_MAX
from powertcp.errors import DecodeError

# integers up to here, and sums of them, are exact as float64
_EXACT: Final = 1 << 53
_COUNTER: Final = 1 << 32


class RunSums(NamedTuple):
    """The sums of a run.

    counter: of its first sample. pairs: of a sample. n: samples of a block. a: sum of v * i of each
    block, LSB^2. v_peak, i_peak: greatest abs(v) and abs(i) of all of them, LSB.
    """

    counter: int
    pairs: int
    n: int
    a: list[int]
    v_peak: int
    i_peak: int


# PTCP-3.3-03
def integrate_run(octets: bytes, count: int, head: int) -> RunSums | None:
    """Return the sums of `count` equally long segments, each a block behind `head` octets.

    octets: all of them, and nothing else; a multiple of 4 each. None: the blocks are not of one
    shape, their counters do not continue, or their samples are too great to be summed this way.
    """
    size = len(octets) // count
    try:
        counter, _, pairs, n = block_header(memoryview(octets)[head:size])
    except DecodeError:
        return None
    words = np.frombuffer(octets, ">u4").reshape(count, -1)
    first = head // 4
    if counter + n * count > _COUNTER or (words[:, first + 1] != words[0, first + 1]).any():
        return None
    if (words[:, first] != np.arange(counter, counter + n * count, n)).any():
        return None
    a: list[int] = []
    v_peak = i_peak = 0
    # steady power is the same samples again and again: what is equal is measured once
    start = head + BLOCK_HEADER_OCTETS
    body = octets[start:size]
    is_steady = all(
        octets[at + start : at + size] == body for at in range(size, count * size, size)
    )
    distinct = 1 if is_steady else count
    rows = max(1, GROUP_SAMPLES_MAX // (n * pairs))
    for at in range(0, distinct, rows):
        whole = words[at : min(at + rows, distinct)].astype("=u4")
        samples = whole[:, first + BLOCK_HEADER_OCTETS // 4 :].view(np.int32)
        v, i = samples[:, 0::2].astype(np.float64), samples[:, 1::2].astype(np.float64)
        v_peak = max(v_peak, int(v.max()), -int(v.min()))
        i_peak = max(i_peak, int(i.max()), -int(i.min()))
        if v_peak * i_peak * n * pairs >= _EXACT:
            return None
        a += np.vecdot(v, i).astype(np.int64).tolist()
    return RunSums(counter, pairs, n, a * count if is_steady else a, v_peak, i_peak)
