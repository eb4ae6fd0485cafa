"""Adverts and entries of the table, made of a few words, for tests."""

from dataclasses import replace
from typing import Any

from powertcp.dpdp.advert import TYPE_TCP, Advert, Offer
from powertcp.dpdp.entry import Address, Entry, Service, Signed, Standing
from powertcp.dpdp.ranges import Ask
from powertcp.profile import PowerProfile, ProfileType

PORT = 3251


def power(text: str, kind: ProfileType = ProfileType.REQUEST) -> PowerProfile:
    """Return a power; call it while a module is imported: it reads the table of named profiles."""
    return PowerProfile.parse(text, kind)


def ask(most: str, least: str = "") -> Ask:
    return Ask(power(most), power(least, ProfileType.MINIMUM) if least else None)


def offer(most: str, least: str = "") -> Offer:
    minimum = power(least, ProfileType.MINIMUM) if least else None
    return Offer(offer=power(most, ProfileType.OFFER), minimum=minimum)


def advert(number: int, *offers: Offer, cap_mw: int = 36_000, **fields: Any) -> Advert:
    """Return the advert of provider `number`, 0..65535: the first octets of its id."""
    ident = number.to_bytes(2) + bytes(14)
    source = fields.pop("source", "grid")
    return Advert(id=ident, offers=offers, cap_mw=cap_mw, source=source, **fields)


def entry(said: Advert | None, name: str = "", **fields: Any) -> Entry:
    """Return an entry of the table; its key is `name`, or the id."""
    key = name or ("?" if said is None else said.id.hex())
    address = Address("10.0.0.7", "", PORT)
    service = Service(
        instance=key, kind=TYPE_TCP, host="a.local.", port=PORT, addresses=(address,), txt=b""
    )
    made = Entry(
        key=key,
        service=replace(service, kind=fields.pop("kind", TYPE_TCP)),
        advert=said,
        fault="",
        standing=Standing.GOOD,
        why="",
        signed=Signed.NONE,
        pinned=False,
        site=False,
        first_ns=0,
        last_ns=0,
        dead_until_ns=0,
        addresses=(address,),
    )
    return replace(made, **fields)
