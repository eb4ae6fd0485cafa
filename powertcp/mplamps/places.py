"""Where each value of a TOML text stands: line and column for faults that the parser cannot know."""

import re
import tomllib
from typing import Final, NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!"")|"(?="""))*"""'
    r"|'''.*?'''(?:'(?!')|''(?!'))?"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[^,\]}#\n]*")
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
# deeper than any document that means something
MAX_DEPTH: Final = 64


class Place(NamedTuple):
    """Line and column, both from 1, columns in characters."""

    line: int
    column: int


class TomlError(ValueError):
    """A text that is no TOML: a sentence, and where."""

    def __init__(self, text: str, place: Place) -> None:
        super().__init__(text)
        self.place = place


def read_toml(text: str) -> dict[str, object]:
    """Return the table of a TOML text. Raises TomlError for one that is none."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        found = _PLACE.search(said)
        sentence = said[: found.start()] if found else said
        if found and found[1]:
            place = Place(int(found[1]), int(found[2]))
        else:
            place = place_at(text, len(text))
        raise TomlError(sentence, place) from error
    except RecursionError as error:
        raise TomlError("nested too deeply", Place(1, 1)) from error
    except ValueError as error:
        # a number of thousands of digits
        raise TomlError(str(error).partition(";")[0], Place(1, 1)) from error


def place_at(text: str, offset: int) -> Place:
    """Return the place of a character of a text."""
    begin = text.rfind("\n", 0, offset) + 1
    return Place(text.count("\n", 0, offset) + 1, offset - begin + 1)


class Places:
    """The places of a text that `read_toml` has read.

    ("node", 3, "name") is the value of `name` in the fourth table of the array `node`.
    """

    def __init__(self, text: str) -> None:
        """Look through `text` once."""
        self._text = text.replace("\r\n", "\n")
        self._values: dict[Path, int] = {}
        self._keys: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}
        self._table: Path = ()
        at = 0
        while (at := self._skip(_BLANK, at)) < len(self._text):
            at = self._header(at) if self._text[at] == "[" else self._pair(at, self._table, 0)

    def value(self, path: Path) -> Place:
        """Return where the value of `path` begins, or the nearest table or array around it."""
        while path and path not in self._values:
            path = path[:-1]
        return place_at(self._text, self._values.get(path, 0))

    def key(self, path: Path) -> Place:
        """Return where the key of `path` begins, or what is around it."""
        return place_at(self._text, self._keys[path]) if path in self._keys else self.value(path)

    def _skip(self, pattern: re.Pattern[str], at: int) -> int:
        found = pattern.match(self._text, at)
        return found.end() if found else at + 1

    def _key(self, at: int) -> tuple[list[str], int]:
        """Return the parts of a dotted key at `at`, and what follows it."""
        parts: list[str] = []
        while found := _PART.match(self._text, at):
            part = found[0]
            parts.append(str(tomllib.loads(f"x={part}")["x"]) if part[0] in "\"'" else part)
            at = found.end()
            dot = _DOT.match(self._text, at)
            if dot is None:
                break
            at = dot.end()
        return parts, at

    def _header(self, at: int) -> int:
        """Read [table] or [[array]]; what follows belongs to it."""
        begin = at
        is_array = self._text.startswith("[[", at)
        parts, at = self._key(self._skip(_SPACE, at + 1 + is_array))
        path: Path = ()
        for number, part in enumerate(parts, 1):
            path = (*path, part)
            if is_array and number == len(parts):
                self._values.setdefault(path, begin)
                self._arrays[path] = self._arrays.get(path, -1) + 1
            if path in self._arrays:
                path = (*path, self._arrays[path])
        self._table = path
        self._values.setdefault(path, begin)
        self._keys.setdefault(path, begin)
        return self._skip(_SPACE, at) + 1 + is_array

    def _pair(self, at: int, table: Path, depth: int) -> int:
        """Read `key = value` and return what follows it."""
        parts, end = self._key(at)
        path = (*table, *parts)
        for count in range(len(table) + 1, len(path) + 1):
            self._keys.setdefault(path[:count], at)
            self._values.setdefault(path[:count], at)
        equals = self._skip(_SPACE, end)
        return self._value(self._skip(_SPACE, equals + 1), path, depth)

    def _value(self, at: int, path: Path, depth: int) -> int:
        """Read a value and return what follows it."""
        self._values[path] = at
        sign = self._text[at : at + 1]
        if sign in ("[", "{") and depth < MAX_DEPTH:
            read = self._array if sign == "[" else self._inline
            return read(at + 1, path, depth + 1)
        if found := _STRING.match(self._text, at):
            return found.end()
        # a scalar; anything that is not read here takes the rest of the line with it
        return max(self._skip(_BARE, at), at + 1)

    def _array(self, at: int, path: Path, depth: int) -> int:
        index = 0
        while (at := self._skip(_BLANK, at)) < len(self._text):
            if self._text[at] == "]":
                return at + 1
            if self._text[at] == ",":
                at += 1
                continue
            at = self._value(at, (*path, index), depth)
            index += 1
        return at

    def _inline(self, at: int, path: Path, depth: int) -> int:
        while (at := self._skip(_BLANK, at)) < len(self._text):
            if self._text[at] == "}":
                return at + 1
            at = at + 1 if self._text[at] == "," else self._pair(at, path, depth)
        return at
