"""Signed texts: lines in a fixed order, the last one an Ed25519 signature over those before it."""

from collections.abc import Callable
from typing import Final, TypeVar

from powertcp.crypto import SIGNATURE_OCTETS, SigningKey, is_signed_by
from powertcp.errors import Fault, InvalidText
from powertcp.vppn.faults import decode_lines, shown
from powertcp.vppn.identity import (
    Algorithm,
    PublicKey,
    SecretKey,
    decode_base64,
    encode_base64,
)

SIGNATURE: Final = "signature"
# how a moment looks, in faults
MOMENT_FORM: Final = "2026-11-21T08:00:00Z"
ValueT = TypeVar("ValueT")


class SignedText:
    """Reads one signed text line by line; whatever is wrong is an InvalidText with its place."""

    def __init__(self, octets: bytes, file: str, limit: int) -> None:
        """Take at most `limit` octets; `file` is their name in errors."""
        self._file = file
        self._octets = octets
        self._lines = decode_lines(octets, file, limit)
        self._next = 0

    @property
    def line(self) -> int:
        """Number of the line that was read last."""
        return self._next

    def fault(self, column: int, text: str) -> InvalidText:
        """Return what is wrong with the line that was read last."""
        return InvalidText(self._file, [Fault(max(self._next, 1), column, text)])

    def is_next(self, word: str) -> bool:
        """Return whether the next line begins with `word` and a blank."""
        return self._peek().startswith(f"{word} ")

    def take(self, word: str, parse: Callable[[str], ValueT], form: str) -> ValueT:
        """Return the value of the next line, which is `word`, a blank and a value that is parsed.

        form: how a value looks. What `parse` raises, a ValueError with a sentence, is the fault.
        """
        line = self._peek()
        self._next += 1
        if not line.startswith(f"{word} "):
            raise self.fault(1, f'this line is "{word} {form}", got {shown(line)}')
        try:
            return parse(line[len(word) + 1 :])
        except ValueError as error:
            raise self.fault(len(word) + 2, f"{word}: {error}") from error

    def _peek(self) -> str:
        return self._lines[self._next] if self._next < len(self._lines) else ""

    def finish(self, issuer: PublicKey, prefix: bytes) -> None:
        """Read the line `signature`, which ends the text, and verify it."""
        covered = "".join(f"{line}\n" for line in self._lines[: self._next]).encode()
        signature = self.take(SIGNATURE, _signature, "BASE64")
        if self._lines[self._next :] != [""]:
            column = len(self._lines[self._next - 1]) + 1
            raise self.fault(column, "the line of the signature is the last one and ends with LF")
        if not is_signed_by(issuer.octets, prefix + covered, signature):
            text = f"the signature is not that of {issuer} over these lines"
            raise self.fault(len(SIGNATURE) + 2, text)


def sign_lines(lines: list[str], key: SecretKey, prefix: bytes) -> bytes:
    """Return `lines` as a text with their signature by an Ed25519 key."""
    covered = "".join(f"{line}\n" for line in lines).encode()
    signature = SigningKey(key.octets).sign(prefix + covered)
    return covered + f"{SIGNATURE} {encode_base64(signature)}\n".encode()


def wrong_validity(start_s: int, end_s: int, most_s: int) -> str:
    """Return what is wrong with a time of validity, at most `most_s` long; "": nothing."""
    validity_s = end_s - start_s
    if validity_s <= 0:
        return "it ends before it begins"
    if validity_s > most_s:
        return f"valid for {validity_s:,} s, at most {most_s:,} s"
    return ""


def parse_issuer(text: str) -> PublicKey:
    """Parse the key of who signed. Raises ValueError with a sentence."""
    return PublicKey.parse(text, Algorithm.ED25519)


def parse_version(text: str) -> int:
    """Parse the version of a text, which is 1. Raises ValueError with a sentence."""
    if text != "1":
        raise ValueError(f"this version reads 1, got {shown(text)}")
    return 1


def parse_serial(text: str) -> int:
    """Parse the number of a certificate. Raises ValueError with a sentence."""
    is_number = text.isascii() and text.isdecimal() and not text.startswith("0")
    if not is_number or len(text) > 20 or int(text) >= 1 << 64:
        raise ValueError(f"a serial is a number from 1 to 2^64-1, got {shown(text)}")
    return int(text)


def _signature(text: str) -> bytes:
    return decode_base64(text, SIGNATURE_OCTETS, "a signature")
