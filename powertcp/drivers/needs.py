"""What a consumer looks for, made of what it was told, and how adverts are judged by it.

The search of `powertcp consumer` and `powertcp discover --why` have this in common, so that the one
tells what the other does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from powertcp.dpdp.entry import Entry
from powertcp.dpdp.ranges import Ask as Wish
from powertcp.dpdp.select import DEFAULT_PREFER, NOWHERE, Candidate, Need, Situation, select
from powertcp.dpdp.trust import Trust
from powertcp.drivers.price import MaxPrice
from powertcp.potcp.events import Ask


def make_need(
    asks: Sequence[Ask],
    *,
    max_price: MaxPrice | None = None,
    sources: frozenset[str] | None = None,
    prefer: tuple[str, ...] = DEFAULT_PREFER,
    can_seal: bool = False,
    is_sealed_only: bool = False,
) -> Need:
    """Return the need of a consumer that wants every one of `asks`; see `judge`.

    max_price: None for any. The others are those of `Need`.
    """
    return Need(
        asks=tuple(_wish(ask) for ask in asks),
        max_price_micro=max_price.micro if max_price else None,
        currency=max_price.currency if max_price else "",
        sources=sources,
        prefer=prefer,
        can_seal=can_seal,
        is_sealed_only=is_sealed_only,
    )


def _wish(ask: Ask) -> Wish:
    """Return what the octets of a SYN say of a wish: what is compared is what is asked."""
    return Wish(ask.desired.as_sent(), ask.minimum.as_sent() if ask.minimum is not None else None)


def judge(
    entries: Iterable[Entry], need: Need, trust: Trust, seed: bytes, situation: Situation = NOWHERE
) -> list[Candidate]:
    """Return every advert with what speaks for it or against it, those for the first ask at first.

    Each ask of `need` is a flow of its own: an advert that does not do for one of them is rejected
    with that reason, whatever it has for the others.
    """
    here = list(entries)
    found: list[Candidate] = []
    for wish in reversed(need.asks):
        against = {one.entry.key: one for one in found if one.merits is None}
        judged = select(here, replace(need, asks=(wish,)), trust, seed, situation)
        found = [against.get(one.entry.key, one) for one in judged]
    return found
