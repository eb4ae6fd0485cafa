"""The Noise handshake as an engine over message tokens, without I/O: VPPN section 2.1.

Noise Protocol Framework, revision 34, section 5. Keys and entropy are arguments, so that vectors
replay; encapsulation is one, too, because the library draws its own.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Literal

from powertcp import crypto
from powertcp.crypto import DECRYPT, KEY_OCTETS, TAG_OCTETS, Aead, ExchangeKey, KemKey, PeerKey
from powertcp.errors import DecodeError, LocalProtocolError, known
from powertcp.machine import Buffer, Entropy
from powertcp.vppn.patterns import DH_KEYS, NoiseProtocol, Token

# encapsulate(public) returns the shared secret and the ciphertext: `crypto.encapsulate`
Encapsulate = Callable[[bytes], tuple[bytes, bytes]]
Order = Literal["little", "big"]

# Noise, section 3: a message is no longer than this
MESSAGE_LIMIT = 65_535
# Noise, section 5.1: the last counter is never used
COUNTER_LIMIT = (1 << 64) - 1
PROLOGUE = b"powertcp-vppn-1"


class PatternId(IntEnum):
    """The handshakes that are offered, by the octet that names them in message 1."""

    IK = 1
    XK = 2
    NK = 3
    IK_CLASSIC = 17
    XK_CLASSIC = 18
    NK_CLASSIC = 19

    @property
    def word(self) -> str:
        """Return what `--pattern` calls it."""
        return self.name.lower().replace("_", "-")

    @property
    def is_classic(self) -> bool:
        """Return whether it goes without ML-KEM: only where both sides allow that."""
        return self >= PatternId.IK_CLASSIC


# VPPN-2.1-01
PROTOCOLS: Mapping[PatternId, NoiseProtocol] = MappingProxyType(
    {
        number: NoiseProtocol.make(f"Noise_{pattern}_ChaChaPoly_BLAKE2s")
        for number, pattern in {
            PatternId.IK: "IKhfs_25519+MLKEM768",
            PatternId.XK: "XKhfs_25519+MLKEM768",
            PatternId.NK: "NKhfs_25519+MLKEM768",
            PatternId.IK_CLASSIC: "IK_25519",
            PatternId.XK_CLASSIC: "XK_25519",
            PatternId.NK_CLASSIC: "NK_25519",
        }.items()
    }
)


def prologue(pattern: PatternId, previous_hash: bytes = b"") -> bytes:
    """Return what both sides agree on before a handshake.

    previous_hash: the handshake hash of the epoch before; nothing for epoch 0.
    """
    # VPPN-2.1-04
    return PROLOGUE + bytes([pattern]) + previous_hash


class Cipher:
    """One direction's key and its counter, which rises by 1 with each text."""

    __slots__ = ("_aead", "_order", "counter")

    def __init__(self, name: str, key: bytes, counter: int = 0) -> None:
        """Take the name of the cipher, a key of 32 octets, and the counter of the next text."""
        self._aead = Aead(key, name)
        self._order: Order = "little" if name == "ChaChaPoly" else "big"
        # of the next text
        self.counter = counter

    def seal(self, text: bytes, associated: bytes = b"") -> bytes:
        """Return `text` sealed. Raises LocalProtocolError when the counter is at its end."""
        return self._aead.seal(self._nonce(), text, associated)

    def unseal(self, sealed: Buffer, associated: bytes = b"") -> bytes:
        """Return the text of `seal`. Raises DecodeError 509; the direction is of no use then."""
        return self._aead.unseal(self._nonce(), sealed, associated)

    def _nonce(self) -> bytes:
        counter = self.counter
        if counter >= COUNTER_LIMIT:
            raise LocalProtocolError(f"counter {counter} is never used: a new key is needed")
        self.counter = counter + 1
        return bytes(4) + counter.to_bytes(8, self._order)


