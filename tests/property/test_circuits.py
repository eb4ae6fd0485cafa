"""Networks that are switched on and off, cut, mended and crashed at random, with loss: what holds.

Closed circuits never have more power than links hold, nor links and sources more than they have;
when all is off, nothing is left of any circuit.
"""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from powertcp.mplamps.lfib import Owner
from powertcp.mplamps.market import Market, PriceStep, Supplier
from powertcp.mplamps.node import LampState, Model, NodeSettings
from powertcp.mplamps.rsvp.objects import Style
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.topology import Draft, NodeKind, Topology
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import NS_PER_S
from tests.mplamps_network import Network
from tests.standing import check_closed, check_holds

LIVE = NodeSettings(signalling=Settings(hello_ns=NS_PER_S, refresh_ns=5 * NS_PER_S))
LIFETIME_NS = 27 * NS_PER_S
REQUESTS = [
    PowerProfile.parse(f"230V/{ma}mA@50Hz,prio={prio}")
    for ma, prio in ((260, 0), (260, 4), (600, 9), (100, 12), (900, 2))
]
MINIMUM = PowerProfile.parse("230V/50mA@50Hz").with_type(ProfileType.MINIMUM)


def market_of(topology: Topology) -> Market:
    """Return a market with one supplier, who sells to anybody."""
    [source] = topology.of_kind(NodeKind.ES)
    supplier = Supplier(
        number=7, name="Watt and Sons", sources=(source.address,), capacity_mw=10**9,
        steps=(PriceStep(0, 210_000),),
    )  # fmt: skip
    return Market(currency="EUR", suppliers={7: supplier}, contracts={}, serves_any=True)


def grid(
    shape: str, size: int, capacity_mw: int, source_mw: int | None = None, *, has_pdp: bool
) -> Topology:
    """Return a street, ring or ladder whose inner links carry few lamps, and perhaps its source."""
    draft = Draft(shape)
    source = draft.node("es1", NodeKind.ES, capacity_mw=source_mw or 6 * capacity_mw)
    rails = 2 if shape == "ladder" else 1
    names = [
        [draft.node(f"t{rail}{at}", NodeKind.TRANSFORMER) for at in range(size)]
        for rail in range(rails)
    ]
    houses = [draft.node(f"h{at}", NodeKind.TRANSFORMER) for at in range(size)]
    lamps = [draft.node(f"lamp-{at}", NodeKind.LAMP) for at in range(size)]
    for rail in names:
        draft.link(source, rail[0], 20_000_000, capacity_mw=4 * capacity_mw)
        for one, other in pairwise(rail):
            draft.link(one, other, 20_000_000, capacity_mw=capacity_mw)
    if shape == "ring" and size > 2:
        draft.link(names[0][-1], names[0][0], 20_000_000, capacity_mw=capacity_mw)
    for at in range(size):
        if rails == 2:
            draft.link(names[0][at], names[1][at], 20_000_000, capacity_mw=capacity_mw)
        draft.link(names[0][at], houses[at], 400_000, capacity_mw=capacity_mw)
        draft.link(houses[at], lamps[at], 230_000, capacity_mw=300_000)
    if has_pdp:
        draft.node("pdp", NodeKind.PDP)
    return draft.finish()


