"""Whom a flow may be moved to: of those that would do, not the one that it has (DPDP 10)."""

import ipaddress
from collections.abc import Sequence

from powertcp.dpdp.entry import Address, Standing
from powertcp.dpdp.select import Candidate
from powertcp.drivers.guide import Place
from powertcp.drivers.interfaces import Interface


def neighbour(
    kept: Sequence[Candidate], place: Place, keys: Sequence[str], without: Interface | None
) -> tuple[Candidate, Address] | None:
    """Return the best of `kept` with its address.

    keys: of adverts, empty: any. without: an interface that has no link.
    First another provider that shares our contract, then the others in their order, then suspects,
    who may have copied its id, another address of the one that is left last.
    """
    found: list[tuple[bool, bool, bool, int, Candidate, Address]] = []
    for index, one in enumerate(kept):
        usable = (each for each in one.entry.addresses if not _is_behind(each, without))
        address = next((each for each in usable if each != place.address), None)
        if address is None or (keys and one.entry.key not in keys):
            continue
        is_same = one.entry.key == place.key
        is_stranger = one.entry.advert is None or one.entry.advert.id != place.provider
        is_suspect = one.entry.standing is Standing.SUSPECT
        found.append((is_same, is_suspect, is_stranger, index, one, address))
    if not found:
        return None
    *_, best, address = min(found, key=lambda one: one[:4])
    return best, address


def _is_behind(address: Address, interface: Interface | None) -> bool:
    """Return whether an address is reached over an interface, as far as its prefixes say."""
    if interface is None:
        return False
    if address.scope:
        return address.scope == interface.name
    own = ipaddress.ip_address(address.host)
    return any(own in each.network for each in interface.addresses)


# DPDP-10-03
def better_keys(candidates: Sequence[Candidate], place: Place) -> tuple[str, ...]:
    """Return who is better than the provider of `place` in a step that counts, the best first."""
    present = next((one for one in candidates if one.entry.key == place.key), None)
    if present is None:
        return ()
    return tuple(
        one.entry.key
        for one in candidates
        if one is not present and one.entry.addresses and one.beats(present)
    )
