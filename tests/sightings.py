"""Services as a resolver tells of them, for tests of the browser: providers, copies and rogues."""

from dataclasses import replace
from typing import Any

from powertcp.crypto import SigningKey
from powertcp.dpdp.advert import TYPE_TCP, Advert, Offer, encode_txt, provider_id
from powertcp.dpdp.crowd import NEW_PER_S
from powertcp.dpdp.engine import Browser
from powertcp.dpdp.entry import Address, Entry, Service
from powertcp.dpdp.txt import join_txt, split_txt
from powertcp.machine import Event
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import NS_PER_S, Instant
from tests import adverts

METER = SigningKey(bytes([7]) * 32)
OFFER = Offer(
    offer=PowerProfile.make(ProfileType.OFFER, 12_000, 3_000),
    minimum=PowerProfile.make(ProfileType.MINIMUM, 5_000, 1_000),
)
ADVERT = Advert(id=provider_id(METER.public), offers=(OFFER,), cap_mw=36_000, source="grid")
# how often a new advert may come in
EVERY_NS = NS_PER_S // NEW_PER_S
_TXT, _ID = encode_txt(ADVERT), ADVERT.id.hex().encode()


def numbered_id(number: int) -> bytes:
    """Return the id of a provider."""
    return number.to_bytes(16, "big")


def service(
    name: str = "bench",
    *,
    host: str = "",
    ip: str = "10.0.0.7",
    txt: bytes | None = None,
    kind: str = TYPE_TCP,
    port: int = 3251,
    **said: Any,
) -> Service:
    """Return what a resolver says of one instance. said: what its advert says otherwise."""
    if txt is None:
        # with another id only, it need not be encoded
        own = said.keys() - {"id"}
        ident = said.get("id", ADVERT.id).hex().encode()
        txt = encode_txt(replace(ADVERT, **said)) if own else _TXT.replace(_ID, ident)
    return Service(
        instance=name,
        kind=kind,
        host=host or f"{name}.local.",
        port=port,
        addresses=(Address(ip, "", port),) if ip else (),
        txt=txt,
    )


def stranger(number: int, **said: Any) -> Service:
    """Return one of many, each on a host of its own."""
    return service(f"power {number}", **{"id": numbered_id(number)} | said)


def entry(service: Service, advert: Advert | None = ADVERT) -> Entry:
    """Return an entry that nobody has judged."""
    return adverts.entry(advert, service.key, service=service, addresses=())


def drain(machine: Any) -> list[Event]:
    """Take every event."""
    found = []
    while (event := machine.next_event()) is not None:
        found.append(event)
    return found


def padded(txt: bytes, octets: int) -> bytes:
    """Return a record of so many octets, of pairs that nobody knows."""
    pairs, number = split_txt(txt), 0
    while (left := octets - len(join_txt(pairs))) > 0:
        name = f"x{number}"
        pairs.append((name, b"y" * (min(left, 250) - len(name) - 2)))
        number += 1
    return join_txt(pairs)


def crowd(browser: Browser, count: int, now: Instant = 0, **said: object) -> Instant:
    """Let so many strangers come, as fast as they may; returns when it was over."""
    for number in range(count):
        browser.heard(stranger(number, **said), now)
        now += EVERY_NS
    browser.handle_timer(now)
    return now
