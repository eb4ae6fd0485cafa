"""Places in texts: a fault names the line and the column an editor shows."""

import pytest

from powertcp.errors import Fault, InvalidText
from powertcp.vppn.faults import Token, WordError, check_name, decode_lines, shown, tokens


def test_tokens_know_their_columns_and_end_at_a_comment() -> None:
    assert tokens("  a\tbb   c#d # e f") == [Token("a", 3), Token("bb", 5), Token("c#d", 10)]
    assert tokens("") == tokens("# all") == []


def test_lines_are_cut_at_lf_alone() -> None:
    assert decode_lines(b"a\tb\nc", "f", 5) == ["a\tb", "c"]
    assert decode_lines(b"a\n", "f", 2) == ["a", ""]


@pytest.mark.parametrize(
    ("octets", "line", "column", "said"),
    [
        (b"123456789", 1, 1, "9 octets, at most 8"),
        (b"a\n\xc3\xa9b\xff", 2, 3, "it is not UTF-8"),
        (b"\xff", 1, 1, "it is not UTF-8"),
        (b"ab\r\nc", 1, 3, "U+000D is no printable sign; lines end with LF alone"),
        (b"a\nb\0", 2, 2, "U+0000"),
        ("a\u202e".encode(), 1, 2, "U+202E"),
    ],
)
def test_octets_that_are_no_text_have_a_place(
    octets: bytes, line: int, column: int, said: str
) -> None:
    with pytest.raises(InvalidText) as caught:
        decode_lines(octets, "watts", 8)
    (fault,) = caught.value.faults
    assert (fault.line, fault.column) == (line, column)
    assert said in fault.text


def test_an_error_of_many_faults_is_one_line() -> None:
    faults = [Fault(3, 5, "no"), Fault(4, 1, "nor this")]
    assert str(InvalidText("watts", faults)) == "watts: line 3, column 5: no (and 1 more)"
    assert str(InvalidText("watts", faults[:1])) == "watts: line 3, column 5: no"


def test_a_word_that_cannot_stand_there_has_a_column() -> None:
    error = WordError(7, "not here")
    assert (error.column, str(error)) == (7, "not here")


def test_words_are_shown_in_part() -> None:
    assert shown("x" * 40) == f'"{"x" * 40}"'
    assert shown("x" * 41) == f'"{"x" * 40}.."'


@pytest.mark.parametrize("name", ["a", "alice@lamp", "é" * 64])
def test_names(name: str) -> None:
    assert check_name(name, "a name") == name


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a#b", "a,b", "a\tb", "x" * 65, "\u202e"])
def test_no_names(name: str) -> None:
    with pytest.raises(ValueError, match="a name has 1 to 64 signs"):
        check_name(name, "a name")
