"""Blocks of a feed that wait for their signature, within bounds that no sender shifts for others."""

from collections.abc import Callable
from typing import Final

from powertcp.machine import Address
from powertcp.potcp.epoch import Block

# blocks that wait, of all senders: 40 signatures' worth, 1.2 MB
PENDING_MAX: Final = 1024
# of one sender: 10 signatures' worth; so many places are kept for the one whose signature held last
SENDER_MAX: Final = 256
STRANGERS_MAX: Final = PENDING_MAX - SENDER_MAX


class Waiting:
    """Blocks by digest. Who floods loses its own; those of `known` make way for its own alone.

    known: who sent the last signature that held; None: nobody yet, or the peer of a connection. An
    address can be forged: who forges that of `known` takes its places.
    """

    __slots__ = ("_blocks", "_rooms", "known")

    def __init__(self) -> None:
        """Nothing waits."""
        self.known: Address | None = None
        self._blocks: dict[bytes, tuple[Block, Address | None]] = {}
        self._rooms: dict[Address | None, dict[bytes, None]] = {}

    def __len__(self) -> int:
        """Return how many blocks wait."""
        return len(self._blocks)

    def __contains__(self, digest: bytes) -> bool:
        """Return whether a block waits."""
        return digest in self._blocks

    def put(self, digest: bytes, block: Block, sender: Address | None) -> bool:
        """Let a block wait, which does not yet; whether another one has to go for it."""
        self._blocks[digest] = (block, sender)
        room = self._rooms.setdefault(sender, {})
        room[digest] = None
        # PTCP-14-01
        if len(room) > SENDER_MAX:
            self.pop(next(iter(room)))
            return True
        if len(self._blocks) - len(self._rooms.get(self.known, ())) <= STRANGERS_MAX:
            return False
        # at most SENDER_MAX are passed over
        self.pop(next(old for old, (_, of) in self._blocks.items() if of != self.known))
        return True

    def pop(self, digest: bytes) -> Block | None:
        """Take a block out; None if it does not wait."""
        found = self._blocks.pop(digest, None)
        if found is None:
            return None
        block, sender = found
        room = self._rooms[sender]
        del room[digest]
        if not room:
            del self._rooms[sender]
        return block

    def keep(self, is_wanted: Callable[[Block], bool]) -> None:
        """Take out what is not wanted any more."""
        for digest in [old for old, (block, _) in self._blocks.items() if not is_wanted(block)]:
            self.pop(digest)

    def clear(self) -> None:
        """Let nothing wait."""
        self._blocks.clear()
        self._rooms.clear()
