"""Who is asked for power: the one provider that was named, or whoever a search finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from powertcp.dpdp.entry import Address, Entry
from powertcp.dpdp.trust import Proof, Shown
from powertcp.drivers.dial import format_address
from powertcp.potcp.events import Ask
from powertcp.registry import Refusal
from powertcp.vppn.config import SealConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A provider to ask: where it listens, how power from it is sealed, what it must prove.

    host: a name or an address, with its scope if it is link-local. seal: None in clear. proof: what
    the handshakes must show before any power is taken, None nothing. entry, address: the advert
    that led here, None without one.
    """

    host: str
    port: int
    seal: SealConfig | None = None
    proof: Proof | None = None
    entry: Entry | None = None
    address: Address | None = None

    @property
    def provider(self) -> bytes:
        """Who it is, as far as the advert or the address says."""
        advert = self.entry.advert if self.entry is not None else None
        return advert.id if advert is not None else str(self).encode()

    def __str__(self) -> str:
        return format_address(self.host, self.port)


class Guide(Protocol):
    """Names the provider that is asked next, and hears what became of it."""

    async def place(self, asks: Sequence[Ask]) -> Place:
        """Return whom to ask for `asks`; waits while there is nobody."""

    def failed(self, place: Place) -> bool:
        """Nobody answered there, or not who it was to be. Returns whether others may be asked."""

    def has_other(self, place: Place, asks: Sequence[Ask]) -> bool:
        """Return whether somebody else could be asked now."""

    # DPDP-6-02
    def refused(self, place: Place, refusal: Refusal) -> bool:
        """It said no. Returns whether others may be asked."""

    def powered(self, place: Place, shown: Shown) -> None:
        """It gives power, and has shown who it is."""


class Named:
    """The guide of who was told whom to ask: always the same, whose no is a no."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def place(self, asks: Sequence[Ask]) -> Place:
        """Return the one provider."""
        await trio.lowlevel.cancel_shielded_checkpoint()
        return self._place

    def failed(self, place: Place) -> bool:
        """Nobody else may be asked."""
        return False

    def has_other(self, place: Place, asks: Sequence[Ask]) -> bool:
        """Nobody else may be asked."""
        return False

    def refused(self, place: Place, refusal: Refusal) -> bool:
        """Nobody else may be asked."""
        return False

    def powered(self, place: Place, shown: Shown) -> None:
        """There is nothing to learn from it."""
