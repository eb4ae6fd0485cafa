"""The words of a policy: statements, one a line, and what is wrong with one by line and column."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn, TypeVar

from powertcp.errors import ConfigError, InvalidText, nearest
from powertcp.vppn.faults import decode_lines, shown

# some 20,000 lines; read whole before anything is known about it
MAX_OCTETS: Final = 1 << 20
# what is told of a broken file at once
MAX_FAULTS: Final = 20
# a path, an announcement
MAX_WORD: Final = 1024
_RUN: Final = re.compile(r"[^ \t]+")

ValueT = TypeVar("ValueT")


class Fault(NamedTuple):
    """One fault; lines and columns count from 1, columns in characters.

    found: the word that cannot stand there, "" at the end of a line. expected: what can.
    """

    line: int
    column: int
    text: str
    found: str
    expected: tuple[str, ...]


class PolicyError(ConfigError):
    """A policy that is not valid, with its first MAX_FAULTS faults; nothing of it holds."""

    def __init__(self, file: str, faults: Sequence[Fault]) -> None:
        ordered = sorted(faults)[:MAX_FAULTS]
        first = ordered[0]
        more = f" (and {len(ordered) - 1} more)" if len(ordered) > 1 else ""
        place = f"line {first.line}, column {first.column}"
        super().__init__(file, place, f"{first.text}{more}")
        self.faults = tuple(ordered)


class WrongWord(Exception):
    """A word that cannot stand where it stands; it never leaves the parser."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class Word(NamedTuple):
    """A word and where it begins. is_quoted: it stood in quotation marks, which are gone."""

    text: str
    line: int
    column: int
    is_quoted: bool = False

    def wrong(self, what: str, expected: Iterable[str] = ()) -> WrongWord:
        """Return the fault that this word is."""
        return WrongWord(Fault(self.line, self.column, what, self.text, tuple(expected)))

    def part(self, text: str, offset: int) -> "Word":
        """Return `text`, which begins `offset` characters into this word."""
        return Word(text, self.line, self.column + offset)


def listed(names: Iterable[str]) -> str:
    """Return names for a sentence."""
    return ", ".join(names)


@dataclass(slots=True)
class Statement:
    """The words of one statement, taken one after another. line: its first. end: behind its last."""

    line: int
    words: list[Word]
    end: Word
    at: int = 0

    @property
    def text(self) -> str:
        """The statement without comment, one blank between words."""
        return " ".join(f'"{it.text}"' if it.is_quoted else it.text for it in self.words)

    @property
    def is_over(self) -> bool:
        """Whether all words are taken."""
        return self.at == len(self.words)

    @property
    def next(self) -> str:
        """The word that `take` would return, "" at the end or for one in quotation marks."""
        if self.is_over or self.words[self.at].is_quoted:
            return ""
        return self.words[self.at].text

    @property
    def place(self) -> Word:
        """The word that `take` would return, or where the line ends."""
        return self.end if self.is_over else self.words[self.at]

    def take(self, *expected: str) -> Word:
        """Return the next word; `expected` says what it should be if there is none."""
        if self.is_over:
            raise self.end.wrong(f"the line ends, expected {listed(expected)}", expected)
        self.at += 1
        return self.words[self.at - 1]

    def choose(self, what: str, known: Iterable[str]) -> Word:
        """Return the next word, one of `known`."""
        names = tuple(known)
        word = self.take(*names)
        if word.is_quoted or word.text not in names:
            hint = " in quotation marks" if word.is_quoted else nearest(word.text, names)
            said = f"{shown(word.text)} is no {what}{hint}; expected {listed(names)}"
            raise word.wrong(said, names)
        return word

    def value(self, expected: str, parse: Callable[[str], ValueT]) -> ValueT:
        """Return the next word parsed; `parse` raises ValueError with a sentence."""
        return parsed(self.take(expected), expected, parse)

    def finish(self, *expected: str) -> None:
        """Check that nothing follows; `expected` could have."""
        if self.is_over:
            return
        word = self.take()
        names = (*expected, "the end of the line")
        hint = nearest(word.text, expected)
        said = f"{shown(word.text)} cannot stand here{hint}; expected {listed(names)}"
        raise word.wrong(said, names)


