"""The exact energy of sample blocks, their extrema, and their window sums: integers only.

`integrate` is the definition of energy for source, sink, firewall and EMAN alike;
`integrate_many` gives the same integers for all blocks of a wake-up in one pass.
Energies here are A = sum of v * i in LSB; `EnergyRegister` turns A into microjoules.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from math import gcd
from operator import add, mul
from struct import Struct
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from powertcp.dve.block import BLOCK_HEADER_OCTETS, COUNTER_MODULUS, block_header
from powertcp.errors import invariant
from powertcp.machine import Buffer
from powertcp.wire.options import Sampling

# below these a NumPy call costs more than the work it does
PLAIN_SAMPLES_MAX: Final = 16
GROUP_MIN: Final = 4
# blocks in one pass: bounds the scratch arrays to a few MiB at 16 KiB a block
GROUP_MAX: Final = 64

_INT64_END = 1 << 63
_LOW_32 = (1 << 32) - 1
_UJ_DENOMINATOR = 10**12

# one part of a block: samples, then per pair the sums of v, v^2 and i^2
Part = tuple[int, list[int], list[int], list[int]]
_I64 = npt.NDArray[np.int64]


class BlockSums:
    """What one pass over a block gives: its energy and what protection looks at, all exact.

    counter, pairs, n: as in the block header.
    a: sum of v * i over all samples and pairs; the energy in LSB, see `EnergyRegister`.
    v_peak, i_peak: largest abs(v) and abs(i) over all samples and pairs, in LSB.
    window_samples: the window that `parts` were cut by, 0: not cut.
    parts: the block cut where its sample counter is a multiple of `window_samples`;
        for each part (samples, [sum v], [sum v^2], [sum i^2]), the lists by pair.
    """

    __slots__ = ("a", "counter", "i_peak", "n", "pairs", "parts", "v_peak", "window_samples")

    def __init__(
        self,
        header: tuple[int, int, int, int],
        a: int,
        peaks: tuple[int, int],
        window_samples: int,
        parts: list[Part],
    ) -> None:
        self.counter, _, self.pairs, self.n = header
        self.a = a
        self.v_peak, self.i_peak = peaks
        self.window_samples = window_samples
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BlockSums):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"BlockSums({values})"


def integrate(payload: Buffer) -> int:
    """Return A, the exact sum of v * i over all samples and pairs of one block.

    Raises DecodeError 502 when the block's length is wrong. PTCP-3.3-03.
    """
    # PTCP-3.3-03
    _, _, pairs, n = block_header(payload)
    if n * pairs <= PLAIN_SAMPLES_MAX:
        words = _words(pairs * n).unpack_from(payload, BLOCK_HEADER_OCTETS)
        return sum(map(mul, words[0::2], words[1::2]))
    samples = np.frombuffer(payload, ">i4", offset=BLOCK_HEADER_OCTETS)
    v, i = samples[0::2].astype(np.int64), samples[1::2].astype(np.int64)
    bound = _peak(v) * _peak(i) * v.size
    if bound < _INT64_END:
        return int(v.dot(i))
    return _wide_sum(v * i)


def integrate_many(payloads: Sequence[Buffer], window_samples: int = 0) -> list[BlockSums]:
    """Return the sums of every block, in order: the group form of `integrate`.

    window_samples: cut the window sums where the sample counter is a multiple of this (section 8);
        0: the block is one part.
    Blocks of equal (pairs, n, phase within the window) share one pass. A large block costs
    a tenth of what it costs alone, and no result depends on what it was grouped with.
    Raises DecodeError 502 as `integrate` does, for the first block whose length is wrong.
    """
    headers = [block_header(payload) for payload in payloads]
    groups: dict[tuple[int, int, int, int], list[int]] = {}
    for index, (counter, _, pairs, n) in enumerate(headers):
        phase = counter % window_samples if window_samples else 0
        wrapped = max(0, counter + n - COUNTER_MODULUS)
        groups.setdefault((pairs, n, phase, wrapped), []).append(index)
    results: dict[int, BlockSums] = {}
    for (pairs, n, phase, wrapped), members in groups.items():
        cuts = _cuts(n, phase, wrapped, window_samples)
        if n * pairs <= PLAIN_SAMPLES_MAX and len(members) < GROUP_MIN:
            for index in members:
                results[index] = _sums_plain(headers[index], payloads[index], cuts, window_samples)
            continue
        for at in range(0, len(members), GROUP_MAX):
            chosen = members[at : at + GROUP_MAX]
            rows = _group(b"".join([payloads[index] for index in chosen]), pairs, n, cuts)
            for index, (a, v_peak, i_peak, parts) in zip(chosen, rows, strict=True):
                results[index] = BlockSums(
                    headers[index], a, (v_peak, i_peak), window_samples, parts
                )
    return [results[index] for index in range(len(headers))]


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


def _sums_plain(
    header: tuple[int, int, int, int], payload: Buffer, cuts: list[int], window_samples: int
) -> BlockSums:
    """Return the sums of one block in plain Python: the twin of `_group`."""
    _, _, pairs, n = header
    words = _words(n * pairs).unpack_from(payload, BLOCK_HEADER_OCTETS)
    v, i = words[0::2], words[1::2]
    parts: list[Part] = []
    for start, end in zip(cuts, [*cuts[1:], n], strict=True):
        columns_v = [v[start * pairs + pair : end * pairs : pairs] for pair in range(pairs)]
        columns_i = [i[start * pairs + pair : end * pairs : pairs] for pair in range(pairs)]
        parts.append(
            (
                end - start,
                [sum(column) for column in columns_v],
                [sum(map(mul, column, column)) for column in columns_v],
                [sum(map(mul, column, column)) for column in columns_i],
            )
        )
    peaks = max(max(v), -min(v)), max(max(i), -min(i))
    return BlockSums(header, sum(map(mul, v, i)), peaks, window_samples, parts)


def _group(
    octets: bytes, pairs: int, n: int, cuts: list[int]
) -> Iterator[tuple[int, int, int, list[Part]]]:
    """Yield (a, v_peak, i_peak, parts) for each of the equally long blocks joined in `octets`."""
    words = np.frombuffer(octets, ">i4").reshape(-1, 2 + 2 * n * pairs)
    blocks = len(words)
    # the header is two words, the samples are [block, sample, pair, v or i]
    samples = words[:, 2:].reshape(blocks, n, pairs, 2)
    # [v or i, block, pair, sample], each row of samples contiguous
    columns = samples.transpose(3, 0, 2, 1).astype(np.int64, order="C")
    v, i = columns[0], columns[1]
    v_peaks = _row_peaks(v.reshape(blocks, -1))
    i_peaks = _row_peaks(i.reshape(blocks, -1))
    v_peak, i_peak = max(v_peaks), max(i_peaks)
    a = _row_sums((v * i).reshape(blocks, -1), [0], v_peak * i_peak * n * pairs)
    sums_v = _row_sums(v, cuts, v_peak * n)
    sums_vv = _row_sums(v * v, cuts, v_peak * v_peak * n)
    sums_ii = _row_sums(i * i, cuts, i_peak * i_peak * n)
    lengths = [end - start for start, end in zip(cuts, [*cuts[1:], n], strict=True)]
    for row in range(blocks):
        parts = list(zip(lengths, sums_v[row], sums_vv[row], sums_ii[row], strict=True))
        yield a[row][0], v_peaks[row], i_peaks[row], parts


def _row_sums(values: _I64, cuts: list[int], bound: int) -> list[list]:
    """Return exact sums along the last axis, cut at `cuts`: [block][part] or [block][part][pair].

    bound: no sum of these values can exceed it; from 2^63 on every value is split in halves.
    """
    if bound < _INT64_END:
        sums = _cut_sums(values, cuts)
    else:
        # PTCP-3.3-01
        high = _cut_sums(values >> 32, cuts).astype(object)
        sums = (high << 32) + _cut_sums(values & _LOW_32, cuts).astype(object)
    if sums.ndim == 3:
        sums = sums.transpose(0, 2, 1)
    rows: list[list] = sums.tolist()
    return rows


def _cut_sums(values: _I64, cuts: list[int]) -> npt.NDArray[np.signedinteger]:
    """Return sums along the last axis, one for each part that begins at a cut."""
    if cuts == [0]:
        return values.sum(axis=-1, keepdims=True)
    return np.add.reduceat(values, cuts, axis=-1)


def _row_peaks(rows: _I64) -> list[int]:
    """Return max(abs(value)) of each row as integers; -2^31 has one in 64 bits."""
    peaks: list[int] = np.maximum(rows.max(axis=1), -rows.min(axis=1)).tolist()
    return peaks


def _peak(values: _I64) -> int:
    return max(int(values.max()), -int(values.min()))


def _wide_sum(products: _I64) -> int:
    """Return the exact sum of products that 64 bits need not hold."""
    return (int((products >> 32).sum()) << 32) + int((products & _LOW_32).sum())


@cache
def _words(pairs_of_words: int) -> Struct:
    return Struct(f">{2 * pairs_of_words}i")


class EnergyRegister:
    """The energy sequence number of one flow, exact: base + floor(A * sv * si / (fs * 10^12)) uJ.

    sv, si: nV and nA per LSB; fs: samples per second. A is kept as an unbounded integer, so the
    carry below one microjoule is never lost and the cutting into blocks does not matter.
    base_uj: 0; after a resume the resumed ESN, with a new register (PTCP-10-03).
    """

    __slots__ = ("_a", "_base_uj", "_denominator", "_esn_uj", "_numerator")

    def __init__(self, sampling: Sampling, base_uj: int = 0) -> None:
        numerator = sampling.nv_per_lsb * sampling.na_per_lsb
        denominator = sampling.rate_hz * _UJ_DENOMINATOR
        common = gcd(numerator, denominator)
        self._numerator = numerator // common
        self._denominator = denominator // common
        self._a = 0
        self._base_uj = base_uj
        self._esn_uj = base_uj

    @property
    def esn_uj(self) -> int:
        """Energy so far in uJ, with the base."""
        return self._esn_uj

    @property
    def a(self) -> int:
        """Sum of v * i in LSB since the base."""
        return self._a

    def add(self, a: int) -> int:
        """Count one block of energy `a` (see `integrate`) and return the ESN after it in uJ."""
        # PTCP-3.3-01
        self._a += a
        self._esn_uj = self._base_uj + self._a * self._numerator // self._denominator
        return self._esn_uj

    def peek(self, a: int) -> int:
        """Return the ESN in uJ as it would be after a block of energy `a`; nothing changes."""
        return self._base_uj + (self._a + a) * self._numerator // self._denominator


class Window(NamedTuple):
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

    __slots__ = ("_next", "_part", "window_samples")

    def __init__(self, window_samples: int) -> None:
        invariant(window_samples > 0, "a window has at least one sample")
        self.window_samples = window_samples
        # counter at which the open part continues
        self._next = 0
        self._part: Part | None = None

    def add(self, sums: BlockSums) -> list[Window]:
        """Take the next block of the flow; return the windows it completes, oldest first.

        `sums` must come from `integrate_many` with the same `window_samples`.
        """
        window = self.window_samples
        invariant(sums.window_samples == window, "block sums were cut by another window")
        at = sums.counter
        if at != self._next:
            self._part = None
        completed = []
        for part in sums.parts:
            whole = part if part[0] == window else self._join(part, at)
            if whole is not None:
                completed.append(Window(at // window, *whole))
            at = (at + part[0]) % COUNTER_MODULUS
        self._next = at
        return completed

    def _join(self, part: Part, at: int) -> Part | None:
        """Add a part that is not a whole window; return the window if it is whole with it."""
        n, sum_v, sum_v2, sum_i2 = part
        if at % self.window_samples == 0:
            self._part = part
        elif self._part is not None:
            begun = self._part
            part = (
                begun[0] + n,
                list(map(add, begun[1], sum_v)),
                list(map(add, begun[2], sum_v2)),
                list(map(add, begun[3], sum_i2)),
            )
            if part[0] == self.window_samples:
                self._part = None
                return part
            self._part = part
        return None
