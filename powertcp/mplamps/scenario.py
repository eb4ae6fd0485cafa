"""Dusk: all lamps of a city at once, and what came of a simulation in numbers.

Lighting a lamp may take as long as "lighting a candle with a damp match stick": 5 s. MPLampS
section 8.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from powertcp.mplamps.engine import Engine
from powertcp.mplamps.node import LampState
from powertcp.mplamps.script import Act, Verb
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.mplamps.wires import Dice
from powertcp.units import NS_PER_S, Duration

CANDLE_NS: Final[Duration] = 5 * NS_PER_S
DEFAULT_CITY: Final = "tree:10,10,10,2,5"
# the first lamp is switched on this many standard deviations before the middle of the dusk
_EARLY: Final = 3
_ROLLS: Final = 12
_U32 = 1 << 32


def dusk(topology: Topology, seed: int, spread_ns: Duration) -> list[Act]:
    """Return the acts that switch on each lamp once, at 0 or around three spreads.

    spread_ns: the standard deviation of a normal distribution, the sum of 12 equal ones.
    """
    lamps = [node.name for node in topology.of_kind(NodeKind.LAMP)]
    if not spread_ns:
        return [Act(at_ns=0, verb=Verb.ON, names=tuple(lamps))]
    acts = []
    for name in lamps:
        octets = Dice(seed, f"dusk {name}")(4 * _ROLLS)
        rolls = (int.from_bytes(octets[at : at + 4], "big") for at in range(0, 4 * _ROLLS, 4))
        off = (sum(rolls) - _ROLLS * _U32 // 2) * spread_ns // _U32
        acts.append(Act(at_ns=max(0, _EARLY * spread_ns + off), verb=Verb.ON, names=(name,)))
    return sorted(acts, key=lambda act: act.at_ns)


class Spread(NamedTuple):
    """Durations in ns: half of all are up to p50, 99 of 100 up to p99."""

    p50: Duration
    p99: Duration
    max: Duration


def spread_of(values: Iterable[Duration]) -> Spread | None:
    """Return the percentiles of some durations by nearest rank, None if there are none."""
    found = sorted(values)
    if not found:
        return None
    last = len(found) - 1
    return Spread(
        found[-(-len(found) // 2) - 1], found[-(-len(found) * 99 // 100) - 1], found[last]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of the lamps of a simulation.

    wanted: how many were switched on and not off. signalled: how many have had a closed circuit.
    is_powered: power was sent. lit: how many bank power, None without power. unlit: names of those
    that are wanted and not lit, without power not even signalled. residual_mw: what sources have
    granted and lamps have not, in mW.
    """

    lamps: int
    wanted: int
    signalled: int
    lit: int | None
    unlit: Sequence[str]
    to_signalled: Spread | None
    to_lit: Spread | None
    is_powered: bool
    residual_mw: int

    @property
    def met(self) -> int:
        """How many of those that are wanted are lit, without power signalled."""
        return self.wanted - len(self.unlit)

    @property
    def to_goal(self) -> Spread | None:
        """How long lamps took until they were lit, without power until they were signalled."""
        return self.to_lit if self.is_powered else self.to_signalled

    @property
    def candles(self) -> float | None:
        """How many candles can be lit, one after another, until 99 of 100 lamps are.

        Without power: until they are signalled.
        """
        spread = self.to_goal
        return None if spread is None else spread.p99 / CANDLE_NS


def outcome_of(engine: Engine, *, is_powered: bool) -> Outcome:
    """Return what has come of the lamps so far."""
    records = engine.lamps.values()
    states = (LampState.LIT,) if is_powered else (LampState.LIT, LampState.SIGNALLED)
    wanted = [record for record in records if record.is_wanted]
    closed = [record for record in records if record.signalled_at is not None]
    lit = [record for record in records if record.state is LampState.LIT]
    return Outcome(
        lamps=len(engine.lamps),
        wanted=len(wanted),
        signalled=len(closed),
        lit=len(lit) if is_powered else None,
        unlit=[record.name for record in wanted if record.state not in states],
        to_signalled=spread_of(
            record.signalled_at - record.on_at
            for record in closed
            if record.signalled_at is not None and record.on_at is not None
        ),
        to_lit=spread_of(
            record.lit_at - record.on_at
            for record in records
            if record.lit_at is not None and record.on_at is not None
        ),
        is_powered=is_powered,
        residual_mw=_residual_mw(engine),
    )


class Overdraw(NamedTuple):
    """A link that delivers more to the lamps of a shared session than it holds for them."""

    session: str
    link: str
    delivered_mw: int
    reserved_mw: int

    @property
    def chi(self) -> float:
        """Delivered by reserved power, above 1."""
        return self.delivered_mw / self.reserved_mw if self.reserved_mw else float("inf")

    def sentence(self) -> str:
        """Return what is wrong, with the numbers."""
        return (
            f"first law: violated on session {self.session}, chi = {self.chi:.1f}: link {self.link}"
            f" holds {self.reserved_mw:,} mW and delivers {self.delivered_mw:,} mW"
        )


# MPLA-4.6-01
def find_overdraws(engine: Engine) -> list[Overdraw]:
    """Return by shared session the link on which it takes most in excess of what is held.

    That is what a maximum where the sum should be comes to: [] unless `Sharing.MAX`.
    """
    topology = engine.topology
    worst: dict[str, Overdraw] = {}
    for node in engine.nodes():
        held_mw = node.holds()
        shared: dict[int, int] = {}
        names: dict[int, str] = {}
        for row in node.circuits(engine.now):
            es, tunnel, lamp = row.owner.session
            mw = row.grant.power_mw if row.grant is not None else 0
            if int(lamp):
                held_mw[row.lamp_link] = held_mw.get(row.lamp_link, 0) - mw
            elif row.lamp_link:
                source = topology.at(es)
                shared[row.lamp_link] = shared.get(row.lamp_link, 0) + mw
                names[row.lamp_link] = f"{source.name if source else es}/{tunnel}"
        for link, delivered_mw in shared.items():
            found = Overdraw(names[link], topology.link(link).name, delivered_mw, held_mw[link])
            known = worst.get(found.session)
            if delivered_mw > held_mw[link] and (known is None or found.chi > known.chi):
                worst[found.session] = found
    return list(worst.values())


def _residual_mw(engine: Engine) -> int:
    """Return the grants of all sources less those of all lamps."""
    residual = 0
    for node in engine.nodes():
        sign = {NodeKind.ES: 1, NodeKind.LAMP: -1}.get(node.kind, 0)
        if sign:
            grants = (row.grant for row in node.circuits(engine.now))
            residual += sign * sum(grant.power_mw for grant in grants if grant is not None)
    return residual
