"""What a provider says of itself: offers, what is left, who it is."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from powertcp.crypto import SigningKey
from powertcp.dpdp.advert import MAX_OFFERS, encode_txt, provider_id
from powertcp.drivers.announce import instance_name
from powertcp.drivers.daemon import make_private
from powertcp.drivers.offers import Identity, capacity_mw, flow_advert, identity_octets, places
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile
from powertcp.sources import Breaker, make_source, parse_supply

WHO = Identity(id=bytes(16))
ANY4 = ".".join("0" * 4)


def provider(*supplies: str, rating_mw: int = 60_000, per_peer_mw: int | None = None) -> Provider:
    made = [parse_supply(text) for text in supplies or ("12V/5A",)]
    return Provider(
        ProviderConfig(
            supplies=made, rating_mw=rating_mw, per_peer_mw=per_peer_mw, source=make_source("mains")
        )
    )


def power_up(pool: Breaker, key: str, text: str) -> None:
    admission = pool.admit(key, [Ask(PowerProfile.parse(text), None)], key.encode(), 0)
    assert admission.choice is not None
    assert admission.choice.grant is not None
    pool.accepted(key, admission.choice.grant)


@pytest.mark.requirement("DPDP-3-04")
def test_an_offer_is_what_one_flow_may_have_and_nothing_of_a_contract() -> None:
    advert = flow_advert(provider("12V/5A", "230V/16A@50Hz", rating_mw=120_000), WHO)
    assert advert is not None
    assert [offer.offer.format() for offer in advert.offers] == ["12V/5A", "230V/0.521A@50Hz"]
    assert {(offer.offer.tag, offer.offer.lease_s) for offer in advert.offers} == {(0, 0)}
    assert (advert.source, advert.cap_mw, advert.tariff, advert.seal) == (
        "grid",
        120_000,
        None,
        None,
    )


def test_what_one_peer_may_have_bounds_every_offer() -> None:
    advert = flow_advert(provider(per_peer_mw=24_000), WHO)
    assert advert is not None
    assert advert.offers[0].offer.format() == "12V/2A"
    assert advert.cap_mw == 60_000


def test_four_offers_fit_and_the_preferred_ones_are_kept() -> None:
    volts = [f"{voltage}V/1A" for voltage in range(5, 5 + MAX_OFFERS + 2)]
    advert = flow_advert(provider(*volts, rating_mw=500_000), WHO)
    assert advert is not None
    assert [offer.offer.format() for offer in advert.offers] == volts[:MAX_OFFERS]
    assert len(encode_txt(advert)) <= 400


def test_who_has_no_power_to_give_says_nothing() -> None:
    assert flow_advert(provider(rating_mw=0), WHO) is None


def test_what_is_left_counts_who_is_not_shed_for_a_flow_of_priority_8() -> None:
    pool = provider(rating_mw=60_000).breaker
    power_up(pool, "firm", "12V/1A,prio=8")
    assert capacity_mw(pool) == 48_000
    power_up(pool, "loose", "12V/2A,prio=9")
    assert capacity_mw(pool) == 48_000
    power_up(pool, "best", "12V/2A,prio=2")
    assert capacity_mw(pool) == 24_000
    pool.release("firm")
    assert capacity_mw(pool) == 36_000


def test_what_is_left_is_bounded_by_the_amperes_of_the_supplies() -> None:
    assert capacity_mw(provider("12V/1A", "5V/1A", rating_mw=60_000).breaker) == 17_000
    pool = provider("12V/5A", rating_mw=60_000).breaker
    power_up(pool, "all", "12V/5A")
    assert capacity_mw(pool) == 0


def test_an_id_is_that_of_the_meter_key_or_kept_beside_it(tmp_path: Path) -> None:
    key = SigningKey(bytes(range(32)))
    assert identity_octets(tmp_path, key) == provider_id(key.public)
    assert not list(tmp_path.iterdir())
    folder = tmp_path / "state"
    make_private(folder)
    first = identity_octets(folder, None)
    assert len(first) == 16
    assert identity_octets(folder, None, entropy=lambda count: bytes(count)) == first
    assert (folder / "provider.id").stat().st_mode & 0o777 == 0o600
    assert first != bytes(16)


def test_the_first_port_is_announced_with_all_hosts_that_have_it() -> None:
    assert places([("::", 3251), ("127.0.0.1", 4000)]) == (3251, ("::", ANY4))
    assert places([("10.0.0.7", 3251), ("fe80::1", 3251)]) == (3251, ("10.0.0.7", "fe80::1"))


@pytest.mark.requirement("DPDP-2-02")
def test_a_name_has_63_octets_of_one_line_and_nothing_that_dns_takes_for_a_border() -> None:
    assert instance_name("Bench v1.2\n") == "Bench v1-2"
    assert instance_name("") == f"{os.uname().nodename.partition('.')[0]} power"
    assert instance_name("ä" * 40).encode() == ("ä" * 31).encode()
    assert instance_name("\n") == "power"


def test_a_sealed_provider_names_its_key() -> None:
    advert = flow_advert(provider(), replace(WHO, exchange_key=bytes(32), seal="req"))
    assert advert is not None
    assert (advert.exchange_key, advert.seal) == (bytes(32), "req")
