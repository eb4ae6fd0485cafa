"""Ranks step by step, lots by capacity, and what is said of a provider."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from powertcp.dpdp.advert import Tariff
from powertcp.dpdp.merits import Merits, Rank, distance_step, draw_lot
from powertcp.dpdp.ranges import Overlap, overlap
from powertcp.dpdp.trust import Level, Proof, Verdict
from powertcp.units import NS_PER_MS
from tests.adverts import advert, ask, offer

OFFER = offer("12V/3A", "5V/0A")
LAMP = ask("12V/1.5A", "5V/0.5A")
RANK = Rank(0, 0, 2, 1, 0, (0, 0), 5, 0.5, "a")
GRID = advert(0x7F31, OFFER, tariff=Tariff(currency="EUR", micro_per_kwh=250_000))


def merits(**changes: Any) -> Merits:
    common = overlap(OFFER, LAMP)
    assert isinstance(common, Overlap)
    said = changes.pop("advert", GRID)
    level = changes.pop("level", Level.ANY)
    made = Merits(
        rank=RANK._replace(**changes.pop("rank", {})),
        advert=said,
        verdict=Verdict(level=level, proof=Proof(provider=said.id)),
        common=common,
        free_mw=36_000,
        rtt=400_000,
        doubt="",
    )
    return made._replace(**changes)


def test_what_is_said_of_a_provider() -> None:
    assert merits().sentence == "12V/1.5A in full, any, grid, 0.25 EUR/kWh, 0.4 ms"
    assert merits().numbers == {
        "served_mv": 12_000,
        "served_ma": 1_500,
        "asked_mv": 12_000,
        "asked_ma": 1_500,
        "free_mw": 36_000,
        "rtt_ns": 400_000,
    }
    partly = merits(
        free_mw=12_000, rank={"is_partly": 1, "is_other": 0}, rtt=None, doubt="off-link"
    )
    assert partly.sentence == (
        "12V/1A of 12V/1.5A, any, grid, 0.25 EUR/kWh, in use, suspect: off-link"
    )
    assert partly.numbers["served_ma"] == 1_000
    assert "rtt_ns" not in partly.numbers


@pytest.mark.requirement("DPDP-7-02")
def test_a_word_that_a_stranger_has_chosen_is_shown_not_obeyed() -> None:
    assert r"\x1b[2J" in merits(advert=replace(GRID, source="\x1b[2J")).sentence


FIRST = merits()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rank": {"is_suspect": 1}}, "suspects come last"),
        (
            {"rank": {"is_partly": 1}, "free_mw": 12_000},
            "12V/1A of 12V/1.5A after 12V/1.5A in full",
        ),
        ({"rank": {"distrust": 3}, "level": Level.SITE}, "site after any"),
        ({"rank": {"is_other": 2}}, "the other one is in use"),
        (
            {"rank": {"source": 1}, "advert": replace(GRID, source="feed")},
            "feed after grid",
        ),
        (
            {"rank": {"tariff": (0, 1)}, "advert": replace(GRID, tariff=None)},
            "price not stated after 0.25 EUR/kWh",
        ),
        ({"rank": {"distance": 6}, "rtt": None}, "distance not measured after 0.4 ms"),
        ({"rank": {"distance": 6}, "rtt": 5_000_000}, "5.0 ms after 0.4 ms"),
        ({"rank": {"lot": 0.6}}, "by lot"),
        ({"rank": {"key": "b"}}, "by lot"),
        ({}, "by lot"),
    ],
)
def test_the_step_at_which_one_falls_behind(changes: dict[str, Any], said: str) -> None:
    assert merits(**changes).behind(FIRST) == f"behind 7f310000: {said}"


def test_a_flow_is_not_moved_for_distance_or_by_lot() -> None:
    assert RANK.worth == RANK._replace(distance=0, lot=0.0, is_other=0, key="b").worth
    for better in ({"is_partly": -1}, {"distrust": 0}, {"source": -1}, {"tariff": (0, -1)}):
        assert RANK._replace(**better).worth < RANK.worth


@pytest.mark.requirement("DPDP-6-05")
def test_distances_go_in_steps() -> None:
    ends = [1, 5, 20, 100]
    steps = [distance_step(ms * NS_PER_MS - 1) for ms in ends]
    assert steps == [1, 2, 3, 4]
    assert [distance_step(ms * NS_PER_MS) for ms in ends] == [2, 3, 4, 5]
    assert [distance_step(rtt) for rtt in (0, 1, None)] == [0, 1, 6]


@pytest.mark.requirement("DPDP-6-01", "DPDP-6-05")
def test_lots_fall_by_capacity() -> None:
    caps = {b"a" * 16: 1_000, b"b" * 16: 3_000}
    drawn = Counter(
        min(caps, key=lambda provider: draw_lot(b"%d" % number, provider, caps[provider]))
        for number in range(4_000)
    )
    # 1000 +- 4 sigma
    assert 890 < drawn[b"a" * 16] < 1_110


@pytest.mark.requirement("DPDP-6-01")
def test_a_lot_is_that_of_a_seed_and_a_provider() -> None:
    assert draw_lot(b"me", b"a", 7) == draw_lot(b"me", b"a", 7) > 0
    assert len({draw_lot(*one, 7) for one in ((b"me", b"a"), (b"you", b"a"), (b"me", b"b"))}) == 3
    assert draw_lot(b"me", b"a", 8) < draw_lot(b"me", b"a", 7)
