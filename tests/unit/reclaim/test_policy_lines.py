"""From octets to words: statements, where each word stands, and lines that are none."""

import pytest

from powertcp.reclaim.policy_lines import (
    MAX_FAULTS,
    MAX_OCTETS,
    MAX_WORD,
    Fault,
    PolicyError,
    Word,
    WrongWord,
    parsed,
    statements,
)

A = Word("a", 1, 1)


def words(text: str) -> list[list[tuple[str, int, int]]]:
    found, faults = statements(text.encode(), "p")
    assert faults == []
    return [[word[:3] for word in one.words] for one in found]


def faults(text: str) -> list[tuple[int, int, str]]:
    return [(fault.line, fault.column, fault.found) for fault in statements(text.encode(), "p")[1]]


def test_words_stand_where_they_begin() -> None:
    assert words("a  bc\td\n\n # no\nx # y\n") == [
        [("a", 1, 1), ("bc", 1, 4), ("d", 1, 7)],
        [("x", 4, 1)],
    ]
    assert words("") == words("#") == words(" \t\n") == []
    assert words("a#b") == [[("a#b", 1, 1)]]


def test_a_line_goes_on_behind_a_backslash() -> None:
    assert words("a \\\n\\\n  b\nc") == [[("a", 1, 1), ("b", 3, 3)], [("c", 4, 1)]]
    assert words("a \\\n# b\nc") == [[("a", 1, 1)], [("c", 3, 1)]]
    assert words("# a \\\nb") == [[("b", 2, 1)]]


def test_a_text_in_quotation_marks_is_a_word() -> None:
    (found,), _ = statements(b'a "b # c" ""', "p")
    assert found.words[1] == Word("b # c", 1, 3, is_quoted=True)
    assert found.words[2].text == ""
    assert found.text == 'a "b # c" ""'
    assert found.end.column == 13
    assert found.next == "a"
    found.take()
    assert (found.next, found.place.text, found.is_over) == ("", "b # c", False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\nb\\c\n", [(2, 2, "\\")]),
        ("a \\ \n", [(1, 3, "\\")]),
        ('a "b\n', [(1, 3, '"b')]),
        ('a b"c\n', [(1, 4, '"')]),
        ('a "b"c\n', [(1, 6, "c")]),
        ("a \\", [(1, 1, "")]),
        ("a\\b \\\nc\nd\\e", [(1, 2, "\\"), (3, 2, "\\")]),
        ("a\\b \\", [(1, 2, "\\"), (1, 1, "")]),
        ("x" * (MAX_WORD + 1), [(1, 1, "x" * MAX_WORD)]),
    ],
)
def test_a_line_that_is_none(text: str, found: list[tuple[int, int, str]]) -> None:
    assert faults(text) == found
    assert faults("x" * MAX_WORD) == []


def test_faults_end() -> None:
    assert len(faults('a"\n' * 100)) == MAX_FAULTS


@pytest.mark.parametrize(
    ("octets", "place"),
    [(b"a\nb\xffc", (2, 2)), (b"a\r\n", (1, 2)), (b"#" * (MAX_OCTETS + 1), (1, 1))],
)
def test_octets_that_are_no_text(octets: bytes, place: tuple[int, int]) -> None:
    with pytest.raises(PolicyError) as caught:
        statements(octets, "p")
    (fault,) = caught.value.faults
    assert (fault.line, fault.column) == place
    assert fault.expected


def test_a_file_may_be_as_long_as_it_may() -> None:
    assert words("#" * MAX_OCTETS) == []


# ---- taking words -------------------------------------------------------------------------------


def test_words_are_taken_one_after_another() -> None:
    (found,), _ = statements(b"a b 7", "p")
    assert found.choose("letter", ("a", "b")).text == "a"
    assert found.take("b").text == "b"
    assert found.value("a number", int) == 7
    found.finish()
    with pytest.raises(WrongWord) as caught:
        found.take("x", "y")
    assert caught.value.fault == Fault(1, 6, "the line ends, expected x, y", "", ("x", "y"))


def test_what_cannot_stand_there_is_a_fault() -> None:
    (found,), _ = statements('"a" lamb x \u0661'.encode(), "p")
    with pytest.raises(WrongWord, match='"a" is no letter in quotation marks; expected a'):
        found.choose("letter", ("a",))
    with pytest.raises(WrongWord, match='"lamb" is no load, did you mean "lamp"'):
        found.choose("load", ("lamp", "hum"))
    with pytest.raises(WrongWord, match="expected a number"):
        found.value("a number", int)
    with pytest.raises(WrongWord, match="a number has letters of ASCII only"):
        found.value("a number", int)
    found.at = 1
    with pytest.raises(WrongWord, match=r'did you mean "lamp".*expected lamp, the end of the line'):
        found.finish("lamp")
    assert parsed(A, "a letter", str) == "a"


def test_an_error_names_the_first_fault_and_how_many_follow() -> None:
    many = [Fault(line, 1, "bad", "x", ("y",)) for line in range(40, 0, -1)]
    error = PolicyError("p", many)
    assert [fault.line for fault in error.faults] == list(range(1, MAX_FAULTS + 1))
    assert str(error) == f"p: line 1, column 1: bad (and {MAX_FAULTS - 1} more)"
    assert str(PolicyError("p", many[-1:])) == "p: line 1, column 1: bad"
