"""Sample blocks of digital voltage: octets to arrays and back, cutting, sampling defaults.

Protocol section 3.1, the payload of DATA (bits of one 32-bit word per line):

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------------------------------------------------------+
    |            sample counter of the first sample, mod 2^32       |
    +---------------+---------------+-------------------------------+
    |     sync      |     pairs     |              n                |
    +---------------+---------------+-------------------------------+
    |                    voltage of pair 1, i32                     |  n * pairs times,
    |                    current of pair 1, i32                     |  interleaved
    +---------------------------------------------------------------+

Voltages and currents are counts of `Sampling.nv_per_lsb` nanovolt and `Sampling.na_per_lsb`
nanoampere: 1 mV and 1 uA unless agreed otherwise.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final

import numpy as np
import numpy.typing as npt

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.machine import Buffer
from powertcp.profile import FREQUENCY_ANY, PowerProfile
from powertcp.wire.options import Sampling

Samples = npt.NDArray[np.signedinteger]

## rfc3251#5
## "IP packets carry electricity in discrete, digitized form."
BLOCK_HEADER: Final = Struct(">IBBH")
BLOCK_HEADER_OCTETS: Final = BLOCK_HEADER.size
COUNTER_MODULUS: Final = 1 << 32
# the payload length of a segment is 16 bits wide
BLOCK_OCTETS_MAX: Final = 65_535
# what a receiver takes that announced no MSP
MSP_DEFAULT: Final = 16_384
SIM: Final = 0x80
SYNC_NONE: Final = 0
SYNC_LOCAL: Final = 1
SYNC_GLOBAL: Final = 2

RATE_MIN_HZ: Final = 10
RATE_MAX_HZ: Final = 100_000
RATE_DC_HZ: Final = 1_000
RATE_ANY_HZ: Final = 4_000
SAMPLES_PER_CYCLE: Final = 80
NV_PER_LSB: Final = 1_000_000
NA_PER_LSB: Final = 1_000

_CHZ_PER_HZ = 100
_I32_MIN = -(1 << 31)
_I32_MAX = (1 << 31) - 1
_BAD_LENGTH = 502
_unpack_header = BLOCK_HEADER.unpack_from


def block_header(payload: Buffer) -> tuple[int, int, int, int]:
    """Return (counter, sync, pairs, n) of a block whose length is right.

    Raises DecodeError 502 when the payload is not exactly 8 + 8 * n * pairs octets, is longer
    than a segment can carry, or holds no sample.
    """
    octets = len(payload)
    if not BLOCK_HEADER_OCTETS <= octets <= BLOCK_OCTETS_MAX:
        limit = BLOCK_HEADER_OCTETS if octets < BLOCK_HEADER_OCTETS else BLOCK_OCTETS_MAX
        raise DecodeError(0, "block", _BAD_LENGTH, octets, limit)
    header: tuple[int, int, int, int] = _unpack_header(payload)
    pairs, n = header[2], header[3]
    # PTCP-3.1-03
    if octets != BLOCK_HEADER_OCTETS + 8 * n * pairs:
        limit = BLOCK_HEADER_OCTETS + 8 * n * pairs
        raise DecodeError(6, "n", _BAD_LENGTH, octets, limit)
    if octets == BLOCK_HEADER_OCTETS:
        raise DecodeError(6, "n", _BAD_LENGTH, octets, BLOCK_HEADER_OCTETS + 8)
    return header


def block_samples(payload: Buffer) -> npt.NDArray[np.int32]:
    """Return the samples of a block as a big-endian i32 view of shape (n, 2 * pairs).

    Columns are v1, i1, v2, i2, ...; the view lives as long as `payload`.
    Raises DecodeError 502 as `block_header` does.
    """
    _, _, pairs, n = block_header(payload)
    words = np.frombuffer(payload, ">i4", offset=BLOCK_HEADER_OCTETS)
    return words.reshape(n, 2 * pairs)


def encode_block(counter: int, samples: Samples, sync: int = SIM) -> bytes:
    """Return the octets of one block.

    counter: index of the first sample since the flow began; it is sent mod 2^32.
    samples: integers of shape (n, 2 * pairs), columns v1, i1, v2, i2, ...
    sync: 0 none, 1 local, 2 global clock; SIM is added for synthesised samples (the default).
    Raises LocalProtocolError when the shape is not that of one block, or a sample does not fit
    32 bits.
    """
    if samples.ndim != 2 or samples.shape[0] < 1 or samples.shape[1] not in (2, 4, 6):
        shape = "x".join(str(length) for length in samples.shape)
        raise LocalProtocolError(f"samples of shape {shape}, a block holds n x 2, 4 or 6")
    n, columns = samples.shape
    if BLOCK_HEADER_OCTETS + 4 * n * columns > BLOCK_OCTETS_MAX:
        raise LocalProtocolError(f"{n} samples of {columns // 2} pairs exceed 65,535 octets")
    if samples.dtype.itemsize > 4 and not _I32_MIN <= samples.min() <= samples.max() <= _I32_MAX:
        raise LocalProtocolError(
            f"samples {samples.min():,} to {samples.max():,} exceed 32 bits; use a coarser scale"
        )
    header = BLOCK_HEADER.pack(counter % COUNTER_MODULUS, sync, columns // 2, n)
    return header + samples.astype(">i4").tobytes()


def encode_rows(counters: Sequence[int], samples: Samples, sync: int = SIM) -> list[memoryview]:
    """Return one payload per row of `samples`, shape (flows, n, 2 * pairs), values within 32 bits.

    The twin of `encode_block` for a cohort: all rows are written into one array of big-endian
    words and the payloads are views of it, so nothing is copied afterwards.
    """
    flows, n, columns = samples.shape
    if flows != len(counters):
        raise LocalProtocolError(f"{len(counters)} counters for {flows} rows of samples")
    words = np.empty((flows, 2 + n * columns), ">i4")
    unsigned = words.view(">u4")
    unsigned[:, 0] = [counter % COUNTER_MODULUS for counter in counters]
    unsigned[:, 1] = sync << 24 | (columns // 2) << 16 | n
    words[:, 2:] = samples.reshape(flows, n * columns)
    octets = words.data.cast("B")
    length = BLOCK_HEADER_OCTETS + 4 * n * columns
    return [octets[at : at + length] for at in range(0, flows * length, length)]


def cut_block(payload: Buffer, at: int) -> tuple[bytes, bytes]:
    """Cut a block before sample `at`, 0 < at < n; both parts are blocks of the same flow.

    Raises DecodeError 502 for a wrong length, LocalProtocolError when a part would be empty.
    """
    counter, sync, pairs, n = block_header(payload)
    if not 0 < at < n:
        raise LocalProtocolError(f"asked to cut a block of {n} samples before sample {at}")
    split = BLOCK_HEADER_OCTETS + 8 * pairs * at
    first = BLOCK_HEADER.pack(counter, sync, pairs, at)
    rest = BLOCK_HEADER.pack((counter + at) % COUNTER_MODULUS, sync, pairs, n - at)
    return first + bytes(payload[BLOCK_HEADER_OCTETS:split]), rest + bytes(payload[split:])


def default_sampling(profile: PowerProfile) -> Sampling:
    """Return the sampling a sink proposes for `profile`.

    DC 1000 Hz, any frequency 4000 Hz, otherwise 80 samples per cycle (50 Hz: 4000, 60 Hz: 4800),
    within 10 to 100,000 Hz. The scale is 1 mV and 1 uA, or the next power of ten in which twice
    the over-voltage limit and twice the short-circuit limit of section 8 still fit 32 bits.
    """
    chz = profile.frequency_chz
    if chz == 0:
        rate_hz = RATE_DC_HZ
    elif chz == FREQUENCY_ANY:
        rate_hz = RATE_ANY_HZ
    else:
        rate_hz = (2 * SAMPLES_PER_CYCLE * chz + _CHZ_PER_HZ) // (2 * _CHZ_PER_HZ)
    return Sampling(
        rate_hz=min(max(rate_hz, RATE_MIN_HZ), RATE_MAX_HZ),
        nv_per_lsb=_scale(NV_PER_LSB, 4 * profile.voltage_mv * 1_000_000),
        na_per_lsb=_scale(NA_PER_LSB, 9 * profile.current_ma * 1_000_000),
        pairs=profile.pairs,
    )


def window_samples_for(profile: PowerProfile, sampling: Sampling) -> int:
    """Return the samples of one protection window: the whole cycles nearest 20 ms, at least one.

    DC and any frequency: 20 ms. Never fewer than one sample.
    """
    chz = profile.frequency_chz
    if chz in (0, FREQUENCY_ANY):
        return max(1, (sampling.rate_hz + 25) // 50)
    cycles = max(1, (chz + 2_500) // 5_000)
    return max(1, (2 * cycles * _CHZ_PER_HZ * sampling.rate_hz + chz) // (2 * chz))


def block_samples_for(profile: PowerProfile, sampling: Sampling, msp: int = MSP_DEFAULT) -> int:
    """Return the samples of one block: 100 ms of DC, one protection window of AC.

    A block never exceeds `msp` octets, the receiver's maximum payload.
    """
    # PTCP-3.2-01
    n = window_samples_for(profile, sampling)
    if profile.frequency_chz == 0:
        n = max(1, (sampling.rate_hz + 5) // 10)
    return min(n, (msp - BLOCK_HEADER_OCTETS) // (8 * sampling.pairs))


def _scale(unit: int, peak: int) -> int:
    """Return the smallest unit * 10^k of which `peak` holds at most 2^31 - 1."""
    while peak > unit * _I32_MAX:
        unit *= 10
    return unit
