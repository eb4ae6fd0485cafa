"""Who is asked for power: the one provider that was named, or whoever a search finds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import trio

from powertcp.dpdp.entry import Address, Entry
from powertcp.dpdp.select import Current
from powertcp.dpdp.trust import Proof, Shown
from powertcp.drivers.dial import format_address
from powertcp.drivers.interfaces import Interface
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
    def key(self) -> str:
        """Of the advert that led here, "" without one."""
        return self.entry.key if self.entry is not None else ""

    @property
    def provider(self) -> bytes:
        """Who it is, as far as the advert or the address says."""
        advert = self.entry.advert if self.entry is not None else None
        return advert.id if advert is not None else str(self).encode()

    def __str__(self) -> str:
        return format_address(self.host, self.port)


class Sign(Enum):
    """What is heard of an advert that may be that of our provider."""

    GOODBYE = auto()  # said by whomever
    GONE = auto()  # verified
    OTHER = auto()  # it is there, or says something else


Heed = Callable[[str, Sign], None]


class Guide(Protocol):
    """Names the provider that is asked next, and hears what became of it.

    may_roam: whether there can be others than the one that was named.
    """

    may_roam: bool

    async def place(self, asks: Sequence[Ask], current: Current | None = None) -> Place:
        """Return whom to ask for `asks`; waits while there is nobody. current: preferred."""

    def failed(self, place: Place) -> bool:
        """Nobody answered there, or not who it was to be. Returns whether others may be asked."""

    def other(
        self,
        place: Place,
        asks: Sequence[Ask],
        keys: Sequence[str] = (),
        without: Interface | None = None,
    ) -> Place | None:
        """Return whom to move to from `place`, None for nobody.

        keys: of adverts, empty: any. without: an interface that has no link.
        """

    def better(self, place: Place, asks: Sequence[Ask], held_mw: int) -> Sequence[str]:
        """Return the keys of adverts that a flow of `held_mw` may be moved to by choice."""

    def listen(self, heed: Heed) -> None:
        """Tell `heed` of every advert what is news: by its key."""

    # DPDP-6-02
    def refused(self, place: Place, refusal: Refusal) -> bool:
        """It said no. Returns whether others may be asked."""

    def powered(self, place: Place, shown: Shown) -> None:
        """It gives power, and has shown who it is."""


class Named:
    """The guide of who was told whom to ask: always the same, whose no is a no."""

    may_roam = False

    def __init__(self, place: Place) -> None:
        self._place = place

    async def place(self, asks: Sequence[Ask], current: Current | None = None) -> Place:
        """Return the one provider."""
        await trio.lowlevel.cancel_shielded_checkpoint()
        return self._place

    def failed(self, place: Place) -> bool:
        """Nobody else may be asked."""
        return False

    def other(
        self,
        place: Place,
        asks: Sequence[Ask],
        keys: Sequence[str] = (),
        without: Interface | None = None,
    ) -> Place | None:
        """Nobody else may be asked."""
        return None

    def better(self, place: Place, asks: Sequence[Ask], held_mw: int) -> Sequence[str]:
        """Nobody else may be asked."""
        return ()

    def listen(self, heed: Heed) -> None:
        """There is no advert."""

    def refused(self, place: Place, refusal: Refusal) -> bool:
        """Nobody else may be asked."""
        return False

    def powered(self, place: Place, shown: Shown) -> None:
        """There is nothing to learn from it."""
