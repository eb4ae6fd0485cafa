"""What passes between the resolver's threads and trio: sightings, and our own advert."""

from dataclasses import dataclass
from typing import NamedTuple

from powertcp.dpdp.entry import Service, key_of


class Sighting(NamedTuple):
    """One instance was seen or went. service: None while something of it is missing, or when it went."""

    kind: str
    instance: str
    service: Service | None
    is_gone: bool

    @property
    def key(self) -> str:
        """What its entry is kept under."""
        return key_of(self.kind, self.instance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What we announce: instance without type, kind, target of SRV, its addresses, port, TXT."""

    instance: str
    kind: str
    host: str
    addresses: tuple[str, ...]
    port: int
    txt: bytes
