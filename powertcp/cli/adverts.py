"""Adverts for people and for programs: the table, the lines and the objects of `powertcp discover`."""

from collections.abc import Mapping, Sequence
from typing import Final

from powertcp.dpdp.advert import Advert, Offer, Tariff
from powertcp.dpdp.entry import Entry, Signed, Standing
from powertcp.dpdp.txt import show_text, split_txt
from powertcp.dpdp.why import format_price
from powertcp.errors import DecodeError
from powertcp.profile import Phases, Waveform
from powertcp.units import format_power

HEADS: Final = ("ID", "NAME", "OFFERS", "FREE", "SOURCE", "TARIFF", "TRUST", "ADDRESS")
SHORT: Final = 8  # digits of an id that people are shown
_LEAST: Final = (8, 19, 27, 6, 9, 10, 6)
_MOST_NAME: Final = 40


def format_tariff(tariff: Tariff | None) -> str:
    """Return `0.25 EUR`, of one kWh; `free`; `-` when it is not stated."""
    if tariff is None:
        return "-"
    if not tariff.micro_per_kwh:
        return "free"
    return f"{format_price(tariff.micro_per_kwh)} {tariff.currency}"


def format_offer(offer: Offer) -> str:
    """Return `12V/5A`; of a range `5-12V/3A`, from its least voltage up to its most."""
    text, least = offer.offer.format(), offer.minimum
    if least is None or least.voltage_mv == offer.offer.voltage_mv:
        return text
    return f"{least.format().partition('V/')[0]}-{text}"


def trust_of(entry: Entry) -> str:
    """Return how far its provider is believed: `pinned`, `site` or `any`."""
    return "pinned" if entry.pinned else "site" if entry.site else "any"


def row(entry: Entry) -> tuple[str, ...]:
    """Return the cells of one line, of HEADS; the last one has everything that is rare."""
    name = show_text(entry.service.instance)
    name = name if len(name) <= _MOST_NAME else f"{name[: _MOST_NAME - 2]}.."
    where = str(entry.addresses[0]) if entry.addresses else "-"
    advert = entry.advert
    if advert is None:
        return "-", name, "-", "-", "-", "-", trust_of(entry), "  ".join((where, *_said(entry)))
    offers = ", ".join(format_offer(offer) for offer in advert.offers)
    rare = [
        "seal" if advert.seal else "",
        f"hot spot ({advert.hot})" if advert.hot else "",
        f"{advert.soc} %" if advert.soc is not None else "",
        show_text(advert.loc),
        f"group {advert.group}" if advert.group else "",
        "unverified" if entry.signed is Signed.NONE else "",
        *_said(entry),
    ]
    return (
        advert.id.hex()[:SHORT], name, offers,
        format_power(advert.cap_mw) if advert.cap_mw else "full",
        show_text(advert.source), format_tariff(advert.tariff), trust_of(entry),
        "  ".join([where, *filter(None, rare)]),
    )  # fmt: skip


def _said(entry: Entry) -> list[str]:
    """Return what is wrong with an entry, nothing for a good one."""
    if entry.standing is Standing.GOOD:
        return []
    why = show_text(entry.fault or entry.why)
    return [f"{entry.standing}: {why}" if why else str(entry.standing)]


def table(entries: Sequence[Entry]) -> list[str]:
    """Return the lines of a table with its heads."""
    return lay_out([HEADS, *(row(entry) for entry in entries)])


def lay_out(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines, each column as wide as its widest cell."""
    widths = [max(least, *(len(cells[at]) for cells in rows)) for at, least in enumerate(_LEAST)]
    return [
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)), cells[-1]]
        )
        for cells in rows
    ]


# ---- for programs ---------------------------------------------------------------------------


def facts(entry: Entry) -> dict[str, object]:
    """Return every field of an advert, as it came and as it was read, integers with their unit."""
    service = entry.service
    found: dict[str, object] = {
        "name": service.instance,
        "kind": service.kind,
        "host": service.host,
        "port": service.port,
        "addresses": [str(address) for address in entry.addresses],
        "standing": str(entry.standing),
        "why": entry.fault or entry.why,
        "trust": trust_of(entry),
        "signed": str(entry.signed),
        "txt": service.txt.hex(),
        "pairs": _pairs(service.txt),
    }
    return found | (_advert(entry.advert) if entry.advert is not None else {"id": None})


def _pairs(txt: bytes) -> Mapping[str, str | None]:
    try:
        pairs = split_txt(txt)
    except DecodeError:
        return {}
    return {
        key: None if value is None else value.decode("utf-8", "backslashreplace")
        for key, value in pairs
    }


def _advert(advert: Advert) -> dict[str, object]:
    tariff = advert.tariff
    return {
        "id": advert.id.hex(),
        "offers": [_offer(offer) for offer in advert.offers],
        "cap_mw": advert.cap_mw,
        "source": advert.source,
        "currency": tariff.currency if tariff else None,
        "price_micro_per_kwh": tariff.micro_per_kwh if tariff else None,
        "exchange_key": advert.exchange_key.hex() if advert.exchange_key else None,
        "seal": advert.seal,
        "group": advert.group or None,
        "feed": advert.feed.hex() if advert.feed else None,
        "hot": advert.hot or None,
        "soc_percent": advert.soc,
        "loc": advert.loc or None,
        "expires_s": advert.expires_s,
        "ignored": advert.ignored,
    }


def _offer(offer: Offer) -> dict[str, object]:
    most, least = offer.offer, offer.minimum or offer.offer
    return {
        "text": format_offer(offer),
        "voltage_mv": most.voltage_mv,
        "current_ma": most.current_ma,
        "least_voltage_mv": least.voltage_mv,
        "least_current_ma": least.current_ma if offer.minimum else None,
        "frequency_chz": most.frequency_chz,
        "waveform": Waveform(most.waveform).name.lower(),
        "phases": Phases(most.phases).name.lower(),
    }
