"""Signed adverts: whoever changes anything that is said, or copies it elsewhere, is found."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.crypto import SigningKey
from powertcp.dpdp.advert import TYPE_TCP, TYPE_UDP, Offer, decode_txt, encode_txt, provider_id
from powertcp.dpdp.entry import Signed
from powertcp.dpdp.signing import MAX_LIFE_S, MAX_SKEW_S, sign, signing_input, verify
from powertcp.dpdp.txt import Pair, join_txt, split_txt
from powertcp.errors import DecodeError, LocalProtocolError
from tests.records import FULL, METER, OFFER, record

NAME, PORT, NOW_S = "Bench PSU", 3251, 1_795_305_600
END_S = NOW_S + 3_600
PLAIN = replace(FULL, group="", feed=None, offers=FULL.offers * 2)
ADVERT = sign(PLAIN, NAME, TYPE_TCP, PORT, METER, END_S)
TXT = encode_txt(ADVERT)
PAIRS = split_txt(TXT)


def verdict(txt: bytes = TXT, **changes: object) -> Signed:
    """Return the verdict on a record, by default that of a good one."""
    known: dict[str, object] = {
        "instance": NAME,
        "kind": TYPE_TCP,
        "port": PORT,
        "meter_key": METER.public,
        "now_s": NOW_S,
    }
    return verify(txt, **(known | changes))  # type: ignore[arg-type]


def with_pair(key: str, value: bytes | None) -> bytes:
    """Return the record with another value."""
    return join_txt([(name, value if name == key else old) for name, old in PAIRS])


def signed_anew(pairs: list[Pair], key: SigningKey = METER, name: str = NAME) -> bytes:
    """Return a record of these pairs with a good signature: by a provider that writes nonsense."""
    pairs = [pair for pair in pairs if pair[0] != "sig"]
    lines = b"".join(b"%s=%s\n" % (name.encode(), value or b"") for name, value in sorted(pairs))
    text = f"powertcp dpdp 1\n{name}.{TYPE_TCP}\n{PORT}\n".encode() + lines
    holder = replace(ADVERT, offers=ADVERT.offers[:1], signature=key.sign(text))
    return join_txt([*pairs, *(pair for pair in split_txt(encode_txt(holder)) if pair[0] == "sig")])


@pytest.mark.requirement("DPDP-7-03")
def test_the_lines_that_are_signed() -> None:
    txt = record("b=2", "A=1", "sig=x", "spare", "a=9", "=no key", "c=")
    assert signing_input("Küche", TYPE_UDP, 7, txt).decode() == (
        "powertcp dpdp 1\nKüche._powertcp._udp.local.\n7\na=1\nb=2\nc=\nspare\n"
    )


@pytest.mark.requirement("DPDP-7-03")
def test_a_signed_advert_says_what_it_said_and_is_good() -> None:
    assert replace(ADVERT, expires_s=None, signature=None) == PLAIN
    assert ADVERT.expires_s == END_S
    assert decode_txt(TXT) == ADVERT
    assert verdict() is Signed.GOOD
    assert sign(PLAIN, NAME, TYPE_TCP, PORT, METER, END_S) == ADVERT
    assert sign(ADVERT, NAME, TYPE_TCP, PORT, METER, END_S) == ADVERT


@pytest.mark.requirement("DPDP-3-06", "DPDP-7-03")
def test_what_is_left_out_for_want_of_room_is_not_signed() -> None:
    four = replace(PLAIN, offers=(Offer(offer=OFFER),) * 4, others=(("x", b"x" * 40),))
    advert = sign(four, NAME, TYPE_TCP, PORT, METER, END_S)
    assert len(advert.offers) < 4
    assert verdict(encode_txt(advert)) is Signed.GOOD


def test_no_signature_and_no_key() -> None:
    assert verdict(encode_txt(PLAIN)) is Signed.NONE
    assert verdict(encode_txt(PLAIN), meter_key=None) is Signed.NONE
    assert verdict(meter_key=None) is Signed.UNKNOWN


@pytest.mark.requirement("DPDP-7-03")
@pytest.mark.parametrize(
    "changes",
    [
        {"instance": "Bench PSU (2)"},
        {"instance": "bench psu"},
        {"instance": f"{NAME}\n"},
        {"instance": "\ud800"},
        {"kind": TYPE_UDP},
        {"port": 3252},
        {"meter_key": SigningKey(bytes(32)).public},
        {"meter_key": b""},
        {"now_s": END_S},
        {"now_s": END_S - MAX_LIFE_S - MAX_SKEW_S - 1},
    ],
)
def test_elsewhere_by_another_key_or_at_another_time_it_is_bad(changes: dict[str, object]) -> None:
    assert verdict(TXT, **changes) is Signed.BAD


@pytest.mark.requirement("DPDP-7-03")
def test_it_is_good_from_a_day_before_its_end_to_the_second_before() -> None:
    assert verdict(now_s=END_S - 1) is Signed.GOOD
    assert verdict(now_s=END_S - MAX_LIFE_S - MAX_SKEW_S) is Signed.GOOD


@pytest.mark.requirement("DPDP-7-03")
def test_every_altered_octet_is_found() -> None:
    whole = {}
    for at in range(len(TXT)):
        for bit in range(8):
            octets = TXT[:at] + bytes([TXT[at] ^ 1 << bit]) + TXT[at + 1 :]
            whole[at, bit] = verdict(octets)
    # the case of keys is of no matter, and without its key there is no signature
    letter = {at for at in range(len(TXT)) if TXT[at : at + 1].isalpha()}
    good = {(at, bit) for (at, bit), said in whole.items() if said is Signed.GOOD}
    assert len(good) == sum(len(key.encode()) - sum(map(str.isdigit, key)) for key, _ in PAIRS)
    assert all(bit == 5 and at in letter for at, bit in good)
    assert set(whole.values()) == {Signed.GOOD, Signed.BAD, Signed.NONE}
    for (at, bit), said in whole.items():
        octets = TXT[:at] + bytes([TXT[at] ^ 1 << bit]) + TXT[at + 1 :]
        if said is Signed.NONE:
            assert "sig" not in dict(split_txt(octets))
        if said is Signed.GOOD:
            assert decode_txt(octets) == ADVERT


@pytest.mark.requirement("DPDP-7-03")
@pytest.mark.parametrize("key", [key for key, _ in PAIRS if key != "sig"])
def test_every_changed_missing_or_added_pair_is_found(key: str) -> None:
    assert verdict(with_pair(key, b"1x")) is Signed.BAD
    assert verdict(with_pair(key, None if dict(PAIRS)[key] else b"")) is Signed.BAD
    assert verdict(join_txt(pair for pair in PAIRS if pair[0] != key)) is Signed.BAD
    assert verdict(join_txt([*PAIRS, ("new", b"1")])) is Signed.BAD


@pytest.mark.requirement("DPDP-7-03")
def test_the_order_of_pairs_is_not_signed() -> None:
    assert verdict(join_txt(reversed(PAIRS))) is Signed.GOOD


@pytest.mark.requirement("DPDP-7-03")
def test_a_pair_cannot_hide_in_the_value_of_another() -> None:
    pairs = {key: value for key, value in PAIRS if key != "spare"}
    honest = signed_anew(list(pairs.items()))
    assert verdict(honest) is Signed.GOOD
    # the same lines, and so the same signature, but nobody sees that sealing is required
    hidden = dict(split_txt(honest))
    hidden["p2"] = (hidden["p2"] or b"") + b"\nseal=" + (hidden.pop("seal") or b"")
    octets = join_txt(hidden.items())
    assert signed_anew(list(hidden.items())) == octets
    assert decode_txt(octets).seal is None
    assert verdict(octets) is Signed.BAD
    with pytest.raises(DecodeError) as caught:
        signing_input(NAME, TYPE_TCP, PORT, octets)
    assert (caught.value.code, caught.value.field) == (503, "p2")
    assert octets[caught.value.offset :][1:3] == b"p2"


@pytest.mark.requirement("DPDP-7-03")
def test_a_name_of_two_lines_is_bad_though_they_are_signed() -> None:
    name = f"{NAME}\nx"
    octets = signed_anew([pair for pair in PAIRS if pair[0] != "spare"], name=name)
    assert verdict(octets, instance=name) is Signed.BAD
    with pytest.raises(DecodeError) as caught:
        signing_input(name, TYPE_TCP, PORT, octets)
    assert (caught.value.code, caught.value.field) == (503, "instance")


@pytest.mark.parametrize("key", ["sig", "exp"])
@pytest.mark.parametrize("value", [None, b"", b"x"])
def test_a_signature_or_an_end_that_is_none_is_bad(key: str, value: bytes | None) -> None:
    pairs = [(name, value if name == key else old) for name, old in PAIRS if name != "spare"]
    octets = join_txt(pairs) if key == "sig" else signed_anew(pairs)
    assert verdict(octets) is Signed.BAD


def test_the_key_of_another_id_is_bad_though_it_signed_every_line() -> None:
    thief = SigningKey(bytes([9]) * 32)
    pairs = [pair for pair in PAIRS if pair[0] != "spare"]
    assert verdict(signed_anew(pairs, thief), meter_key=thief.public) is Signed.BAD


@pytest.mark.parametrize("octets", [b"", b"\x09", b"\x05sig=x", TXT[:-1], bytes(1301)])
def test_what_is_no_advert_is_never_good(octets: bytes) -> None:
    assert verdict(octets) in (Signed.BAD, Signed.NONE)


@given(st.binary(max_size=1400), st.text(max_size=70), st.integers(), st.binary(max_size=33))
def test_verify_never_raises(octets: bytes, name: str, number: int, key: bytes) -> None:
    for txt in (octets, octets + TXT):
        said = verify(txt, name, TYPE_TCP, number, key, number)
        assert said is not Signed.GOOD


def test_another_key_cannot_sign() -> None:
    other = SigningKey(bytes(32))
    with pytest.raises(LocalProtocolError, match=f"not that of provider {PLAIN.id.hex()}"):
        sign(PLAIN, NAME, TYPE_TCP, PORT, other, END_S)
    moved = replace(PLAIN, id=provider_id(other.public))
    assert sign(moved, NAME, TYPE_TCP, PORT, other, END_S).id == moved.id


def test_a_name_of_two_lines_is_not_signed() -> None:
    with pytest.raises(LocalProtocolError, match="a name of one line"):
        sign(PLAIN, "a\nb", TYPE_TCP, PORT, METER, END_S)
