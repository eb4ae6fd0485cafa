"""What must hold in a simulated network at any time, and what may be left when all is off."""

from collections.abc import Callable, Iterable

from powertcp.mplamps.engine import Engine
from powertcp.mplamps.lfib import Owner
from powertcp.mplamps.node import LampState, Node
from powertcp.mplamps.rsvp import Style
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Sender, Session
from powertcp.mplamps.ted import PRIORITIES
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.units import Instant


def check_powers(engine: Engine, style: Style, *, is_sum: bool = True) -> None:
    """Check that no link holds more than its capacity, and that no more flows than is held.

    is_sum: of the lamps of a shared session the sum is held, as the first law of
    thermodynamics has it.
    """
    check_holds(engine.nodes())
    if style is not Style.WF or is_sum:
        check_closed(engine.topology, engine.nodes(), engine.now, lambda _: style)


def check_holds(nodes: Iterable[Node]) -> None:
    """Check that at no priority a link holds more than it has."""
    for node in nodes:
        if node.kind is NodeKind.LAMP:
            continue
        for link, held_mw in node.holds().items():
            if held_mw:
                free = [node.admission(link).free_mw(priority) for priority in range(PRIORITIES)]
                assert min(free) >= 0, f"{node.name}: link {link} holds {held_mw:,} mW"


def check_closed(
    topology: Topology, nodes: Iterable[Node], now: Instant, style_of: Callable[[Owner], Style]
) -> None:
    """Check that closed circuits have holds, no more power than is held, and than a source has."""
    for node in nodes:
        if node.kind is not NodeKind.LAMP:
            flows = _flows(node, now, style_of)
            holds = node.holds()
            for link, mw in flows.items():
                said = f"{node.name}: link {link} carries {mw:,} mW, holds {holds[link]:,}"
                assert mw <= holds[link], said
            if node.kind is NodeKind.ES:
                own_mw = topology.capacity_of(node.name)
                assert sum(flows.values()) <= own_mw, f"{node.name} delivers more than it has"


def _flows(node: Node, now: Instant, style_of: Callable[[Owner], Style]) -> dict[int, int]:
    """Return by link what the grants of closed circuits come to; those of one lamp count once."""
    closed: dict[tuple[int, object], int] = {}
    for row in node.circuits(now):
        if row.is_closed and row.grant is not None:
            circuit = CircuitId(Session(*row.owner.session), Sender(*row.owner.sender))
            assert circuit in node.admission(row.lamp_link), f"{node.name}: {circuit} has no hold"
            shares = row.owner.session if style_of(row.owner) is Style.SE else row.owner
            key = row.lamp_link, shares
            closed[key] = max(closed.get(key, 0), row.grant.power_mw)
    flows: dict[int, int] = {}
    for (link, _), mw in closed.items():
        flows[link] = flows.get(link, 0) + mw
    return flows


def leftovers(engine: Engine) -> list[str]:
    """Return what nodes still have of any circuit; [] when all is off and lifetimes are over."""
    found = []
    for node in engine.nodes():
        rest = {
            "holds": sum(node.holds().values()),
            "entries": len(node.lfib),
            "circuits": len(node.rsvp) + len(node.circuits(engine.now)),
            "handles": len(node.pep) if node.pep is not None else 0,
            "states": sum(one.states for one in node.rsvp.neighbours.values()),
            "waiting": sum(one.waiting for one in node.rsvp.neighbours.values()),
        }
        if node.kind is NodeKind.LAMP:
            rest["tunnels"] = len(list(node.tunnels()))
            rest["lit"] = int(node.lamp_state is not LampState.DARK)
        found += [f"{node.name}: {count:,} {what}" for what, count in rest.items() if count]
    links = engine.topology.links
    return found + [
        f"{link.name} is down" for link in links if not engine.ted.state(link.number).is_up
    ]
