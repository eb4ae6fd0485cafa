"""The classic handshakes held with two other implementations, each side being either."""

from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Any, Protocol

import pytest
from dissononce.cipher.chachapoly import ChaChaPolyCipher
from dissononce.dh.x25519.private import PrivateKey
from dissononce.dh.x25519.public import PublicKey
from dissononce.dh.x25519.x25519 import X25519DH
from dissononce.hash.blake2s import Blake2sHash
from dissononce.processing.handshakepatterns.interactive.IK import IKHandshakePattern
from dissononce.processing.handshakepatterns.interactive.NK import NKHandshakePattern
from dissononce.processing.handshakepatterns.interactive.XK import XKHandshakePattern
from dissononce.processing.impl.cipherstate import CipherState
from dissononce.processing.impl.handshakestate import HandshakeState
from dissononce.processing.impl.symmetricstate import SymmetricState
from noise.connection import Keypair, NoiseConnection

from powertcp.crypto import ExchangeKey
from powertcp.vppn import PROTOCOLS, Cipher, Handshake, PatternId, prologue

# two peers, three patterns, two directions
RUNS = 10
FLOOR = 120
CLASSIC = tuple(pattern for pattern in PatternId if pattern.is_classic)


class Side(Protocol):
    """One end of a conversation, whoever wrote it."""

    def write(self, payload: bytes) -> bytes: ...
    def read(self, message: bytes) -> bytes: ...
    def seal(self, text: bytes) -> bytes: ...
    def unseal(self, sealed: bytes) -> bytes: ...
    def bound(self) -> bytes: ...


class Keys:
    """What one conversation is made of."""

    def __init__(self, random: Random, pattern: PatternId) -> None:
        self.pattern = pattern
        self.prologue = prologue(pattern, random.randbytes(random.choice((0, 32))))
        self.statics = (random.randbytes(32), random.randbytes(32))
        self.ephemeral = random.randbytes(32)
        self.public = ExchangeKey(self.statics[1]).public

    def own(self, number: int) -> bytes | None:
        is_anonymous = self.pattern is PatternId.NK_CLASSIC and number == 0
        return None if is_anonymous else self.statics[number]


class Ours:
    def __init__(self, keys: Keys, number: int) -> None:
        own = keys.own(number)
        self._number = number
        self._side = Handshake(
            PROTOCOLS[keys.pattern],
            is_initiator=number == 0,
            entropy=lambda size: keys.ephemeral[:size],
            prologue=keys.prologue,
            static=ExchangeKey(own) if own else None,
            remote_static=keys.public if number == 0 else None,
        )
        self._ciphers: list[Cipher] = []

    def write(self, payload: bytes) -> bytes:
        return self._side.write_message(payload)

    def read(self, message: bytes) -> bytes:
        return self._side.read_message(message)

    def seal(self, text: bytes) -> bytes:
        return self._direction(self._number).seal(text)

    def unseal(self, sealed: bytes) -> bytes:
        return self._direction(1 - self._number).unseal(sealed)

    def bound(self) -> bytes:
        return self._side.handshake_hash

    def _direction(self, way: int) -> Cipher:
        self._ciphers = self._ciphers or [Cipher("ChaChaPoly", key) for key in self._side.split()]
        return self._ciphers[way]


class Noiseprotocol:
    def __init__(self, keys: Keys, number: int) -> None:
        self._side: Any = NoiseConnection.from_name(PROTOCOLS[keys.pattern].name.encode())
        (self._side.set_as_responder if number else self._side.set_as_initiator)()
        self._side.set_prologue(keys.prologue)
        if own := keys.own(number):
            self._side.set_keypair_from_private_bytes(Keypair.STATIC, own)
        if number == 0:
            self._side.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, keys.public)
        self._side.start_handshake()

    def write(self, payload: bytes) -> bytes:
        return bytes(self._side.write_message(payload))

    def read(self, message: bytes) -> bytes:
        return bytes(self._side.read_message(message))

    def seal(self, text: bytes) -> bytes:
        return bytes(self._side.encrypt(text))

    def unseal(self, sealed: bytes) -> bytes:
        return bytes(self._side.decrypt(sealed))

    def bound(self) -> bytes:
        return bytes(self._side.get_handshake_hash())


class Dissononce:
    PATTERNS: Mapping[PatternId, Any] = MappingProxyType(
        {
            PatternId.IK_CLASSIC: IKHandshakePattern,
            PatternId.XK_CLASSIC: XKHandshakePattern,
            PatternId.NK_CLASSIC: NKHandshakePattern,
        }
    )

    def __init__(self, keys: Keys, number: int) -> None:
        own, agreement = keys.own(number), X25519DH()
        self._symmetric: Any = SymmetricState(CipherState(ChaChaPolyCipher()), Blake2sHash())
        self._side: Any = HandshakeState(self._symmetric, agreement)
        self._side.initialize(
            self.PATTERNS[keys.pattern](),
            number == 0,
            keys.prologue,
            s=agreement.generate_keypair(PrivateKey(own)) if own else None,
            rs=PublicKey(keys.public) if number == 0 else None,
        )
        self._number = number
        self._ciphers: Any = None

    def write(self, payload: bytes) -> bytes:
        made = bytearray()
        self._ciphers = self._side.write_message(payload, made)
        return bytes(made)

    def read(self, message: bytes) -> bytes:
        made = bytearray()
        self._ciphers = self._side.read_message(message, made)
        return bytes(made)

    def seal(self, text: bytes) -> bytes:
        return bytes(self._ciphers[self._number].encrypt_with_ad(b"", text))

    def unseal(self, sealed: bytes) -> bytes:
        return bytes(self._ciphers[1 - self._number].decrypt_with_ad(b"", sealed))

    def bound(self) -> bytes:
        return bytes(self._symmetric.get_handshake_hash())


def converse(sides: tuple[Side, Side], pattern: PatternId, random: Random) -> None:
    """Hold the handshake and three texts each way after it."""
    for number in range(len(PROTOCOLS[pattern].messages)):
        payload = random.randbytes(random.randrange(100))
        writer, reader = sides[number % 2], sides[1 - number % 2]
        assert reader.read(writer.write(payload)) == payload
    assert sides[0].bound() == sides[1].bound()
    for number in range(6):
        text = random.randbytes(random.randrange(1000))
        sender, receiver = sides[number % 2], sides[1 - number % 2]
        assert receiver.unseal(sender.seal(text)) == text


@pytest.mark.requirement("VPPN-2.1-01", "VPPN-2.1-04")
def test_live_with_two_other_implementations(seed: int) -> None:
    random, runs = Random(seed), 0
    peers: list[Callable[[Keys, int], Side]] = [Noiseprotocol, Dissononce]
    for peer in peers:
        for pattern in CLASSIC:
            for run in range(2 * RUNS):
                keys = Keys(random, pattern)
                first: Side = peer(keys, 0) if run % 2 else Ours(keys, 0)
                second: Side = Ours(keys, 1) if run % 2 else peer(keys, 1)
                converse((first, second), pattern, random)
                runs += 1
    assert runs >= FLOOR


@pytest.mark.parametrize("peer", [Noiseprotocol, Dissononce])
def test_a_peer_of_another_prologue_is_refused(peer: Callable[[Keys, int], Side]) -> None:
    keys = Keys(Random(1), PatternId.IK_CLASSIC)
    message = peer(keys, 0).write(b"")
    keys.prologue += b"!"
    with pytest.raises(Exception, match="509"):
        Ours(keys, 1).read(message)
