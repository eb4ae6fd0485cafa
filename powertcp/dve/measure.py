"""The exact energy of sample blocks, their extrema, and their window sums: integers only.

`integrate` is the definition of energy for source, sink, firewall and EMAN alike;
`integrate_many` gives the same integers for all blocks of a wake-up in one pass.
Energies here are A = sum of v * i in LSB; `EnergyRegister` turns A into microjoules.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise, repeat
from math import gcd
from operator import add, mul
from struct import Struct
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from powertcp.dve.block import BLOCK_HEADER_OCTETS, COUNTER_MODULUS, block_header
from powertcp.errors import invariant
from powertcp.machine import Buffer
from powertcp.wire.options import Sampling

# below these a NumPy call costs more than the work it does
PLAIN_SAMPLES_MAX: Final = 16
GROUP_MIN: Final = 4
# samples in one pass: the scratch arrays stay within the second-level cache
GROUP_SAMPLES_MAX: Final = 8_192

_INT64_END = 1 << 63
_LOW_32 = (1 << 32) - 1
_UJ_DENOMINATOR = 10**12

_I64 = npt.NDArray[np.int64]
# (sync, pairs, n) of equal blocks, and where their parts begin
_Shape = tuple[int, int, int]
# a of each block; sum v as [block][part][pair]; sums of v^2 and i^2 as [v or i][block][part][pair];
# the least sum of v^2 and the greatest of i^2 of each block
_Sums = tuple[list[int], list[list[list[int]]], list[list[list[list[int]]]], list[int], list[int]]


class BlockSums(NamedTuple):
    """What one pass over a block gives: its energy and what protection looks at, all exact.

    counter, sync, pairs, n: the block's header.
    a: sum of v * i over all samples and pairs; the energy in LSB, see `EnergyRegister`.
    v_peak, i_peak: largest abs(v) and abs(i) over all samples and pairs, in LSB.
    window_samples: the block is cut into parts where its sample counter is a multiple of this;
        0: the block is one part.
    lengths: the samples of each part. sum_v, sum_v2, sum_i2: sums of v, v^2, i^2, [part][pair].
    is_whole: every part is a whole window. least_v2, most_i2: the extreme sums of all parts.
    """

    counter: int
    sync: int
    pairs: int
    n: int
    a: int
    v_peak: int
    i_peak: int
    window_samples: int
    lengths: list[int]
    sum_v: list[list[int]]
    sum_v2: list[list[int]]
    sum_i2: list[list[int]]
    is_whole: bool = False
    least_v2: int = 0
    most_i2: int = 0


def integrate(payload: Buffer) -> int:
    """Return A, the exact sum of v * i over all samples and pairs of one block.

    Raises DecodeError 502 when the block's length is wrong.
    """
    # PTCP-3.3-03
    _, _, pairs, n = block_header(payload)
    if n * pairs <= PLAIN_SAMPLES_MAX:
        words = _words(n * pairs).unpack_from(payload, BLOCK_HEADER_OCTETS)
        return sum(map(mul, words[0::2], words[1::2]))
    samples = np.frombuffer(payload, ">i4", offset=BLOCK_HEADER_OCTETS).astype(np.int64)
    v, i = samples[0::2], samples[1::2]
    peak = int(np.abs(samples).max())
    if peak * peak * n * pairs < _INT64_END:
        return int(v.dot(i))
    products = v * i
    return (int((products >> 32).sum()) << 32) + int((products & _LOW_32).sum())


def integrate_many(payloads: Sequence[Buffer], window_samples: int = 0) -> list[BlockSums]:
    """Return the sums of every block, in order: the group form of `integrate`.

    window_samples: cut the sums at multiples of this window (section 8), 0: not at all.
    Equal blocks share one pass; no result depends on what a block was grouped with.
    Raises DecodeError 502 as `integrate` does; a caller that must bank what came before the
    bad block then takes them one by one.
    """
    if len(payloads) >= GROUP_MIN and len(set(map(len, payloads))) == 1:
        equal = _equal_blocks(payloads, window_samples)
        if equal is not None:
            return equal
    groups: dict[tuple[_Shape, int, int], list[int]] = {}
    for index, payload in enumerate(payloads):
        counter, sync, pairs, n = block_header(payload)
        phase = counter % window_samples if window_samples else 0
        wrapped = max(0, counter + n - COUNTER_MODULUS)
        groups.setdefault(((sync, pairs, n), phase, wrapped), []).append(index)
    results: dict[int, BlockSums] = {}
    for (shape, phase, wrapped), members in groups.items():
        cuts = _cuts(shape[2], phase, wrapped, window_samples)
        chosen = [payloads[index] for index in members]
        if shape[1] * shape[2] <= PLAIN_SAMPLES_MAX and len(chosen) < GROUP_MIN:
            sums = [_plain_sums(payload, cuts, window_samples) for payload in chosen]
        else:
            words = np.frombuffer(b"".join(chosen), ">u4").reshape(len(chosen), -1)
            sums = _group_sums(words, shape, cuts, window_samples)
        results.update(zip(members, sums, strict=True))
    return [results[index] for index in range(len(payloads))]


def _equal_blocks(payloads: Sequence[Buffer], window_samples: int) -> list[BlockSums] | None:
    """Return the sums of blocks of equal length without parsing each, None if they differ."""
    counter, sync, pairs, n = block_header(payloads[0])
    words = np.frombuffer(b"".join(payloads), ">u4").reshape(len(payloads), -1)
    counters = words[:, 0].astype(np.int64)
    if (words[:, 1] != words[0, 1]).any() or counters.max() > COUNTER_MODULUS - n:
        return None
    phase = 0
    if window_samples:
        phase = counter % window_samples
        if (counters % window_samples != phase).any():
            return None
    cuts = _cuts(n, phase, 0, window_samples)
    return _group_sums(words, (sync, pairs, n), cuts, window_samples)


def _cuts(n: int, phase: int, wrapped: int, window_samples: int) -> list[int]:
    """Return where the parts of a block begin: 0 and every multiple of the window.

    phase: counter of the first sample modulo the window; wrapped: samples after the counter
    has passed 2^32 (sample 0 begins a window, whatever the one before it still lacked).
    """
    if not window_samples:
        return [0]
    straight = n - wrapped
    cuts = [0, *range(window_samples - phase, straight, window_samples)]
    cuts += range(straight, n, window_samples)
    return cuts


def _plain_sums(payload: Buffer, cuts: list[int], window_samples: int) -> BlockSums:
    """Return the sums of one block in plain Python: the twin of `_group_sums`."""
    counter, sync, pairs, n = block_header(payload)
    words = _words(n * pairs).unpack_from(payload, BLOCK_HEADER_OCTETS)
    v, i = words[0::2], words[1::2]
    lengths, sum_v, sum_v2, sum_i2 = [], [], [], []
    for start, end in pairwise([*cuts, n]):
        columns_v = [v[start * pairs + pair : end * pairs : pairs] for pair in range(pairs)]
        columns_i = [i[start * pairs + pair : end * pairs : pairs] for pair in range(pairs)]
        lengths.append(end - start)
        sum_v.append([sum(column) for column in columns_v])
        sum_v2.append([sum(map(mul, column, column)) for column in columns_v])
        sum_i2.append([sum(map(mul, column, column)) for column in columns_i])
    a = sum(map(mul, v, i))
    v_peak, i_peak = max(map(abs, v)), max(map(abs, i))
    return BlockSums(
        counter, sync, pairs, n, a, v_peak, i_peak, window_samples, lengths, sum_v, sum_v2, sum_i2,
        _are_whole(lengths, window_samples), min(map(min, sum_v2)), max(map(max, sum_i2)),
    )  # fmt: skip


def _are_whole(lengths: list[int], window_samples: int) -> bool:
    """Return whether every part of a block is a whole window."""
    return lengths.count(window_samples) == len(lengths)


def _group_sums(
    words: npt.NDArray[np.uint32], shape: _Shape, cuts: list[int], window_samples: int
) -> list[BlockSums]:
    """Return the sums of equal blocks, one in each row of `words`, a cacheful at a time."""
    sync, pairs, n = shape
    lengths = [end - start for start, end in pairwise([*cuts, n])]
    whole = _are_whole(lengths, window_samples)
    size = max(1, GROUP_SAMPLES_MAX // (n * pairs))
    results: list[BlockSums] = []
    for at in range(0, len(words), size):
        rows = words[at : at + size]
        # the header is two words, the samples are [block, sample, pair, v or i]
        samples = rows[:, 2:].view(">i4").reshape(-1, n, pairs, 2)
        # [v or i, block, pair, sample], each row of samples contiguous
        columns = samples.transpose(3, 0, 2, 1).astype(np.int64, order="C")
        v_peaks, i_peaks = np.abs(columns).max(axis=(2, 3)).tolist()
        peak = max(max(v_peaks), max(i_peaks))
        # PTCP-3.3-01
        sums = _narrow_sums if peak * peak * n * pairs < _INT64_END else _wide_sums
        a, sum_v, (sum_v2, sum_i2), least_v2, most_i2 = sums(columns, cuts)
        fields = (
            rows[:, 0].tolist(), repeat(sync), repeat(pairs), repeat(n), a, v_peaks, i_peaks,
            repeat(window_samples), repeat(lengths), sum_v, sum_v2, sum_i2,
            repeat(whole), least_v2, most_i2,
        )  # fmt: skip
        results.extend(map(BlockSums._make, zip(*fields, strict=False)))
    return results


def _narrow_sums(columns: _I64, cuts: list[int]) -> _Sums:
    """Return the sums of `_group` when 64 bits hold each of them."""
    v, i = columns
    a = np.vecdot(v, i).sum(axis=-1)
    n = columns.shape[-1]
    length = cuts[1] if len(cuts) > 1 else n
    if n % length == 0 and cuts == list(range(0, n, length)):
        # equal parts: [.., pair, part, sample]
        columns = columns.reshape(*columns.shape[:-1], -1, length)
        sum_v, squares = columns[0].sum(axis=-1), np.vecdot(columns, columns)
    else:
        sum_v = np.add.reduceat(v, cuts, axis=-1)
        squares = np.add.reduceat(columns * columns, cuts, axis=-1)
    return a.tolist(), _by_part(sum_v), _by_part(squares), *_extremes(squares)


def _wide_sums(columns: _I64, cuts: list[int]) -> _Sums:
    """Return the sums of `_group` for any samples: products are added in halves of 32 bits."""
    v, i = columns
    a = _halves(v * i, [0]).sum(axis=(1, 2))
    squares = _halves(columns * columns, cuts)
    sum_v = _by_part(np.add.reduceat(v, cuts, axis=-1))
    return a.tolist(), sum_v, _by_part(squares), *_extremes(squares)


def _extremes(squares: npt.NDArray[Any]) -> tuple[list[int], list[int]]:
    """Return the least sum of v^2 and the greatest of i^2 of each block."""
    return squares[0].min(axis=(1, 2)).tolist(), squares[1].max(axis=(1, 2)).tolist()


def _halves(products: _I64, cuts: list[int]) -> npt.NDArray[np.object_]:
    """Return exact sums of 64-bit products along the last axis as Python integers."""
    high = np.add.reduceat(products >> 32, cuts, axis=-1).astype(object)
    low = np.add.reduceat(products & _LOW_32, cuts, axis=-1).astype(object)
    sums: npt.NDArray[np.object_] = (high << 32) + low
    return sums


def _by_part(sums: npt.NDArray[Any]) -> list[Any]:
    """Return nested lists in which the part comes before the pair."""
    nested: list[Any] = sums.swapaxes(-1, -2).tolist()
    return nested


@cache
def _words(pairs_of_words: int) -> Struct:
    return Struct(f">{2 * pairs_of_words}i")


class EnergyRegister:
    """The energy sequence number of one flow, exact: base + floor(A * sv * si / (fs * 10^12)) uJ.

    sv, si: nV and nA per LSB; fs: samples per second. A is kept as an unbounded integer, so the
    carry below one microjoule is never lost and the cutting into blocks does not matter.
    base_uj: 0; after a resume the resumed ESN, with a new register (PTCP-10-03).
    esn_uj: energy so far in uJ, with the base; only `add` moves it.
    """

    __slots__ = ("_a", "_base_uj", "_denominator", "_numerator", "esn_uj")

    def __init__(self, sampling: Sampling, base_uj: int = 0) -> None:
        """Begin at `base_uj`, with the scale and rate of `sampling`."""
        numerator = sampling.nv_per_lsb * sampling.na_per_lsb
        denominator = sampling.rate_hz * _UJ_DENOMINATOR
        common = gcd(numerator, denominator)
        self._numerator = numerator // common
        self._denominator = denominator // common
        self._a = 0
        self._base_uj = base_uj
        self.esn_uj = base_uj

    @property
    def a(self) -> int:
        """Sum of v * i in LSB since the base."""
        return self._a

    def add(self, a: int) -> int:
        """Count one block of energy `a` (see `integrate`) and return the ESN after it in uJ."""
        # PTCP-3.3-01
        self._a += a
        self.esn_uj = self._base_uj + self._a * self._numerator // self._denominator
        return self.esn_uj

    def run(self, parts: list[int]) -> list[int]:
        """Return the ESN in uJ as it would be after each of several blocks; nothing changes."""
        base_uj, numerator, denominator = self._base_uj, self._numerator, self._denominator
        sums = accumulate(parts, initial=self._a)
        next(sums)
        return [base_uj + a * numerator // denominator for a in sums]

    def peek(self, a: int) -> int:
        """Return the ESN in uJ as it would be after a block of energy `a`; nothing changes."""
        return self._base_uj + (self._a + a) * self._numerator // self._denominator


@dataclass(slots=True)
class Window:
    """The sums of one whole protection window (section 8), exact, in LSB.

    index: sample counter of the first sample divided by the window length.
    n: its samples. sum_v, sum_v2, sum_i2: sums of v, v^2 and i^2, by pair.
    """

    index: int
    n: int
    sum_v: list[int]
    sum_v2: list[int]
    sum_i2: list[int]


class WindowSums:
    """Collects the parts of successive blocks into whole windows, however the blocks were cut.

    Windows are aligned to the sample counter of the wire, so both ends and whoever joins later
    cut alike. Only whole windows are given: what a flow lacks at its beginning, before a gap
    in the counter, or before the counter wraps at 2^32, is dropped.
    """

    __slots__ = ("_next", "_open", "window_samples")

    def __init__(self, window_samples: int) -> None:
        """Begin with nothing collected."""
        invariant(window_samples > 0, "a window has at least one sample")
        self.window_samples = window_samples
        # counter at which the open window continues
        self._next = 0
        self._open: Window | None = None

    def skip(self) -> None:
        """Drop the open window: blocks of whole windows follow, judged by their extremes."""
        self._open = None

    def add(self, sums: BlockSums) -> list[Window]:
        """Take the next block of the flow; return the windows it completes, oldest first.

        `sums` must come from `integrate_many` with the same `window_samples`, and have as many
        pairs as the blocks before.
        """
        size = self.window_samples
        invariant(sums.window_samples == size, "block sums were cut by another window")
        at = sums.counter
        if at != self._next:
            self._open = None
        completed = []
        for n, v, v2, i2 in zip(sums.lengths, sums.sum_v, sums.sum_v2, sums.sum_i2, strict=True):
            part = Window(at // size, n, v, v2, i2)
            window = part if n == size else self._join(part, begins=at % size == 0)
            if window is not None:
                completed.append(window)
            at = (at + n) % COUNTER_MODULUS
        self._next = at
        return completed

    def _join(self, part: Window, *, begins: bool) -> Window | None:
        """Add less than a window to the open one; return that if it is whole with it."""
        begun, self._open = self._open, None
        if begins:
            self._open = part
        elif begun is not None:
            window = Window(
                begun.index,
                begun.n + part.n,
                list(map(add, begun.sum_v, part.sum_v)),
                list(map(add, begun.sum_v2, part.sum_v2)),
                list(map(add, begun.sum_i2, part.sum_i2)),
            )
            if window.n == self.window_samples:
                return window
            self._open = window
        return None
