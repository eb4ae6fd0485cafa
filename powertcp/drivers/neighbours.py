"""Whom a flow may be moved to: of those that would do, not the one that it has (DPDP 10)."""

from collections.abc import Sequence

from powertcp.dpdp.entry import Address
from powertcp.dpdp.select import Candidate
from powertcp.drivers.guide import Place


def neighbour(
    kept: Sequence[Candidate], place: Place, keys: Sequence[str]
) -> tuple[Candidate, Address] | None:
    """Return the best of `kept` with its address; keys: of adverts, empty: any.

    First another provider that shares our contract, then the others in their order, another address
    of the one that is left last.
    """
    found: list[tuple[bool, bool, int, Candidate, Address]] = []
    for index, one in enumerate(kept):
        address = next((each for each in one.entry.addresses if each != place.address), None)
        if address is None or (keys and one.entry.key not in keys):
            continue
        is_same = one.entry.key == place.key
        is_stranger = one.entry.advert is None or one.entry.advert.id != place.provider
        found.append((is_same, is_stranger, index, one, address))
    if not found:
        return None
    *_, best, address = min(found, key=lambda one: one[:3])
    return best, address


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
