"""What TCP subscribers of a feed have still to get: one ring for all of them (P13)."""

from collections import deque
from typing import NamedTuple

from powertcp.drivers.wire import Wire
from powertcp.machine import Event
from powertcp.potcp.feed import Piece

RING_BLOCKS = 64  # blocks that a slow subscriber may be behind
# signatures kept for who reads nothing: more than T_WRITE of the fastest feed, then he is cut off
RING_PIECES = 4096


class Joined(NamedTuple):
    """Pieces as one object; lost: blocks between them that are gone."""

    octets: bytes
    lost: int


class Subscriber:
    """A wire that hears the feed: the next piece it gets, and what it lost."""

    __slots__ = ("at", "lost", "wire")

    def __init__(self, wire: Wire[Event], at: int) -> None:
        """Hear what comes from piece `at` on."""
        self.wire = wire
        self.at = at
        self.lost = 0


class Ring:
    """The pieces of a feed: every signature, and the last 64 blocks."""

    def __init__(self) -> None:
        """Nothing was sent."""
        self.end = 0  # number of the next piece
        self._first = 0  # number of the oldest kept
        self._pieces: deque[Piece | None] = deque()  # None: a block that is gone
        self._blocks: deque[int] = deque()  # numbers of the blocks that are kept

    def add(self, piece: Piece) -> None:
        """Keep a piece; the oldest block goes when there are more than 64."""
        self._pieces.append(piece)
        if piece.is_block:
            self._blocks.append(self.end)
            if len(self._blocks) > RING_BLOCKS:
                self._pieces[self._blocks.popleft() - self._first] = None
        self.end += 1

    def since(self, at: int) -> Joined | None:
        """Return all pieces from number `at` on; None when signatures of them are gone."""
        if at < self._first:
            return None
        kept = [self._pieces[number - self._first] for number in range(at, self.end)]
        octets = b"".join([piece.octets for piece in kept if piece is not None])
        return Joined(octets, kept.count(None))

    def trim(self, slowest: int) -> None:
        """Forget what every subscriber has; at most 4096 pieces stay."""
        least = max(slowest, self.end - RING_PIECES)
        while self._first < least and self._pieces:
            if self._blocks and self._blocks[0] == self._first:
                self._blocks.popleft()
            self._pieces.popleft()
            self._first += 1
