"""What a running provider says of itself to the link: its offers, and what is left of them."""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from powertcp.crypto import SigningKey
from powertcp.dpdp.advert import ID_OCTETS, MAX_OFFERS, Advert, Offer, Tariff, provider_id
from powertcp.drivers.provider import Provider
from powertcp.machine import Entropy
from powertcp.profile import PowerProfile, ProfileType
from powertcp.sources import Breaker
from powertcp.store import read_secret, write_secret

PRIORITY: Final = 8  # of whom `cap` speaks
# what people call a source, and what consumers sort by
_SOURCES: Final = {"mains": "grid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a provider is. key: its meter key, which signs adverts, None without a ledger.

    exchange_key: X25519, if its power is sealed. seal: `req` or `opt` then. hot: `guest` or `ticket`,
    "" for no hot spot.
    """

    id: bytes
    key: SigningKey | None = None
    exchange_key: bytes | None = None
    seal: str | None = None
    hot: str = ""


def identity_octets(state: Path, key: SigningKey | None, entropy: Entropy = os.urandom) -> bytes:
    """Return the id of a provider: of its meter key, else one at random that is kept in `state`.

    Raises HostError.
    """
    if key is not None:
        return provider_id(key.public)
    path = state / "provider.id"
    # DPDP-3-05
    found = read_secret(path, ID_OCTETS)
    if found is None:
        found = entropy(ID_OCTETS)
        write_secret(path, found)
    return found


def flow_advert(provider: Provider, identity: Identity) -> Advert | None:
    """Return what a provider says to whoever wants a flow, None when it has nothing to give."""
    breaker, config = provider.breaker, provider.config
    most_mw = breaker.rating_mw
    if config.per_peer_mw is not None:
        most_mw = min(most_mw, config.per_peer_mw)
    supplies = [supply.profile for supply in breaker.supplies if not supply.retiring]
    offers = [
        Offer(offer=offer) for each in supplies if (offer := _offer(each, most_mw)).current_ma
    ]
    if not offers:
        return None
    return Advert(
        id=identity.id,
        offers=tuple(offers[:MAX_OFFERS]),
        cap_mw=capacity_mw(breaker),
        source=_SOURCES.get(config.source.name, config.source.name),
        tariff=_tariff(provider),
        exchange_key=identity.exchange_key,
        seal=identity.seal,
        # DPDP-9-01
        hot=identity.hot,
    )


def feed_advert(provider: Provider, identity: Identity) -> Advert | None:
    """Return what is said of a broadcast, None without a group: a group has the port of its advert."""
    station, group = provider.station, feed_group(provider)
    if station is None or station.sender is None or group is None:
        return None
    profile = station.source.profile
    return Advert(
        id=identity.id,
        offers=(Offer(offer=_offer(profile, profile.power_mw)),),
        cap_mw=profile.power_mw,
        source="feed",
        tariff=_tariff(provider),
        group=group[0],
        feed=station.source.feed.feed_id,
    )


def feed_group(provider: Provider) -> tuple[str, int] | None:
    """Return the first multicast group of a broadcast with its port, None without one."""
    groups = provider.station.config.groups if provider.station is not None else ()
    return next((one for one in groups if ipaddress.ip_address(one[0]).is_multicast), None)


def _offer(profile: PowerProfile, most_mw: int) -> PowerProfile:
    """Return what one flow may have of a supply, as it is advertised."""
    # DPDP-3-04
    return profile.with_type(
        ProfileType.OFFER, current_ma=profile.current_for(most_mw), priority=0, energy_j=0,
        lease_s=0, tag=0, giveback=False,
    ).as_sent()  # fmt: skip


def capacity_mw(breaker: Breaker) -> int:
    """Return what a new flow of priority 8 could get now: lesser ones are shed for it."""
    held_mw, held_ma = breaker.held_mw, list(breaker.held_ma)
    # one pass over 10,000 flows takes 1 ms
    for holding in breaker.holdings.values():
        if holding.desired.priority > PRIORITY:
            held_mw -= holding.mw
            for index, ma in holding.amps:
                held_ma[index] -= ma
    supplied_mw = sum(
        _left_mw(supply.profile, ma)
        for supply, ma in zip(breaker.supplies, held_ma, strict=True)
        if not supply.retiring
    )
    return max(0, min(breaker.rating_mw - held_mw, supplied_mw))


def _left_mw(profile: PowerProfile, held_ma: int) -> int:
    left_ma = max(0, profile.current_ma - held_ma)
    return profile.pairs * profile.voltage_mv * left_ma // 1000


def _tariff(provider: Provider) -> Tariff | None:
    books = provider.admissions.billing.books
    if books is None or books.pricing is None:
        return None
    terms = books.pricing.terms()
    return Tariff(currency=terms.currency, micro_per_kwh=terms.price)


def places(where: Sequence[tuple[str, int]]) -> tuple[int, tuple[str, ...]]:
    """Return the port to announce, the first one, and the hosts that are listened on with it."""
    port = where[0][1]
    hosts = [host for host, other in where if other == port]
    # [::] serves IPv4 too
    return port, tuple([*hosts, "0.0.0.0"] if "::" in hosts else hosts)  # noqa: S104 - a name
