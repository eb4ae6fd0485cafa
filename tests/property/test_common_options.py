"""The options of nearly every control segment take a short way; the long way agrees with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import DecodeError
from powertcp.profile import MAX_ENERGY_J, MAX_LEASE_S, MAX_MILLI, PowerProfile, ProfileType
from powertcp.wire.options import Maintain, Options, Sampling, decode_options, encode_options

NOP = b"\1"

U16, U32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
PROFILES = st.builds(
    PowerProfile,
    type=st.sampled_from(ProfileType),
    voltage_mv=st.integers(0, MAX_MILLI),
    current_ma=st.integers(0, MAX_MILLI),
    priority=st.integers(0, 15),
    frequency_chz=U16,
    energy_j=st.one_of(st.integers(0, 9_000), st.integers(0, MAX_ENERGY_J)),
    lease_s=st.integers(0, MAX_LEASE_S),
    tag=U16,
)
SCALES = st.integers(1, 2**32 - 1)
COMMON = st.builds(
    Options,
    msp=st.none() | st.integers(1024, 65535),
    profiles=st.lists(PROFILES, max_size=16).map(tuple),
    contract=st.none() | U32,
    sampling=st.none() | st.builds(Sampling, U32, SCALES, SCALES, st.integers(1, 3)),
    maintain=st.none() | st.builds(Maintain, U16, st.integers(0, 255)),
)


def long_way(area: bytes) -> Options | tuple[int, int]:
    """Decode `area` behind a NOP, which the short way does not know; offsets as without it."""
    return outcome(NOP + area, 19)


def outcome(area: bytes, base: int = 20) -> Options | tuple[int, int]:
    try:
        return decode_options(area, base)
    except DecodeError as error:
        return error.code, error.value


@pytest.mark.requirement("PTCP-2.3-02")
@given(COMMON)
def test_both_ways_read_the_same(options: Options) -> None:
    area = encode_options(options)
    assert decode_options(area) == long_way(area)


@pytest.mark.requirement("PTCP-2.3-02", "PTCP-2.3-05")
@given(COMMON, st.data())
def test_both_ways_refuse_the_same(options: Options, data: st.DataObject) -> None:
    area = bytearray(encode_options(options))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(len(area) - 1, 0)))
        area[at : at + 1] = bytes((data.draw(st.integers(0, 255)),))
    assert outcome(bytes(area)) == long_way(bytes(area))


@pytest.mark.requirement("PTCP-2.3-03")
@given(COMMON)
def test_both_ways_write_the_same(options: Options) -> None:
    area = encode_options(options)
    # a kind above all others, so that it comes last on the long way
    long = encode_options(Options(**{**vars(options), "unknown": ((255, b""),)}))
    kept = long.rstrip(b"\0")
    assert kept.endswith(b"\xff\x02")
    assert area.rstrip(b"\0") == kept[:-2].rstrip(b"\0")


@pytest.mark.requirement("PTCP-1-02")
@given(PROFILES)
def test_what_is_sent_is_what_arrives(profile: PowerProfile) -> None:
    assert profile.as_sent() == PowerProfile.from_wire(profile.to_wire())
