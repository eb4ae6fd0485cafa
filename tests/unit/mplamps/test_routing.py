"""Where PATHs go on: EROs as they come, EROs that are made, and links that are excluded."""

from dataclasses import replace

import pytest

from powertcp.mplamps.ports import Port, ports_of
from powertcp.mplamps.power import PowerObject
from powertcp.mplamps.routing import Routed, Router
from powertcp.mplamps.rsvp.messages import Path
from powertcp.mplamps.rsvp.objects import MAX_HOPS, ErrorSpec, RouteHop, Session
from powertcp.mplamps.ted import RouteFault, Ted, Unroutable
from powertcp.profile import ProfileType
from powertcp.units import NS_PER_S
from tests.mplamps_network import Network


class Plan:
    """A router of one node of a street, and a PATH of its lamp."""

    def __init__(self, name: str = "h1", topology: str = "street:1") -> None:
        network = Network(topology)
        network.on("lamp-1")
        self.topology = network.topology
        self.path: Path = network.heard(Path)[0]
        self.ted = Ted(self.topology)
        self.ports: dict[int, Port] = ports_of(self.topology, name, self.ted)
        self.router = Router(name, self.ted, self.ports)

    def hops(self, *names: str, loose: str = "") -> tuple[RouteHop, ...]:
        return tuple(RouteHop(self.topology.node(name).address, name in loose) for name in names)

    def find(self, *names: str, loose: str = "", now: int = 0) -> Routed:
        path = replace(self.path, route=self.hops(*names, loose=loose))
        return self.router.find(path, path.power, now)

    def error(self, name: str, code: int) -> ErrorSpec:
        return ErrorSpec.refusal(self.topology.node(name).address, code, 2)

    def fail(self, *names: str, loose: str = "") -> RouteFault:
        with pytest.raises(Unroutable) as raised:
            self.find(*names, loose=loose)
        return raised.value.fault


@pytest.mark.requirement("MPLA-5-03")
@pytest.mark.requirement("MPLA-4.5-05")
def test_a_missing_ero_is_filled_with_strict_hops_to_the_source() -> None:
    plan = Plan()
    routed = plan.find()
    assert routed.names == ("h1", "c1", "s1", "es1")
    assert routed.route == plan.hops("c1", "s1", "es1")
    assert plan.topology.link(routed.link).other("h1") == "c1"
    assert plan.find() is routed, "of the same tree"
    assert plan.find("h1") == routed, "nothing is left of it"
    assert plan.ted.trees_grown == 1


@pytest.mark.requirement("MPLA-4.5-05")
def test_the_own_address_comes_off_the_head_and_the_next_hop_follows() -> None:
    plan = Plan("c1")
    routed = plan.find("c1", "s2", "es1")
    assert routed == Routed(routed.link, plan.hops("s2", "es1"), ())
    assert plan.topology.link(routed.link).other("c1") == "s2"


@pytest.mark.requirement("MPLA-4.5-05")
def test_loose_hops_are_filled() -> None:
    plan = Plan()
    routed = plan.find("h1", "s2", "es1", loose="s2")
    assert routed.names == ("h1", "c1", "s2", "es1")
    assert plan.find("s2", loose="s2").names == routed.names, "on the way to a loose hop"
    assert plan.find("h1", "c1", "es1", loose="es1").route[0] == plan.hops("c1")[0]