class Symmetric:
    """What both sides have hashed and mixed so far: the SymmetricState of Noise."""

    __slots__ = ("_chaining", "_cipher", "_protocol", "hash")

    def __init__(self, protocol: NoiseProtocol, prologue: bytes) -> None:
        self.hash = protocol.start
        self._protocol = protocol
        self._chaining = self.hash
        self._cipher: Cipher | None = None
        self.mix_hash(prologue)

    @property
    def tag_octets(self) -> int:
        """Return by how much a text grows: 16 once there is a key, 0 before."""
        return TAG_OCTETS if self._cipher else 0

    def mix_hash(self, octets: bytes) -> None:
        """Take octets into the hash of the conversation."""
        self.hash = crypto.hash_octets(self._protocol.hashing, self.hash + octets)

    def mix_key(self, secret: bytes) -> None:
        """Take a secret into the keys."""
        self._chaining, key = self._derive(secret, 2)
        self._use(key)

    def mix_key_and_hash(self, secret: bytes) -> None:
        """Take a pre-shared key into the keys and the hash."""
        self._chaining, mixed, key = self._derive(secret, 3)
        self.mix_hash(mixed)
        self._use(key)

    def seal_and_hash(self, text: bytes) -> bytes:
        """Return `text` as it travels: sealed once there is a key."""
        sealed = self._cipher.seal(text, self.hash) if self._cipher else text
        self.mix_hash(sealed)
        return sealed

    def unseal_and_hash(self, sealed: bytes) -> bytes:
        """Return the text of `seal_and_hash`. Raises DecodeError 509."""
        text = self._cipher.unseal(sealed, self.hash) if self._cipher else sealed
        self.mix_hash(sealed)
        return text

    def split(self) -> tuple[bytes, bytes]:
        """Return the keys of the two directions, 32 octets each."""
        forward, back = self._derive(b"", 2)
        return forward[:KEY_OCTETS], back[:KEY_OCTETS]

    def _derive(self, secret: bytes, count: int) -> list[bytes]:
        size = len(self.hash)
        made = crypto.hkdf(self._protocol.hashing, self._chaining, secret, count * size)
        return [made[at : at + size] for at in range(0, count * size, size)]

    def _use(self, key: bytes) -> None:
        self._cipher = Cipher(self._protocol.cipher, key[:KEY_OCTETS])


