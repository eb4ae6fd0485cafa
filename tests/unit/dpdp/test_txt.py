"""Strings of TXT records: what is a pair, what is left out, what is refused, what is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.dpdp.txt import (
    MAX_HEARD_TXT,
    MAX_STRING,
    Pair,
    is_key,
    join_txt,
    read_txt,
    show_text,
    split_txt,
)
from powertcp.errors import DecodeError, LocalProtocolError
from tests.records import record

KEYS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("strings", "pairs"),
    [
        ((), []),
        (("", ""), []),
        (("a=1", "b"), [("a", b"1"), ("b", None)]),
        (("a=", "b=1=2"), [("a", b""), ("b", b"1=2")]),
        (("A=1", "a=2", "a"), [("a", b"1")]),
        (("b", "B=1"), [("b", None)]),
        (("=1", "="), []),
        ((b"\xe9=1", b"a\x00=1", b"\x7f"), []),
        ((b"a=\xff\x00",), [("a", b"\xff\x00")]),
    ],
)
@pytest.mark.requirement("DPDP-3-01")
def test_what_is_a_pair(strings: tuple[str | bytes, ...], pairs: list[Pair]) -> None:
    assert split_txt(record(*strings)) == pairs


def test_each_pair_has_the_offset_of_its_string() -> None:
    found = read_txt(record("a=1", "", "b", "A=2"))
    assert {key: string.offset for key, string in found.items()} == {"a": 0, "b": 5}


@pytest.mark.requirement("DPDP-3-02")
def test_1300_octets_are_read_and_one_more_is_refused() -> None:
    strings = [f"{at}=".ljust(255, "x") for at in range(5)]
    octets = record(*strings, "y" * 19)
    assert len(octets) == MAX_HEARD_TXT
    assert len(split_txt(octets)) == 6
    with pytest.raises(DecodeError) as caught:
        split_txt(octets + b"\0")
    error = caught.value
    assert (error.code, error.field, error.value, error.limit) == (508, "txt", 1301, 1300)


def test_a_string_beyond_the_end_is_refused_where_it_begins() -> None:
    with pytest.raises(DecodeError) as caught:
        split_txt(b"\x03a=1\x04b=1")
    error = caught.value
    assert (error.code, error.field, error.offset, error.value, error.limit) == (
        502,
        "txt",
        5,
        3,
        4,
    )


@given(st.binary(max_size=1400))
def test_any_octets_are_pairs_or_one_error(octets: bytes) -> None:
    try:
        pairs = split_txt(octets)
    except DecodeError:
        return
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys)
    assert all(is_key(key) and key == key.lower() for key in keys)
    assert split_txt(join_txt(pairs)) == pairs


@given(st.dictionaries(KEYS.map(str.lower).filter(is_key), st.none() | st.binary(max_size=200)))
def test_pairs_and_their_octets(pairs: dict[str, bytes | None]) -> None:
    octets = join_txt(pairs.items())
    if len(octets) <= MAX_HEARD_TXT:
        assert dict(split_txt(octets)) == pairs


def test_a_string_of_255_octets_is_written_and_one_more_is_not() -> None:
    assert len(join_txt([("a", b"x" * 253)])) == 1 + MAX_STRING
    with pytest.raises(LocalProtocolError, match="a: 256 octets in one string, at most 255"):
        join_txt([("a", b"x" * 254)])


@pytest.mark.parametrize("key", ["", "a=b", "é", "a\n", "\x7f"])
def test_what_is_no_key_is_not_written(key: str) -> None:
    assert not is_key(key)
    with pytest.raises(LocalProtocolError, match="a key is printable ASCII"):
        join_txt([(key, None)])


@pytest.mark.requirement("DPDP-7-02")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Bench PSU", "Bench PSU"),
        ("Küche 🔌", "Küche 🔌"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("a\r\nb\t", r"a\x0d\x0ab\x09"),
        ("\x7f\x9b2J", r"\x7f\x9b2J"),
        ("\u202eUSP hcneB\u2028", r"\u202eUSP hcneB\u2028"),
        ("\U000e0041", r"\U000e0041"),
        (b"\x00\xff\xc3\xa4", "\\x00\\xffä"),
        ("\ud800", r"\ud800"),
        ("", ""),
    ],
)
def test_what_is_shown_moves_no_cursor(text: bytes | str, shown: str) -> None:
    assert show_text(text) == shown


@pytest.mark.requirement("DPDP-7-02")
@given(st.text() | st.binary())
def test_all_that_is_shown_is_printable(text: bytes | str) -> None:
    shown = show_text(text)
    assert shown.isprintable()
    shown.encode()
