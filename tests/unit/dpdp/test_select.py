"""Which provider to take: each filter, each step of the ranking, and a crowd that spreads."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from powertcp.dpdp.advert import FREE, TYPE_UDP, Tariff
from powertcp.dpdp.entry import Entry, Signed, Standing
from powertcp.dpdp.known import KnownProvider
from powertcp.dpdp.select import (
    MAX_ASKS,
    MAX_SEED,
    Candidate,
    Current,
    Need,
    Situation,
    select,
)
from powertcp.dpdp.trust import Pin, Trust
from powertcp.dpdp.why import Why
from powertcp.errors import BrokenInvariant, LocalProtocolError
from powertcp.units import NS_PER_S
from tests.adverts import advert, ask, entry, offer

KEY = bytes([2]) * 32
SEED = b"consumer"
RANGE = offer("12V/3A", "5V/0A")
LAMP = ask("12V/1.5A", "5V/0.5A")
MAINS = offer("230V/16A@50Hz")
AMPS = offer("12V/0.1A")
CENTS_25 = Tariff(currency="EUR", micro_per_kwh=250_000)
NEED = Need(asks=(LAMP,))
PAYS_20 = replace(NEED, max_price_micro=200_000)
SEALED = replace(NEED, can_seal=True)
ONLY_SEALED = replace(SEALED, is_sealed_only=True)
ANYBODY = Trust()
BENCH = advert(1, RANGE)
KEYED = replace(BENCH, exchange_key=KEY)


def only(
    one: Entry, need: Need = NEED, trust: Trust = ANYBODY, situation: Situation | None = None
) -> Candidate:
    (candidate,) = select([one], need, trust, SEED, situation or Situation())
    return candidate


def order(*entries: Entry, need: Need = NEED, trust: Trust = ANYBODY, **known: Any) -> str:
    """Return the names of what is kept, in order; whatever order the entries come in."""
    found = select(entries, need, trust, SEED, Situation(**known))
    again = select(reversed(entries), need, trust, SEED, Situation(**known))
    assert found == again
    kept = [one for one in found if one.merits]
    assert [one.why for one in kept] == [Why.CHOSEN, *[Why.NEXT] * (len(kept) - 1)][: len(kept)]
    return "".join(one.entry.key for one in kept)


# ---- as people see it ---------------------------------------------------------------------------

FIREWALL = advert(
    0xC09E, offer("12V/5A"), source="reclaimed", tariff=FREE, exchange_key=KEY, cap_mw=48_000
)
GRID = advert(0x7F31, RANGE, tariff=CENTS_25)
ROOF = advert(0x90AA, MAINS, source="battery", cap_mw=7_200_000)


@pytest.mark.requirement("DPDP-6-04")
def test_reasons_as_discover_shows_them() -> None:
    table = [entry(ROOF, "roof"), entry(GRID, "bench"), entry(FIREWALL, "firewall")]
    trust = replace(Trust.make(pins=[Pin("x25519", KEY)]), level=ANYBODY.level)
    need = replace(PAYS_20, can_seal=True)
    found = select(table, need, trust, SEED, Situation(rtt={"firewall": 400_000}))
    assert [(one.entry.key, one.why, one.sentence) for one in found] == [
        ("firewall", "chosen", "12V/1.5A in full, pinned, reclaimed, free, 0.4 ms"),
        ("roof", "voltage", "offers 230 V, asked 5 V to 12 V"),
        ("bench", "tariff", "0.25 EUR/kWh above 0.20"),
    ]
    chosen, roof, bench = (one.numbers for one in found)
    assert (chosen["served_mv"], chosen["served_ma"], chosen["rtt_ns"]) == (12_000, 1_500, 400_000)
    assert (roof["offered_mv"], roof["asked_least_mv"], roof["asked_mv"]) == (
        230_000,
        5_000,
        12_000,
    )
    assert bench == {"micro_per_kwh": 250_000, "most_micro_per_kwh": 200_000}
    merits = found[0].merits
    assert merits
    assert merits.rank.distrust == 0
    assert merits.verdict.proof.static_key == KEY


def test_the_next_ones_say_what_keeps_them_behind() -> None:
    first, second = select([entry(GRID), entry(FIREWALL)], NEED, ANYBODY, SEED)
    assert first.sentence == "12V/1.5A in full, any, reclaimed, free"
    assert second.sentence == (
        "12V/1.5A in full, any, grid, 0.25 EUR/kWh, behind c09e0000: grid after reclaimed"
    )


# ---- filters ------------------------------------------------------------------------------------

SUSPECT: Mapping[str, Any] = {"standing": Standing.SUSPECT, "why": "id-clash"}
FILTERS: list[tuple[Entry, Need, Why, str]] = [
    (
        entry(None, standing=Standing.UNKNOWN_VERSION, fault="unknown\x07 version"),
        NEED,
        Why.VERSION,
        r"unknown\x07 version",
    ),
    (entry(None, standing=Standing.MALFORMED, fault="p1"), NEED, Why.MALFORMED, "p1"),
    (
        entry(BENCH, standing=Standing.DEAD, dead_until_ns=30 * NS_PER_S),
        NEED,
        Why.DEAD,
        "did not answer, asked again in 20 s",
    ),
    (entry(BENCH, kind=TYPE_UDP), NEED, Why.FEED, "a broadcast"),
    (entry(BENCH, addresses=()), NEED, Why.ADDRESS, "no address"),
    (entry(advert(9, RANGE)), NEED, Why.REFUSED, "has refused, asked again in 2 s"),
    (
        entry(replace(KEYED, seal="req")),
        NEED,
        Why.SEAL,
        "gives sealed power only, and no VPPN is configured",
    ),
    (
        entry(replace(BENCH, seal="req")),
        SEALED,
        Why.SEAL,
        "gives sealed power only, and shows no key",
    ),
    (entry(BENCH), ONLY_SEALED, Why.SEAL, "shows no key, asked is sealed power"),
    (entry(KEYED), ONLY_SEALED, Why.TRUST, "a stranger whose advert is not signed"),
    (entry(KEYED, signed=Signed.BAD), ONLY_SEALED, Why.TRUST, "a stranger whose"),
    (entry(ROOF), NEED, Why.VOLTAGE, "offers 230 V, asked 5 V to 12 V"),
    (
        entry(advert(1, MAINS, AMPS, cap_mw=1)),
        NEED,
        Why.CURRENT,
        "offers up to 0.1 A, asked at least 0.5 A",
    ),
    (
        entry(advert(1, AMPS, MAINS, cap_mw=1)),
        NEED,
        Why.CURRENT,
        "offers up to 0.1 A, asked at least 0.5 A",
    ),
    (entry(advert(1, offer("12V/2A@50Hz"))), NEED, Why.WAVEFORM, "offers AC, asked DC"),
    (entry(replace(BENCH, cap_mw=2_499)), NEED, Why.FULL, "2.499 W free, asked 2.5 W"),
    (
        entry(replace(BENCH, cap_mw=0)),
        replace(NEED, asks=(ask("12V/1A"), ask("12V/0A"), LAMP)),
        Why.FULL,
        "0 mW free, asked 0 mW",
    ),
    (
        entry(replace(BENCH, cap_mw=0)),
        replace(NEED, asks=(LAMP, ask("12V/1A"))),
        Why.FULL,
        "0 mW free, asked 2.5 W",
    ),
    (entry(BENCH), PAYS_20, Why.TARIFF, "not stated, at most 0.20"),
    (entry(GRID), PAYS_20, Why.TARIFF, "0.25 EUR/kWh above 0.20"),
    (
        entry(replace(GRID, tariff=Tariff(currency="USD", micro_per_kwh=1))),
        replace(PAYS_20, currency="EUR"),
        Why.TARIFF,
        "0.000001 USD/kWh, paid is in EUR",
    ),
    (
        entry(GRID),
        replace(NEED, sources=frozenset(["reclaimed", "battery"])),
        Why.SOURCE,
        "grid, asked battery or reclaimed",
    ),
]


@pytest.mark.requirement("DPDP-6-04")
@pytest.mark.parametrize(("one", "need", "why", "sentence"), FILTERS, ids=range(len(FILTERS)))
def test_what_does_not_pass_a_filter_is_left_and_says_so(
    one: Entry, need: Need, why: Why, sentence: str
) -> None:
    situation = Situation(now=10 * NS_PER_S, waits={advert(9).id: 12 * NS_PER_S})
    candidate = only(one, need, situation=situation)
    assert (candidate.why, candidate.merits) == (why, None)
    assert sentence in candidate.sentence
    assert candidate.finding
    assert candidate.numbers == dict(candidate.finding.numbers)


@pytest.mark.requirement("DPDP-6-04")
def test_the_first_filter_in_the_way_is_the_one_that_is_named() -> None:
    hopeless = advert(1, MAINS, cap_mw=0, source="feed", tariff=CENTS_25, seal="req")
    need = replace(PAYS_20, sources=frozenset())
    trust = Trust.make(pins=[Pin("x25519", KEY)])
    dead = entry(hopeless, standing=Standing.DEAD, addresses=())
    assert only(dead, need, trust).why is Why.DEAD
    alive = entry(hopeless)
    assert only(alive, need, trust).why is Why.SEAL
    clear = replace(alive, advert=replace(hopeless, seal=None))
    assert only(clear, need, trust).why is Why.TRUST
    assert only(clear, need).why is Why.VOLTAGE
    fitting = replace(hopeless, seal=None, offers=(RANGE,))
    assert only(entry(fitting), need).why is Why.FULL
    free = replace(fitting, cap_mw=99_000)
    assert only(entry(free), need).why is Why.TARIFF
    assert only(entry(replace(free, tariff=FREE)), need).why is Why.SOURCE


PASSED: list[tuple[Entry, Need]] = [
    (entry(BENCH), NEED),
    (entry(replace(KEYED, seal="req")), SEALED),
    (entry(replace(KEYED, seal="opt")), NEED),
    (entry(KEYED, signed=Signed.GOOD), ONLY_SEALED),
    # its key is learnt in the handshake
    (entry(KEYED, signed=Signed.UNKNOWN), ONLY_SEALED),
    (entry(BENCH, **SUSPECT), NEED),
    (entry(replace(BENCH, cap_mw=2_500)), NEED),
    (entry(GRID), replace(PAYS_20, max_price_micro=250_000)),
    (entry(GRID), replace(PAYS_20, max_price_micro=250_000, currency="EUR")),
    (entry(replace(GRID, tariff=FREE)), replace(PAYS_20, currency="EUR")),
    (entry(replace(GRID, tariff=None)), replace(NEED, currency="EUR")),
    (entry(GRID), replace(NEED, sources=frozenset(["grid"]))),
    (entry(advert(8, RANGE)), NEED),
]


@pytest.mark.parametrize(("one", "need"), PASSED, ids=range(len(PASSED)))
def test_what_passes(one: Entry, need: Need) -> None:
    situation = Situation(now=10 * NS_PER_S, waits={advert(8).id: 10 * NS_PER_S})
    assert only(one, need, situation=situation).why is Why.CHOSEN


def test_the_offer_that_serves_most_decides() -> None:
    many = advert(1, MAINS, offer("9V/3A"), offer("12V/1A"), RANGE)
    candidate = only(entry(many))
    assert candidate.merits
    assert candidate.merits.common.is_full
    for offers in ((MAINS, offer("9V/3A"), offer("5V/3A")), (offer("9V/3A"), AMPS)):
        candidate = only(entry(advert(1, *offers)))
        assert candidate.sentence.startswith("9V/1.5A of 12V/1.5A")


def test_a_second_wish_is_served_in_full_before_the_first_in_part() -> None:
    need = replace(NEED, asks=(LAMP, ask("9V/1A")))
    assert only(entry(advert(1, offer("9V/3A"))), need).sentence.startswith("9V/1A in full")


@pytest.mark.requirement("DPDP-6-02")
def test_who_has_refused_is_not_asked_before_its_time_is_over() -> None:
    waits = {BENCH.id: 12 * NS_PER_S}
    for now, why in ((12 * NS_PER_S - 1, Why.REFUSED), (12 * NS_PER_S, Why.CHOSEN)):
        assert only(entry(BENCH), situation=Situation(now=now, waits=waits)).why is why


def test_a_downgrade_is_left_at_every_level() -> None:
    known = {BENCH.id: KnownProvider(id=BENCH.id, first_s=0, last_s=0, exchange_key=KEY)}
    trust = replace(Trust.make(pins=[Pin("x25519", KEY)], known=known), level=ANYBODY.level)
    assert only(entry(KEYED), SEALED, trust).why is Why.CHOSEN
    candidate = only(entry(BENCH), SEALED, trust)
    assert (candidate.why, candidate.sentence[:26]) == (Why.TRUST, "it shows no key, pinned is")


# ---- order --------------------------------------------------------------------------------------

A, B = (advert(number, RANGE) for number in (1, 2))
HALF = advert(3, offer("12V/1A"))


@pytest.mark.requirement("DPDP-6-05")
def test_suspects_come_last_and_full_service_first() -> None:
    suspect = entry(replace(A, source="reclaimed", tariff=FREE), "a", **SUSPECT)
    assert order(suspect, entry(HALF, "h"), entry(B, "b")) == "bha"
    # in part as well: what is left is less than what is asked
    assert order(entry(replace(A, cap_mw=17_999), "a"), entry(B, "b")) == "ba"


SITE = bytes([3]) * 32


@pytest.mark.requirement("DPDP-6-05")
def test_trust_comes_second() -> None:
    keyed = {
        name: replace(one, exchange_key=bytes([number]) * 32)
        for name, one, number in (("p", advert(4, RANGE), 4), ("s", advert(5, RANGE), 5))
    }
    met = KnownProvider(
        id=keyed["s"].id, first_s=0, last_s=0, exchange_key=bytes([5]) * 32, site_key=SITE
    )
    trust = Trust.make(ANYBODY.level, [Pin("x25519", bytes([4]) * 32)], [SITE], {met.id: met})
    entries = [entry(one, name) for name, one in keyed.items()]
    cheap = entry(replace(A, source="reclaimed", tariff=FREE), "a")
    assert order(cheap, *entries, need=SEALED, trust=trust) == "psa"
    assert order(entry(HALF, "h"), cheap, need=SEALED, trust=trust) == "ah"


@pytest.mark.requirement("DPDP-6-05")
def test_the_provider_in_use_comes_third_with_what_it_gives_already() -> None:
    better = entry(replace(A, source="reclaimed"), "a")
    full = entry(replace(B, cap_mw=0), "b")
    assert order(better, full) == "a"
    assert order(better, full, current=Current(B.id, 18_000)) == "ba"
    assert order(better, full, current=Current(B.id, 17_999)) == "ab"
    assert order(better, full, current=Current(HALF.id, 18_000)) == "a"
    (first, *_) = select([full], NEED, ANYBODY, SEED, Situation(current=Current(B.id, 18_000)))
    assert first.sentence.endswith("in use")


@pytest.mark.requirement("DPDP-6-05")
def test_sources_come_fourth_in_the_order_that_is_preferred() -> None:
    entries = [
        entry(advert(number, RANGE, source=word), name)
        for number, (word, name) in enumerate(
            {"fusion": "x", "grid": "g", "feed": "f", "reclaimed": "r", "battery": "b"}.items()
        )
    ]
    assert order(*entries) == "rbgfx"
    assert order(*entries, need=replace(NEED, prefer=("feed", "grid"))) == "fgrbx"
    assert order(*entries, need=replace(NEED, prefer=("fusion",))) == "xrbgf"


@pytest.mark.requirement("DPDP-6-05")
def test_tariffs_come_fifth() -> None:
    prices = {"n": -1, "c": 10, "d": 20}
    entries = [
        entry(advert(number, RANGE, tariff=Tariff(currency="EUR", micro_per_kwh=micro)), name)
        for number, (name, micro) in enumerate(prices.items())
    ]
    entries.append(entry(advert(7, RANGE, tariff=FREE), "f"))
    entries.append(entry(advert(8, RANGE), "s"))
    entries.append(
        entry(advert(9, RANGE, tariff=Tariff(currency="USD", micro_per_kwh=5)), "u"),
    )
    assert order(*entries, need=replace(NEED, currency="EUR")) == "nfcdus"
    # nobody said in which currency to compare
    assert order(*entries) == "nfucds"
    assert order(*entries, need=replace(NEED, max_price_micro=10)) == "nfuc"


@pytest.mark.requirement("DPDP-6-05")
def test_distance_comes_sixth() -> None:
    entries = [entry(advert(number, RANGE), name) for number, name in enumerate("hnmfzu")]
    ms = {"h": 0, "n": 0.9, "m": 4.9, "f": 99, "z": 100}
    rtt = {name: round(one * 1e6) for name, one in ms.items()}
    assert order(*entries, rtt=rtt) == "hnmfzu"
    cheap = entry(replace(A, tariff=FREE), "c")
    assert order(cheap, *entries, rtt=rtt) == "chnmfzu"


@pytest.mark.requirement("DPDP-6-01", "DPDP-6-05")
def test_the_last_step_is_a_lot_that_does_not_depend_on_the_others() -> None:
    entries = [entry(advert(number, RANGE), f"{number:x}") for number in range(16)]
    drawn = order(*entries)
    assert order(*entries[::2]) == "".join(name for name in drawn if int(name, 16) % 2 == 0)
    others = select(entries, NEED, ANYBODY, b"another")
    assert "".join(one.entry.key for one in others) != drawn


@pytest.mark.requirement("DPDP-6-01")
def test_a_crowd_spreads() -> None:
    entries = [entry(advert(number, RANGE), f"{number}") for number in range(4)]
    taken = Counter(
        select(entries, NEED, ANYBODY, b"lamp %d" % lamp)[0].entry.key for lamp in range(1_000)
    )
    assert sum(taken.values()) == 1_000
    assert len(taken) == 4
    assert all(200 <= count <= 300 for count in taken.values()), taken


# ---- roaming ------------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-10-03")
def test_a_flow_may_be_moved_for_what_is_better_by_itself() -> None:
    here = entry(A, "a")
    for other, may in (
        (entry(B, "b"), False),
        (entry(replace(B, source="reclaimed"), "b"), True),
        (entry(replace(B, tariff=FREE), "b"), True),
        (entry(replace(B, source="reclaimed"), "b", **SUSPECT), False),
        (entry(replace(B, source="reclaimed", cap_mw=10_000), "b"), False),
        (entry(replace(B, cap_mw=0), "b"), False),
    ):
        situation = Situation(rtt={"b": 0}, current=Current(A.id, 1))
        found = {
            one.entry.key: one for one in select([here, other], NEED, ANYBODY, SEED, situation)
        }
        assert found["b"].beats(found["a"]) == may
        assert not found["a"].beats(found["a"])
    gone = only(entry(replace(A, cap_mw=0)))
    assert only(entry(B)).beats(gone)
    assert not gone.beats(gone)


# ---- misuse -------------------------------------------------------------------------------------


def test_wishes_and_seeds_have_a_greatest_number() -> None:
    most = replace(NEED, asks=(LAMP,) * MAX_ASKS)
    assert select([], most, ANYBODY, bytes(MAX_SEED)) == []
    for need, seed in (
        (replace(NEED, asks=()), b""),
        (replace(NEED, asks=(LAMP,) * (MAX_ASKS + 1)), b""),
        (NEED, bytes(MAX_SEED + 1)),
    ):
        with pytest.raises(LocalProtocolError, match=r"1\.\.4 can be asked"):
            select([], need, ANYBODY, seed)


def test_an_advert_without_an_offer_is_a_bug_of_ours() -> None:
    with pytest.raises(BrokenInvariant):
        only(entry(advert(1)))
