"""Admission to one link: who holds how much of it, who is lowered, refused, pre-empted or shed.

A node has one LinkAdmission for each link of which it is the end toward the source, an ES one more
for its own capacity. MPLampS sections 4.5 and 4.6.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from powertcp.errors import LocalProtocolError, PowerRefused, invariant
from powertcp.mplamps.power import PowerObject
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Session, Style
from powertcp.mplamps.ted import PRIORITIES, LinkState, Reservations
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from powertcp.units import format_voltage

_AMPERE_MA = 1000


class Sharing(StrEnum):
    """What the lamps of a shared session hold together: the sum of all, or only the greatest."""

    SUM = "sum"
    MAX = "max"


class Admitted(NamedTuple):
    """A circuit that holds its power.

    power: its REQUEST, lowered where less was left. preempted: the circuits that made room; they
    hold nothing any more, and whoever asked has to end them.
    """

    power: PowerObject
    preempted: tuple[CircuitId, ...]


class NoRoom(PowerRefused):
    """A link has not enough left; `power` is the REQUEST with a REFUSE of what is left."""

    def __init__(self, refusal: Refusal, power: PowerObject) -> None:
        super().__init__(refusal)
        self.refusal: Refusal = refusal
        self.power = power


class Violation(NamedTuple):
    """A session to which more is delivered than is reserved, both in mW."""

    session: Session
    delivered_mw: int
    reserved_mw: int

    @property
    def chi(self) -> float:
        """Delivered by reserved power."""
        return self.delivered_mw / self.reserved_mw if self.reserved_mw else float("inf")

    def sentence(self) -> str:
        """Return "first law: violated on session 10.0.0.1/1, chi = 12.0"."""
        name = f"{self.session.es}/{self.session.tunnel}"
        return f"first law: violated on session {name}, chi = {self.chi:.1f}"


@dataclass(slots=True, eq=False)
class _Hold:
    """What one circuit asks of the link: mW, octets/s. number: the younger, the greater."""

    circuit: CircuitId
    mw: int
    rate: int
    holding: int
    number: int
    is_pooled: bool


_Part: TypeAlias = tuple[int, int, int]


class _Pool:
    """The circuits of a session that count once: at each priority the greatest so far."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        # by holding priority: all mW and all octets/s, ascending
        self._levels: dict[int, tuple[list[int], list[int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._levels)

    def add(self, hold: _Hold) -> None:
        powers, rates = self._levels.setdefault(hold.holding, ([], []))
        insort(powers, hold.mw)
        insort(rates, hold.rate)

    def remove(self, hold: _Hold) -> None:
        powers, rates = self._levels[hold.holding]
        del powers[bisect_right(powers, hold.mw) - 1]
        del rates[bisect_right(rates, hold.rate) - 1]
        if not powers:
            del self._levels[hold.holding]

    def most(self, priority: int) -> tuple[int, int]:
        """Return the greatest mW and octets/s that are held with a priority or a better one."""
        best = [level for at, level in self._levels.items() if at <= priority]
        powers = max((level[0][-1] for level in best), default=0)
        return powers, max((level[1][-1] for level in best), default=0)

    def parts(self) -> list[_Part]:
        """Return what is held at each priority beyond what better ones hold: mW, octets/s."""
        found: list[_Part] = []
        mw = rate = 0
        for priority in sorted(self._levels):
            powers, rates = self._levels[priority]
            more_mw, more_rate = max(powers[-1] - mw, 0), max(rates[-1] - rate, 0)
            found.append((more_mw, more_rate, priority))
            mw, rate = mw + more_mw, rate + more_rate
        return found


class LinkAdmission:
    """What circuits hold of one link, by their styles. Never more than its capacity and rate."""

    __slots__ = (
        "_holds",
        "_in_order",
        "_number",
        "_pools",
        "_reservations",
        "_sharing",
        "_what",
        "name",
    )

    def __init__(
        self,
        reservations: Reservations,
        name: str,
        voltage_mv: int | None = None,
        sharing: Sharing = Sharing.SUM,
    ) -> None:
        """Take what is held of a link of a voltage; without one it is the capacity of a source."""
        self.name = name
        self._what = (
            f"source {name}"
            if voltage_mv is None
            else f"link {name} ({format_voltage(voltage_mv)})"
        )
        self._reservations = reservations
        self._sharing = sharing
        self._holds: dict[CircuitId, _Hold] = {}
        # at each holding priority by number, the youngest last
        self._in_order: dict[int, dict[int, _Hold]] = {}
        self._pools: dict[Session, _Pool] = {}
        self._number = 0

    def __contains__(self, circuit: object) -> bool:
        return circuit in self._holds

    def __len__(self) -> int:
        return len(self._holds)

    def __iter__(self) -> Iterator[CircuitId]:
        return iter(self._holds)

    @property
    def held_mw(self) -> int:
        """All that is held, in mW."""
        return self._reservations.held_mw

    def free_mw(self, priority: int) -> int:
        """Return the mW that are left for a setup priority, 0..7."""
        return self._reservations.free(priority)[0]

    def state(self, *, is_up: bool = True) -> LinkState:
        """Return what `Ted.update` takes."""
        return self._reservations.state(is_up=is_up)

    def admit(
        self,
        circuit: CircuitId,
        style: Style,
        power: PowerObject,
        rate: int,
        setup: int,
        holding: int,
    ) -> Admitted:
        """Hold the REQUEST of `power` for a circuit, and `rate` octets/s of its TSPEC.

        setup, holding: priorities 0, the best, to 7. A circuit that holds already holds this
        instead, and is the youngest then. Of a REQUEST with a MINIMUM the current is lowered to
        what is left. Raises NoRoom, state unchanged, where even that is not left. MPLA-4.5-03,
        MPLA-4.6-01 to MPLA-4.6-03.
        """
        if not (0 <= setup < PRIORITIES and 0 <= holding < PRIORITIES and rate >= 0):
            said = f"setup {setup}, holding {holding}, {rate:,} octets/s"
            raise LocalProtocolError(f"{self._what} cannot admit {said}")
        before = self._holds.get(circuit)
        is_pooled = self._is_pooled(style)
        granted = self._room(circuit, before, power, rate, setup, is_pooled=is_pooled)
        if before is not None:
            self._discount(before)
            del self._in_order[before.holding][before.number]
        self._number += 1
        mw = granted.profile.power_mw
        hold = _Hold(circuit, mw, rate, holding, self._number, is_pooled)
        self._count(hold)
        self._holds[circuit] = hold
        preempted = self._shed()
        in_order = self._in_order.get(holding)
        if in_order is None:
            in_order = self._in_order[holding] = {}
        in_order[hold.number] = hold
        return Admitted(granted, preempted)

    def find_room(
        self, circuit: CircuitId, style: Style, power: PowerObject, rate: int, setup: int
    ) -> PowerObject:
        """Return the power that `admit` would hold, and hold nothing. Raises NoRoom."""
        before, is_pooled = self._holds.get(circuit), self._is_pooled(style)
        return self._room(circuit, before, power, rate, setup, is_pooled=is_pooled)

    def _room(
        self, circuit: CircuitId, before: _Hold | None, power: PowerObject, rate: int, setup: int,
        *, is_pooled: bool,
    ) -> PowerObject:  # fmt: skip
        """Return the power that fits in the place of what a circuit has held. Raises NoRoom."""
        if before is None:
            return self._fit(circuit.session, power, rate, setup, is_pooled=is_pooled)
        self._discount(before)
        try:
            return self._fit(circuit.session, power, rate, setup, is_pooled=is_pooled)
        finally:
            self._count(before)

    def _is_pooled(self, style: Style) -> bool:
        """Return whether a circuit counts once with the others of its session."""
        return style is Style.SE or (style is Style.WF and self._sharing is Sharing.MAX)

    def _fit(
        self, session: Session, power: PowerObject, rate: int, setup: int, *, is_pooled: bool
    ) -> PowerObject:
        """Return the power that fits into what is left. Raises NoRoom."""
        free_mw, free_rate = self._reservations.free(setup)
        # MPLA-4.6-01
        if is_pooled and (pool := self._pools.get(session)):
            pooled_mw, pooled_rate = pool.most(setup)
            free_mw, free_rate = free_mw + pooled_mw, free_rate + pooled_rate
        # MPLA-4.6-03
        if rate > free_rate:
            left = f"{free_rate:,} octets/s left at priority {setup}, asked {rate:,} octets/s"
            raise self._no_room(power.profile, 0, left)
        request, least = power.profile, power.second
        if request.power_mw <= free_mw:
            return power
        # MPLA-4.5-03
        if least is not None and least.type is ProfileType.MINIMUM:
            lowered = _lowered(request, max(free_mw, 0))
            # MPLA-4.5-02: a circuit for nothing is none, also where the MINIMUM is 0
            if lowered.current_ma >= least.current_ma and 0 < lowered.power_mw <= free_mw:
                return PowerObject(lowered, least)
        left = f"{free_mw:,} mW left at priority {setup}, asked {request.power_mw:,} mW"
        raise self._no_room(request, free_mw, left)

    def _no_room(self, request: PowerProfile, free_mw: int, left: str) -> NoRoom:
        refusal = Refusal(
            Reason.NO_CAPACITY,
            request.power_mw,
            free_mw,
            text=f"{self._what} has {left}",
            requirement="MPLA-4.6-03",
        )
        current_ma = request.current_for(max(free_mw, 0))
        refuse = request.with_type(ProfileType.REFUSE, current_ma=current_ma)
        return NoRoom(refusal, PowerObject.make(request, refuse))

    def settle(self, circuit: CircuitId, grant_mw: int) -> int | None:
        """Turn what a circuit holds into a reservation of its GRANT, and return the mW of it.

        grant_mw: what is beyond that which was admitted is not reserved. None for a circuit that
        holds nothing. Raises LocalProtocolError, state unchanged, for a grant below 0.
        """
        hold = self._holds.get(circuit)
        if grant_mw < 0:
            raise LocalProtocolError(f"{self._what} cannot settle {circuit} at {grant_mw:,} mW")
        if hold is None:
            return None
        if grant_mw < hold.mw:
            self._discount(hold)
            hold.mw = grant_mw
            self._count(hold)
        return hold.mw

    def release(self, circuit: CircuitId) -> None:
        """Give back what a circuit holds, if it does."""
        hold = self._holds.pop(circuit, None)
        if hold is not None:
            del self._in_order[hold.holding][hold.number]
            self._discount(hold)

    def derate(self, capacity_mw: int) -> tuple[CircuitId, ...]:
        """Set the capacity in mW, and return the circuits that were shed for it.

        They hold nothing any more; end them. Raises LocalProtocolError, state unchanged, for a
        capacity below 0.
        """
        if capacity_mw < 0:
            raise LocalProtocolError(f"{self._what} cannot have {capacity_mw:,} mW")
        self._reservations.capacity_mw = capacity_mw
        return self._shed()

    def reserved_mw(self, sessions: Iterable[Session]) -> dict[Session, int]:
        """Return the mW that are held for each session: with a pool the greatest, else the sum."""
        found = dict.fromkeys(sessions, 0)
        for hold in self._holds.values():
            if not hold.is_pooled and hold.circuit.session in found:
                found[hold.circuit.session] += hold.mw
        for session in found:
            if pool := self._pools.get(session):
                found[session] += pool.most(PRIORITIES)[0]
        return found

    # MPLA-4.6-01
    def audit(self, delivered_mw: Mapping[Session, int]) -> list[Violation]:
        """Return the sessions to which more mW are delivered over the link than it holds for them."""
        reserved = self.reserved_mw(delivered_mw)
        found = (Violation(session, mw, reserved[session]) for session, mw in delivered_mw.items())
        return [row for row in found if row.delivered_mw > row.reserved_mw]

    # MPLA-4.6-02
    def _shed(self) -> tuple[CircuitId, ...]:
        """Take from the least important, of these the youngest, until what is held fits."""
        shed: list[CircuitId] = []
        reservations = self._reservations
        while not reservations.may_hold(0, 0, PRIORITIES - 1):
            waiting = [holding for holding, holds in self._in_order.items() if holds]
            invariant(waiting, f"{self._what} holds more than it has for nobody")
            _, hold = self._in_order[max(waiting)].popitem()
            del self._holds[hold.circuit]
            self._discount(hold)
            shed.append(hold.circuit)
        return tuple(shed)

    def _count(self, hold: _Hold) -> None:
        if not hold.is_pooled:
            self._reservations.hold(hold.mw, hold.rate, hold.holding)
            return
        session = hold.circuit.session
        pool = self._pools.get(session)
        if pool is None:
            pool = self._pools[session] = _Pool()
        before = pool.parts()
        pool.add(hold)
        self._exchange(before, pool.parts())

    def _discount(self, hold: _Hold) -> None:
        if not hold.is_pooled:
            self._reservations.release(hold.mw, hold.rate, hold.holding)
            return
        session = hold.circuit.session
        pool = self._pools[session]
        before = pool.parts()
        pool.remove(hold)
        self._exchange(before, pool.parts())
        if not pool:
            del self._pools[session]

    def _exchange(self, before: Iterable[_Part], after: Iterable[_Part]) -> None:
        for part in before:
            self._reservations.release(*part)
        for part in after:
            self._reservations.hold(*part)


def _lowered(request: PowerProfile, free_mw: int) -> PowerProfile:
    """Return the REQUEST with the greatest current that fits, as its octets say it."""
    lowered = request.with_type(ProfileType.REQUEST, current_ma=request.current_for(free_mw))
    sent = lowered.as_sent()
    if sent.current_ma > lowered.current_ma:
        # octets of great powers say whole amperes, those of a REQUEST rounded up
        whole_ma = lowered.current_ma // _AMPERE_MA * _AMPERE_MA
        sent = request.with_type(ProfileType.REQUEST, current_ma=whole_ma).as_sent()
    return sent
