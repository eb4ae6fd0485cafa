"""What the flows of one identity may have beside each other: its power and its quotas are for all."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.session import FlowRecord
from powertcp.drivers.verdict import Standing
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from powertcp.sources import Breaker, Holding, held_mw
from powertcp.units import NS_PER_S, Instant
from powertcp.vppn.access import OverLimit, Rights, Wish

if TYPE_CHECKING:
    from powertcp.drivers.windows import Windows


class House(Protocol):
    """Whose flows are judged. breaker: holds their power."""

    breaker: Breaker

    def wake(self, when: Instant) -> None:
        """See to it that the plan is looked at by `when`."""

    def attempt(self, record: FlowRecord, now: Instant, verb: Callable[[], None]) -> None:
        """Do something on a flow, outside of a wake-up of its wire."""

    def quiet(self, record: FlowRecord, state: str) -> None:
        """Deliver nothing more on a flow."""


class Endings(Protocol):
    """Who ends flows."""

    def end(self, record: FlowRecord, refusal: Refusal) -> None:
        """Shed a flow to 0 W, and close it then."""

    def refusal(self, record: FlowRecord) -> Refusal | None:
        """Return why a flow is being ended, None if it is not."""


class Shares:
    """Flows by identity. windows: of quotas, None without a ledger."""

    def __init__(self, house: House, endings: Endings, unix_ns: Callable[[], int]) -> None:
        """Begin without flows."""
        self.windows: Windows | None = None
        self._house = house
        self._endings = endings
        self._unix_ns = unix_ns
        self._party: dict[FlowRecord, str] = {}
        self._parties: dict[str, dict[FlowRecord, int]] = {}  # with the mW that it asked for
        self._spent: dict[FlowRecord, Refusal] = {}
        self._limited: set[str] = set()  # parties of which a flow has less than it asked for

    def __contains__(self, record: object) -> bool:
        """Say whether a flow is counted."""
        return record in self._party

    @property
    def flows(self) -> tuple[FlowRecord, ...]:
        """Every flow that is counted."""
        return tuple(self._party)

    def enter(self, record: FlowRecord, rights: Rights) -> None:
        """Count `record` for who draws on it, by `rights`."""
        most_mw = self._drop(record)
        record.rights = rights
        self._party[record] = record.party
        self._parties.setdefault(record.party, {})[record] = most_mw
        if self.windows is not None:
            self.windows.note(record.party, rights, record)

    def has_room(self, record: FlowRecord, rights: Rights) -> bool:
        """Return whether what `rights` limit by the hour, day or month can be counted."""
        windows = self.windows
        return windows is None or windows.has_room(record.party_by(rights), rights)

    def ask(self, record: FlowRecord, most_mw: int) -> None:
        """Count what `record` may be granted at most, as long as nothing is held for it."""
        self._parties[record.party][record] = most_mw

    def leave(self, record: FlowRecord) -> None:
        """A flow is over: what it might have drawn is there for others of the same identity."""
        party = self._party.get(record)
        self._drop(record)
        self._spent.pop(record, None)
        if self.windows is not None and party is not None:
            self.windows.drop(party, record)
        if party in self._limited:
            self.share(party)

    def move(self, old: FlowRecord, new: FlowRecord, rights: Rights) -> None:
        """Count `new` in place of `old`."""
        spent, most_mw = self._spent.pop(old, None), self._drop(old)
        if spent is not None:
            self._spent[new] = spent
        self.enter(new, rights)
        if self.windows is not None:
            self.windows.drop(old.party, old)
        self.ask(new, most_mw)
        self.share(new.party)

    def _drop(self, record: FlowRecord) -> int:
        """Count `record` for nobody; return the mW that it asked for."""
        party = self._party.pop(record, None)
        if party is None:
            return 0
        most_mw = self._parties[party].pop(record)
        if not self._parties[party]:
            del self._parties[party]
        return most_mw

    def standing(self, record: FlowRecord) -> Standing:
        """Return what the other flows of the identity may draw, and what it has had."""
        rights, others = record.rights, self._parties.get(record.party, {})
        if rights is not None and rights.limits.power_mw is None:
            others = {}
        held = sum(self._claim_mw(one) for one in others if one is not record)
        return self._standing(record, held)

    def _standing(self, record: FlowRecord, held: int) -> Standing:
        rights, used = record.rights, {}
        if self.windows is not None and rights is not None and rights.limits.quotas:
            used = self.windows.used_uj(record.party, begins=False)
        return Standing(held, used, self._unix_ns() // NS_PER_S)

    def _claim_mw(self, record: FlowRecord) -> int:
        """Return the most that a flow has, or rises to without being asked again."""
        holding = self._house.breaker.holdings.get(record)
        if holding is None:
            return self._parties[self._party[record]][record]
        return max(holding.mw, holding.request_mw(self._supply(holding)))

    def _supply(self, holding: Holding) -> PowerProfile:
        return self._house.breaker.supplies[holding.supply].profile

    # VPPN-5-09
    def suspend(self, record: FlowRecord, refusal: Refusal | None) -> None:
        """A flow has had all that its quota leaves for it, or with None, there is some again."""
        if record not in self._party or (refusal is None) is (record not in self._spent):
            return
        if refusal is None:
            del self._spent[record]
        else:
            self._spent[record] = refusal
        self.look(record)

    def share_all(self) -> None:
        """Share again among the flows of every identity."""
        for party in tuple(self._parties):
            self.share(party)

    def look(self, record: FlowRecord) -> None:
        """Share again what the identity of a flow may have: its terms are others."""
        if record in self._party:
            self.share(self._party[record])

    def changed(self, record: FlowRecord) -> None:
        """The terms of a flow are others: what it leaves is for those that have less."""
        if self._party.get(record) in self._limited:
            self.look(record)

    def share(self, party: str) -> None:
        """Let each flow of an identity have what those before it leave, the oldest first."""
        breaker, before_mw = self._house.breaker, 0
        self._limited.discard(party)
        held = [
            (holding.age, record, holding)
            for record in self._parties.get(party, ())
            if (holding := breaker.holdings.get(record)) is not None
        ]
        for _, record, holding in sorted(held, key=lambda one: one[0]):
            most_mw, why = self._most(record, holding, before_mw)
            if most_mw is not None:
                self._limited.add(party)
            if (most_mw, why) != (holding.right_mw, holding.right):
                breaker.set_right(record, most_mw, why)
            before_mw += holding.request_mw(self._supply(holding))
        self._house.wake(now_ns())

    def _most(
        self, record: FlowRecord, holding: Holding, before_mw: int
    ) -> tuple[int | None, Refusal | None]:
        """Return the mW that a flow may have beside `before_mw`, None for what it asked, and why."""
        if (refusal := self._endings.refusal(record)) is not None:
            return 0, refusal
        if record in self._spent:
            name = f"sink:{record.party}"
            if self.windows is not None and self.windows.refusal(name, record.rights):
                return 0, self._spent[record]
            del self._spent[record]
        rights = record.rights
        if rights is None:
            return None, None
        supply, desired = self._supply(holding), holding.desired
        current_ma = min(desired.current_ma, supply.current_ma)
        most = desired.with_type(
            ProfileType.REQUEST, voltage_mv=supply.voltage_mv, current_ma=current_ma
        )
        standing = self._standing(record, before_mw)
        wish = Wish(most=most, held_mw=before_mw, used_uj=standing.used_uj)
        why = rights.allow(wish, standing.now_s, OverLimit.REFUSE)
        if not isinstance(why, Refusal):
            return None, None
        least = most.with_type(ProfileType.MINIMUM, current_ma=0)
        ranged = Wish(most=most, least=least, held_mw=before_mw, used_uj=standing.used_uj)
        found = rights.allow(ranged, standing.now_s, OverLimit.REFUSE)
        if isinstance(found, Refusal):
            # less current helps neither voltage nor waveform nor class
            if found.code != Reason.ENERGY_QUOTA:
                self._endings.end(record, found)
            return 0, found
        return held_mw(found.most), why
