"""Two sides of a Noise handshake from octets that a test or a vector gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from powertcp.crypto import KEM_SEED_OCTETS, KEY_OCTETS, ExchangeKey, encapsulate
from powertcp.vppn import Cipher, Handshake, NoiseProtocol
from powertcp.vppn.noise import Encapsulate


@dataclass(kw_only=True)
class Sides:
    """What makes the two sides of one conversation; `initiator` and `responder` make them anew."""

    protocol: NoiseProtocol
    statics: tuple[bytes, bytes]
    ephemerals: tuple[bytes, bytes]
    kem_seed: bytes = b""
    prologue: bytes = b""
    psks: tuple[bytes, ...] = ()
    encapsulate: Encapsulate = encapsulate
    keys: list[ExchangeKey] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = [ExchangeKey(secret) for secret in self.statics]

    def side(self, number: int) -> Handshake:
        names = ("i", "r")
        known = self.protocol.known
        is_initiator = number == 0
        has = names[number] in known or self.protocol.sends_static(is_initiator=is_initiator)
        drawn = {KEY_OCTETS: self.ephemerals[number], KEM_SEED_OCTETS: self.kem_seed}
        return Handshake(
            self.protocol,
            is_initiator=is_initiator,
            entropy=drawn.__getitem__,
            prologue=self.prologue,
            static=self.keys[number] if has else None,
            remote_static=self.keys[1 - number].public if names[1 - number] in known else None,
            psks=self.psks,
            encapsulate=self.encapsulate,
        )

    def both(self) -> tuple[Handshake, Handshake]:
        return self.side(0), self.side(1)


def drawn(name: str, seed: int, prologue: bytes = b"") -> Sides:
    """Return sides with keys out of `seed`."""
    protocol, random = NoiseProtocol.make(name), Random(seed)
    return Sides(
        protocol=protocol,
        statics=(random.randbytes(32), random.randbytes(32)),
        ephemerals=(random.randbytes(32), random.randbytes(32)),
        kem_seed=random.randbytes(64),
        prologue=prologue,
        psks=tuple(random.randbytes(32) for _ in range(protocol.psks)),
    )


def talk(sides: Sides, payloads: Sequence[bytes] = ()) -> tuple[list[bytes], Handshake, Handshake]:
    """Hold the whole handshake; return its messages and both sides, complete."""
    both = sides.both()
    messages = []
    for number in range(len(sides.protocol.messages)):
        payload = payloads[number] if payloads else b""
        messages.append(both[number % 2].write_message(payload))
        assert both[1 - number % 2].read_message(messages[-1]) == payload
    return messages, *both


def ciphers(side: Handshake, protocol: NoiseProtocol) -> tuple[Cipher, Cipher]:
    """Return the two directions after the handshake, as this side has them."""
    forward, back = (Cipher(protocol.cipher, key) for key in side.split())
    return forward, back
