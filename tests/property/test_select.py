"""Selection over random tables: one order for a seed, no filtered advert kept, better never worse."""

from collections import Counter
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any, TypeVar

import pytest

from powertcp.dpdp.advert import FREE, TYPE_TCP, TYPE_UDP, Advert, Offer, Tariff
from powertcp.dpdp.entry import Entry, Signed, Standing
from powertcp.dpdp.ranges import Ask
from powertcp.dpdp.select import Candidate, Current, Need, Situation, select
from powertcp.dpdp.trust import Level, Trust
from powertcp.dpdp.why import Why
from powertcp.errors import known
from powertcp.profile import PowerProfile, ProfileType, Waveform, in_range
from tests.adverts import advert, entry
from tests.full import size

TABLES = size(600, 10_000)
T = TypeVar("T")
KEYS = [bytes([number]) * 32 for number in range(3)]
SITES = frozenset([b"s" * 32])
VOLTS = (5_000, 9_000, 12_000, 230_000)
AMPS = (0, 500, 1_000, 3_000)
SOURCES = ("grid", "reclaimed", "battery", "fusion")
CURRENCIES = ("", "EUR", "USD")


class Table:
    """A random table, and what is wanted of it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        # in most tables many can be taken, so that they are ranked
        self.is_mild = random.random() < 0.7
        # and alike, so that the later steps decide
        self.alike = {
            "source": random.choice(SOURCES),
            "tariff": self._tariff(),
            "cap_mw": 40_000,
            "exchange_key": None,
            "seal": None,
        }
        self.entries = [self._entry(number) for number in range(random.randrange(12))]
        self.need = Need(
            asks=tuple(self._ask() for _ in range(random.choice((1, 1, 2)))),
            max_price_micro=self._rarely(20, None),
            currency=random.choice(CURRENCIES),
            sources=self._rarely(frozenset(SOURCES[:2]), None),
            prefer=tuple(random.sample(SOURCES, random.randrange(4))),
            can_seal=random.random() < 0.7,
            is_sealed_only=self._rarely(True, False),
        )
        self.trust = Trust(
            level=self._rarely(random.choice(list(Level)), Level.ANY),
            ids=frozenset(self._ident() for _ in range(random.randrange(2))),
            keys=frozenset(random.sample(KEYS, random.randrange(2))),
            sites=random.choice((frozenset(), SITES)),
        )
        rtt = {one.key: random.randrange(8) * 500_000 for one in self.entries if self._maybe()}
        waits = {self._ident(): random.randrange(90, 200) for _ in range(random.randrange(4))}
        current = Current(self._ident(), 9_000) if self._maybe() else None
        self.situation = Situation(now=100, rtt=rtt, waits=waits, current=current)
        self.seed = random.randbytes(random.randrange(33))

    def _rarely(self, strict: T, mild: T) -> T:
        return mild if self.is_mild or self.random.random() < 0.7 else strict

    def _maybe(self) -> bool:
        return self.random.random() < 0.5

    def _ident(self) -> bytes:
        return advert(self.random.randrange(12)).id

    def _power(self, kind: ProfileType) -> PowerProfile:
        random = self.random
        volts, amps = random.choice((*VOLTS[:3], *VOLTS)), random.choice(AMPS)
        if self.is_mild:
            return PowerProfile(type=kind, voltage_mv=12_000, current_ma=max(amps, 500))
        if random.random() < 0.5:
            return PowerProfile(type=kind, voltage_mv=volts, current_ma=amps)
        hertz, shape = random.choice((5_000, 6_000, 0xFFFF)), Waveform.SINE
        return PowerProfile(
            type=kind, voltage_mv=volts, current_ma=amps, frequency_chz=hertz, waveform=shape
        )

    def _least(self, most: PowerProfile) -> PowerProfile | None:
        if self.random.random() < 0.3:
            return None
        if self.is_mild:
            return most.with_type(ProfileType.MINIMUM, voltage_mv=5_000, current_ma=0)
        volts = self.random.choice([one for one in VOLTS if one <= most.voltage_mv])
        amps = self.random.choice([one for one in AMPS if one <= most.current_ma])
        return most.with_type(ProfileType.MINIMUM, voltage_mv=volts, current_ma=amps)

    def _ask(self) -> Ask:
        most = self._power(ProfileType.REQUEST)
        return Ask(most, self._least(most))

    def _tariff(self) -> Tariff | None:
        micro = self.random.choice((-5, 10, 20, 30))
        stated = Tariff(currency=self.random.choice(CURRENCIES[1:]), micro_per_kwh=micro)
        return self.random.choice((None, FREE, stated, stated))

    def _offer(self) -> Offer:
        most = self._power(ProfileType.OFFER)
        return Offer(offer=most, minimum=self._least(most))

    def _entry(self, number: int) -> Entry:
        random = self.random
        said: dict[str, Any] = {
            "cap_mw": random.choice((0, 4_000, 12_000, 40_000, 10**9)),
            "source": random.choice(SOURCES),
            "tariff": self._tariff(),
            "exchange_key": random.choice((None, *KEYS)),
            "seal": random.choice((None, None, None, "opt", "req")),
        }
        if self.is_mild:
            said |= {name: self.alike[name] for name in said if random.random() < 0.8}
        # some share an id
        ident = random.choice((number, number, number, 0))
        offers = [self._offer() for _ in range(random.randrange(1, 5))]
        good = [Standing.GOOD] * 30 + [Standing.SUSPECT] * 8
        one = entry(
            advert(ident, *offers, **said),
            f"{number}",
            standing=random.choice([*good, *Standing]),
            kind=random.choice([*[TYPE_TCP] * 20, TYPE_UDP]),
            signed=random.choice(list(Signed)),
            fault="nobody\x1b can read that",
            why="id-clash",
        )
        return replace(one, addresses=()) if random.random() < 0.05 else one

    def select(self) -> list[Candidate]:
        return select(self.entries, self.need, self.trust, self.seed, self.situation)

    def free_mw(self, said: Advert) -> int:
        current = self.situation.current
        return said.cap_mw + (current.held_mw if current and current.id == said.id else 0)


# ---- what may be kept, said in another way ------------------------------------------------------


def overlaps(offered: Offer, ask: Ask) -> bool:
    """Two ranges overlap where a corner of one voltage and one current of theirs is in both."""
    most, desired = offered.offer, ask.desired
    lowest = offered.minimum or most.with_type(ProfileType.MINIMUM, current_ma=0)
    least = ask.minimum or desired
    ends = (most, lowest, desired, least)
    for volts, amps in product(ends, ends):
        corner = desired.with_type(
            ProfileType.GRANT, voltage_mv=volts.voltage_mv, current_ma=amps.current_ma
        )
        if in_range(corner, most, lowest) and in_range(corner, desired, least):
            return True
    return False


def is_trusted(table: Table, one: Entry, said: Advert) -> bool:
    """Without anybody met before, a pin is a key of the advert or its id."""
    trust, need = table.trust, table.need
    if said.exchange_key in trust.keys:
        return need.can_seal
    if said.id in trust.ids and one.standing is Standing.GOOD:
        return True
    if trust.level is Level.PINNED:
        return False
    can_be_certified = bool(trust.sites) and said.exchange_key is not None and need.can_seal
    if trust.level is Level.SITE:
        return can_be_certified
    return not need.is_sealed_only or one.signed in (Signed.GOOD, Signed.UNKNOWN)


def may_be_kept(table: Table, one: Entry) -> bool:
    said, need, situation = one.advert, table.need, table.situation
    if said is None or one.standing not in (Standing.GOOD, Standing.SUSPECT):
        return False
    if one.service.kind != TYPE_TCP or not one.addresses:
        return False
    if said.seal == "req" and not (need.can_seal and said.exchange_key):
        return False
    if need.is_sealed_only and said.exchange_key is None:
        return False
    fits = [
        ask
        for ask, offered in product(need.asks, said.offers)
        if overlaps(offered, ask)
        and 0 < table.free_mw(said) >= (ask.minimum or ask.desired).power_mw
    ]
    if situation.waits.get(said.id, 0) > situation.now or not fits:
        return False
    if need.max_price_micro is not None:
        if said.tariff is None or said.tariff.micro_per_kwh > need.max_price_micro:
            return False
        if need.currency and said.tariff.currency not in ("", need.currency):
            return False
    if need.sources is not None and said.source not in need.sources:
        return False
    return is_trusted(table, one, said)


@pytest.mark.requirement("DPDP-6-01", "DPDP-6-04", "DPDP-6-05")
def test_one_order_for_a_seed_and_nothing_kept_that_a_filter_stops() -> None:
    random = Random(604)
    seen: Counter[str] = Counter()
    for _ in range(TABLES):
        table = Table(random)
        found = table.select()
        kept = [one for one in found if one.merits]
        assert {one.entry.key for one in kept} == {
            one.key for one in table.entries if may_be_kept(table, one)
        }
        ranks = [one.merits.rank for one in kept if one.merits]
        assert ranks == sorted(ranks)
        assert found[: len(kept)] == kept
        assert len(found) == len(table.entries)
        for one in found:
            seen[one.why] += 1
            assert one.sentence
            assert all(isinstance(number, int) for number in one.numbers.values())
        random.shuffle(table.entries)
        assert table.select() == found
        table.seed = random.randbytes(16)
        seen["another order"] += [one.entry.key for one in table.select()] != [
            one.entry.key for one in found
        ]
    assert min(seen[why] for why in Why) > TABLES // 100, seen
    assert seen["another order"] > TABLES // 20


# ---- what is improved ---------------------------------------------------------------------------


def better_advert(table: Table, said: Advert, what: str) -> Advert:
    """Return an advert that says something better."""
    random = table.random
    match what:
        case "cap":
            return replace(said, cap_mw=said.cap_mw + random.choice((1, 8_000, 10**9)))
        case "tariff":
            price = said.tariff or FREE
            if price.currency:
                price = replace(price, micro_per_kwh=price.micro_per_kwh - random.randrange(40))
            return replace(said, tariff=price)
        case "source":
            order = list(dict.fromkeys((*table.need.prefer, "reclaimed", "battery", "grid")))
            place = order.index(said.source) if said.source in order else len(order)
            allowed = table.need.sources or frozenset(order)
            wanted = [word for word in order[:place] if word in allowed]
            return replace(said, source=random.choice([*wanted, said.source]))
        case _:
            first = said.offers[0]
            more = first.offer.with_type(ProfileType.OFFER, current_ma=9_000)
            least = first.offer.with_type(ProfileType.MINIMUM, voltage_mv=0, current_ma=0)
            wider = replace(first, offer=more, minimum=first.minimum or least)
            return replace(said, offers=(wider, *said.offers[1:]))


def better_situation(table: Table, one: Entry, ident: bytes, what: str) -> None:
    """Change what is known beside the adverts in favour of one of them."""
    situation = table.situation
    match what:
        case "rtt":
            rtt = situation.rtt.get(one.key, 10**9)
            nearer = {**situation.rtt, one.key: table.random.randrange(rtt + 1)}
            table.situation = replace(situation, rtt=nearer)
        case "pin":
            table.trust = replace(table.trust, ids=table.trust.ids | {ident})
        case "current":
            table.situation = replace(situation, current=Current(ident, 9_000))
        case _:
            rest = {who: until for who, until in situation.waits.items() if who != ident}
            table.situation = replace(situation, waits=rest)


# each is tried as often as it takes to decide now and then
CHOICES = ["cap", "tariff", "source", "offer", *["rtt"] * 4, "standing"]


def improve(table: Table, at: int) -> str:
    """Make entry `at` better in one respect, and say which."""
    one = table.entries[at]
    said = known(one.advert, "entries here can be read")
    choices = CHOICES.copy()
    # what is known of an id is so of each advert with it
    if [known(other.advert, "").id for other in table.entries].count(said.id) == 1:
        choices += ["pin", "current"]
        choices += ["waits"] * 16 if said.id in table.situation.waits else []
    what = table.random.choice(choices)
    if what == "standing":
        if one.standing is Standing.SUSPECT:
            table.entries[at] = replace(one, standing=Standing.GOOD)
    elif what in ("rtt", "pin", "current", "waits"):
        better_situation(table, one, said.id, what)
    else:
        table.entries[at] = replace(one, advert=better_advert(table, said, what))
    return what


def place_of(table: Table, key: str) -> int:
    """Return how many stand before an entry; all of them when it is rejected."""
    kept = [one.entry.key for one in table.select() if one.merits]
    return kept.index(key) if key in kept else len(table.entries)


@pytest.mark.requirement("DPDP-6-05")
def test_what_is_improved_in_one_respect_never_falls_behind() -> None:
    random = Random(605)
    better: Counter[str] = Counter()
    for _ in range(TABLES):
        table = Table(random)
        for _ in range(3 * bool(table.entries)):
            at = random.randrange(len(table.entries))
            key = table.entries[at].key
            before = place_of(table, key)
            what = improve(table, at)
            after = place_of(table, key)
            assert after <= before, (what, table.entries[at], table.need)
            better[what] += after < before
    assert len(+better) == 9, better
    assert sum(better.values()) > TABLES // 5, better
