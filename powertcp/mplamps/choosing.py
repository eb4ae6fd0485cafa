"""Which supplier a lamp takes: the cheapest OFFER within its limit to which there is a way.

MPLampS section 6. What a tunnel knows of OFFERs is kept in it.
"""

from typing import Final

from powertcp.mplamps.market import MAX_OFFERS, choose_offer, find_better, is_within
from powertcp.mplamps.power import TariffKind, TariffObject
from powertcp.mplamps.rsvp.errors import Case
from powertcp.mplamps.wishes import Tunnel, Wish

# OFFERs that are taken in a row: prices move between an OFFER and the PATH that takes it, and there
# may be no room on the way
MAX_CHOICES: Final = MAX_OFFERS
_ANY_PRICE: Final = (1 << 63) - 1


def tariff_of(tunnel: Tunnel) -> TariffObject | None:
    """Return the LIMIT of a PATH: that of the wish, of the supplier whose OFFER was taken."""
    limit, choice = tunnel.wish.limit, tunnel.choice
    if choice is None:
        return limit
    price = limit.price if limit is not None else _ANY_PRICE
    return TariffObject(
        kind=TariffKind.LIMIT,
        price=price,
        currency=choice.currency,
        supplier=choice.supplier,
        source=choice.source,
    )


def choose(
    tunnel: Tunnel,
    case: Case | None,
    offers: tuple[TariffObject, ...],
    quote: TariffObject | None = None,
) -> bool:
    """Take the OFFER that is to be asked for next; False if there is none.

    case, offers: what the last PATH was refused with. quote: of the supplier that is to be left,
    None if there is none. MPLA-6-01, MPLA-6-06.
    """
    choice = tunnel.choice
    if case is Case.TARIFF:
        tunnel.offers = offers
    elif case in (Case.NO_ROOM, Case.NO_ROUTE) and choice is not None:
        tunnel.full.add((choice.supplier, choice.source))
    else:
        return False
    if tunnel.wish.es is not None or tunnel.choices >= MAX_CHOICES:
        return False
    wish = tunnel.wish
    left = [
        row
        for row in tunnel.offers
        if wish.supplier in (0, row.supplier) and (row.supplier, row.source) not in tunnel.full
    ]
    # MPLA-6-01, MPLA-6-06
    if quote is not None:
        best = find_better(quote, left, wish.limit)
    else:
        best = choose_offer(left, wish.limit)
    if best is None or not int(best.source):
        return False
    tunnel.choice, tunnel.is_probe = best, False
    tunnel.choices += 1
    return True


def forget_choices(tunnel: Tunnel) -> None:
    """Begin anew: the OFFERs of a time of asking are of no use in the next one."""
    tunnel.choices, tunnel.offers = 0, ()
    tunnel.full.clear()


def is_dearer(before: TariffObject, quote: TariffObject, wish: Wish) -> bool:
    """Whether a new price makes a lamp look around: it has risen, or is above the LIMIT."""
    # MPLA-6-01
    return quote.price > before.price or not is_within(quote, wish.limit)
