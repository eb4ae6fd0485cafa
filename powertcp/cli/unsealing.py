"""What `powertcp decode` says of sealed segments: of which handshake they are, what a key log opens."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from powertcp.crypto import DECRYPT, KEY_OCTETS, TAG_OCTETS
from powertcp.errors import ConfigError, DecodeError
from powertcp.registry import Flag
from powertcp.vppn.keylog import MAX_OCTETS, KeyRing, parse_key_log
from powertcp.vppn.message import MESSAGE_1, MESSAGE_2, MESSAGE_3, decode_message, split_first
from powertcp.vppn.record import PRIVATE_ESN, Privacy, check_inner, read_seal
from powertcp.wire.frames import MAX_MSP, RawSegment, Splitter

if TYPE_CHECKING:
    from powertcp.vppn.noise import PatternId

_NUMBERS = {MESSAGE_1: 1, MESSAGE_2: 2, MESSAGE_3: 3}
_ECE = int(Flag.ECE)
_SIDES = {"I": "initiator", "R": "responder"}
_BY_NAME = 12
# what a field of the inside of a segment is refused by
_INSIDE = {"flow identifier": "VPPN-3-04", "type": "VPPN-3-01"}


class Wrong(NamedTuple):
    """Why a receiver refuses a segment, or why it stays closed. offset: in the segment."""

    offset: int
    field: str
    value: int
    requirement: str
    # instead of field and value
    said: str = ""
    code: int = DECRYPT


class Part(NamedTuple):
    """A field of a payload: offset in the segment, octets, name, and what they are."""

    offset: int
    octets: bytes
    field: str
    value: str
    meaning: str


class Seen(NamedTuple):
    """What is known of one sealed segment: in words, as JSON values, by field.

    inside: the plain octets, in the places of the sealed ones; None while they are closed.
    """

    said: str
    values: dict[str, Any]
    parts: list[Part]
    inside: bytes | None = None
    wrong: Wrong | None = None


def read_keys(name: str) -> KeyRing:
    """Return the keys in a file. Raises ConfigError with a sentence that shows none of them."""
    try:
        with Path(name).open("rb") as file:
            octets = file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise ConfigError("--keys", name, str(error.strerror or error)) from error
    return KeyRing(parse_key_log(octets, name))


class Unsealer:
    """Sealed segments of one input, one after the other. ring: the keys of a log, None: without."""

    def __init__(self, ring: KeyRing | None) -> None:
        """Begin before the first one."""
        self._ring = ring
        # of the last message 1: the others do not tell
        self._pattern: PatternId | None = None

    def look(self, octets: bytes) -> Seen:
        """Return what is known of a whole SEALED segment that the schema takes."""
        (raw,) = Splitter(MAX_MSP).receive(octets)
        flags = raw[1] & ~_ECE
        start = len(octets) - len(raw[5])
        if not flags:
            return self._transport(raw, start)
        number = _NUMBERS.get(flags)
        if number is None:
            wrong = Wrong(5, "flags", raw[1], "VPPN-2.2-05")
            return Seen(f"{len(raw[5]):,} octets", {}, [], wrong=wrong)
        return self._message(raw, number, start)

    # --- handshakes --------------------------------------------------------------------------

    def _message(self, raw: RawSegment, number: int, start: int) -> Seen:
        """Name a message of a handshake: what is inside is under keys that no log holds."""
        said = f"message {number}, {len(raw[5]):,} octets"
        try:
            message = decode_message(raw)
        except DecodeError as error:
            wrong = Wrong(error.offset, error.field, error.value, "VPPN-2.2-05")
            return Seen(said, {}, [], wrong=wrong)
        noise, parts = message.octets, []
        if number == 1:
            try:
                self._pattern, noise = split_first(message.octets)
            except DecodeError as error:
                wrong = Wrong(start, error.field, error.value, "VPPN-2.1-01")
                return Seen(said, {}, [], wrong=wrong)
            number_of = message.octets[:1]
            parts = [
                Part(start, number_of, "pattern", str(number_of[0]), self._pattern.word),
                Part(start + 1, message.octets[1:2], "zero", "0", "0"),
            ]
        values: dict[str, Any] = {"message": number, "epoch": message.epoch}
        said = f"epoch {message.epoch}, {len(raw[5]):,} octets"
        if self._pattern is None:
            said = f"message {number}, {said}"
        else:
            said = f"message {number} of {self._pattern.word}, {said}"
            values["pattern"] = self._pattern.word
        start += len(raw[5]) - len(noise)
        # VPPN-2.1-01: the first word of either side is e
        if number < 3 and len(noise) >= KEY_OCTETS:
            ephemeral = noise[:KEY_OCTETS]
            values["ephemeral"] = ephemeral.hex()
            whose = "initiator" if number == 1 else "responder"
            meaning = f"X25519 key of the {whose}, for this handshake"
            parts.append(Part(start, ephemeral, "ephemeral", _name(ephemeral), meaning))
            if number == 1:
                said += f", handshake {_name(ephemeral)}"
                if self._ring is not None:
                    self._ring.meet(ephemeral)
        rest = noise[KEY_OCTETS:] if number < 3 else noise
        meaning = "under keys of the handshake: in no log"
        at = start + len(noise) - len(rest)
        parts.append(Part(at, rest, "sealed", f"{len(rest):,} octets", meaning))
        return Seen(said, {"handshake": values}, parts)

    # --- power -------------------------------------------------------------------------------

    def _transport(self, raw: RawSegment, start: int) -> Seen:
        """Open a segment, if there are keys."""
        payload = bytes(raw[5])
        size = max(len(payload) - TAG_OCTETS, 0)
        sealed, tag = payload[:size], payload[size:]
        said = f"{len(payload):,} octets"
        parts = [
            Part(start, sealed, "ciphertext", f"{size:,} octets", "closed"),
            Part(start + size, tag, "tag", f"{len(tag)} octets", "of ChaCha20-Poly1305"),
        ]
        try:
            seal = read_seal(raw)
        except DecodeError as error:
            wrong = Wrong(error.offset, error.field, error.value, "VPPN-3-03")
            return Seen(said, {}, parts, wrong=wrong)
        if self._ring is None:
            return Seen(said, {}, parts)
        try:
            opened = self._ring.open(raw)
        except DecodeError as error:
            where = f"epoch {seal.epoch}, counter {seal.counter}"
            if error.field == "key":
                text = f"{where}: no key of this epoch among {self._ring.keys:,} of the log"
                wrong = Wrong(start, "key", seal.epoch, "", text)
            else:
                text = f"{where}: {_many(error.value)} tried, the tag is wrong under each"
                wrong = Wrong(error.offset, "tag", error.value, "VPPN-3-02", text)
            return Seen(said, {}, parts, wrong=wrong)
        by, side = opened.by, _SIDES[opened.by.sender]
        said += f", opened with the key of the {side}, handshake {_name(by.ephemeral)}"
        parts[0] = parts[0]._replace(meaning=f"opened with the key of the {side}")
        values = {"sender": side, "epoch": by.epoch, "counter": seal.counter}
        values["handshake"] = by.ephemeral.hex()
        return Seen(
            said, {"opened": values}, parts, opened.plain, _misfit(raw, opened.plain, start)
        )


def _misfit(raw: RawSegment, plain: bytes, start: int) -> Wrong | None:
    """Return why the other end does not take what is inside although it is of its peer."""
    # VPPN-3-04, VPPN-3-05
    is_private = not raw[2] and raw[3] == PRIVATE_ESN
    privacy = Privacy.PRIVATE if is_private else Privacy.POLICE
    try:
        check_inner(plain, raw, privacy)
    except DecodeError as error:
        requirement = _INSIDE.get(error.field, "VPPN-3-01")
        return Wrong(start + error.offset, error.field, error.value, requirement)
    return None


def _name(ephemeral: bytes) -> str:
    """Return enough of an ephemeral key to find it in a log."""
    return ephemeral.hex()[:_BY_NAME]


def _many(keys: int) -> str:
    return f"{keys:,} key{'' if keys == 1 else 's'}"
