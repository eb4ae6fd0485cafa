"""The waiting room of new adverts: how fast they come in, who goes, at the bounds and one above."""

import pytest

from powertcp.dpdp.crowd import FIRST_CROWD, MAX_PER_TARGET, MAX_WAITING, NEW_PER_S, Crowd
from powertcp.units import NS_PER_S, Instant
from tests.sightings import entry, service

pytestmark = pytest.mark.requirement("DPDP-7-05")


def put(crowd: Crowd, number: int, host: str = "") -> int:
    return crowd.put(entry(service(f"{number}", host=host)))


def taken(crowd: Crowd, now: Instant) -> list[str]:
    """Take whoever may come in."""
    names = []
    while (found := crowd.take(now)) is not None:
        names.append(found.service.instance)
    return names


def flooded() -> Crowd:
    """Return one whose first crowd is in."""
    crowd = Crowd(0)
    for number in range(FIRST_CROWD):
        put(crowd, number)
        assert taken(crowd, 0) == [f"{number}"]
    return crowd


def test_a_first_crowd_comes_in_at_once_and_then_sixteen_in_a_second() -> None:
    crowd = flooded()
    assert crowd.get_timer() is None
    for number in range(100):
        put(crowd, number)
    assert taken(crowd, 0) == []
    assert crowd.get_timer() == NS_PER_S // NEW_PER_S
    assert taken(crowd, NS_PER_S) == [f"{number}" for number in range(NEW_PER_S)]
    assert taken(crowd, NS_PER_S) == []
    assert len(taken(crowd, 2 * NS_PER_S)) == NEW_PER_S


def test_a_hall_of_five_hundred_is_seen_at_once() -> None:
    crowd = Crowd(0)
    for number in range(500):
        assert put(crowd, number, host=f"host {number % 10}") == 0
        assert taken(crowd, 0) == [f"{number}"]


def test_of_those_who_wait_the_oldest_goes_above_the_bound() -> None:
    crowd = flooded()
    assert sum(put(crowd, number) for number in range(MAX_WAITING)) == 0
    assert len(crowd) == MAX_WAITING
    assert put(crowd, MAX_WAITING) == 1
    assert len(crowd) == MAX_WAITING
    assert taken(crowd, NS_PER_S)[0] == "1"


def test_of_one_host_the_oldest_goes_above_its_bound() -> None:
    crowd = flooded()
    put(crowd, 0)
    assert sum(put(crowd, number, "rogue") for number in range(1, MAX_PER_TARGET + 1)) == 0
    assert put(crowd, MAX_PER_TARGET + 1, "ROGUE") == 1
    assert len(crowd) == MAX_PER_TARGET + 1
    assert taken(crowd, NS_PER_S)[:2] == ["0", "2"]


def test_who_waits_may_change_what_it_says_and_keeps_its_place() -> None:
    crowd = flooded()
    put(crowd, 0)
    put(crowd, 1)
    crowd.put(entry(service("0", port=7, host="0.local.")))
    first = crowd.take(NS_PER_S)
    assert first is not None
    assert first.service.port == 7


def test_another_host_is_another_place() -> None:
    crowd = flooded()
    for number in range(MAX_PER_TARGET):
        put(crowd, number, "rogue")
    put(crowd, 0, "other")
    assert put(crowd, MAX_PER_TARGET, "rogue") == 0
    assert taken(crowd, 10 * NS_PER_S)[-2:] == ["0", f"{MAX_PER_TARGET}"]


def test_who_left_waits_no_more() -> None:
    crowd = flooded()
    for number in range(4):
        put(crowd, number)
    crowd.discard(service("1").key)
    crowd.discard(service("1").key)
    crowd.keep([service("2").key, service("3").key, service("9").key])
    assert len(crowd) == 2
    assert taken(crowd, NS_PER_S) == ["2", "3"]
    crowd.keep(())
    assert crowd.get_timer() is None
