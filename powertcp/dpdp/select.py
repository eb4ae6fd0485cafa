"""Which provider to take: filters in a fixed order, then a ranking that can be explained; pure.

Sections 6 and 7.3 of the DPDP draft. Each advert comes back as a candidate with its reason, the
one to take first. Nothing here connects: an advert is a hint, the handshake is the truth.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from powertcp.dpdp.advert import TYPE_TCP, Advert, Tariff
from powertcp.dpdp.entry import Entry, Signed, Standing
from powertcp.dpdp.merits import Merits, Rank, distance_step, draw_lot
from powertcp.dpdp.ranges import Ask, Misfit, Overlap, overlap
from powertcp.dpdp.trust import Level, Trust, Verdict
from powertcp.dpdp.txt import show_text
from powertcp.dpdp.why import Finding, Why, format_price, format_tariff
from powertcp.errors import LocalProtocolError, known
from powertcp.units import Duration, Instant

# pairs in a SYN
MAX_ASKS: Final = 4
# candidates whose distance is measured
MAX_MEASURED: Final = 8
# octets of a key of BLAKE2s
MAX_SEED: Final = 32
DEFAULT_PREFER: Final = ("reclaimed", "battery", "grid", "feed")
_USABLE: Final = (Standing.GOOD, Standing.SUSPECT)
_REASON: Final = "what was rejected has a reason"
_STRONGEST: Final = max(level.strength for level in Level)
# prices that can be compared, those in another currency, those that are not stated
_COMPARED, _FOREIGN, _UNSTATED = range(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a consumer looks for.

    asks: 1..4, best first. max_price_micro: most that is paid, millionths of a currency unit per
    kWh; None: any price. currency: of it, "" any. sources: those that are taken, None for all.
    prefer: words of `src`, the preferred one first; those that are left out come after them, in the
    order of DEFAULT_PREFER. can_seal: a VPPN is configured. is_sealed_only: clear power is not
    taken, nor that of a stranger whose advert is not signed.
    """

    asks: tuple[Ask, ...]
    max_price_micro: int | None = None
    currency: str = ""
    sources: frozenset[str] | None = None
    prefer: tuple[str, ...] = DEFAULT_PREFER
    can_seal: bool = False
    is_sealed_only: bool = False


