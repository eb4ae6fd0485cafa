"""Adverts: what is read, what is ignored and counted, what is refused, and what is written."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.dpdp.advert import (
    DOMAIN,
    FREE,
    MAX_CAP_MW,
    MAX_MICRO,
    TYPE_TCP,
    TYPE_UDP,
    Advert,
    Offer,
    Tariff,
    UnknownVersion,
    decode_txt,
    encode_txt,
    fit,
    provider_id,
)
from powertcp.dpdp.txt import MAX_TXT
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.profile import PowerProfile, ProfileType
from tests.records import ADVERTS, BENCH, FULL, METER, OFFER, offers, record

FIVE_VOLT = PowerProfile.make(ProfileType.MINIMUM, 5_000, 0)
PROFILE = OFFER.to_wire().hex()


def with_string(text: str | bytes) -> Advert:
    """Return what the bench supply says with another string, before all others of its key."""
    return decode_txt(record(text, *BENCH))


# ---- names --------------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-2-01")
def test_the_service_types_have_the_syntax_of_the_domain_name_system() -> None:
    assert (DOMAIN, TYPE_TCP.removesuffix(DOMAIN)) == ("local.", "_powertcp._tcp.")
    assert TYPE_UDP.removesuffix(DOMAIN) == "_powertcp._udp."


@pytest.mark.requirement("DPDP-3-05")
def test_an_id_is_the_hash_of_the_meter_key() -> None:
    assert provider_id(bytes(32)).hex() == "6a6799fc55176ec17df4848ed25d7957"
    assert len({provider_id(bytes([octet]) * 32) for octet in range(256)}) == 256


# ---- reading ------------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-3-01", "DPDP-3-04")
def test_the_example_of_the_draft() -> None:
    advert = decode_txt(record(*BENCH))
    assert advert == Advert(
        id=bytes.fromhex("7f31a2c4d5e60718293a4b5c6d7e8f90"),
        offers=(Offer(offer=OFFER, minimum=FIVE_VOLT),),
        cap_mw=36_000,
        source="grid",
        tariff=Tariff(currency="EUR", micro_per_kwh=250_000),
    )
    assert encode_txt(advert) == record(*BENCH)


@pytest.mark.requirement("DPDP-3-01")
@pytest.mark.parametrize("strings", [(), ("txtvers",), ("txtvers=",), ("txtvers=2",), ("txtvers=01",)])  # fmt: skip
def test_another_version_is_unknown_whatever_else_is_said(strings: tuple[str, ...]) -> None:
    for rest in (BENCH[1:], ()):
        with pytest.raises(UnknownVersion) as caught:
            decode_txt(record(*rest, *strings))
        assert (caught.value.code, caught.value.field) == (501, "txtvers")


@pytest.mark.requirement("DPDP-3-01")
def test_the_order_of_keys_and_their_case_are_of_no_matter() -> None:
    odd = [text.replace(text.partition("=")[0], text.partition("=")[0].upper()) for text in BENCH]
    assert decode_txt(record(*reversed(odd), "cap=1", "")) == decode_txt(record(*BENCH))


@pytest.mark.requirement("DPDP-3-03")
@pytest.mark.parametrize("key", ["id", "p1", "cap", "src"])
def test_what_must_be_there_is_named_when_it_is_not(key: str) -> None:
    strings = [text for text in BENCH if not text.startswith(f"{key}=")]
    for planted in ([], [key], [f"{key}="]):
        with pytest.raises(DecodeError) as caught:
            decode_txt(record(*strings, *planted))
        assert not isinstance(caught.value, UnknownVersion)
        assert (caught.value.code, caught.value.field) == (503, key)
        assert caught.value.offset == (len(record(*strings)) if planted else 0)


@pytest.mark.requirement("DPDP-3-03", "DPDP-3-04")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", "7f31"),
        ("id", "7f31a2c4d5e60718293a4b5c6d7e8f9g"),
        ("id", b"\xff" * 32),
        ("p1", PROFILE[:-2]),
        ("p1", PROFILE + "00"),
        ("p1", PROFILE[:-2] + " 0"),
        ("p1", OFFER.with_type(ProfileType.REQUEST).to_wire().hex()),
        ("p1", OFFER.with_type(ProfileType.OFFER, tag=1).to_wire().hex()),
        ("p1", OFFER.with_type(ProfileType.OFFER, lease_s=1).to_wire().hex()),
        ("p1", "00" * 16),
        ("p1", PROFILE + PROFILE),
        ("p1", PROFILE + "ff" * 16),
        ("p1", PROFILE + FIVE_VOLT.with_type(ProfileType.MINIMUM, tag=1).to_wire().hex()),
        ("p1", PROFILE + FIVE_VOLT.with_type(ProfileType.MINIMUM, lease_s=1).to_wire().hex()),
        ("p1", PROFILE + FIVE_VOLT.with_type(ProfileType.MINIMUM, voltage_mv=12_001).to_wire().hex()),
        ("p1", PROFILE + FIVE_VOLT.with_type(ProfileType.MINIMUM, current_ma=3_001).to_wire().hex()),
        ("p1", PROFILE + FIVE_VOLT.with_type(ProfileType.MINIMUM, waveform=1).to_wire().hex()),
        ("cap", "-1"),
        ("cap", "+1"),
        ("cap", "1_0"),
        ("cap", "1 "),
        ("cap", "007"),
        ("cap", "36W"),
        ("cap", "1" * 19),
        ("cap", "٣"),
        ("src", ""),
        ("src", "grid "),
        ("src", "grün"),
        ("src", "s" * 33),
    ],
)  # fmt: skip
def test_what_must_be_there_is_refused_when_it_is_malformed(key: str, value: str | bytes) -> None:
    octets = value.encode() if isinstance(value, str) else value
    with pytest.raises(DecodeError) as caught:
        with_string(key.encode() + b"=" + octets)
    assert (caught.value.code, caught.value.field, caught.value.offset) == (503, key, 0)


@pytest.mark.requirement("DPDP-3-03", "DPDP-3-07")
@pytest.mark.parametrize(
    "text",
    [
        "p2", "p2=00", f"p3={'64' + PROFILE[2:]}", f"p4={PROFILE}{PROFILE}", "tariff", "tariff=",
        "tariff=1", "tariff=eur:1", "tariff=EURO:1", "tariff=EUR:", "tariff=EUR:+1",
        "tariff=EUR:-0", "tariff=EUR:01", "tariff=EUR:1.5", f"tariff=EUR:{MAX_MICRO + 1}",
        f"tariff=EUR:{-MAX_MICRO - 1}", "vk", "vk=", f"vk={'A' * 42}B", f"vk={'A' * 44}",
        f"vk={'A' * 43}=", f"vk={'+' * 42}A", f"vk={'*' * 43}", "vk=é", "seal", "seal=REQ", "seal=",
        "grp", "grp=10.0.0.7", "grp=fe80::1", "grp=ff02::1%eth0", "grp=239.255.80", "grp=é",
        "feed", f"feed={'0' * 31}", "hot", "hot=all", "soc", "soc=101", "soc=-1", "soc=7.5", "exp",
        "exp=-1", f"exp={10**12}", "sig", f"sig={'A' * 85}", f"sig={'A' * 85}B", f"loc={'x' * 33}",
        b"loc=\xff", "loc=a\x1bb", "loc=\u202e", b"src2=grid\xff"[:0] + b"seal=\xff",
    ],
)  # fmt: skip
def test_what_may_be_there_is_ignored_and_counted_when_it_is_malformed(text: str | bytes) -> None:
    plain = BENCH[:-1] if b"tariff" in record(text) else BENCH
    advert = decode_txt(record(*plain, text))
    assert advert.ignored == 1
    assert advert == decode_txt(record(*plain))


@pytest.mark.requirement("DPDP-3-03")
def test_ignored_keys_add_up_and_the_other_offers_count() -> None:
    advert = with_string("p2=00")
    assert (len(advert.offers), advert.ignored) == (1, 1)
    advert = decode_txt(record(*BENCH, "p2=00", f"p3={PROFILE}", "seal=no", "soc=x"))
    assert advert.offers[1:] == (Offer(offer=OFFER),)
    assert advert.ignored == 3


@pytest.mark.requirement("DPDP-3-01")
def test_unknown_keys_are_kept() -> None:
    advert = decode_txt(record(*BENCH, "p5=1", "note", b"x=\xff\n"))
    assert advert.others == (("p5", b"1"), ("note", None), ("x", b"\xff\n"))
    assert advert.ignored == 0


def test_hexadecimal_digits_of_either_case_are_read() -> None:
    upper = with_string(f"id={BENCH[1][3:].upper()}")
    assert upper == decode_txt(record(*BENCH))


def test_a_group_is_kept_in_its_one_form() -> None:
    assert with_string("grp=FF15:0::5054").group == "ff15::5054"


# ---- tariffs ------------------------------------------------------------------------------------


@given(
    st.just(FREE)
    | st.builds(
        Tariff,
        currency=st.sampled_from(["EUR", "XXX"]),
        micro_per_kwh=st.integers(-MAX_MICRO, MAX_MICRO),
    )
)
def test_a_tariff_and_its_text(tariff: Tariff) -> None:
    assert Tariff.parse(tariff.format()) == tariff


def test_a_wrong_tariff_is_told_by_example() -> None:
    with pytest.raises(ValueError, match='EUR:250000, got "cheap"'):
        Tariff.parse("cheap")


# ---- writing ------------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-3-07")
@given(ADVERTS)
def test_an_advert_and_its_record(drawn: Advert) -> None:
    try:
        octets = encode_txt(drawn)
    except LocalProtocolError as error:
        assert "octets, at most 400" in str(error)  # noqa: PT017
        return
    assert len(octets) <= MAX_TXT
    found = decode_txt(octets)
    assert found == fit(drawn)
    assert found.ignored == 0
    assert encode_txt(found) == octets


@pytest.mark.requirement("DPDP-3-04")
@given(offers())
def test_an_offer_is_the_octets_of_the_handshake(drawn: Offer) -> None:
    octets = encode_txt(replace(FULL, offers=(drawn,)))
    least = b"" if drawn.minimum is None else drawn.minimum.to_wire()
    assert b"=" + (drawn.offer.to_wire() + least).hex().encode() in octets


@pytest.mark.requirement("DPDP-3-01", "DPDP-3-02")
def test_every_key_is_written_in_the_order_of_the_table() -> None:
    octets = encode_txt(replace(FULL, expires_s=1, group="", feed=None))
    assert octets == record(
        "txtvers=1", f"id={provider_id(METER.public).hex()}", f"p1={PROFILE}", "cap=36000",
        "src=battery", "tariff=EUR:-1", "vk=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "seal=req",
        "hot=ticket", "soc=100", "loc=hall Ä", "exp=1", "note=x", "spare",
    )  # fmt: skip


@pytest.mark.requirement("DPDP-3-06")
def test_the_last_offers_are_left_out_above_400_octets() -> None:
    said = [PowerProfile.make(ProfileType.OFFER, volts * 1_000, 1_000) for volts in range(1, 5)]
    base = replace(FULL, offers=tuple(Offer(offer=one) for one in said), others=())
    sizes = []
    for width in range(1, 250, 3):
        advert = replace(base, others=(("x", b"x" * width),))
        left = fit(advert).offers
        assert left == base.offers[: len(left)]
        octets = encode_txt(advert) if width < 100 else b""
        assert len(octets) <= MAX_TXT
        sizes.append(len(left))
    assert sizes == sorted(sizes, reverse=True)
    assert set(sizes) == {1, 2, 3, 4}


@pytest.mark.requirement("DPDP-3-06")
def test_an_offer_stays_that_just_fits() -> None:
    base = replace(FULL, offers=(Offer(offer=OFFER),) * 4, others=(("x", b""),), loc="")
    room = MAX_TXT - len(encode_txt(replace(base, offers=base.offers[:3])))
    just = replace(base, others=(("x", b"x" * room),))
    assert (len(encode_txt(just)), len(fit(just).offers)) == (MAX_TXT, 3)
    over = replace(base, others=(("x", b"x" * (room + 1)),))
    assert len(fit(over).offers) == 2


@pytest.mark.requirement("DPDP-3-02")
def test_a_record_above_400_octets_with_one_offer_is_not_written() -> None:
    with pytest.raises(LocalProtocolError, match=r"an advert of 5\d\d octets, at most 400"):
        encode_txt(replace(FULL, others=(("x", b"x" * 250),)))


def test_offers_are_said_as_they_are_rounded() -> None:
    fine = PowerProfile.make(ProfileType.OFFER, 20_000_001, 1_000)
    low = PowerProfile.make(ProfileType.MINIMUM, 20_000_000, 1_000)
    found = decode_txt(encode_txt(replace(FULL, offers=(Offer(offer=fine, minimum=low),))))
    assert found.offers[0].offer.voltage_mv == 20_000_000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": b""}, "no valid id"),
        ({"offers": ()}, "no valid p1"),
        ({"offers": (Offer(offer=FIVE_VOLT),)}, "no valid p1"),
        ({"offers": (Offer(offer=OFFER), Offer(offer=FIVE_VOLT))}, "offers cannot be said"),
        ({"cap_mw": -1}, "no valid cap"),
        ({"cap_mw": MAX_CAP_MW + 1}, "no valid cap"),
        ({"source": ""}, "no valid src"),
        ({"source": "\ud800"}, "no valid src"),
        ({"tariff": Tariff(currency="euro", micro_per_kwh=1)}, "tariff cannot be said"),
        ({"tariff": Tariff(currency="", micro_per_kwh=1)}, "tariff cannot be said"),
        ({"exchange_key": b"short"}, "exchange_key cannot be said"),
        ({"seal": "maybe"}, "seal cannot be said: 'maybe'"),
        ({"group": "10.0.0.7"}, "group cannot be said"),
        ({"feed": b"short"}, "feed cannot be said"),
        ({"hot": "all"}, "hot cannot be said"),
        ({"soc": 101}, "soc cannot be said: 101"),
        ({"loc": "x" * 33}, "loc cannot be said"),
        ({"loc": "\ud800"}, "loc cannot be said"),
        ({"loc": "a\nb"}, "loc cannot be said"),
        ({"expires_s": -1}, "expires_s cannot be said"),
        ({"signature": b"short"}, "signature cannot be said"),
        ({"others": (("cap", b"1"),)}, "others cannot be said"),
        ({"others": (("x", b"1"), ("x", b"2"))}, "others cannot be said"),
        ({"others": (("upper Case", b"1"),)}, "a key is up to 9"),
        ({"others": (("Upper", b"1"),)}, "a key is up to 9"),
        ({"others": (("a b", b"1"),)}, "a key is up to 9"),
        ({"others": (("ten456789x", b"1"),)}, "a key is up to 9"),
        ({"others": (("é", b"1"),)}, "a key is printable ASCII"),
        ({"others": (("x", b"\n"),)}, "x: a value is printable ASCII"),
    ],
)
def test_what_nobody_could_read_is_not_written(changes: dict[str, object], said: str) -> None:
    with pytest.raises(LocalProtocolError, match=said):
        encode_txt(replace(FULL, **changes))  # type: ignore[arg-type]


def test_a_fifth_offer_is_not_said() -> None:
    five = replace(FULL, offers=(Offer(offer=OFFER),) * 5, others=(), exchange_key=None)
    assert len(fit(five).offers) == 4
