"""Addresses at which a provider did not answer, and until when they are left alone (4-06)."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from powertcp.dpdp.entry import Address
from powertcp.units import NS_PER_S, Duration, Instant

FIRST_NS: Final[Duration] = 30 * NS_PER_S
LONGEST_NS: Final[Duration] = 3600 * NS_PER_S
# between two pardons of one id: who announces itself in a loop gets no more than one SYN in this time
PARDON_NS: Final[Duration] = 30 * NS_PER_S
# addresses remembered; each took an attempt of ours of seconds. The oldest are forgotten
MAX_DEAD: Final = 4096
# ids whose goodbye was verified; two tables full. Of the oldest an announcement is no news
MAX_GONE: Final = 4096


class DeadList:
    """Who did not answer where: dead for 30 s, then twice as long each time, 1 h at most.

    News of a provider is a reason to ask it sooner, at most once in 30 s.
    """

    __slots__ = ("_gone", "_pardons", "_pauses")

    def __init__(self) -> None:
        self._pauses: OrderedDict[tuple[bytes, Address], tuple[Instant, Duration]] = OrderedDict()
        # when each was, or is to be, pardoned last
        self._pardons: OrderedDict[bytes, Instant] = OrderedDict()
        self._gone: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._pauses)

    def failed(self, provider: bytes, address: Address, now: Instant) -> None:
        """Note that a provider did not answer; of attempts at one time the first counts."""
        until, pause = self._pauses.get((provider, address), (now, 0))
        if now < until:
            return
        # DPDP-4-06
        pause = min(2 * pause, LONGEST_NS) or FIRST_NS
        self._pauses[provider, address] = now + pause, pause
        self._pauses.move_to_end((provider, address))
        if len(self._pauses) > MAX_DEAD:
            self._pauses.popitem(last=False)

    def succeeded(self, provider: bytes, address: Address) -> None:
        """Note that a flow came about: nothing is held against this address any more."""
        self._pauses.pop((provider, address), None)

    def gone(self, provider: bytes) -> None:
        """Note that a provider has left the link: that it comes back is news."""
        self._gone[provider] = None
        self._gone.move_to_end(provider)
        if len(self._gone) > MAX_GONE:
            self._gone.popitem(last=False)

    def came(self, provider: bytes, addresses: Iterable[Address], now: Instant) -> None:
        """Note that a provider is announced that was not there before: see `gone`."""
        if provider in self._gone:
            del self._gone[provider]
            self.pardon(provider, addresses, now)

    def pardon(self, provider: bytes, addresses: Iterable[Address], now: Instant) -> None:
        """Let `addresses` be tried now, or 30 s after the last pardon; the next pause is no shorter."""
        last = self._pardons.get(provider, now - PARDON_NS)
        # DPDP-4-06
        at = last if last > now else max(now, last + PARDON_NS)
        for address in addresses:
            until, pause = self._pauses.get((provider, address), (now, 0))
            if until > at:
                self._pauses[provider, address] = at, pause
                self._pardons[provider] = at
                self._pardons.move_to_end(provider)
        if len(self._pardons) > MAX_DEAD:
            self._pardons.popitem(last=False)

    def alive(
        self, provider: bytes, addresses: Iterable[Address], now: Instant
    ) -> tuple[tuple[Address, ...], Instant]:
        """Return those that may be tried, and when the next of the others may; 0 for never."""
        found: list[Address] = []
        soonest: Instant = 0
        for address in addresses:
            until, _ = self._pauses.get((provider, address), (now, 0))
            if until <= now:
                found.append(address)
            else:
                soonest = min(soonest or until, until)
        return tuple(found), soonest
