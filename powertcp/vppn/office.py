"""What the responders of a process share: half-done handshakes, cookies, first flights seen.

VPPN sections 2.2 and 2.3.
"""

from collections import OrderedDict
from typing import Final, Protocol

from powertcp.units import NS_PER_S, Duration, Instant

HALF_OPEN_COOKIE: Final = 256
HALF_OPEN_REFUSE: Final = 1024
# VPPN-2.3-02
CLOCKS_APART_NS: Final[Duration] = 60 * NS_PER_S
# VPPN-2.3-06
REMEMBERED_NS: Final[Duration] = 120 * NS_PER_S
REMEMBERED_MAX: Final = 65_536


class Cookies(Protocol):
    """Whoever makes cookies and knows them again, without keeping them."""

    def cookie(self, peer: bytes, flow: int, options: bytes, now: Instant) -> bytes:
        """Return the cookie of what a peer sent, 32 octets."""

    def has_cookie(
        self, cookie: bytes | None, peer: bytes, flow: int, options: bytes, now: Instant
    ) -> bool:
        """Return whether `cookie` was given for this."""


class SealOffice:
    """Half-done handshakes and early SYNs of all connections of a process.

    started_ns: Unix time of its start; what was said before cannot be told from a replay.
    Bounds: 1,024 half-done handshakes, 65,536 ephemeral keys, one early SYN for each identity.
    """

    __slots__ = ("_early", "_seen", "cookies", "half_open", "started_ns")

    def __init__(self, cookies: Cookies, started_ns: int) -> None:
        self.cookies = cookies
        self.started_ns = started_ns
        self.half_open = 0
        # ephemeral keys of first messages and when they came, oldest first
        self._seen: OrderedDict[bytes, int] = OrderedDict()
        # identities whose early SYN has a reservation
        self._early: set[bytes] = set()

    # VPPN-2.2-06
    @property
    def needs_cookie(self) -> bool:
        """Whether a first message without cookie gets one, and no key is computed."""
        return self.half_open >= HALF_OPEN_COOKIE

    @property
    def is_full(self) -> bool:
        """Whether a first message is refused whatever it carries."""
        return self.half_open >= HALF_OPEN_REFUSE

    # VPPN-2.3-02
    def meets(self, ephemeral: bytes, said_ns: int, unix_ns: int) -> bool:
        """Return whether a first message is surely no replay, and note it.

        ephemeral: the initiator's key in it. said_ns: Unix time in it.
        """
        seen = self._seen
        # VPPN-2.3-06
        while seen and next(iter(seen.values())) <= unix_ns - REMEMBERED_NS:
            seen.popitem(last=False)
        is_fresh = (
            abs(said_ns - unix_ns) <= CLOCKS_APART_NS
            and said_ns > self.started_ns
            and ephemeral not in seen
            and len(seen) < REMEMBERED_MAX
        )
        if not is_fresh:
            return False
        seen[ephemeral] = unix_ns
        return True

    def takes_early(self, who: bytes, ephemeral: bytes, said_ns: int, unix_ns: int) -> bool:
        """Return whether the SYN of a first message is used now, and note it.

        who: the identity, or the peer's address where it has none. False: it may be a replay, or
        this identity has a reservation by such a SYN.
        """
        return self.meets(ephemeral, said_ns, unix_ns) and self.reserves(who)

    # VPPN-2.3-03
    def reserves(self, who: bytes) -> bool:
        """Return whether `who` has no reservation by an early SYN yet, and note this one."""
        if who in self._early:
            return False
        self._early.add(who)
        return True

    def early_over(self, who: bytes) -> None:
        """Note that an early SYN holds nothing more, or that its sender is proven."""
        self._early.discard(who)
