"""The one value of the house: 16 octets, one text form, rounding, ranges."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.profile import (
    FREQUENCY_ANY,
    MAX_ENERGY_J,
    MAX_LEASE_S,
    MAX_MILLI,
    Phases,
    PowerProfile,
    ProfileType,
    Waveform,
    decode_energy,
    decode_lease,
    encode_energy,
    encode_lease,
    in_range,
    is_fallback_of,
    is_minimum_of,
    named_profiles,
)

MAX_24 = (1 << 24) - 1
VECTORS = [
    (
        "44 02 00 2e e0 00 05 dc 00 00 0e 10 00 00 10 00",
        ProfileType.REQUEST,
        "12V/1.5A,prio=2,energy=3600J",
        0x1000,
    ),
    (
        "54 02 00 2e e0 00 03 e8 00 00 0e 10 00 23 10 00",
        ProfileType.GRANT,
        "12V/1A,prio=2,energy=3600J,lease=60s",
        0x1000,
    ),
    (
        "44 43 03 82 70 00 3e 80 13 88 00 00 00 00 be ef",
        ProfileType.REQUEST,
        "230V/16A@50Hz,prio=3",
        0xBEEF,
    ),
    (
        "4e 60 03 5b 60 00 07 d0 13 88 00 00 00 00 00 00",
        ProfileType.OFFER,
        "220000V/2000A@50Hz/delta",
        0,
    ),
]
UP = (ProfileType.REQUEST, ProfileType.MINIMUM)
MANTISSAS = st.integers(0, 8191)
ENERGIES = st.builds(lambda m, e: m * 10**e, MANTISSAS, st.integers(0, 7))
LEASES = st.integers(0, 255).map(decode_lease)
SHAPES = {
    "type": st.sampled_from(ProfileType),
    "waveform": st.sampled_from(Waveform),
    "phases": st.sampled_from(Phases),
    "priority": st.integers(0, 15),
    "frequency_chz": st.integers(0, 0xFFFF),
    "giveback": st.booleans(),
}
ANY = st.builds(
    PowerProfile,
    **SHAPES,
    voltage_mv=st.integers(0, MAX_MILLI),
    current_ma=st.integers(0, MAX_MILLI),
    energy_j=st.integers(0, MAX_ENERGY_J),
    lease_s=st.integers(0, MAX_LEASE_S),
    profile_id=st.integers(0, 255),
    tag=st.integers(0, 0xFFFF),
)
MILLIS = st.tuples(st.integers(0, MAX_24), st.integers(0, MAX_24))
KILOS = st.tuples(st.integers(MAX_24 // 1000 + 1, MAX_24), st.integers(0, MAX_24)).map(
    lambda pair: (pair[0] * 1000, pair[1] * 1000)
)
FITTING = st.builds(
    lambda shape, pair: replace(shape, voltage_mv=pair[0], current_ma=pair[1]),
    st.builds(
        PowerProfile,
        **SHAPES,
        voltage_mv=st.just(0),
        current_ma=st.just(0),
        energy_j=ENERGIES,
        lease_s=LEASES,
        profile_id=st.integers(0, 255),
        tag=st.integers(0, 0xFFFF),
    ),
    MILLIS | KILOS,
)


def power(text: str, kind: ProfileType = ProfileType.REQUEST) -> PowerProfile:
    return PowerProfile.parse(text, kind)


@pytest.mark.requirement("PTCP-1-05")
@pytest.mark.parametrize(("octets", "kind", "text", "tag"), VECTORS)
def test_the_vectors_of_the_document(octets: str, kind: ProfileType, text: str, tag: int) -> None:
    profile = replace(power(text, kind), tag=tag)
    assert profile.to_wire() == bytes.fromhex(octets)
    assert PowerProfile.from_wire(bytes.fromhex(octets)) == profile
    assert PowerProfile.from_wire(b"\xff" * 3 + bytes.fromhex(octets), 3) == profile
    assert profile.format() == text


@pytest.mark.requirement("PTCP-1-01")
@given(FITTING)
def test_what_fits_comes_back_unchanged(profile: PowerProfile) -> None:
    octets = profile.to_wire()
    assert len(octets) == 16
    assert PowerProfile.from_wire(octets) == profile
    fits = profile.voltage_mv <= MAX_24 and profile.current_ma <= MAX_24
    assert (octets[0] & 2 == 0) == fits


@pytest.mark.requirement("PTCP-1-02")
@given(ANY)
def test_what_does_not_fit_is_rounded_towards_the_safe_side(profile: PowerProfile) -> None:
    back = PowerProfile.from_wire(profile.to_wire())
    asks, grants = profile.type in UP, profile.type in (ProfileType.GRANT, ProfileType.FALLBACK)
    step = 1 if max(profile.voltage_mv, profile.current_ma) <= MAX_24 else 1000
    assert abs(back.voltage_mv - profile.voltage_mv) * 2 <= step
    if asks:
        assert 0 <= back.current_ma - profile.current_ma < step
    else:
        assert 0 <= profile.current_ma - back.current_ma < step
    for name in ("energy_j", "lease_s"):
        was, became = getattr(profile, name), getattr(back, name)
        assert became <= was if grants else became >= was
    changed = ("voltage_mv", "current_ma", "energy_j", "lease_s")
    assert replace(back, **{name: getattr(profile, name) for name in changed}) == profile
    # canonical: encoding again changes nothing
    assert back.to_wire() == profile.to_wire()


@pytest.mark.requirement("PTCP-1-02")
def test_voltage_goes_to_the_nearest_and_stays_in_24_bits() -> None:
    high = power("20000V/0.7A")
    assert PowerProfile.from_wire(replace(high, voltage_mv=20_000_499).to_wire()).voltage_mv == (
        20_000_000
    )
    assert PowerProfile.from_wire(replace(high, voltage_mv=20_000_500).to_wire()).voltage_mv == (
        20_001_000
    )
    assert PowerProfile.from_wire(high.to_wire()).current_ma == 1_000
    offer = high.with_type(ProfileType.OFFER)
    assert PowerProfile.from_wire(offer.to_wire()).current_ma == 0


@pytest.mark.requirement("PTCP-1-01")
@given(st.integers(0, 255), st.integers(0, 0xFFFF))
def test_octets_that_are_not_canonical_are_read_and_written_canonically(
    lease: int, energy: int
) -> None:
    octets = bytearray(bytes.fromhex(VECTORS[1][0]))
    octets[10:12], octets[13] = energy.to_bytes(2, "big"), lease
    profile = PowerProfile.from_wire(bytes(octets))
    assert profile.lease_s == ((16 + lease % 16) << lease // 16) - 16
    assert profile.energy_j == energy % 8192 * 10 ** (energy // 8192)
    assert PowerProfile.from_wire(profile.to_wire()) == profile
    # K = 1 where mV would do, and C = 0
    kilo = bytes.fromhex("42 00 00 00 0c 00 00 01 00 00 00 00 00 00 00 00")
    assert PowerProfile.from_wire(kilo).format() == "12V/1A"
    assert PowerProfile.from_wire(kilo).to_wire()[0] == 0x44


@pytest.mark.requirement("PTCP-1-01")
@pytest.mark.parametrize(
    ("seconds", "octet"),
    [(5, 0x05), (30, 0x17), (60, 0x23), (304, 0x44), (3696, 0x7D), (1_015_792, 0xFF)],
)
def test_the_lease_octets_of_the_document(seconds: int, octet: int) -> None:
    assert decode_lease(octet) == seconds
    assert encode_lease(seconds, up=True) == encode_lease(seconds, up=False) == octet


@pytest.mark.requirement("PTCP-1-02")
def test_leases_and_energies_round_to_their_neighbours_and_stop_at_the_greatest() -> None:
    steps = sorted(decode_lease(octet) for octet in range(256))
    assert len(set(steps)) == 256
    for low, high in itertools.pairwise(steps):
        for lease in {low + 1, (low + high) // 2, high - 1} - {low, high}:
            assert decode_lease(encode_lease(lease, up=False)) == low
            assert decode_lease(encode_lease(lease, up=True)) == high
    assert encode_lease(MAX_LEASE_S + 9, up=True) == encode_lease(MAX_LEASE_S, up=False) == 0xFF
    assert encode_energy(8192, up=False) == 1 << 13 | 819
    assert encode_energy(8192, up=True) == 1 << 13 | 820
    assert decode_energy(encode_energy(MAX_ENERGY_J + 1, up=True)) == MAX_ENERGY_J
    assert decode_energy(encode_energy(MAX_ENERGY_J + 10**7, up=False)) == MAX_ENERGY_J


@pytest.mark.requirement("PTCP-1-02")
@given(st.integers(1, MAX_ENERGY_J), st.booleans())
def test_a_positive_energy_is_never_open_ended(energy_j: int, up: bool) -> None:
    assert decode_energy(encode_energy(energy_j, up=up)) > 0


@pytest.mark.requirement("PTCP-1-05")
@pytest.mark.parametrize("head", [0x04, 0x84, 0xC4, 0x74, 0x7C])
def test_another_version_or_a_reserved_type_is_not_understood(head: int) -> None:
    octets = bytes([head]) + bytes(15)
    with pytest.raises(DecodeError) as caught:
        PowerProfile.from_wire(octets)
    assert (caught.value.code, caught.value.value) == (503, head)


@pytest.mark.requirement("PTCP-1-05")
@pytest.mark.parametrize(("octets", "offset"), [(15, 0), (20, 5), (0, 0)])
def test_fewer_than_16_octets_are_refused(octets: int, offset: int) -> None:
    with pytest.raises(DecodeError) as caught:
        PowerProfile.from_wire(memoryview(bytes(octets)), offset)
    assert (caught.value.code, caught.value.limit) == (503, 16)


@given(FITTING)
def test_the_text_form_is_read_back(profile: PowerProfile) -> None:
    back = PowerProfile.parse(profile.format(), profile.type)
    assert back == replace(profile, tag=0, profile_id=0)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("12V/1.5A", {"voltage_mv": 12_000, "current_ma": 1_500}),
        ("230V/32A@50Hz/wye", {"phases": Phases.WYE, "waveform": Waveform.SINE}),
        ("230V/1A@any/one", {"frequency_chz": FREQUENCY_ANY, "phases": Phases.ONE}),
        ("5V/1A/by-id/split", {"waveform": Waveform.BY_ID, "phases": Phases.SPLIT}),
        ("5V/1A@50Hz/dc", {"waveform": Waveform.DC, "frequency_chz": 5_000}),
        ("5V/1A,lease=1min,energy=2kJ,giveback", {"lease_s": 60, "energy_j": 2_000}),
        ("230V/1A@any", {"frequency_chz": FREQUENCY_ANY, "waveform": Waveform.SINE}),
        ("lamp,prio=3", {"voltage_mv": 230_000, "current_ma": 40, "profile_id": 48}),
    ],
)
def test_a_power_is_written_as_people_write_it(text: str, fields: dict[str, int]) -> None:
    profile = power(text)
    assert {name: getattr(profile, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("12V", "a power is V/I"),
        ("230/1A", "a voltage needs a number and a unit"),
        ("12V/1A/star", 'phases are one, split, delta or wye, got "star"'),
        ("12V/1A,fast", 'unknown word "fast"'),
        ("12V/1A,prio", 'unknown word "prio"'),
        ("12V/1A,prio=x", 'prio in "12V/1A,prio=x"'),
        ("12V/1A,prio=16", "priority is 16, the limit is 0..15"),
        ("12V/1A,prio=-1", "priority is -1, the limit is 0..15"),
        ("12V/1A,lease=1.5s", "a lease is in whole seconds"),
        ("12V/1A,energy=0.5J", "an energy is in whole joules"),
        ("99999kV/1A", "voltage_mv is"),
    ],
)
def test_what_is_no_power_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        power(text)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("voltage_mv", MAX_MILLI),
        ("current_ma", MAX_MILLI),
        ("priority", 15),
        ("frequency_chz", 0xFFFF),
        ("energy_j", MAX_ENERGY_J),
        ("lease_s", MAX_LEASE_S),
        ("profile_id", 255),
        ("tag", 0xFFFF),
    ],
)
def test_make_takes_each_field_at_its_limit_and_not_one_above(name: str, limit: int) -> None:
    least = {"voltage_mv": 0, "current_ma": 0}
    made = PowerProfile.make(ProfileType.OFFER, **least | {name: limit})
    assert getattr(made, name) == limit
    for value in (limit + 1, -1):
        with pytest.raises(LocalProtocolError, match=name):
            PowerProfile.make(ProfileType.OFFER, **least | {name: value})


def test_power_counts_the_pairs_and_current_for_a_power_stays_below_it() -> None:
    assert power("230V/16A@50Hz").power_mw == 3_680_000
    assert power("230V/16A@50Hz/wye").power_mw == 3 * 3_680_000
    assert power("230V/16A@50Hz/split").pairs == Phases.SPLIT.pairs == 2
    assert power("0.333V/0.01A").power_mw == 3
    assert power("0V/5A").current_for(1_000) == 0
    assert power("12V/1A").effective_priority == 8
    assert power("12V/1A,prio=1").effective_priority == 1


@given(st.integers(1, 10**6), st.integers(0, 10**5), st.sampled_from(Phases), st.data())
def test_the_current_for_a_power_is_the_greatest(
    mv: int, ma: int, phases: Phases, data: st.DataObject
) -> None:
    profile = PowerProfile(type=ProfileType.OFFER, voltage_mv=mv, current_ma=ma, phases=phases)
    wanted = data.draw(st.integers(0, profile.power_mw + 10))
    current = profile.current_for(wanted)
    assert current <= ma
    assert replace(profile, current_ma=current).power_mw <= wanted
    if current < ma:
        assert replace(profile, current_ma=current + 1).power_mw > wanted


def test_without_a_voltage_no_current_makes_power() -> None:
    assert power("0V/1A").current_for(1_000) == 0


MOST = power("12V/2A@50Hz,prio=2")
LEAST = power("9V/0.5A@50Hz", ProfileType.MINIMUM)


@pytest.mark.requirement("PTCP-1-03")
@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("12V/2A@50Hz", True),
        ("9V/0.5A@50Hz,prio=9", True),
        ("10V/1A@any", True),
        ("8.999V/1A@50Hz", False),
        ("12.001V/1A@50Hz", False),
        ("10V/0.499A@50Hz", False),
        ("10V/2.001A@50Hz", False),
        ("10V/1A@60Hz", False),
        ("10V/1A", False),
        ("10V/1A@50Hz/split", False),
    ],
)
def test_a_range_includes_its_ends_and_nothing_of_another_kind(
    text: str,
    inside: bool,
) -> None:
    assert in_range(power(text), MOST, LEAST) is inside


@pytest.mark.requirement("PTCP-1-03")
def test_without_a_minimum_the_range_is_exactly_the_request() -> None:
    assert in_range(power("12V/2A@50Hz,prio=7,lease=9s"), MOST, None)
    for other in ("12V/1.999A@50Hz", "11.999V/2A@50Hz", "12V/2A@60Hz"):
        assert not in_range(power(other), MOST, None)


@pytest.mark.requirement("PTCP-1-03")
def test_a_minimum_belongs_to_its_request_by_kind_frequency_and_tag() -> None:
    assert is_minimum_of(LEAST, MOST)
    others = (
        {"type": ProfileType.OFFER},
        {"waveform": Waveform.DC},
        {"phases": Phases.WYE},
        {"frequency_chz": FREQUENCY_ANY},
        {"tag": 1},
    )
    for change in others:
        assert not is_minimum_of(replace(LEAST, **change), MOST)


@pytest.mark.requirement("PTCP-1-04")
def test_a_fallback_is_the_grant_with_another_current_and_a_refuse_may_say_nothing() -> None:
    grant = replace(power("12V/1.5A,lease=60s", ProfileType.GRANT), tag=7)
    floor = grant.with_type(ProfileType.FALLBACK, current_ma=100)
    assert replace(floor, type=grant.type, current_ma=grant.current_ma) == grant
    octets = [a != b for a, b in zip(floor.to_wire(), grant.to_wire(), strict=True)]
    # the type and the octets of the current, nothing else
    assert {at for at, differs in enumerate(octets) if differs} <= {0, 5, 6, 7}
    nothing = grant.with_type(ProfileType.REFUSE, current_ma=0)
    assert PowerProfile.from_wire(nothing.to_wire()).power_mw == 0


@pytest.mark.requirement("PTCP-1-04")
@pytest.mark.parametrize(
    ("floor", "holds"),
    [
        ("230V/0A@50Hz", True),
        ("230V/2A@50Hz", True),
        ("230V/2.001A@50Hz", False),
        ("229.999V/1A@50Hz", False),
        ("230V/1A@60Hz", False),
        ("230V/1A@50Hz/split", False),
        ("230V/1A@50Hz/arbitrary", False),
    ],
)
def test_a_fallback_has_less_current_and_is_else_the_same_power(floor: str, holds: bool) -> None:
    assert is_fallback_of(power(floor), power("230V/2A@50Hz", ProfileType.GRANT)) is holds


@pytest.mark.parametrize(
    "text",
    [
        "230V/1A@any",
        "5V/1A@50Hz/arbitrary",
        "5V/1A@50Hz/by-id/split",
        "5V/1A@50Hz/dc",
        "230V/1A@50Hz/delta",
    ],
)
def test_what_is_odd_about_a_power_is_written_too(text: str) -> None:
    assert power(text).format() == text


def test_the_named_rows_are_those_of_the_document() -> None:
    rows = named_profiles()
    ids = {row["profile_id"]: name for name, row in rows.items()}
    assert sorted(ids) == [*range(1, 8), *range(16, 24), *range(32, 36), 48]
    watts = [power(ids[number]).power_mw for number in range(16, 24)]
    assert watts == [4_000, 7_000, 15_400, 30_000, 45_000, 60_000, 75_000, 90_000]
    assert power("cee-32").format() == "230V/32A@50Hz/wye"


def test_a_table_without_rows_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("powertcp.data.load", lambda name: {"profile": name})
    with pytest.raises(LocalProtocolError, match="array of tables"):
        named_profiles.__wrapped__()
