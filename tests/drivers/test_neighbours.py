"""Whom a flow may be moved to, of those that would do."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from powertcp.dpdp.advert import FREE, Advert, Tariff
from powertcp.dpdp.entry import Address, Entry, Standing
from powertcp.dpdp.select import Candidate, Current, Need, Situation, select
from powertcp.dpdp.trust import Trust
from powertcp.drivers.guide import Place
from powertcp.drivers.interfaces import parse_dump
from powertcp.drivers.neighbours import better_keys, neighbour
from tests.adverts import advert, ask, entry, offer
from tests.drivers.test_interfaces import ETH

LAMP = Need(asks=(ask("12V/1A"),))
DEAR = Tariff(currency="EUR", micro_per_kwh=300_000)
FULL = offer("12V/5A")
SUSPECT = Standing.SUSPECT


def found(name: str, said: Advert, *hosts: str) -> Entry:
    addresses = tuple(Address(host, "eth0" if host[:4] == "fe80" else "", 3251) for host in hosts)
    return replace(entry(said, name), addresses=addresses)


def judged(*entries: Entry, current: Current | None = None) -> list[Candidate]:
    return select(entries, LAMP, Trust(), b"lamp", Situation(current=current))


def at(one: Entry) -> Place:
    address = one.addresses[0]
    return Place(host=address.host, port=address.port, entry=one, address=address)


def chosen(kept: Sequence[Candidate], place: Place, *keys: str) -> str:
    one = neighbour(kept, place, keys, None)
    return f"{one[0].entry.key} {one[1].host}" if one is not None else ""


OWN = found("own", advert(1, FULL, tariff=DEAR), "10.0.0.2", "10.0.1.2")
CHEAP = found("cheap", advert(2, FULL, tariff=FREE), "10.0.0.3")


def test_the_best_of_the_others_is_a_neighbour_and_ones_own_other_address_the_last() -> None:
    assert chosen(judged(OWN, CHEAP), at(OWN)) == "cheap 10.0.0.3"
    assert chosen(judged(OWN), at(OWN)) == "own 10.0.1.2"
    assert chosen(judged(CHEAP), at(CHEAP)) == ""


@pytest.mark.requirement("DPDP-10-01")
def test_who_takes_our_ticket_comes_before_who_is_better() -> None:
    mate = found("mate", advert(1, FULL, tariff=DEAR), "10.0.0.4")
    assert chosen(judged(OWN, CHEAP, mate), at(OWN)) == "mate 10.0.0.4"


def test_who_may_have_copied_an_id_comes_after_those_who_have_not() -> None:
    rogue = replace(found("rogue", advert(1, FULL, tariff=FREE), "10.0.0.5"), standing=SUSPECT)
    assert chosen(judged(OWN, rogue, CHEAP), at(OWN)) == "cheap 10.0.0.3"
    assert chosen(judged(OWN, rogue), at(OWN)) == "rogue 10.0.0.5"


def test_only_those_that_are_asked_for_are_neighbours_if_any_are() -> None:
    assert chosen(judged(OWN, CHEAP), at(OWN), "own") == "own 10.0.1.2"
    assert chosen(judged(OWN, CHEAP), at(OWN), "gone") == ""


def test_nobody_is_a_neighbour_behind_an_interface_without_a_link() -> None:
    eth0 = parse_dump(ETH)[0]
    scoped = found("scoped", advert(3, FULL, tariff=FREE), "fe80::9", "10.0.0.9", "10.0.7.9")
    assert neighbour(judged(CHEAP), at(OWN), (), eth0) is None
    one = neighbour(judged(scoped, CHEAP), at(OWN), (), eth0)
    assert one is not None
    assert one[1].host == "10.0.7.9"


@pytest.mark.requirement("DPDP-10-03")
def test_better_is_who_is_so_in_a_step_that_counts() -> None:
    like = found("like", advert(3, FULL, tariff=DEAR), "10.0.0.4")
    current = Current(OWN.advert.id if OWN.advert else b"", 12_000)
    assert better_keys(judged(OWN, CHEAP, like, current=current), at(OWN)) == ("cheap",)
    assert better_keys(judged(OWN, CHEAP, like), at(CHEAP)) == ()


def test_without_its_advert_nobody_can_say_who_is_better() -> None:
    assert better_keys(judged(CHEAP), at(OWN)) == ()
