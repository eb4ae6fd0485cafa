"""What the browser of adverts and the announcer of our own report."""

from dataclasses import dataclass

from powertcp.dpdp.advert import Advert
from powertcp.dpdp.entry import Entry, Service
from powertcp.machine import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertSeen(Event):
    """An advert is in the table that was not."""

    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertChanged(Event):
    """An advert says something else, or can be used more or less than before."""

    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertGone(Event):
    """An advert is no longer in the table. is_crowded_out: it had to make room for others."""

    entry: Entry
    is_crowded_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IdClash(Event):
    """Two adverts say to be of one provider, which is not us, at other ports or hosts."""

    entry: Entry
    other: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Downgrade(Event):
    """An advert lacks what its provider has shown before; `text` says what."""

    entry: Entry
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyWanted(Event):
    """A removal was reported: query once for `service`, then call `verified` within VERIFY_NS."""

    key: str
    service: Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Flooded(Event):
    """Adverts did not fit since the last report, at most one each minute. lost: how many."""

    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Event):
    """Announce `advert` as `instance`, then call `registered`, `refused` or `failed`.

    What is registered under another name is to be withdrawn before.
    """

    instance: str
    advert: Advert


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Event):
    """Announce `advert` under the name that is registered; `failed` if that cannot be done."""

    instance: str
    advert: Advert


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw(Event):
    """Send a goodbye for every record of `instance`."""

    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed(Event):
    """Our instance has another name from now on; `why` is a sentence for the log."""

    instance: str
    was: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contested(Event):
    """Somebody else announces `instance`, which is ours and stays so. other: what its id says."""

    instance: str
    other: str