def parsed(word: Word, expected: str, parse: Callable[[str], ValueT]) -> ValueT:
    """Return `word` parsed. expected: what it should be; `parse` raises ValueError with a sentence."""
    # FWRL-3-15
    try:
        if not word.text.isascii():
            raise ValueError(f"{expected} has letters of ASCII only, got {shown(word.text)}")
        return parse(word.text)
    except ValueError as error:
        raise word.wrong(f"{error}; expected {expected}", (expected,)) from error


def refuse(word: Word, what: str, *expected: str) -> NoReturn:
    """Raise the fault that `word` is, with the words that would do."""
    more = f"; expected {listed(expected)}" if expected else ""
    raise word.wrong(f"{what}{more}", expected)


# ---- from octets to statements ------------------------------------------------------------------


def statements(octets: bytes, file: str) -> tuple[list[Statement], list[Fault]]:
    """Cut a policy into statements; also return what is wrong with the lines that are none.

    Raises PolicyError for more than MAX_OCTETS, for what is no UTF-8, and for control signs.
    """
    try:
        lines = decode_lines(octets, file, MAX_OCTETS)
    except InvalidText as error:
        expected = ("UTF-8 text, lines that end with LF alone",)
        raise PolicyError(file, [Fault(*fault, "", expected) for fault in error.faults]) from error
    found: list[Statement] = []
    faults: list[Fault] = []
    words: list[Word] = []
    is_broken = False
    for number, line in enumerate(lines, 1):
        try:
            more, goes_on = _words(line, number)
        except WrongWord as error:
            faults.append(error.fault)
            if len(faults) >= MAX_FAULTS:
                break
            # what belongs to a broken line is not judged without it
            words, is_broken = [], line.endswith("\\")
            continue
        words += more
        if goes_on:
            continue
        if words and not is_broken:
            last = words[-1]
            end = Word("", last.line, last.column + len(last.text) + 2 * last.is_quoted)
            found.append(Statement(words[0].line, words, end))
        words, is_broken = [], False
    if words or is_broken:
        text = "the file ends after \\, expected a line that goes on"
        faults.append(Fault(len(lines), 1, text, "", ("a line that goes on",)))
    return found, faults


def _words(line: str, number: int) -> tuple[list[Word], bool]:
    """Return the words of a line, and whether the next line belongs to it."""
    words: list[Word] = []
    if '"' not in line and "\\" not in line:
        for found in _RUN.finditer(line):
            if line[found.start()] == "#":
                break
            words.append(_short(Word(found[0], number, found.start() + 1)))
        return words, False
    at = 0
    while True:
        while at < len(line) and line[at] in " \t":
            at += 1
        if at == len(line) or line[at] == "#":
            return words, False
        if line[at] == "\\" and at == len(line) - 1:
            return words, True
        word = _quoted(line, number, at) if line[at] == '"' else _bare(line, number, at)
        words.append(_short(word))
        at += len(word.text) + 2 * word.is_quoted


def _short(word: Word) -> Word:
    if len(word.text) > MAX_WORD:
        text = f"a word has at most {MAX_WORD:,} letters, this one {len(word.text):,}"
        raise word._replace(text=word.text[:MAX_WORD]).wrong(text, ("a shorter word",))
    return word


def _bare(line: str, number: int, at: int) -> Word:
    end = at
    while end < len(line) and line[end] not in " \t":
        end += 1
    word = Word(line[at:end], number, at + 1)
    if "\\" in word.text:
        place = word.text.index("\\")
        raise word.part("\\", place).wrong(
            "\\ is the last sign of a line, after a blank; expected the end of the line",
            ("the end of the line",),
        )
    if '"' in word.text:
        place = word.text.index('"')
        raise word.part('"', place).wrong(
            'a text in quotation marks stands alone; expected a blank before "', ("a blank",)
        )
    return word


def _quoted(line: str, number: int, at: int) -> Word:
    end = line.find('"', at + 1)
    word = Word(line[at + 1 : end] if end >= 0 else line[at:], number, at + 1, is_quoted=True)
    if end < 0:
        raise word.wrong('a text in quotation marks has no end; expected "', ('"',))
    if end + 1 < len(line) and line[end + 1] not in " \t":
        raise Word(line[end + 1], number, end + 2).wrong(
            "a text in quotation marks stands alone; expected a blank", ("a blank",)
        )
    return word
