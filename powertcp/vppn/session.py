"""One peer behind a seal: handshake, epochs, rekey; it knows no flows.

The side that opened the TCP connection is the initiator. Octets and `now` come from the tunnel,
which hands plain segments to and fro. VPPN sections 2.2 to 4.
"""

from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from powertcp import crypto
from powertcp.crypto import DECRYPT, TAG_OCTETS
from powertcp.errors import DecodeError, LocalProtocolError, known
from powertcp.machine import Entropy
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.units import Duration, Instant
from powertcp.vppn.config import Identity, SealConfig
from powertcp.vppn.epochs import Channel, next_epoch
from powertcp.vppn.message import (
    FLIGHT_MAX,
    MESSAGE_1,
    MESSAGE_2,
    MESSAGE_3,
    Payload,
    decode_message,
    decode_payload,
    encode_message,
    first_syn,
    split_first,
)
from powertcp.vppn.noise import PROTOCOLS, Handshake, prologue
from powertcp.vppn.office import SealOffice
from powertcp.vppn.record import inner_segments
from powertcp.wire.frames import (
    COOKIE_OCTETS,
    DEFAULT_MSP,
    HEADER_OCTETS,
    RawSegment,
    encode_segment,
    maintain_segment,
)
from powertcp.wire.options import Options
from powertcp.wire.segments import Alert, Control, CookieSegment

_CRITICAL: Final = 3
_ECE: Final = int(Flag.ECE)
_SEALED: Final = int(SegmentType.SEALED)
_COOKIE: Final = int(SegmentType.COOKIE)


class _Phase(Enum):
    # initiator: nothing sent; responder: nothing heard
    IDLE = auto()
    # initiator: message 1 is sent
    ASKED = auto()
    # responder: message 1 is read, message 2 waits for what is to go with it
    OWES = auto()
    # responder: message 2 is sent, message 3 is to come
    ANSWERED = auto()
    OPEN = auto()


