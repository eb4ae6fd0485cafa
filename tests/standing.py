"""What must hold in a simulated network at any time, and what may be left when all is off."""

from powertcp.mplamps.engine import Engine
from powertcp.mplamps.node import LampState, Node
from powertcp.mplamps.rsvp import Style
from powertcp.mplamps.ted import PRIORITIES
from powertcp.mplamps.topology import NodeKind


def check_powers(engine: Engine, style: Style, *, is_sum: bool = True) -> None:
    """Check that no link holds more than its capacity, and that no more flows than is held.

    is_sum: of the lamps of a shared session the sum is held, as the first law of
    thermodynamics has it.
    """
    for node in engine.nodes():
        if node.kind is NodeKind.LAMP:
            continue
        for link, held_mw in node.holds().items():
            if held_mw:
                free = [node.admission(link).free_mw(priority) for priority in range(PRIORITIES)]
                assert min(free) >= 0, f"{node.name}: link {link} holds {held_mw:,} mW"
        if style is not Style.WF or is_sum:
            _check_closed(engine, node, style)


def _check_closed(engine: Engine, node: Node, style: Style) -> None:
    """Check that closed circuits have no more than is held; those of one lamp count once."""
    closed: dict[tuple[int, object], int] = {}
    for row in node.circuits(engine.now):
        if row.is_closed and row.grant is not None:
            shares = row.owner.session if style is Style.SE else row.owner
            key = row.lamp_link, shares
            closed[key] = max(closed.get(key, 0), row.grant.power_mw)
    flows: dict[int, int] = {}
    for (link, _), mw in closed.items():
        flows[link] = flows.get(link, 0) + mw
    holds = node.holds()
    for link, mw in flows.items():
        assert mw <= holds[link], (
            f"{node.name}: link {link} carries {mw:,} mW, holds {holds[link]:,}"
        )


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