@pytest.mark.requirement("MPLA-4.5-05")
@pytest.mark.requirement("MPLA-4.3-05")
def test_eros_that_lead_nowhere() -> None:
    plan = Plan("c1")
    assert plan.fail("s1", "es1") is RouteFault.BAD_STRICT, "not this node"
    assert plan.fail("c1", "es1") is RouteFault.BAD_STRICT, "no neighbour"
    assert plan.fail("c1", "lamp-1", loose="lamp-1") is RouteFault.BAD_LOOSE
    assert plan.fail("c1", "s1", "c1", "es1", loose="s1,c1,es1") is RouteFault.BAD_ERO
    assert plan.fail("c1", *["s1", "s2"] * (MAX_HOPS // 2)) is RouteFault.BAD_ERO
    plan.router.finish(plan.path)
    with pytest.raises(Unroutable) as raised:
        Plan("es1").router.finish(replace(plan.path, route=plan.hops("es1", "s1")))
    assert raised.value.fault is RouteFault.BAD_ERO


@pytest.mark.requirement("MPLA-4.5-05")
def test_a_session_whose_address_is_no_source_has_no_route() -> None:
    plan = Plan("c1")
    for name in ("h1", "lamp-1"):
        address = plan.topology.node(name).address
        session: Session = plan.path.session._replace(es=address)
        path = replace(plan.path, session=session)
        for route in ((), plan.hops("c1", "s1", loose="s1")):
            with pytest.raises(Unroutable) as raised:
                plan.router.find(replace(path, route=route), path.power, 0)
            assert raised.value.fault is RouteFault.NO_ROUTE


@pytest.mark.requirement("MPLA-4.6-05")
def test_a_shared_session_gets_no_ero() -> None:
    plan = Plan()
    shared = plan.path.session._replace(lamp=plan.path.session.lamp.__class__(0))
    routed = plan.router.find(replace(plan.path, session=shared), plan.path.power, 0)
    assert (routed.route, routed.names) == ((), ())


@pytest.mark.requirement("MPLA-5-01")
def test_the_link_of_an_error_is_excluded_for_30_s() -> None:
    plan = Plan()
    first = plan.find()
    assert plan.router.blame(first.names, plan.error("s1", 1), 0), "toward the lamp: c1--s1"
    assert plan.find().names == ("h1", "c1", "s2", "es1")
    assert plan.router.blame(plan.find().names, plan.error("s2", 24), 0), "s2--es1"
    assert plan.find().names == ("h1", "c1", "s1", "es1"), "what was full is the last choice"
    assert plan.find(now=30 * NS_PER_S - 1).names == ("h1", "c1", "s1", "es1")
    assert plan.router.blame(first.names, plan.error("s1", 24), NS_PER_S)
    with pytest.raises(Unroutable):
        plan.router.again(plan.path, plan.path.power, 2 * NS_PER_S)
    names = plan.find(now=2 * NS_PER_S).names
    assert names == ("h1", "c1", "s2", "es1"), "of no way but failed ones the one that failed first"
    assert plan.find(now=30 * NS_PER_S).names == ("h1", "c1", "s2", "es1")


@pytest.mark.requirement("MPLA-5-01")
def test_another_try_only_leads_where_there_is_power() -> None:
    plan = Plan()
    names = plan.find().names
    for name in ("s1", "s2"):
        plan.router.blame(names if name == "s1" else plan.find().names, plan.error(name, 1), 0)
    assert plan.find().names, "a new PATH may try"
    with pytest.raises(Unroutable):
        plan.router.again(plan.path, plan.path.power, 0)


def test_errors_that_rule_out_no_link() -> None:
    plan = Plan()
    names = plan.find().names
    assert not plan.router.blame((), plan.error("s1", 1), 0)
    assert not plan.router.blame(names, plan.error("s1", 252), 0)
    assert not plan.router.blame(names, plan.error("lamp-1", 1), 0)
    assert not plan.router.blame(names, plan.error("h1", 1), 0), "behind its beginning"


@pytest.mark.requirement("MPLA-5-02")
def test_a_route_has_the_power_or_the_minimum_or_nothing_left() -> None:
    plan = Plan()
    ports = ports_of(plan.topology, "s1", plan.ted)
    port = next(port for port in ports.values() if port.other == "c1")
    port.derate(30_000)
    assert plan.find().names == ("h1", "c1", "s2", "es1")
    other = next(p for p in ports_of(plan.topology, "s2", plan.ted).values() if p.other == "c1")
    other.derate(10_000)
    least = plan.path.power.profile.with_type(ProfileType.MINIMUM, current_ma=100)
    modest = PowerObject(plan.path.power.profile, least)
    assert plan.router.find(plan.path, modest, 0).names == ("h1", "c1", "s1", "es1")
    assert plan.find().names == ("h1", "c1", "s1", "es1"), "for s1 to say what is left"
    with pytest.raises(Unroutable):
        plan.router.again(plan.path, plan.path.power, 0)
    assert plan.router.again(plan.path, modest, 0).names == ("h1", "c1", "s1", "es1")


def test_the_nearest_source_is_the_one_that_can_be_reached() -> None:
    plan = Plan("lamp-1")
    assert plan.router.nearest_source(59_800, 38_940, 4, 0) == plan.topology.node("es1").address
