"""The links of a simulation: how long a packet is under way, and which are lost, without a clock.

A link has two wires, one for each direction. Dice are BLAKE2s of a seed, a purpose and a count.
MPLampS section 8.
"""

from hashlib import blake2s
from typing import Final

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.linkqueue import LinkQueue
from powertcp.mplamps.topology import Link, Topology
from powertcp.units import NS_PER_S, Duration, Instant

# an IPv4 and a UDP header around each message and each labelled packet
HEADERS: Final = 28
_PPM: Final = 1_000_000
_MOST = 32


class Dice:
    """Octets that follow from a seed, a purpose and how many were drawn before: `Entropy`."""

    __slots__ = ("_count", "_head")

    def __init__(self, seed: int, purpose: str) -> None:
        """Take a seed of 64 bits, and what the dice are for."""
        self._head = seed.to_bytes(8, "big") + purpose.encode() + b"\0"
        self._count = 0

    def __call__(self, count: int) -> bytes:
        """Return `count` octets."""
        found = b""
        while len(found) < count:
            self._count += 1
            size = min(_MOST, count - len(found))
            octets = self._head + self._count.to_bytes(8, "big")
            found += blake2s(octets, digest_size=size).digest()
        return found

    def is_below(self, ppm: int) -> bool:
        """Return True in `ppm` of a million draws."""
        return int.from_bytes(self(8), "big") % _PPM < ppm


class Wire:
    """One direction of a link: octets go in at `source` and come out at `target`.

    number: of its link, as both ends know it. is_plain: nothing is lost and nothing waits.
    """

    __slots__ = (
        "_control_until", "_delay_ns", "_dice", "_loss_ppm", "_rate_bps", "_until", "index",
        "is_cut", "is_plain", "lost", "name", "number", "plain_ns", "queue", "source",
        "source_address", "target", "target_address",
    )  # fmt: skip

    def __init__(self, topology: Topology, link: Link, source: str, index: int, seed: int) -> None:
        """Make the wire of a link that begins at node `source`; `index` is its own number."""
        self.index = index
        self.number = link.number
        self.name = link.name
        self.source = source
        self.target = link.other(source)
        self.source_address = topology.node(source).address
        self.target_address = topology.node(self.target).address
        self.plain_ns = self._delay_ns = link.delay_ns
        self._rate_bps = link.rate_bps
        self._loss_ppm = link.loss_ppm
        self._dice = Dice(seed, f"loss {source} {link.name}")
        self._until: Instant = 0
        self._control_until: Instant = 0
        self.queue = LinkQueue()
        self.lost = 0
        self.is_cut = False
        self.is_plain = link.rate_bps is None and not link.loss_ppm

    def cut(self, *, is_cut: bool) -> None:
        """Cut the wire, or mend it: what is under way then is lost."""
        self.is_cut = is_cut
        self.is_plain = not is_cut and self._rate_bps is None and not self._loss_ppm
        while self.queue.pop() is not None:
            self.lost += 1

    @property
    def is_limited(self) -> bool:
        """Whether octets take time to be sent: then packets wait in `queue`."""
        return self._rate_bps is not None

    def is_free(self, now: Instant) -> bool:
        """Return whether the next packet may be sent."""
        return now >= self._until

    @property
    def free_at(self) -> Instant:
        """When the packet before has been sent."""
        return self._until

    def control(self, size: int, now: Instant) -> Instant | None:
        """Return when a message of `size` octets comes out, None if it is lost.

        Messages wait for each other, not for packets: as network control has it (CS6).
        """
        if self._is_lost():
            return None
        begin = max(now, self._control_until)
        self._control_until = begin + self._sending_ns(size)
        return self._control_until + self._delay_ns

    def packet(self, size: int, now: Instant) -> Instant | None:
        """Return when a labelled packet comes out, None if it is lost.

        Raises LocalProtocolError while the one before is being sent.
        """
        if now < self._until:
            raise LocalProtocolError(f"{self.source} sends on {self.name} until {self._until} ns")
        self._until = now + self._sending_ns(size)
        return None if self._is_lost() else self._until + self._delay_ns

    def _sending_ns(self, size: int) -> Duration:
        if self._rate_bps is None:
            return 0
        return (size + HEADERS) * 8 * NS_PER_S // self._rate_bps

    def _is_lost(self) -> bool:
        if self.is_cut or (self._loss_ppm and self._dice.is_below(self._loss_ppm)):
            self.lost += 1
            return True
        return False
