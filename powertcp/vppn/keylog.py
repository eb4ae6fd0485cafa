"""The key log of those who debug, and sealed segments opened by it: by neither of the two ends.

Both ends write one line for each key of a direction and epoch where they are told to:
```
VPPN_KEY <ephemeral key of message 1, 64 hex digits> <epoch, 8> <I or R: who seals> <key, 64>
```
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from powertcp.crypto import DECRYPT, KEY_OCTETS, TAG_OCTETS, unseal
from powertcp.errors import DecodeError, Fault, InvalidText
from powertcp.registry import Flag
from powertcp.vppn.record import read_seal
from powertcp.wire.frames import HEADER_OCTETS, RawSegment, whole_segment

# a day of 45 connections that change their keys each two minutes
MAX_KEYS: Final = 65_536
# that many lines, and as much again of comments
MAX_OCTETS: Final = 20 << 20
# of connections that are captured together; what they wait for is found soon
HANDSHAKES_MAX: Final = 16
# keys tried in vain over a whole capture, some seconds of work; enough for four whole logs
TRIALS_MAX: Final = 4 * MAX_KEYS
# keys that a segment may try in vain even then: both directions of two handshakes
FREE_TRIALS: Final = 4

_ECE: Final = int(Flag.ECE)
_LINE: Final = re.compile(rb"VPPN_KEY ([0-9a-fA-F]{64}) ([0-9a-fA-F]{8}) ([IR]) ([0-9a-fA-F]{64})")
# the words of a line, and what is said where one cannot be
_WORDS: Final = (
    (rb"VPPN_KEY", "a line begins with VPPN_KEY"),
    (rb"[0-9a-fA-F]{64}", "an ephemeral key has 64 hex digits"),
    (rb"[0-9a-fA-F]{8}", "an epoch has 8 hex digits"),
    (rb"[IR]", "who seals is I or R"),
    (rb"[0-9a-fA-F]{64}", "a key has 64 hex digits"),
)


@dataclass(frozen=True, slots=True)
class LoggedKey:
    """One line. ephemeral: of message 1 of its handshake. sender: I, the initiator, or R."""

    ephemeral: bytes
    epoch: int
    sender: str
    # who has it reads all power: it is shown to nobody
    key: bytes = field(repr=False)


class Opened(NamedTuple):
    """What a sealed segment holds, padding included, and which key said so."""

    by: LoggedKey
    counter: int
    plain: bytes


def parse_key_log(octets: bytes, file: str = "key log") -> list[LoggedKey]:
    """Return the keys in a key log, each once, in their order; `#` comments and empty lines are none.

    Raises InvalidText with line and column for any other line, and above MAX_OCTETS or MAX_KEYS.
    No error shows a word of the file: it may be a key.
    """
    if len(octets) > MAX_OCTETS:
        raise InvalidText(file, [Fault(1, 1, f"more than {MAX_OCTETS:,} octets")])
    found: dict[LoggedKey, None] = {}
    lines = 0
    for number, line in enumerate(octets.split(b"\n"), 1):
        if not line or line.startswith(b"#"):
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise InvalidText(file, [_fault(number, line)])
        lines += 1
        if lines > MAX_KEYS:
            raise InvalidText(file, [Fault(number, 1, f"more than {MAX_KEYS:,} keys")])
        ephemeral, epoch, sender, key = (part.decode("ascii") for part in parts.groups())
        logged = LoggedKey(bytes.fromhex(ephemeral), int(epoch, 16), sender, bytes.fromhex(key))
        found[logged] = None
    return list(found)


def _fault(number: int, line: bytes) -> Fault:
    """Return what is wrong with a line that is none."""
    column = 1
    words = line.split(b" ", len(_WORDS))
    for pattern, said in _WORDS:
        word = words.pop(0) if words else b""
        if not re.fullmatch(pattern, word):
            return Fault(number, column, f"{said}, here stand {len(word):,} octets")
        column += len(word) + 1
    return Fault(number, column, "nothing follows a key")


class KeyRing:
    """The keys of a log, tried on sealed segments of any connections, in any order.

    Those of handshakes that were met or have opened something are tried first. Bounds:
    HANDSHAKES_MAX of these, TRIALS_MAX keys tried in vain over all segments, then FREE_TRIALS
    for each.
    """

    __slots__ = ("_by_epoch", "_left", "_met", "keys")

    def __init__(self, keys: Iterable[LoggedKey]) -> None:
        self.keys = 0
        self._by_epoch: dict[int, dict[bytes, list[LoggedKey]]] = {}
        # the one met last is the last
        self._met: dict[bytes, None] = {}
        self._left = TRIALS_MAX
        for one in keys:
            self.keys += 1
            self._by_epoch.setdefault(one.epoch, {}).setdefault(one.ephemeral, []).append(one)

    def meet(self, message: bytes) -> None:
        """Take the Noise part of a message 1: its keys are the likely ones from here on."""
        self._note(message[:KEY_OCTETS])

    def _note(self, ephemeral: bytes) -> None:
        self._met.pop(ephemeral, None)
        if len(self._met) >= HANDSHAKES_MAX:
            del self._met[next(iter(self._met))]
        self._met[ephemeral] = None

    def open(self, raw: RawSegment) -> Opened:
        """Return what a sealed segment holds; its counter need not be the next one.

        Raises DecodeError 509: field `key`, value the epoch, where the log has none of that epoch;
        field `tag`, value the keys tried, where none fits or the segment was altered.
        """
        seal = read_seal(raw)
        # VPPN-3-02
        head = bytearray(whole_segment(raw)[: HEADER_OCTETS + len(raw[4])])
        head[5] &= ~_ECE
        associated, sealed = bytes(head), bytes(raw[5])
        # VPPN-3-03
        nonce = bytes(4) + seal.counter.to_bytes(8, "little")
        tried = 0
        for one in self._candidates(seal.epoch):
            if tried >= FREE_TRIALS and not self._left:
                break
            try:
                plain = unseal(one.key, nonce, sealed, associated)
            except DecodeError:
                tried += 1
                self._left -= tried > FREE_TRIALS
                continue
            self._note(one.ephemeral)
            return Opened(one, seal.counter, plain)
        if not tried:
            raise DecodeError(HEADER_OCTETS, "key", DECRYPT, seal.epoch)
        raise DecodeError(len(associated) + max(len(sealed) - TAG_OCTETS, 0), "tag", DECRYPT, tried)

    def _candidates(self, epoch: int) -> Iterator[LoggedKey]:
        """Yield the keys of an epoch, those of handshakes met last first."""
        found = self._by_epoch.get(epoch, {})
        met = [one for one in reversed(self._met) if one in found]
        for ephemeral in met:
            yield from found[ephemeral]
        for ephemeral, keys in found.items():
            if ephemeral not in met:
                yield from keys
