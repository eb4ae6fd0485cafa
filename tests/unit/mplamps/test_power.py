"""The four private objects, octet by octet, and what becomes of octets that are none of them."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.mplamps.power import (
    FlowLabelObject,
    MeterObject,
    PowerObject,
    PrivateObject,
    TariffKind,
    TariffObject,
    parse_object,
)
from powertcp.profile import PowerProfile, ProfileType

REQUEST = PowerProfile.parse("230V/260mA@50Hz,prio=9").with_type(ProfileType.REQUEST, tag=0xBEEF)
MINIMUM = REQUEST.with_type(ProfileType.MINIMUM, current_ma=100)
GRANT = REQUEST.with_type(ProfileType.GRANT, lease_s=157, tag=0)
# as in the PATH and the RESV of the document
PATH_POWER = "0028fc0100007ed94449038270000104138800000000beef6449038270000064138800000000beef"
RESV_POWER = "0018fc0100007ed95449038270000104138800000035beef"
PATH_TARIFF = "0024fc0300007ed900000000000000004555520000000000000493e00000000000000000"
RESV_TARIFF = "0024fc0300007ed9000000070a0000014555520100000000000455c40000000c00000e10"

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
PROFILES = st.builds(
    PowerProfile.make,
    st.just(ProfileType.REQUEST),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    waveform=st.integers(0, 3),
    phases=st.integers(0, 3),
    priority=st.integers(0, 15),
    frequency_chz=st.integers(0, 0xFFFF),
    lease_s=st.integers(0, 10**6),
    tag=st.integers(0, 0xFFFF),
)
OBJECTS: st.SearchStrategy[PrivateObject] = st.one_of(
    st.builds(PowerObject.make, PROFILES),
    st.builds(
        lambda first, second, kind: PowerObject.make(first, second.with_type(kind)),
        PROFILES,
        PROFILES,
        st.sampled_from([ProfileType.MINIMUM, ProfileType.REFUSE]),
    ),
    st.builds(FlowLabelObject.make, st.integers(16, 0xF_FFFF)),
    st.builds(
        TariffObject.make,
        st.sampled_from(TariffKind),
        st.integers(-(2**63), 2**63 - 1),
        st.sampled_from(["EUR", "USD", "XXX"]),
        supplier=U32,
        source=st.builds(IPv4Address, U32),
        tariff_id=U32,
        valid_s=U32,
    ),
    st.builds(
        MeterObject.make,
        seconds=U32,
        energy_uj=U64,
        packets=U64,
        octets=U64,
        is_estimated=st.booleans(),
        is_final=st.booleans(),
    ),
)


@pytest.mark.requirement("MPLA-4.4-02")
def test_power_of_the_document() -> None:
    asked = PowerObject.make(REQUEST, MINIMUM)
    assert asked.to_wire().hex() == PATH_POWER
    assert PowerObject.from_wire(bytes.fromhex(PATH_POWER)) == asked
    granted = PowerObject.make(GRANT.with_type(ProfileType.GRANT, tag=0xBEEF))
    assert granted.to_wire().hex() == RESV_POWER
    assert granted.profile.lease_s == 152


def test_flow_label_of_the_document() -> None:
    octets = bytes.fromhex("000cfc0200007ed900000010")
    assert FlowLabelObject.make(16).to_wire() == octets
    assert FlowLabelObject.from_wire(octets) == FlowLabelObject(16)


@pytest.mark.requirement("MPLA-4.4-04")
def test_tariffs_of_the_document() -> None:
    limit = TariffObject.make(TariffKind.LIMIT, 300_000, "EUR")
    assert limit.to_wire().hex() == PATH_TARIFF
    source = IPv4Address("10.0.0.1")
    quote = TariffObject.make(
        TariffKind.QUOTE, 284_100, "EUR", supplier=7, source=source, tariff_id=12, valid_s=3600
    )
    assert quote.to_wire().hex() == RESV_TARIFF
    assert TariffObject.from_wire(bytes.fromhex(RESV_TARIFF)) == quote


@pytest.mark.requirement("MPLA-4.4-05")
def test_a_meter_octet_by_octet() -> None:
    meter = MeterObject.make(seconds=60, energy_uj=2**40, packets=7, octets=9000, is_final=True)
    octets = bytes.fromhex(
        "0028fc0400007ed9 02000000 0000003c 0000010000000000 0000000000000007 0000000000002328"
    )
    assert meter.to_wire() == octets
    assert MeterObject.from_wire(octets) == meter


@given(OBJECTS, st.binary(max_size=8), st.binary(max_size=8))
def test_an_object_is_read_as_it_was_written(
    said: PrivateObject, before: bytes, after: bytes
) -> None:
    octets = said.to_wire()
    assert len(octets) % 4 == 0
    assert len(octets) == int.from_bytes(octets[:2], "big")
    assert parse_object(before + octets + after, len(before)) == said


@pytest.mark.requirement("MPLA-4.4-06")
@given(OBJECTS, st.integers(0, 39), st.integers(1, 255), st.integers(0, 40))
def test_altered_octets_are_an_object_or_one_error(
    said: PrivateObject, at: int, change: int, size: int
) -> None:
    octets = bytearray(said.to_wire())
    octets[at % len(octets)] ^= change
    code = 503
    for cut in (bytes(octets), bytes(octets[:size])):
        try:
            found = parse_object(cut)
        except DecodeError as error:
            code = error.code
        else:
            assert found is None or parse_object(found.to_wire()) == found
        assert code == 503


@pytest.mark.requirement("MPLA-4.4-06")
@given(st.binary(max_size=60), st.integers(0, 20))
def test_any_octets_are_an_object_or_one_error(octets: bytes, offset: int) -> None:
    code = 503
    try:
        parse_object(octets, offset)
    except DecodeError as error:
        code = error.code
    assert code == 503


@pytest.mark.requirement("MPLA-4.4-01")
@pytest.mark.parametrize(
    "octets",
    [
        "000cfc02 00007eda 00000010",  # another enterprise
        "000cfc05 00007ed9 00000010",  # a C-Type that comes later
        "000cfc00 00007ed9 00000010",
        "0008fc01 00000009",
    ],
)
def test_what_is_not_ours_is_forwarded_unexamined(octets: str) -> None:
    assert parse_object(bytes.fromhex(octets)) is None


@pytest.mark.requirement("MPLA-4.4-03", "MPLA-4.4-06")
@pytest.mark.parametrize(
    ("octets", "field"),
    [
        ("0004fc02", "object header"),
        ("0004fc02 00007ed9 00000010", "length"),
        ("0010fc02 00007ed9 00000010 00000000", "length of FLOW_LABEL"),
        ("000cfc02 00007ed9 000000", "length of FLOW_LABEL"),
        ("000cfc02 00007ed9 0000000f", "flow label"),
        ("000cfc02 00007ed9 00100010", "flow label"),
        (PATH_POWER.replace("beef6449", "beef4449"), "types of the profiles"),
        (RESV_POWER.replace("00007ed954", "00007ed964"), "types of the profiles"),
        (RESV_POWER.replace("00007ed954", "00007ed994"), "profile version and type"),
        (RESV_POWER.replace("0018", "0020"), "length of POWER"),
        (PATH_TARIFF.replace("455552", "457552"), "currency"),
        (PATH_TARIFF.replace("455552", "e55552"), "currency"),
        (PATH_TARIFF.replace("45555200", "45555203"), "kind of TARIFF"),
        ("0028fc0400007ed9 04" + "00" * 31, "flags and zero of METER"),
        ("0028fc0400007ed9 00000001" + "00" * 28, "flags and zero of METER"),
    ],
)
def test_bad_objects_name_the_field(octets: str, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_object(bytes.fromhex(octets))
    assert (caught.value.code, caught.value.field) == (503, field)


def test_a_codec_reads_its_own_objects_only() -> None:
    with pytest.raises(DecodeError, match="header of TARIFF"):
        TariffObject.from_wire(bytes.fromhex(PATH_POWER))
    with pytest.raises(DecodeError, match="object header"):
        TariffObject.from_wire(bytes(7))
    with pytest.raises(DecodeError, match="header of METER"):
        MeterObject.from_wire(bytes.fromhex("0028fb0400007ed9") + bytes(32))


@pytest.mark.requirement("MPLA-4.4-02")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ProfileType.OFFER, None),
        (ProfileType.MINIMUM, None),
        (ProfileType.REFUSE, None),
        (ProfileType.GRANT, ProfileType.MINIMUM),
        (ProfileType.REQUEST, ProfileType.REQUEST),
        (ProfileType.REQUEST, ProfileType.FALLBACK),
    ],
)
def test_profiles_that_do_not_go_together(first: ProfileType, second: ProfileType | None) -> None:
    profile = REQUEST.with_type(first)
    other = REQUEST.with_type(second) if second is not None else None
    with pytest.raises(LocalProtocolError, match="POWER cannot hold"):
        PowerObject.make(profile, other)
    with pytest.raises(DecodeError):
        parse_object(PowerObject(profile, other).to_wire())


def test_values_beyond_their_fields_are_ours_to_mend() -> None:
    for label in (0, 15, 2**20):
        with pytest.raises(LocalProtocolError):
            FlowLabelObject.make(label)
    for currency in ("eur", "EURO", "E R", "\u00c4\u00d6\u00dc"):
        with pytest.raises(LocalProtocolError):
            TariffObject.make(TariffKind.LIMIT, 0, currency)
    for price in (2**63, -(2**63) - 1):
        with pytest.raises(LocalProtocolError):
            TariffObject.make(TariffKind.LIMIT, price, "EUR")
    with pytest.raises(LocalProtocolError):
        TariffObject.make(TariffKind.LIMIT, 0, "EUR", supplier=2**32)
    with pytest.raises(LocalProtocolError):
        MeterObject.make(seconds=2**32, energy_uj=0, packets=0, octets=0)
    with pytest.raises(LocalProtocolError):
        MeterObject.make(seconds=0, energy_uj=-1, packets=0, octets=0)