class Operator:
    """Acts on a network, and looks at what must hold after each step of each node."""

    def __init__(self, topology: Topology, loss_percent: int) -> None:
        has_pdp = topology.pdp() is not None
        market = market_of(topology) if has_pdp else None
        self.network = Network(topology, settings=LIVE, market=market)
        if has_pdp:
            self.network.call_police()
        self.network.loss_percent = loss_percent
        self.network.check = self.check
        self.wanted: dict[str, int] = {}
        # by addresses of lamps and numbers of tunnels
        self.styles: dict[tuple[object, int], Style] = {}
        self.lamps = [node.name for node in topology.of_kind(NodeKind.LAMP)]
        self.routers = [node.name for node in topology.nodes if node.kind.is_lsr]
        self.granted = 0

    def check(self) -> None:
        network = self.network
        for link in network.topology.links:
            for end in (link.a, link.b):
                node = network.nodes.get(end)
                if node is not None:
                    held = node.holds()[link.number]
                    assert 0 <= held <= link.capacity_mw, f"{link.name} holds {held:,} mW"
        check_holds(network.nodes.values())
        check_closed(network.topology, network.nodes.values(), network.now, self.style_of)

    def style_of(self, owner: Owner) -> Style:
        _, tunnel, lamp = owner.session
        return self.styles[lamp, tunnel] if int(lamp) else Style.WF

    def act(self, what: str, which: int, value: int) -> None:
        network = self.network
        lamp = self.lamps[which % len(self.lamps)]
        node = network.nodes[lamp]
        if what == "on" and lamp not in self.wanted:
            style = (Style.SE, Style.FF, Style.WF)[value % 3]
            model = Model.PEER if value % 2 and style is not Style.WF else Model.OVERLAY
            request = REQUESTS[value % len(REQUESTS)]
            least = MINIMUM if value % 4 == 0 else None
            self.wanted[lamp] = node.switch_on(
                request, network.now, minimum=least, style=style, model=model
            )
            address = network.topology.node(lamp).address
            self.styles[address, self.wanted[lamp]] = style
        elif what == "off" and lamp in self.wanted:
            node.switch_off(self.wanted.pop(lamp), network.now)
        elif what == "set" and lamp in self.wanted:
            request = REQUESTS[value % len(REQUESTS)]
            node.set_request(self.wanted[lamp], request, network.now)
        elif what == "move" and lamp in self.wanted:
            node.reroute(self.wanted[lamp], network.now)
        elif what in ("cut", "lose", "mend"):
            self.change_link(what, which)
        elif what == "police" and network.police is not None:
            if network.lines:
                network.lose_police()
            else:
                network.call_police()
        elif what == "crash":
            lamp = self.routers[which % len(self.routers)]
            network.start(lamp)
        network.settle(lamp)

    def change_link(self, what: str, which: int) -> None:
        links = self.network.topology.links
        link = links[which % len(links)]
        if what == "mend":
            if link.number in self.network.cut:
                self.network.mend(link.a, link.b)
        elif link.number not in self.network.cut:
            self.network.sever(link.a, link.b, is_known=what == "cut")

    def end(self) -> None:
        """Switch all off, and wait until all that is not refreshed is gone."""
        network = self.network
        self.granted = sum(
            network.nodes[lamp].lamp_state is LampState.SIGNALLED for lamp in self.wanted
        )
        for lamp, tunnel in self.wanted.items():
            network.nodes[lamp].switch_off(tunnel, network.now)
            network.settle(lamp)
        network.run(3 * LIFETIME_NS)
        if network.police is not None:
            network.call_police()
            network.run(NS_PER_S)


ACTS = st.tuples(
    st.sampled_from(
        (
            *("on", "on", "on", "on", "off", "set", "move"),
            *("cut", "lose", "mend", "mend", "crash", "police"),
        )
    ),
    st.integers(0, 40),
    st.integers(0, 59),
    st.sampled_from((0, 1, 20, 400, 3_000, 12_000)),
)


@pytest.mark.requirement("MPLA-4.6-03")
@pytest.mark.requirement("MPLA-4.5-08")
@pytest.mark.requirement("MPLA-4.5-09")
@given(
    st.sampled_from(("street", "ring", "ladder")),
    st.integers(2, 5),
    st.integers(100, 600),
    st.integers(60, 500),
    st.sampled_from((0, 1, 5)),
    st.booleans(),
    st.lists(ACTS, min_size=4, max_size=25),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_is_overbooked_and_nothing_is_left_of_a_circuit(
    shape: str,
    size: int,
    watts: int,
    source_watts: int,
    loss: int,
    has_pdp: bool,
    acts: Sequence[tuple[str, int, int, int]],
) -> None:
    made = grid(shape, size, watts * 1000, source_watts * 1000, has_pdp=has_pdp)
    operator = Operator(made, loss)
    network = operator.network
    for what, which, value, wait_ms in acts:
        operator.act(what, which, value)
        network.run(wait_ms * 1_000_000)
    operator.end()
    event(f"granted {operator.granted}")
    for node in network.nodes.values():
        assert set(node.holds().values()) == {0}, node.name
        assert len(node.lfib) == 0, node.label_table()
        assert len(node.rsvp) == 0, node.name
        assert node.circuits(network.now) == []
        assert node.pep is None or (len(node.pep), node.pep.untold) == (0, 0), node.name
    assert network.police is None or len(network.police) == 0