class Handshake:
    """One side of one handshake: messages are written and read in turn until it is complete.

    After an error of `read_message`, and of `write_message` for a peer's key, every further call
    raises LocalProtocolError: begin anew with a new one.
    """

    __slots__ = (
        "_done",
        "_encapsulate",
        "_entropy",
        "_is_broken",
        "_is_initiator",
        "_kem",
        "_own",
        "_peers",
        "_protocol",
        "_psks",
        "_symmetric",
        "_their",
    )

    def __init__(
        self,
        protocol: NoiseProtocol,
        *,
        is_initiator: bool,
        entropy: Entropy,
        prologue: bytes = b"",
        static: ExchangeKey | None = None,
        remote_static: bytes | None = None,
        psks: tuple[bytes, ...] = (),
        encapsulate: Encapsulate = crypto.encapsulate,
    ) -> None:
        """Take the keys that the pattern wants of this side, neither more nor less.

        entropy: asked for 32 octets at e and 64 at e1. psks: in the order of their use.
        Raises LocalProtocolError for a key that is missing, not used, or of a wrong length, and
        where a hybrid pattern is asked of a library without ML-KEM.
        """
        # VPPN-2.1-02
        if protocol.is_hybrid and not crypto.HAS_KEM:
            raise LocalProtocolError(
                f"{protocol.name}: the cryptography library of this machine has no ML-KEM-768"
            )
        own, their = ("i", "r") if is_initiator else ("r", "i")
        wants = own in protocol.known or protocol.sends_static(is_initiator=is_initiator)
        if (static is not None) != wants:
            needs = "needs a" if wants else "has no use for a"
            raise LocalProtocolError(f"{protocol.name}: this side {needs} static key")
        if (remote_static is not None) != (their in protocol.known):
            needs = "needs" if remote_static is None else "has no use for"
            raise LocalProtocolError(f"{protocol.name}: this side {needs} the peer's static key")
        given = psks if remote_static is None else (*psks, remote_static)
        if len(psks) != protocol.psks or any(len(key) != KEY_OCTETS for key in given):
            raise LocalProtocolError(
                f"{protocol.name}: {protocol.psks} pre-shared keys, each key of {KEY_OCTETS} octets"
            )
        self._protocol = protocol
        self._is_initiator = is_initiator
        self._entropy = entropy
        self._encapsulate = encapsulate
        self._psks = list(psks)
        self._own = {Token.S: static} if static else {}
        self._their = {Token.S: remote_static} if remote_static else {}
        # of those, what exchanges take, once one was made
        self._peers: dict[Token, PeerKey] = {}
        self._kem: KemKey | None = None
        self._symmetric = Symmetric(protocol, prologue)
        self._done = 0
        self._is_broken = False
        statics = {own: static.public if static else None, their: remote_static}
        for side in protocol.known:
            self._symmetric.mix_hash(known(statics[side], "a key known before is there"))

    @property
    def is_complete(self) -> bool:
        """Return whether the last message was written or read."""
        return not self._is_broken and self._done == len(self._protocol.messages)

    @property
    def may_write(self) -> bool:
        """Return whether the next message is for this side to write."""
        return self._has_turn(is_writing=True)

    @property
    def handshake_hash(self) -> bytes:
        """Return h, the binding to this very channel: of the whole handshake once complete."""
        return self._symmetric.hash

    @property
    def remote_static(self) -> bytes | None:
        """Return the peer's static key, once it is known; proven only when the message is read."""
        return self._their.get(Token.S)

    @property
    def ephemeral(self) -> bytes | None:
        """Return this side's ephemeral key, once it is made."""
        own = self._own.get(Token.E)
        return own.public if own else None

    @property
    def remote_ephemeral(self) -> bytes | None:
        """Return the peer's ephemeral key, once it is known."""
        return self._their.get(Token.E)

    def write_message(self, payload: bytes = b"") -> bytes:
        """Return the next message of this side.

        Raises LocalProtocolError, state unchanged, out of turn or after an error; LocalProtocolError
        for a message above 65,535 octets, and DecodeError 509 if the peer's key is of low order:
        after these two nothing more can be done.
        """
        tokens = self._begin(is_writing=True)
        parts = [self._write(token) for token in tokens]
        message = b"".join([*parts, self._symmetric.seal_and_hash(payload)])
        if len(message) > MESSAGE_LIMIT:
            raise LocalProtocolError(
                f"message of {len(message):,} octets, at most {MESSAGE_LIMIT:,}"
            )
        self._end()
        return message

    def read_message(self, message: bytes) -> bytes:
        """Return the payload of the peer's next message.

        Raises DecodeError 509 for anything that the peer's side of this conversation did not write:
        after that nothing more can be done. LocalProtocolError, state unchanged, out of turn.
        """
        tokens = self._begin(is_writing=False)
        # VPPN-2.1-03
        if len(message) > MESSAGE_LIMIT:
            raise DecodeError(0, "handshake", DECRYPT, len(message), MESSAGE_LIMIT)
        at = 0
        for token in tokens:
            at = self._read(token, message, at)
        payload = self._symmetric.unseal_and_hash(message[at:])
        self._end()
        return payload

    def split(self) -> tuple[bytes, bytes]:
        """Return the keys from initiator to responder and back, 32 octets each.

        Raises LocalProtocolError before the handshake is complete.
        """
        if not self.is_complete:
            raise LocalProtocolError("the handshake is not complete")
        return self._symmetric.split()

    # ---- turns ----------------------------------------------------------------------------------

    def _has_turn(self, *, is_writing: bool) -> bool:
        if self._is_broken or self._done == len(self._protocol.messages):
            return False
        return is_writing == (self._is_initiator == (self._done % 2 == 0))

    def _begin(self, *, is_writing: bool) -> tuple[Token, ...]:
        """Return the tokens of the next message; broken until `_end` says otherwise."""
        if not self._has_turn(is_writing=is_writing):
            verb = "write" if is_writing else "read"
            state = "broken" if self._is_broken else f"after {self._done} messages"
            raise LocalProtocolError(f"{self._protocol.name}: nothing to {verb}, {state}")
        # VPPN-2.1-03
        self._is_broken = True
        return self._protocol.messages[self._done]

    def _end(self) -> None:
        self._done += 1
        self._is_broken = False

    # ---- tokens ---------------------------------------------------------------------------------

    def _write(self, token: Token) -> bytes:
        """Do what `token` means for who writes it; return its octets."""
        match token:
            case Token.E:
                ephemeral = ExchangeKey(self._entropy(KEY_OCTETS))
                self._own[Token.E] = ephemeral
                self._take_ephemeral(ephemeral.public)
                return ephemeral.public
            case Token.S:
                return self._symmetric.seal_and_hash(self._own[Token.S].public)
            case Token.E1:
                # VPPN-2.1-02
                self._kem = KemKey(self._entropy(crypto.KEM_SEED_OCTETS))
                return self._symmetric.seal_and_hash(self._kem.public)
            case Token.EKEM1:
                # VPPN-2.1-02
                secret, ciphertext = self._encapsulate(self._their[Token.E1])
                sealed = self._symmetric.seal_and_hash(ciphertext)
                self._symmetric.mix_key(secret)
                return sealed
            case _:
                self._mix(token)
                return b""

    def _read(self, token: Token, message: bytes, at: int) -> int:
        """Do what `token` means for who reads it; return where the next one begins."""
        match token:
            case Token.E:
                end = at + KEY_OCTETS
                self._their[Token.E] = ephemeral = self._cut(message, at, end)
                self._take_ephemeral(ephemeral)
            case Token.S | Token.E1:
                size = KEY_OCTETS if token is Token.S else crypto.KEM_PUBLIC_OCTETS
                end = at + size + self._symmetric.tag_octets
                sealed = self._cut(message, at, end)
                self._their[token] = self._symmetric.unseal_and_hash(sealed)
            case Token.EKEM1:
                end = at + crypto.KEM_CIPHERTEXT_OCTETS + self._symmetric.tag_octets
                ciphertext = self._symmetric.unseal_and_hash(self._cut(message, at, end))
                kem = known(self._kem, "e1 was written before ekem1 is read")
                # VPPN-2.1-02
                self._symmetric.mix_key(kem.decapsulate(ciphertext))
            case _:
                end = at
                self._mix(token)
        return end

    def _cut(self, message: bytes, start: int, end: int) -> bytes:
        """Return a part of the peer's message. Raises DecodeError 509 if it ends before."""
        # VPPN-2.1-03
        if len(message) < end:
            raise DecodeError(start, "handshake", DECRYPT, len(message), end)
        return message[start:end]

    def _take_ephemeral(self, public: bytes) -> None:
        self._symmetric.mix_hash(public)
        if self._protocol.psks:
            # Noise, section 9.2: so that no key is used twice with one pre-shared key
            self._symmetric.mix_key(public)

    def _mix(self, token: Token) -> None:
        """Mix a pre-shared key, or what two keys agree on."""
        if token is Token.PSK:
            self._symmetric.mix_key_and_hash(self._psks.pop(0))
            return
        kinds = DH_KEYS[token]
        own, their = kinds if self._is_initiator else kinds[::-1]
        # VPPN-2.1-03
        peer = self._peers.get(their)
        if peer is None:
            peer = self._peers[their] = PeerKey(self._their[their])
        self._symmetric.mix_key(self._own[own].exchange(peer))


__all__ = [
    "COUNTER_LIMIT",
    "MESSAGE_LIMIT",
    "PROTOCOLS",
    "Cipher",
    "Encapsulate",
    "Handshake",
    "PatternId",
    "prologue",
]