class Current(NamedTuple):
    """The provider of a flow that is well. id: 16 octets. held_mw: what the flow holds of it."""

    id: bytes
    held_mw: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a consumer knows beside the adverts.

    now: on the clock of the entries. rtt: ns of one connect by key of the entry, 0 for this host;
    measure those of the first MAX_MEASURED, then select again. waits: provider ids that have
    refused, and until when they are left alone. current: see there, None without.
    """

    now: Instant = 0
    rtt: Mapping[str, Duration] = field(default_factory=lambda: MappingProxyType({}))
    waits: Mapping[bytes, Instant] = field(default_factory=lambda: MappingProxyType({}))
    current: Current | None = None


NOWHERE: Final = Situation()


class Candidate(NamedTuple):
    """An advert and what became of it.

    why: CHOSEN for the one to try first, NEXT for those to try then, else the first filter that it
    did not pass. merits: None when it was rejected. finding: None when it was not. first: the
    merits of the one that is CHOSEN, None for that one and for the rejected.
    """

    entry: Entry
    why: Why
    merits: Merits | None = None
    finding: Finding | None = None
    first: Merits | None = None

    @property
    def sentence(self) -> str:
        """Why, for people, with the numbers of both sides; nothing of it needs to be escaped."""
        if self.merits is None:
            return known(self.finding, _REASON).sentence
        said = self.merits.sentence
        return said if self.first is None else f"{said}, {self.merits.behind(self.first)}"

    @property
    def numbers(self) -> dict[str, int]:
        """The numbers of the sentence, each by a name with its unit."""
        if self.merits is None:
            return dict(known(self.finding, _REASON).numbers)
        return self.merits.numbers

    def beats(self, other: "Candidate") -> bool:
        """Return whether a flow may be moved from `other` to here: better in step 1, 2, 4 or 5."""
        if self.merits is None or self.merits.rank.is_suspect:
            return False
        # DPDP-10-03
        return other.merits is None or self.merits.rank.worth < other.merits.rank.worth


def select(
    entries: Iterable[Entry],
    need: Need,
    trust: Trust,
    seed: bytes,
    situation: Situation = NOWHERE,
) -> list[Candidate]:
    """Return a candidate for each of `entries`: those to try in their order, then the rejected.

    seed: names the consumer, up to 32 octets; one seed draws the same lots for the same adverts in
    whatever order, and an advert keeps its lot while others come and go. Try the addresses of an
    entry in their order, and take no power before the proof of the verdict misses nothing. Raises
    LocalProtocolError for no wish or more than a SYN can hold, and for a longer seed.
    """
    if not 1 <= len(need.asks) <= MAX_ASKS or len(seed) > MAX_SEED:
        raise LocalProtocolError(
            f"{len(need.asks)} wishes, 1..{MAX_ASKS} can be asked;"
            f" a seed of {len(seed)} octets, at most {MAX_SEED}"
        )
    selection = _Selection(need, trust, seed, situation)
    kept: list[tuple[Rank, Entry, Merits]] = []
    rejected: list[Candidate] = []
    for entry in entries:
        found = selection.judge(entry)
        if isinstance(found, Merits):
            kept.append((found.rank, entry, found))
        else:
            rejected.append(Candidate(entry, found.why, finding=found))
    # DPDP-6-05
    kept.sort(key=lambda one: one[0])
    rejected.sort(key=lambda one: (one.why.place, one.entry.key))
    chosen = [Candidate(entry, Why.CHOSEN, merits) for _, entry, merits in kept[:1]]
    later = [Candidate(entry, Why.NEXT, merits, first=kept[0][2]) for _, entry, merits in kept[1:]]
    return chosen + later + rejected


class _Selection:
    """One selection: what is the same for all its adverts."""

    def __init__(self, need: Need, trust: Trust, seed: bytes, situation: Situation) -> None:
        self._need = need
        self._trust = trust
        self._seed = seed
        self._situation = situation
        places = dict.fromkeys((*need.prefer, *DEFAULT_PREFER))
        self._sources = {word: place for place, word in enumerate(places)}

    # DPDP-6-04
    def judge(self, entry: Entry) -> Merits | Finding:
        """Return the merits of one advert, or the first filter that it does not pass."""
        advert = entry.advert
        if advert is None or entry.standing not in _USABLE:
            return self._unusable(entry)
        if finding := self._unreachable(entry, advert) or self._unsealed(advert):
            return finding
        is_suspect = entry.standing is Standing.SUSPECT
        verdict = self._trust.judge(advert, is_suspect=is_suspect, can_seal=self._need.can_seal)
        if finding := self._distrusted(entry, verdict):
            return finding
        free_mw, is_current = self._free(advert)
        common = self._fit(advert, free_mw)
        if isinstance(common, Finding):
            return common
        if finding := self._too_dear(advert.tariff) or self._unwanted(advert.source):
            return finding
        rtt = self._situation.rtt.get(entry.key)
        rank = Rank(
            is_suspect,
            not common.is_served(free_mw),
            _STRONGEST - verdict.level.strength,
            not is_current,
            self._sources.get(advert.source, len(self._sources)),
            self._price_step(advert.tariff),
            distance_step(rtt),
            draw_lot(self._seed, advert.id, free_mw),
            entry.key,
        )
        doubt = entry.why if is_suspect else ""
        return Merits(rank, advert, verdict, common, free_mw, rtt, doubt)

    def _unusable(self, entry: Entry) -> Finding:
        """Return why nothing can be done with an advert."""
        if entry.standing is Standing.UNKNOWN_VERSION:
            return Finding(Why.VERSION, words=(show_text(entry.fault),))
        if entry.standing is Standing.DEAD:
            wait_ns = max(0, entry.dead_until_ns - self._situation.now)
            return Finding(Why.DEAD, (("wait_ns", wait_ns),))
        return Finding(Why.MALFORMED, words=(show_text(entry.fault),))

    def _unreachable(self, entry: Entry, advert: Advert) -> Finding | None:
        """Return why there is nobody to connect to, or nobody to ask yet."""
        if entry.service.kind != TYPE_TCP:
            return Finding(Why.FEED, words=("a broadcast, which nobody can be asked for",))
        if not entry.addresses:
            return Finding(Why.ADDRESS, words=("no address of it is known",))
        wait_ns = self._situation.waits.get(advert.id, 0) - self._situation.now
        # DPDP-6-02
        return Finding(Why.REFUSED, (("wait_ns", wait_ns),)) if wait_ns > 0 else None

    def _unsealed(self, advert: Advert) -> Finding | None:
        """Return why the two sides do not agree on sealed power."""
        has_key = advert.exchange_key is not None
        if advert.seal == "req" and not (self._need.can_seal and has_key):
            lacks = "and shows no key" if self._need.can_seal else "and no VPPN is configured"
            return Finding(Why.SEAL, words=("gives sealed power only, ", lacks))
        if self._need.is_sealed_only and not has_key:
            return Finding(Why.SEAL, words=("shows no key, asked is sealed power",))
        return None

    def _distrusted(self, entry: Entry, verdict: Verdict) -> Finding | None:
        if verdict.refusal:
            return Finding(Why.TRUST, words=(verdict.refusal,))
        is_stranger = self._need.is_sealed_only and verdict.level is Level.ANY
        if is_stranger and entry.signed in (Signed.NONE, Signed.BAD):
            return Finding(Why.TRUST, words=("a stranger whose advert is not signed",))
        return None

    def _free(self, advert: Advert) -> tuple[int, bool]:
        """Return what an advert has for us, mW, and whether our flow is there already."""
        current = self._situation.current
        if current is None or current.id != advert.id:
            return advert.cap_mw, False
        return advert.cap_mw + current.held_mw, True

    def _fit(self, advert: Advert, free_mw: int) -> Overlap | Finding:
        """Return the best that the offers have of our wishes, or what is in the way."""
        within: Overlap | None = None
        short: Overlap | None = None
        near: Misfit | None = None
        for ask in self._need.asks:
            for offer in advert.offers:
                found = overlap(offer, ask)
                if isinstance(found, Misfit):
                    if near is None or found.nearness > near.nearness:
                        near = found
                elif found.is_served(free_mw):
                    return found
                elif found.is_within(free_mw):
                    within = within or found
                elif short is None or found.least_mw < short.least_mw:
                    short = found
        if within is not None:
            return within
        if short is not None:
            numbers = (("free_mw", free_mw), ("asked_least_mw", short.least_mw))
            return Finding(Why.FULL, numbers)
        return known(near, "an advert has an offer").finding

    def _too_dear(self, tariff: Tariff | None) -> Finding | None:
        most = self._need.max_price_micro
        if most is None:
            return None
        place, micro = self._price_step(tariff)
        if place == _COMPARED and micro <= most:
            return None
        limit = format_price(most)
        if tariff is None:
            words = ("not stated, at most ", limit)
            return Finding(Why.TARIFF, (("most_micro_per_kwh", most),), words)
        price = format_tariff(tariff)
        if place == _FOREIGN:
            return Finding(Why.TARIFF, words=(price, ", paid is in ", self._need.currency))
        numbers = (("micro_per_kwh", micro), ("most_micro_per_kwh", most))
        return Finding(Why.TARIFF, numbers, (price, " above ", limit))

    def _unwanted(self, source: str) -> Finding | None:
        wanted = self._need.sources
        if wanted is None or source in wanted:
            return None
        words = (show_text(source), ", asked ", " or ".join(sorted(wanted)))
        return Finding(Why.SOURCE, words=words)

    def _price_step(self, tariff: Tariff | None) -> tuple[int, int]:
        """Return the place of a tariff: prices by number, then other currencies, then the silent."""
        if tariff is None:
            return _UNSTATED, 0
        # what is free is so in every currency
        if self._need.currency and tariff.currency not in ("", self._need.currency):
            return _FOREIGN, 0
        return _COMPARED, tariff.micro_per_kwh
