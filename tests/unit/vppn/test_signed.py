"""Signed texts line by line: order, places of faults, the end."""

import pytest

from powertcp.errors import InvalidText
from powertcp.vppn.identity import Algorithm, SecretKey
from powertcp.vppn.signed import (
    SignedText,
    parse_issuer,
    parse_serial,
    parse_version,
    sign_lines,
)

KEY = SecretKey(Algorithm.ED25519, bytes([7]) * 32)
PREFIX = b"powertcp test"


def place(caught: pytest.ExceptionInfo[InvalidText]) -> tuple[int, int]:
    return caught.value.faults[0][:2]


def opened(octets: bytes) -> SignedText:
    text = SignedText(octets, "f", 1000)
    assert (text.take("a", str, "X"), text.line) == ("1 2", 1)
    return text


def test_what_is_signed_is_read() -> None:
    octets = sign_lines(["a 1 2"], KEY, PREFIX)
    opened(octets).finish(KEY.public, PREFIX)


@pytest.mark.requirement("VPPN-5-04", "VPPN-5-05")
@pytest.mark.parametrize("prefix", [b"", b"powertcp cert"])
def test_a_signature_is_for_one_kind_of_text(prefix: bytes) -> None:
    octets = sign_lines(["a 1 2"], KEY, PREFIX)
    with pytest.raises(InvalidText, match="the signature is not that of ed25519:") as caught:
        opened(octets).finish(KEY.public, prefix)
    assert place(caught) == (2, 11)


@pytest.mark.requirement("VPPN-5-04", "VPPN-5-05")
@pytest.mark.parametrize("after", [b"\n", b"b 1\n", b" "])
def test_nothing_follows_the_signature(after: bytes) -> None:
    octets = sign_lines(["a 1 2"], KEY, PREFIX)
    with pytest.raises(InvalidText):
        opened(octets + after).finish(KEY.public, PREFIX)
    with pytest.raises(InvalidText, match="is the last one and ends with LF") as caught:
        opened(octets[:-1]).finish(KEY.public, PREFIX)
    assert place(caught) == (2, 99)


def test_a_text_that_ends_early_has_a_place() -> None:
    text = opened(b"a 1 2")
    assert not text.is_next("b")
    for line in (2, 3):
        with pytest.raises(InvalidText, match='this line is "b X", got ""') as caught:
            text.take("b", str, "X")
        assert place(caught) == (line, 1)


def test_a_wrong_value_has_a_column() -> None:
    text = SignedText(b"serial 01\n", "f", 100)
    assert text.is_next("serial")
    with pytest.raises(InvalidText, match="serial: a serial is a number") as caught:
        text.take("serial", parse_serial, "NUMBER")
    assert place(caught) == (1, 8)


def test_serials() -> None:
    assert parse_serial("18446744073709551615") == (1 << 64) - 1
    for text in ("0", "01", "", "-1", "1.0", "\u0661", "18446744073709551616", "9" * 5000):
        with pytest.raises(ValueError, match=r"a serial is a number from 1 to 2\^64-1"):
            parse_serial(text)


def test_versions_and_issuers() -> None:
    assert parse_version("1") == 1
    with pytest.raises(ValueError, match='this version reads 1, got "2"'):
        parse_version("2")
    assert parse_issuer(str(KEY.public)) == KEY.public
    with pytest.raises(ValueError, match="a key is ed25519:BASE64"):
        parse_issuer("x25519:")
