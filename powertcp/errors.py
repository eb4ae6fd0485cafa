"""The exception tree of the house and `invariant`, the check that is never compiled out.

Section 7 of the architecture: one error per fault, each with a sentence a stranger can act on.
"""

import difflib
from collections.abc import Iterable, Sequence
from os import strerror
from typing import NamedTuple, Protocol, TypeVar

ValueT = TypeVar("ValueT")


class SupportsSentence(Protocol):
    """A reason that can be said in one sentence: see `registry.Refusal`."""

    @property
    def code(self) -> int:
        """Reason code of protocol section 15."""

    def sentence(self) -> str:
        """Return the reason with its code, value, limit and units."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean "..."?` for a word close to a known one, else an empty text."""
    close = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f', did you mean "{close[0]}"?' if close else ""


class PowerError(Exception):
    """Root of every error this package raises on purpose."""


class LocalProtocolError(PowerError):
    """Our own code misused a machine; the machine's state is unchanged."""


class DecodeError(PowerError):
    """Octets that cannot be decoded: the only exception that leaves a decoder.

    offset: octet offset within the segment or buffer handed to the decoder.
    field: name of the field, as the wire document spells it.
    code: reason code (500..599 for octets); value and limit: as that code states them.
    """

    def __init__(self, offset: int, field: str, code: int, value: int = 0, limit: int = 0) -> None:
        super().__init__(offset, field, code, value, limit)
        self.offset = offset
        self.field = field
        self.code = code
        self.value = value
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"{self.code} at octet {self.offset}, field {self.field}:"
            f" value {self.value}, limit {self.limit}"
        )


class RemoteProtocolError(PowerError):
    """The peer broke the protocol; `refusal` says which rule."""

    def __init__(self, refusal: SupportsSentence) -> None:
        super().__init__(refusal.sentence())
        self.refusal = refusal


class PowerRefused(PowerError):
    """A lawful no: refused, shed to zero, tripped, lease over."""

    def __init__(self, refusal: SupportsSentence) -> None:
        super().__init__(refusal.sentence())
        self.refusal = refusal


class WireBroken(PowerError):
    """The writer died inside a segment; the stream cannot be used again."""


class ConfigError(PowerError):
    """A configuration file or option cannot be used: exit code 2."""

    def __init__(self, file: str, path: str, text: str) -> None:
        super().__init__(f"{file}: {path}: {text}")
        self.file = file
        self.path = path
        self.text = text


class Fault(NamedTuple):
    """One fault; lines and columns count from 1, columns in characters."""

    line: int
    column: int
    text: str


class InvalidText(ConfigError):
    """A text that is not valid, with every fault that was found; nothing of it holds."""

    def __init__(self, file: str, faults: Sequence[Fault]) -> None:
        first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        place = f"line {first.line}, column {first.column}"
        super().__init__(file, place, f"{first.text}{more}")
        self.faults = tuple(faults)


class HostError(PowerError):
    """This machine refused something: errno, path, and what was wanted."""

    def __init__(self, errno: int, path: str, wanted: str) -> None:
        super().__init__(f"cannot {wanted}: {path}: {strerror(errno)}")
        self.errno = errno
        self.path = path
        self.wanted = wanted


class LedgerBroken(PowerError):
    """What is written is not what was written: `record` of `file` is where it shows."""

    def __init__(self, file: str, record: str, text: str) -> None:
        super().__init__(f"{file}: {record}: {text}")
        self.file = file
        self.record = record
        self.text = text


class BrokenInvariant(Exception):
    """One of our own truths does not hold: a bug."""


def invariant(condition: object, sentence: str) -> None:
    """Raise BrokenInvariant with `sentence` unless `condition` holds.

    For our own truths only, never for anything a peer, a user or the host supplied.
    """
    if not condition:
        raise BrokenInvariant(sentence)


def known(value: ValueT | None, sentence: str) -> ValueT:
    """Return `value`, which our own logic has set. Raises BrokenInvariant when it is None."""
    if value is None:
        raise BrokenInvariant(sentence)
    return value
