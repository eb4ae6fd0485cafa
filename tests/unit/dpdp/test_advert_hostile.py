"""TXT records by whoever is on the link: a decoder gives an advert or one error, and nothing else."""

import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.crypto import SIGNATURE_OCTETS
from powertcp.dpdp.advert import MAX_OFFERS, MAX_SOURCE, Advert, decode_txt, encode_txt
from powertcp.dpdp.txt import MAX_HEARD_TXT, show_text, split_txt
from powertcp.errors import DecodeError, LocalProtocolError
from tests.full import size
from tests.records import ADVERTS, BENCH, FULL, record

WHOLE = encode_txt(FULL)
KEYS = ("txtvers", "id", "p1", "p2", "p3", "p4", "cap", "src", "tariff", "vk", "seal", "grp", "feed",
        "hot", "soc", "loc", "exp", "sig", "zz")  # fmt: skip
MUTATED = size(10_000, 100_000)


def read(octets: bytes) -> Advert | None:
    """Return the advert, which keeps all it promises, or None for the one error."""
    error = None
    try:
        advert = decode_txt(octets)
    except DecodeError as caught:
        error = caught
    if error is not None:
        assert error.field in ("txt", "txtvers", "id", "p1", "cap", "src")
        assert 501 <= error.code <= 508
        assert 0 <= error.offset <= len(octets)
        assert str(error).isprintable()
        return None
    assert len(advert.id) == 16
    assert 1 <= len(advert.offers) <= MAX_OFFERS
    assert 0 <= advert.cap_mw < 10**18
    assert 1 <= len(advert.source) <= MAX_SOURCE
    assert advert.exchange_key is None or len(advert.exchange_key) == 32
    assert advert.signature is None or len(advert.signature) == SIGNATURE_OCTETS
    assert advert.loc.isprintable()
    assert len(advert.others) + advert.ignored + 4 <= len(octets)
    assert show_text(repr(advert)).isprintable()
    return advert


def read_all(records: Iterable[bytes]) -> tuple[int, int]:
    """Read every record; return how many are adverts and how many are none."""
    good = bad = 0
    for octets in records:
        if read(octets) is None:
            bad += 1
        else:
            good += 1
    return good, bad


@pytest.mark.requirement("DPDP-3-03")
def test_every_cut_is_an_advert_or_the_error() -> None:
    good, bad = read_all(WHOLE[:at] for at in range(len(WHOLE)))
    assert good + bad == len(WHOLE)
    # whole strings were cut off the end
    assert good == len(split_txt(WHOLE)) - 5


@pytest.mark.requirement("DPDP-3-03")
def test_every_flipped_bit_is_an_advert_or_the_error() -> None:
    flipped = (
        WHOLE[:at] + bytes([WHOLE[at] ^ 1 << bit]) + WHOLE[at + 1 :]
        for at in range(len(WHOLE))
        for bit in range(8)
    )
    good, bad = read_all(flipped)
    assert good + bad == 8 * len(WHOLE)
    assert good > 1_000
    assert bad > 300


@pytest.mark.requirement("DPDP-3-03")
@given(st.binary(max_size=MAX_HEARD_TXT + 100))
def test_any_octets(octets: bytes) -> None:
    read(octets)


@pytest.mark.requirement("DPDP-3-03")
@given(
    st.lists(
        st.tuples(
            st.sampled_from(KEYS),
            st.none() | st.binary(max_size=100) | st.text("0123456789abcdefEUR:-", max_size=100),
        ),
        max_size=12,
    )
)
def test_any_values_of_our_keys(pairs: list[tuple[str, bytes | str | None]]) -> None:
    strings: list[bytes | str] = []
    for key, value in pairs:
        octets = value.encode() if isinstance(value, str) else value
        strings.append(key.encode() + (b"" if octets is None else b"=" + octets))
    read(record(*strings))
    read(record(*strings, *BENCH))
    advert = read(record(*BENCH[:5], *strings))
    assert advert is not None or len(record(*BENCH[:5], *strings)) > MAX_HEARD_TXT


def mutated(seed: int, count: int) -> Iterator[bytes]:
    """Yield records made from good ones by what goes wrong, or is made to."""
    dice = random.Random(seed)
    sources = [WHOLE, record(*BENCH)]
    for _ in range(count):
        octets = bytearray(dice.choice(sources))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(octets) or 1)
            match dice.randrange(7):
                case 0:
                    octets[at : at + 1] = dice.randbytes(1)
                case 1:
                    del octets[at : at + dice.randint(1, 40)]
                case 2:
                    octets[at:at] = dice.randbytes(dice.randint(1, 40))
                case 3:
                    octets[at:at] = octets[: dice.randint(1, len(octets) or 1)]
                case 4:
                    octets[at:at] = bytes([dice.choice((0, 1, 0x3D, 0x7F, 0xFF))])
                case 5:
                    text = (
                        f"{dice.choice(KEYS)}={dice.choice(('', '0', '-1', '9' * 99, 'ff' * 40))}"
                    )
                    octets[:0] = record(text)
                case _:
                    strings = [bytes(f"{k}={v!r}", "ascii") for k, v in split_txt(WHOLE)]
                    dice.shuffle(strings)
                    octets += record(*strings[:3])
        yield bytes(octets[: MAX_HEARD_TXT + 8])


@pytest.mark.requirement("DPDP-3-03")
def test_mutated_records_are_adverts_or_the_error() -> None:
    good, bad = read_all(mutated(20_070, MUTATED))
    assert good + bad == MUTATED
    assert good > MUTATED // 50
    assert bad > MUTATED // 2


@given(ADVERTS, st.data())
def test_what_was_read_and_is_written_again_is_the_same(drawn: Advert, data: st.DataObject) -> None:
    try:
        octets = encode_txt(drawn)
    except LocalProtocolError:
        return
    at = data.draw(st.integers(0, len(octets) - 1))
    changed = octets[:at] + data.draw(st.binary(max_size=3)) + octets[at + 1 :]
    advert = read(changed)
    if advert is None:
        return
    try:
        again = encode_txt(advert)
    except LocalProtocolError:
        return
    assert decode_txt(again) == advert
