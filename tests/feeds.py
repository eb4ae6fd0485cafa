"""A feed for tests: a source with its generator, and what its pieces say. Not collected."""

from collections.abc import Iterable
from typing import Any

from powertcp.crypto import SigningKey
from powertcp.dve import default_sampling, integrate_many
from powertcp.machine import Event
from powertcp.potcp.feed import FeedSource, Piece, payload_max
from powertcp.potcp.receiver import FeedReceiver
from powertcp.profile import PowerProfile, ProfileType
from powertcp.sources import Generator

KEY = SigningKey(bytes(range(32)))
OTHER_KEY = SigningKey(bytes(32))
GROUP = ("239.255.80.84", 3251)
MS = 1_000_000
SECOND = 1_000_000_000


class Broadcast:
    """A source that emits a block whenever it is told, on its own clock."""

    def __init__(self, power: str = "12V/0.5A", *, epoch: int = 7, key: SigningKey = KEY) -> None:
        grant = PowerProfile.parse(power, ProfileType.GRANT)
        self.sampling = default_sampling(grant)
        self.source = FeedSource(
            key=key.public, sign=key.sign, epoch=epoch, profile=grant, sampling=self.sampling
        )
        self.generator = Generator(grant, self.sampling, msp=payload_max(grant, self.sampling))
        self.now = SECOND
        self.counter = 0

    def emit(self, blocks: int = 1, *, ece: bool = False) -> list[Piece]:
        """Emit blocks, each a period after the one before; return the pieces."""
        for _ in range(blocks):
            self.source.handle_timer(self.now)
            payload, _, n, _ = self.generator.block(self.counter, self.source.profile.power_mw)
            [sums] = integrate_many([payload], self.source.window_samples)
            self.source.emit(payload, sums, ece=ece, now=self.now)
            self.counter += n
            self.now += self.generator.period_ns
        self.source.handle_timer(self.now)
        return self.source.pieces()

    def end(self) -> list[Piece]:
        """Emit no more; return the last signature."""
        self.source.finish()
        return self.source.pieces()


def hear(receiver: FeedReceiver, pieces: Iterable[Piece | bytes], now: int = SECOND) -> None:
    """Give each piece to `receiver` as a datagram."""
    for piece in pieces:
        octets = piece.octets if isinstance(piece, Piece) else piece
        receiver.receive_datagram(octets, GROUP, now)


def events(machine: Any) -> list[Event]:
    """Drain the events of a machine."""
    found: list[Event] = []
    while (event := machine.next_event()) is not None:
        found.append(event)
    return found
