"""Exact prices: the cost of energy without drift, and the tariff document that a contract pins.

A document is JSON: `{"currency": "EUR", "price_micro": 312000}` is one price at all times;
`"slots": [{"from": "22:00", "to": "06:00", "days": ["mon", "sun"], "price_micro": -5000}]` gives
another to hours of the week, counted `utc_offset_min` minutes east of UTC. Its digest is that of
its octets, so a party that holds the same file can prove which prices were agreed.
"""

from typing import Final

UJ_PER_KWH: Final = 3_600_000_000_000


def _rounded(price_micro: int, energy_uj: int) -> int:
    """Return the price of `energy_uj` rounded half to even, in exact integers."""
    whole, rest = divmod(price_micro * energy_uj, UJ_PER_KWH)
    twice = 2 * rest
    return whole + (twice > UJ_PER_KWH or (twice == UJ_PER_KWH and whole % 2 == 1))


def cost_micro(price_micro: int, base_uj: int, start_uj: int, end_uj: int) -> int:
    """Return the cost of the energy from `start_uj` to `end_uj`, millionths of the currency unit.

    price_micro: per kWh, may be negative, in force since the register showed `base_uj`.
    The costs of adjoining pages add up to that of the whole: no page rounds for itself.
    """
    # LEDG-6-04
    return _rounded(price_micro, end_uj - base_uj) - _rounded(price_micro, start_uj - base_uj)
