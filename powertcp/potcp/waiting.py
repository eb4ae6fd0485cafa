"""Blocks of a feed that wait for their signature, within bounds that no sender shifts for others."""

from collections.abc import Callable
from typing import Final

from powertcp.machine import Address
from powertcp.potcp.epoch import Block
from powertcp.units import NS_PER_S, Duration, Instant

# blocks that wait, of all senders: 40 signatures' worth, 1.2 MB
PENDING_MAX: Final = 1024
# of one sender: 10 signatures' worth; so many places are kept for the one that is known
SENDER_MAX: Final = 256
STRANGERS_MAX: Final = PENDING_MAX - SENDER_MAX
# who sent two new signatures stays the known one so long after each
KNOWN_NS: Final[Duration] = 5 * NS_PER_S


class Waiting:
    """Blocks by digest. Who floods loses its own; those of `known` make way for its own alone.

    known: who sends the signatures that hold and are new; None: nobody yet, or the peer of a
    connection. An address can be forged: who forges that of `known` takes its places.
    """

    __slots__ = ("_blocks", "_known_until", "_rooms", "known")

    def __init__(self) -> None:
        """Nothing waits."""
        self.known: Address | None = None
        self._known_until: Instant | None = None
        self._blocks: dict[bytes, tuple[Block, Address | None]] = {}
        self._rooms: dict[Address | None, dict[bytes, None]] = {}

    def __len__(self) -> int:
        """Return how many blocks wait."""
        return len(self._blocks)

    def __contains__(self, digest: bytes) -> bool:
        """Return whether a block waits."""
        return digest in self._blocks

    def note_signer(self, sender: Address | None, now: Instant, *, is_first: bool) -> None:
        """Take note of who sent a signature that holds and is newer than every one before.

        is_first: of its epoch. A signature that was lost on its way may come from anybody: one is
        not enough to take the place of who sends them all.
        """
        # PTCP-14-01
        if sender == self.known and not is_first:
            self._known_until = now + KNOWN_NS
        elif is_first or self._known_until is None or now >= self._known_until:
            self.known, self._known_until = sender, None

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