class Session:
    """The sealed side of one connection.

    office: shared by the responders of a process. peer: octets that name the peer's address and
    port, for cookies; address: as limits count it.
    Methods that take octets of the peer raise DecodeError: the connection is over then.
    """

    __slots__ = (
        "_abandoned", "_asked", "_attempt_until", "_cookie_used", "_early", "_early_name",
        "_handshake", "_hash", "_held", "_is_half_open", "_is_initiator", "_next_hash",
        "_opening_until", "_out", "_owes_first", "_phase", "_rekey_at", "_rekeys_until", "_static",
        "address", "channel", "config", "entropy", "identity", "is_confirmed", "office", "peer",
        "queued", "unix_offset_ns",
    )  # fmt: skip

    def __init__(
        self,
        config: SealConfig,
        *,
        is_initiator: bool,
        entropy: Entropy,
        office: SealOffice | None = None,
        peer: bytes = b"",
        address: bytes = b"",
        unix_offset_ns: Duration = 0,
    ) -> None:
        """Begin. Raises LocalProtocolError for a config by which no handshake can be held."""
        self.config, self.entropy, self.office = config, entropy, office
        self.peer, self.address = peer, address
        self.unix_offset_ns = unix_offset_ns
        self.channel = Channel(config.privacy, config.limits)
        # who the peer is, as soon as it is proven
        self.identity: Identity | None = None
        # responder: whether the initiator is there now and no replay
        self.is_confirmed = False
        self.queued = 0
        self._is_initiator = is_initiator
        self._phase = _Phase.IDLE
        self._out: list[bytes] = []
        self._handshake: Handshake | None = None
        self._hash = self._next_hash = b""
        self._static: bytes | None = None
        # initiator: message 1, for a COOKIE; the SYN in it; what waits for the handshake
        self._asked = self._early = self._held = b""
        self._cookie_used = False
        # responder: in whose name the early SYN holds a reservation
        self._early_name = b""
        self._is_half_open = False
        self._abandoned = 0
        # responder: until when the rekeys so far are one each second
        self._rekeys_until: Instant = 0
        self._opening_until: Instant | None = None
        self._attempt_until: Instant | None = None
        self._rekey_at: Instant | None = None
        # VPPN-4-07: whether nothing was sealed with the first epoch yet
        self._owes_first = False
        # VPPN-2.2-09
        if is_initiator and config.pattern.is_classic and not config.allow_classic:
            raise LocalProtocolError(f"{config.pattern.word}: classic handshakes are not allowed")
        if is_initiator:
            self._begin(0)
        elif config.key is None:
            raise LocalProtocolError("a responder needs a static key")

    # --- what the tunnel asks ----------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether sealed segments may be sent."""
        return self._phase is _Phase.OPEN

    @property
    def epoch(self) -> int:
        """The epoch that both directions have reached."""
        return self.channel.epoch if self.channel.is_open else 0

    @property
    def binding(self) -> bytes:
        """The handshake hash of the epoch in force: it names this channel and no other."""
        return self._hash

    @property
    def has_begun(self) -> bool:
        """Whether a message was sent or received: from here on nothing in clear is taken."""
        return self._phase is not _Phase.IDLE

    @property
    def owes(self) -> bool:
        """Whether something is to be sent even if nothing is queued: message 2, a first segment."""
        waits = self._phase is _Phase.OPEN and (self._owes_first or self._held)
        return self._phase is _Phase.OWES or bool(waits)

    @property
    def takes_plain(self) -> bool:
        """Whether `put` may be called now."""
        is_first = self._phase is _Phase.IDLE and self._is_initiator
        return is_first or self._phase in (_Phase.OWES, _Phase.OPEN)

    def start(self, now: Instant) -> None:
        """The TCP connection stands: the handshake has 5 s from here. VPPN-2.2-03."""
        if self._opening_until is None and not self.is_confirmed:
            self._opening_until = now + self.config.opening_ns

    def take_out(self) -> bytes:
        """Drain whole SEALED segments."""
        out, self._out, self.queued = self._out, [], 0
        return out[0] if len(out) == 1 else b"".join(out)

    def put(self, plain: bytes, msp: int, now: Instant) -> None:
        """Take whole plain segments for the peer. msp: the greatest payload it takes.

        Raises DecodeError 510 when the epoch is at its end.
        """
        if self._phase is _Phase.OPEN:
            self._seal(plain, msp, now)
        elif self._phase is _Phase.OWES:
            self._answer(plain, now)
        elif self._is_initiator and self._phase is _Phase.IDLE:
            self._ask(plain, now)
        else:
            raise LocalProtocolError("nothing can be sealed now")

    def _seal(self, plain: bytes, msp: int, now: Instant) -> None:
        """Seal what is to go with the epoch in force, with it what waited for the handshake."""
        plain = self._held + plain
        # VPPN-4-07
        if self._owes_first and not plain:
            plain = maintain_segment(0, 0, now + self.unix_offset_ns)
        self._owes_first, self._held = False, b""
        for octets in self.channel.seal(plain, msp - TAG_OCTETS, now):
            self._send(octets)
        self._note_wear(now)

    def receive(self, raw: RawSegment, now: Instant) -> bytes:
        """Take a segment of the peer; return the plain segments it held.

        Raises DecodeError: 208 for one in clear, 508 for a handshake too many, 509 for what the
        peer did not write, 510 for a wrong epoch, 511 for too many rekeys.
        """
        if raw[0] != _SEALED:
            return self._take_clear(raw)
        flags = raw[1] & ~_ECE
        if not flags:
            return self._open(raw, now)
        message = decode_message(raw)
        # VPPN-2.2-05
        if flags == MESSAGE_1 and not self._is_initiator:
            return self._read_first(message.epoch, message.cookie, message.octets, now)
        if message.cookie is None and flags == MESSAGE_2 and self._is_initiator:
            return self._read_second(message.epoch, message.octets, now)
        if message.cookie is None and flags == MESSAGE_3 and not self._is_initiator:
            return self._read_third(message.epoch, message.octets, now)
        raise DecodeError(5, "flags", DECRYPT, raw[1])

    # VPPN-3-08
    def give_up(self, refusal: Refusal, now: Instant) -> None:
        """The connection is over for `refusal`: say it to a peer that can hear it, and leave."""
        # VPPN-2.2-03
        is_hidden = self.config.stealth and not self.is_confirmed
        is_mute = refusal.code == Reason.TIMEOUT or is_hidden
        self._held = b""
        if self._phase is _Phase.OPEN and not is_mute:
            alert = encode_segment(Alert(0, 0, _CRITICAL, Options(reason=refusal)))
            with suppress(DecodeError):  # an epoch at its end says nothing more
                self.put(alert, DEFAULT_MSP, now)
        elif not self._is_initiator and not is_mute:
            self._send(encode_segment(Control(0, Flag.RST, 0, Options(reason=refusal))))
        self.leave()

    def leave(self) -> None:
        """The connection is over: what it held of the office is free."""
        self._settle()
        self._opening_until = self._attempt_until = self._rekey_at = None

    # --- time ----------------------------------------------------------------------------------

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline."""
        times = [self._opening_until, self._attempt_until, self._rekey_at]
        if self.channel.is_open:
            times.append(self.channel.ends_at)
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: Instant) -> None:
        """Do what is due. Raises DecodeError 507, 510 when the connection is over by that."""
        # VPPN-2.2-03
        if self._opening_until is not None and now >= self._opening_until:
            limit = self.config.opening_ns // 1_000_000
            raise DecodeError(0, "handshake", Reason.TIMEOUT, limit, limit)
        # VPPN-4-04
        self.channel.check_age(now)
        # VPPN-4-05
        if self._attempt_until is not None and now >= self._attempt_until:
            self._attempt_until, self._handshake = None, None
            self._abandoned += 1
            self._rekey_at = now + self.config.limits.gap_ns
        if self._rekey_at is not None and now >= self._rekey_at:
            self._rekey(now)

    # --- messages of the initiator -------------------------------------------------------------

    def _begin(self, epoch: int) -> Handshake:
        """Return a handshake of our pattern for `epoch`."""
        config, protocol = self.config, PROTOCOLS[self.config.pattern]
        sends = protocol.sends_static(is_initiator=self._is_initiator)
        needs = sends if self._is_initiator else True
        # VPPN-2.1-04
        before = self._hash if epoch else b""
        return Handshake(
            protocol,
            is_initiator=self._is_initiator,
            entropy=self.entropy,
            prologue=prologue(config.pattern, before),
            static=config.key if needs else None,
            remote_static=config.peer if self._is_initiator else None,
            encapsulate=config.encapsulate,
        )

    def _payload(self, message: int, now: Instant, plain: bytes = b"") -> bytes:
        """Return what the first, second or third message says."""
        time_ns = now + self.unix_offset_ns
        return Payload(time_ns, self.config.certificate_in(message), plain).encode()

    def _ask(self, plain: bytes, now: Instant) -> None:
        """Send message 1 of epoch 0, and with it one SYN."""
        # VPPN-2.3-01, VPPN-2.3-04
        if not self._is_delayed:
            self._early = first_syn(plain)
        self._held = plain[len(self._early) :]
        self._handshake = self._begin(0)
        payload = self._payload(1, now, self._early)
        message = self._handshake.write_message(payload)
        self._asked = bytes([self.config.pattern, 0]) + message
        self._send(encode_message(MESSAGE_1, 0, self._asked))
        self._phase = _Phase.ASKED
        self.start(now)

    @property
    def _is_delayed(self) -> bool:
        """Whether the pattern has a third message, which power waits for."""
        return len(PROTOCOLS[self.config.pattern].messages) == 3

    def _take_clear(self, raw: RawSegment) -> bytes:
        # VPPN-2.2-02
        waits = self._is_initiator and self._phase is _Phase.ASKED and not self._cookie_used
        if waits and raw[:4] == (_COOKIE, 0, 0, 0) and not raw[4] and len(raw[5]) == COOKIE_OCTETS:
            self._cookie_used = True
            self._send(encode_message(MESSAGE_1, 0, self._asked, bytes(raw[5])))
            return b""
        # VPPN-2.2-04
        raise DecodeError(4, "type", Reason.SEAL_REQUIRED, raw[0], _SEALED)

    def _read_second(self, epoch: int, octets: bytes, now: Instant) -> bytes:
        """Take the responder's answer."""
        if self._phase is _Phase.OPEN:
            self._read_rekey(epoch, octets, now)
            return b""
        handshake = self._handshake
        if epoch or self._phase is not _Phase.ASKED or handshake is None:
            raise DecodeError(0, "epoch", Reason.EPOCH, epoch)
        payload = decode_payload(handshake.read_message(octets))
        if self._is_delayed:
            flight = self._held if len(self._held) <= FLIGHT_MAX else b""
            self._held = self._held[len(flight) :]
            third = handshake.write_message(self._payload(3, now, flight))
            self._send(encode_message(MESSAGE_3, 0, third))
        self._install(handshake, 0, now)
        self._phase, self._handshake = _Phase.OPEN, None
        self.is_confirmed, self._opening_until = True, None
        self.identity = Identity(self.config.pattern, self.config.peer, payload.certificate)
        # VPPN-2.3-02
        flow = self._early[8:12]
        segments = inner_segments(payload.plain)
        is_answered = any(payload.plain[start + 8 : start + 12] == flow for start, *_ in segments)
        # VPPN-2.3-05
        if not is_answered:
            self._held = self._early + self._held
        self._early = self._asked = b""
        self._owes_first = True
        return payload.plain

    # --- messages of the responder -------------------------------------------------------------

    def _read_first(self, epoch: int, cookie: bytes | None, octets: bytes, now: Instant) -> bytes:
        """Take message 1, of epoch 0 or of the next one."""
        if self._phase is _Phase.OPEN:
            if cookie is not None:
                raise DecodeError(0, "options", DECRYPT, len(cookie))
            self._answer_rekey(epoch, octets, now)
            return b""
        if epoch or self._phase is not _Phase.IDLE:
            raise DecodeError(0, "epoch", Reason.EPOCH, epoch)
        pattern, message = split_first(octets)
        # VPPN-2.2-09, VPPN-2.1-02
        is_taken = self.config.allow_classic if pattern.is_classic else crypto.HAS_KEM
        if not is_taken:
            raise DecodeError(0, "pattern", DECRYPT, pattern)
        if not self._is_let_in(cookie, octets, now):
            return b""
        self.config = replace(self.config, pattern=pattern)
        self._handshake = handshake = self._begin(0)
        payload = decode_payload(handshake.read_message(message))
        # VPPN-2.2-03
        if self.config.stealth and not self._is_new(handshake, payload, now):
            raise DecodeError(0, "time", DECRYPT)
        if self.office is not None:
            self.office.half_open += 1
            self._is_half_open = True
        self._static = handshake.remote_static
        # VPPN-2.2-01
        if payload.certificate and self._static is None:
            raise DecodeError(0, "certificate", Reason.IDENTITY_MISMATCH)
        self.identity = Identity(pattern, self._static, payload.certificate)
        self._phase = _Phase.OWES
        self.start(now)
        return self._take_early(payload, now)

    # VPPN-2.2-02, VPPN-2.2-06
    def _is_let_in(self, given: bytes | None, octets: bytes, now: Instant) -> bool:
        """Return whether message 1 is worth the computing; if not, the peer got a COOKIE."""
        office = self.office
        # VPPN-2.2-05
        if (office is None or not self._cookie_used) and given is not None:
            raise DecodeError(HEADER_OCTETS, "cookie", DECRYPT, len(given))
        if office is None or not (office.needs_cookie or self._cookie_used):
            return True
        # a COOKIE would tell a stranger that somebody listens
        if office.is_full or self.config.stealth:
            raise DecodeError(0, "handshake", Reason.LIMIT, office.half_open)
        if self._cookie_used:
            if office.cookies.has_cookie(given, self.peer, 0, octets, now):
                return True
            raise DecodeError(HEADER_OCTETS, "cookie", DECRYPT, 1)
        self._cookie_used = True
        cookie = office.cookies.cookie(self.peer, 0, octets, now)
        self._send(encode_segment(CookieSegment(0, 0, cookie)))
        return False

    def _take_early(self, payload: Payload, now: Instant) -> bytes:
        """Return the SYN of a first flight if it may be used now."""
        plain = payload.plain
        if not plain:
            return b""
        # VPPN-2.3-01, VPPN-2.3-04
        if self._is_delayed or first_syn(plain) != plain:
            raise DecodeError(0, "early", DECRYPT, len(plain))
        office, handshake = self.office, known(self._handshake, "message 1 was read")
        name = self._static or self.address or self.peer
        is_new = self.config.stealth or self._is_new(handshake, payload, now)
        # VPPN-2.3-02
        if office is None or not is_new or not office.reserves(name):
            return b""
        self._early, self._early_name = plain, name
        return plain

    def _is_new(self, handshake: Handshake, payload: Payload, now: Instant) -> bool:
        """Return whether message 1 is surely no replay; asked once of each."""
        if self.office is None:
            return False
        ephemeral = known(handshake.remote_ephemeral, "message 1 has it")
        return self.office.meets(ephemeral, payload.time_ns, now + self.unix_offset_ns)

    def _answer(self, plain: bytes, now: Instant) -> None:
        """Send message 2 of epoch 0 with what is queued."""
        handshake = known(self._handshake, "message 1 was read")
        # with a third message it is not yet known who is there
        flight = plain if len(plain) <= FLIGHT_MAX and not self._is_delayed else b""
        self._held = plain[len(flight) :]
        message = handshake.write_message(self._payload(2, now, flight))
        self._send(encode_message(MESSAGE_2, 0, message))
        if self._is_delayed:
            self._phase = _Phase.ANSWERED
            return
        self._install(handshake, 0, now)
        self._phase = _Phase.OPEN

    def _read_third(self, epoch: int, octets: bytes, now: Instant) -> bytes:
        """Take the last message of a handshake that shows its static key there."""
        handshake = self._handshake
        if handshake is None or not self._is_delayed or self._phase is _Phase.OWES:
            raise DecodeError(5, "flags", DECRYPT, MESSAGE_3)
        payload = decode_payload(handshake.read_message(octets))
        if self._phase is _Phase.OPEN:
            if epoch != next_epoch(self.channel.epoch) or payload.plain:
                raise DecodeError(0, "epoch", Reason.EPOCH, epoch)
            self._finish_rekey(handshake, epoch, payload, now)
            return b""
        if epoch:
            raise DecodeError(0, "epoch", Reason.EPOCH, epoch)
        self._static = handshake.remote_static
        self.identity = Identity(self.config.pattern, self._static, payload.certificate)
        self._install(handshake, 0, now)
        self._phase = _Phase.OPEN
        self._confirm(now)
        return payload.plain

    # --- sealed segments -----------------------------------------------------------------------

    def _open(self, raw: RawSegment, now: Instant) -> bytes:
        if self._phase is not _Phase.OPEN:
            raise DecodeError(5, "flags", DECRYPT, raw[1])
        before = self.channel.epoch
        plain = self.channel.open(raw, now)
        if not self.is_confirmed:
            self._confirm(now)
            # VPPN-2.3-02: the copy of a SYN that was used
            if self._early and plain.startswith(self._early):
                plain = plain[len(self._early) :]
            self._early = b""
        if self.channel.epoch != before:
            self._hash = self._next_hash
            if not self._is_initiator:
                # VPPN-4-03
                self._say_something(now)
        self._note_wear(now)
        return plain

    def _confirm(self, now: Instant) -> None:
        """The initiator is there now: the handshake is done."""
        self.is_confirmed, self._opening_until = True, None
        self._owes_first = not self.channel.has_sent
        self._handshake = None
        self._settle()

    def _settle(self) -> None:
        """Give back to the office what a half-done handshake held."""
        if self.office is None:
            return
        if self._is_half_open:
            self.office.half_open -= 1
            self._is_half_open = False
        if self._early_name:
            self.office.early_over(self._early_name)
            self._early_name = b""

    def _say_something(self, now: Instant) -> None:
        """Let the peer see a segment of the new epoch: a MAINTAIN that asks and answers nothing."""
        self.put(maintain_segment(0, 0, now + self.unix_offset_ns), DEFAULT_MSP, now)

    def _send(self, octets: bytes) -> None:
        self._out.append(octets)
        self.queued += len(octets)

    # --- epochs --------------------------------------------------------------------------------

    def _install(self, handshake: Handshake, epoch: int, now: Instant) -> None:
        """Take the keys of a complete handshake."""
        forward, back = handshake.split()
        ours, theirs = (forward, back) if self._is_initiator else (back, forward)
        self.channel.install(epoch, ours, theirs, now, sends=self._is_initiator)
        self._next_hash = handshake.handshake_hash
        if not epoch:
            self._hash = self._next_hash
        if (log := self.config.key_log) is not None:
            own, their = handshake.ephemeral, handshake.remote_ephemeral
            first = known(own if self._is_initiator else their, "every message 1 has e")
            log(first, epoch, "I", forward)
            log(first, epoch, "R", back)
        if self._is_initiator:
            limits = self.config.limits
            spread = int.from_bytes(self.entropy(4), "big") * limits.spread_ns >> 32
            # VPPN-4-01
            self._rekey_at = now + limits.rekey_ns + spread

    # VPPN-4-01
    def _note_wear(self, now: Instant) -> None:
        """Begin the next epoch soon if this one has carried much."""
        if self._rekey_at is not None and self.channel.is_settled and self.channel.is_worn:
            self._rekey_at = min(self._rekey_at, now)

    # VPPN-4-01
    def _rekey(self, now: Instant) -> None:
        """Begin the next epoch, once both directions have reached this one."""
        limits = self.config.limits
        if not self.channel.is_settled:
            self._rekey_at = now + limits.gap_ns
            return
        epoch = next_epoch(self.channel.epoch)
        self._handshake = self._begin(epoch)
        message = self._handshake.write_message(self._payload(1, now))
        octets = bytes([self.config.pattern, 0]) + message
        # VPPN-4-05: between the sealed segments, not inside them
        self._send(encode_message(MESSAGE_1, epoch, octets))
        self._attempt_until = now + limits.attempt_ns
        self._rekey_at = None

    def _read_rekey(self, epoch: int, octets: bytes, now: Instant) -> None:
        """Take the answer to a rekey; those to attempts that were given up come before it."""
        if self._abandoned:
            self._abandoned -= 1
            return
        handshake = self._handshake
        if handshake is None or epoch != next_epoch(self.channel.epoch):
            raise DecodeError(0, "epoch", Reason.EPOCH, epoch)
        payload = decode_payload(handshake.read_message(octets))
        if payload.plain:
            raise DecodeError(0, "early", DECRYPT, len(payload.plain))
        if self._is_delayed:
            third = handshake.write_message(self._payload(3, now))
            self._send(encode_message(MESSAGE_3, epoch, third))
        self._handshake, self._attempt_until = None, None
        self.identity = Identity(self.config.pattern, self.config.peer, payload.certificate)
        self._install(handshake, epoch, now)
        # VPPN-4-03
        self._say_something(now)

    # VPPN-4-06
    def _answer_rekey(self, epoch: int, octets: bytes, now: Instant) -> None:
        """Take message 1 of the next epoch and answer it."""
        # VPPN-4-07
        if not self.channel.has_heard or epoch != next_epoch(self.channel.epoch):
            raise DecodeError(0, "epoch", Reason.EPOCH, epoch)
        gap_ns = self.config.limits.gap_ns
        if self._rekeys_until > now + gap_ns:
            raise DecodeError(0, "handshake", Reason.CHURN, 3, 2)
        self._rekeys_until = max(self._rekeys_until, now) + gap_ns
        pattern, message = split_first(octets)
        if pattern is not self.config.pattern:
            raise DecodeError(0, "pattern", DECRYPT, pattern)
        self._handshake = handshake = self._begin(epoch)
        payload = decode_payload(handshake.read_message(message))
        if payload.plain:
            raise DecodeError(0, "early", DECRYPT, len(payload.plain))
        self._send(encode_message(MESSAGE_2, epoch, handshake.write_message(self._payload(2, now))))
        if not self._is_delayed:
            self._finish_rekey(handshake, epoch, payload, now)

    def _finish_rekey(
        self, handshake: Handshake, epoch: int, payload: Payload, now: Instant
    ) -> None:
        # VPPN-4-02
        if handshake.remote_static != self._static:
            raise DecodeError(0, "static key", Reason.IDENTITY_MISMATCH)
        self._handshake = None
        self.identity = Identity(self.config.pattern, self._static, payload.certificate)
        self._install(handshake, epoch, now)
