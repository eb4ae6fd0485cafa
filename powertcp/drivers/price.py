"""The most a consumer pays: what `--max-price` says, against the tariff of a provider."""

import re
from dataclasses import dataclass
from typing import Final

from powertcp.registry import Reason, Refusal
from powertcp.wire.options import Tariff

MICRO_DIGITS: Final = 6
_PRICE = re.compile(r"(-?)(\d{1,9})(?:\.(\d{1,6}))?\s*([A-Z]{3})?(?:/kWh)?")


@dataclass(frozen=True, slots=True)
class MaxPrice:
    """A limit of prices.

    micro: millionths of the currency unit per kWh, may be negative. currency: ISO 4217, "" any.
    """

    micro: int
    currency: str = ""

    def refusal(self, tariff: Tariff | None) -> Refusal | None:
        """Return why `tariff` is not taken; None: it is. Without a tariff nothing is paid."""
        if tariff is None:
            return None
        if self.currency and tariff.currency != self.currency:
            rule = f"paid is in {self.currency}, not in {tariff.currency}"
        elif tariff.price > self.micro:
            rule = f"micro-{tariff.currency} per kWh"
        else:
            return None
        return Refusal(Reason.TARIFF, tariff.price, self.micro, rule=rule)


def parse_price(text: str) -> MaxPrice:
    """Parse "0.30", "0.30EUR", "-0.05 EUR/kWh": per kWh. Raises ValueError with a sentence."""
    found = _PRICE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'a price per kWh is a number like 0.30 or 0.30EUR, got "{text}"')
    sign, whole, part, currency = found.groups(default="")
    micro = int(whole + part.ljust(MICRO_DIGITS, "0"))
    return MaxPrice(-micro if sign else micro, currency)
