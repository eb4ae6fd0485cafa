"""What is wrong with a text file, by line and column, and the tokens of a line by column."""

from typing import NamedTuple

from powertcp.errors import Fault, InvalidText

_SHOWN = 40


class WordError(ValueError):
    """A word that cannot stand where it stands: `column` of its line."""

    def __init__(self, column: int, text: str) -> None:
        super().__init__(text)
        self.column = column


class Token(NamedTuple):
    """A run of signs without a blank, and where it begins."""

    text: str
    column: int


def tokens(line: str) -> list[Token]:
    """Cut a line at blanks and tabs; a token that begins with # ends it."""
    found: list[Token] = []
    column = 1
    for part in line.replace("\t", " ").split(" "):
        if part.startswith("#"):
            break
        if part:
            found.append(Token(part, column))
        column += len(part) + 1
    return found


def decode_lines(octets: bytes, file: str, limit: int) -> list[str]:
    """Return the lines of a text of at most `limit` octets, UTF-8, each ended by LF.

    Raises InvalidText for more octets, other octets, and control signs (tabs are none).
    """
    if len(octets) > limit:
        text = f"{len(octets):,} octets, at most {limit:,}"
        raise InvalidText(file, [Fault(1, 1, text)])
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        before = octets[: error.start].decode()
        place = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise InvalidText(file, [Fault(*place, "it is not UTF-8")]) from error
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if line.replace("\t", " ").isprintable():
            continue
        for column, sign in enumerate(line, 1):
            if not sign.isprintable() and sign != "\t":
                said = f"U+{ord(sign):04X} is no printable sign; lines end with LF alone"
                raise InvalidText(file, [Fault(number, column, said)])
    return lines


def shown(word: str) -> str:
    """Return what somebody wrote in quotes, not more of it than helps."""
    return f'"{word}"' if len(word) <= _SHOWN else f'"{word[:_SHOWN]}.."'


def check_name(text: str, what: str) -> str:
    """Return the name of somebody or something. Raises ValueError with a sentence."""
    # PTCP calls text of 128 octets long: a name stands in a ledger entry beside others
    if not 1 <= len(text) <= 64 or any(sign in " =#,\t" or not sign.isprintable() for sign in text):
        raise ValueError(f'{what} has 1 to 64 signs, no blank and none of "=#,", got {shown(text)}')
    return text
