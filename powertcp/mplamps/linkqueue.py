"""The queue of a link: 64 packets, and of a full one the least important goes first.

MPLampS section 2.2.
"""

from typing import Final

# MPLA-2.2-03
MAX_PACKETS: Final = 64


class LinkQueue:
    """Packets that wait for a link, in the order in which they came."""

    __slots__ = ("_packets",)

    def __init__(self) -> None:
        """Begin empty."""
        self._packets: list[bytes] = []

    def __len__(self) -> int:
        return len(self._packets)

    def push(self, packet: bytes) -> bytes | None:
        """Let a labelled packet wait; return the one that has to go for it, maybe itself.

        Count it as `Drop.QUEUE`. A packet has at least the third octet of its stack.
        """
        self._packets.append(packet)
        if len(self._packets) <= MAX_PACKETS:
            return None
        # MPLA-2.2-03
        at = min(range(MAX_PACKETS, -1, -1), key=lambda at: _traffic_class(self._packets[at]))
        dropped = self._packets[at]
        del self._packets[at]
        return dropped

    def pop(self) -> bytes | None:
        """Return the packet that waits longest, None if there is none."""
        return self._packets.pop(0) if self._packets else None


def _traffic_class(packet: bytes) -> int:
    return packet[2] >> 1 & 7
