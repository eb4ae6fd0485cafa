"""One load-switching router alone: each step that fails answers its error and leaves nothing."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from powertcp.mplamps.cops import DeleteReason
from powertcp.mplamps.lfib import Lfib
from powertcp.mplamps.metering import Metering
from powertcp.mplamps.node import NodeSettings
from powertcp.mplamps.ports import labels_of, ports_of
from powertcp.mplamps.power import PowerObject
from powertcp.mplamps.routing import Router
from powertcp.mplamps.rsvp import decode_message, encode_message
from powertcp.mplamps.rsvp.errors import Case, fault_of
from powertcp.mplamps.rsvp.events import (
    CircuitId,
    CircuitOpened,
    CircuitRemoved,
    LinkTo,
    PathArrived,
    PathRefused,
    ResvArrived,
    ResvRefused,
)
from powertcp.mplamps.rsvp.machine import Rsvp
from powertcp.mplamps.rsvp.messages import Message, Path, PathErr, PathTear, Resv, ResvErr, Sendable
from powertcp.mplamps.rsvp.objects import ErrorSpec, Hop
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.switching import MAX_LAMP_CIRCUITS, Switching
from powertcp.mplamps.ted import Ted
from powertcp.profile import PowerProfile, ProfileType
from tests.mplamps_network import Network, dice

PLAIN = Settings(is_reliable=False)


class Cabinet:
    """The cabinet of a tree, with what its neighbours say put into its hands."""

    def __init__(
        self, name: str = "c1", *, last_label: int = 100, spec: str = "tree:1,1,1"
    ) -> None:
        network = Network(spec, settings=NodeSettings(signalling=PLAIN))
        network.on("lamp-1")
        network.run()
        topology = self.topology = network.topology
        self.name = name
        ted = Ted(topology)
        self.ports = ports_of(topology, name, ted)
        links = {port.number: LinkTo(port.address, port.label) for port in self.ports.values()}
        node = topology.node(name)
        self.rsvp = Rsvp(node.address, links, PLAIN, dice(name), 0)
        labels = labels_of(self.ports.values())
        self.lfib = Lfib(labels, is_transformer=True, last_label=last_label)
        meters = Metering(None, 0) if any(port.is_lamp for port in self.ports.values()) else None
        self.switching = Switching(
            node.address, self.ports, Router(name, ted, self.ports), self.rsvp, self.lfib, meters
        )
        heard = [row for row in network.said if row[2] == name]
        self.path = next(one for *_, one in heard if isinstance(one, Path))
        self.resv = next(one for *_, one in heard if isinstance(one, Resv))
        self.circuit = CircuitId(self.path.session, self.path.sender)

    def hear(self, message: Sendable) -> list[Message]:
        """Take a message of a neighbour; return what is said to all of them."""
        hop = getattr(message, "hop", None)
        if not isinstance(hop, Hop):
            hop = self.resv.hop
        self.rsvp.receive_datagram(encode_message(message), hop.node, 0)
        while (event := self.rsvp.next_event()) is not None:
            match event:
                case PathArrived():
                    self.switching.take_path(event, 0)
                case ResvArrived():
                    self.switching.take_resv(event, 0)
                case PathRefused():
                    self.switching.take_refusal(event, 0)
                case ResvRefused():
                    self.switching.take_resv_refusal(event, 0)
                case CircuitRemoved():
                    self.switching.remove(event, 0)
                case CircuitOpened():
                    self.switching.take_opening(event, 0)
        return self.said()

    def said(self) -> list[Message]:
        octets = [one for one, _ in self.rsvp.datagrams_to_send()]
        return [decode_message(one).message for one in octets]

    def assert_empty(self) -> None:
        assert (len(self.rsvp), len(self.switching), len(self.lfib)) == (0, 0, 0)
        assert {port.held_mw for port in self.ports.values()} == {0}


def fault(messages: Sequence[Message]) -> tuple[int, int]:
    [error] = [one for one in messages if isinstance(one, PathErr)]
    return error.error.code, error.error.value


@pytest.mark.requirement("MPLA-4.5-07")
def test_a_path_goes_on_with_the_own_hop_and_labels() -> None:
    router = Cabinet()
    [onward] = router.hear(router.path)
    assert isinstance(onward, Path)
    node = router.topology.node("c1")
    assert onward.hop == Hop(node.address, router.resv.hop.link)
    assert onward.upstream_label == router.lfib.label_of_link(onward.hop.link)
    assert onward.flow_label == 16
    assert [hop.node for hop in onward.route] == [router.path.session.es]
    [entry] = router.lfib.entries()
    assert (entry.flow, entry.is_closed) == (16, False)


@pytest.mark.requirement("MPLA-4.5-04")
def test_a_resv_closes_both_entries_before_it_goes_on() -> None:
    router = Cabinet()
    router.hear(router.path)
    [resv] = router.hear(router.resv)
    assert isinstance(resv, Resv)
    phase, neutral = router.lfib.entries()
    assert phase.is_closed
    assert neutral.is_closed
    assert phase.outs[0].flow == router.path.flow_label
    assert neutral.outs[0].flow == router.resv.circuits[0].flow_label
    assert resv.circuits[0].flow_label == neutral.flow
    [crossing] = router.switching.crossings()
    assert crossing.lamp.held_mw == 59_800


@pytest.mark.requirement("MPLA-4.5-04")
def test_what_is_granted_beyond_the_hold_is_cut_off() -> None:
    router = Cabinet()
    router.hear(router.path)
    [circuit] = router.resv.circuits
    dear = circuit.power.profile.with_type(ProfileType.GRANT, current_ma=900)
    [resv] = router.hear(
        replace(router.resv, circuits=(replace(circuit, power=PowerObject(dear)),))
    )
    assert isinstance(resv, Resv)
    assert resv.circuits[0].power.profile.current_ma == 260


@pytest.mark.requirement("MPLA-4.5-09")
@pytest.mark.requirement("MPLA-2.2-01")
def test_labels_that_are_exhausted() -> None:
    router = Cabinet(last_label=16)
    router.hear(router.path)
    second = replace(router.path, session=router.path.session._replace(tunnel=2))
    assert fault(router.hear(second)) == (24, 9)
    assert len(router.switching) == 1
    router.hear(PathTear(
        session=router.path.session, hop=router.path.hop, sender=router.path.sender,
        tspec=router.path.tspec,
    ))  # fmt: skip
    router.assert_empty()


@pytest.mark.requirement("MPLA-4.5-09")
@pytest.mark.requirement("MPLA-4.5-05")
def test_routes_that_are_refused() -> None:
    router = Cabinet()
    own, next_hop = router.path.route[0], router.path.route[1]
    back = own._replace(node=router.path.hop.node)
    for route, value in (
        ((next_hop,), 2),
        ((own, back, next_hop), 1),
        ((own, next_hop._replace(node=router.path.session.lamp, is_loose=True)), 3),
    ):
        assert fault(router.hear(replace(router.path, route=route))) == (24, value)
        router.assert_empty()


@pytest.mark.requirement("MPLA-4.5-02")
def test_only_the_edge_looks_at_the_voltage() -> None:
    high = PowerProfile.parse("400V/100mA@50Hz")
    router = Cabinet()
    [onward] = router.hear(replace(router.path, power=PowerObject(high)))
    assert isinstance(onward, Path)
    edge = Cabinet("h1")
    assert fault(edge.hear(replace(edge.path, power=PowerObject(high)))) == (252, 101)
    edge.assert_empty()


@pytest.mark.requirement("MPLA-4.5-02")
def test_an_edge_refuses_a_circuit_for_nothing() -> None:
    edge = Cabinet("h1")
    nothing = edge.path.power.profile.with_type(ProfileType.REQUEST, current_ma=0)
    assert fault(edge.hear(replace(edge.path, power=PowerObject(nothing)))) == (252, 503)
    edge.assert_empty()


@pytest.mark.requirement("MPLA-4.10-03")
def test_a_lamp_has_at_most_1024_circuits_at_its_edge() -> None:
    edge = Cabinet("h1", last_label=10_000)
    little = edge.path.power.profile.with_type(ProfileType.REQUEST, current_ma=1)
    path = replace(edge.path, power=PowerObject(little), tspec=edge.path.tspec._replace(rate=1))

    def of(tunnel: int) -> Path:
        return replace(path, session=path.session._replace(tunnel=tunnel))

    for tunnel in range(1, 1 + MAX_LAMP_CIRCUITS):
        [onward] = edge.hear(of(tunnel))
        assert isinstance(onward, Path)
    # one that has changed takes the place of its own
    changed = replace(of(7), flow_label=99)
    assert not any(isinstance(one, PathErr) for one in edge.hear(changed))
    assert fault(edge.hear(of(2000))) == (24, 9)
    assert len(edge.switching) == len(edge.rsvp) == 1024
    for tunnel in (1, 2):
        ended = of(tunnel)
        edge.hear(PathTear(
            session=ended.session, hop=ended.hop, sender=ended.sender, tspec=ended.tspec
        ))  # fmt: skip
    for tunnel in (2000, 2001):
        assert isinstance(edge.hear(of(tunnel))[0], Path)
    assert fault(edge.hear(of(2002))) == (24, 9)


@pytest.mark.requirement("MPLA-4.3-04")
@pytest.mark.parametrize(("setup", "holding"), [(0, 4), (4, 0), (0, 0), (7, 7)])
def test_a_lamp_has_no_other_priority_than_its_profile_says(setup: int, holding: int) -> None:
    """The policeman sees the profile, links see the attribute: it would pre-empt them all."""
    edge = Cabinet("h1")
    sly = edge.path.attribute._replace(setup=setup, holding=holding)
    assert fault(edge.hear(replace(edge.path, attribute=sly))) == (252, 105)
    edge.assert_empty()
    router = Cabinet()
    [onward] = router.hear(replace(router.path, attribute=sly))
    assert isinstance(onward, Path)


@pytest.mark.requirement("MPLA-4.5-08")
def test_a_path_that_has_changed_takes_the_place_of_the_one_before() -> None:
    router = Cabinet()
    router.hear(router.path)
    router.hear(router.resv)
    more = router.path.power.profile.with_type(ProfileType.REQUEST, current_ma=500)
    [onward] = router.hear(replace(router.path, power=PowerObject(more)))
    assert isinstance(onward, Path)
    [crossing] = router.switching.crossings()
    assert crossing.lamp.held_mw == 115_000
    assert [entry.is_closed for entry in router.lfib.entries()] == [False]


@pytest.mark.requirement("MPLA-5-01")
def test_an_error_of_a_route_that_others_have_made_is_passed_on() -> None:
    router = Cabinet()
    router.hear(router.path)
    error = ErrorSpec.refusal(router.resv.hop.node, 1, 2)
    refused = PathErr(
        session=router.path.session, error=error, sender=router.path.sender,
        tspec=router.path.tspec,
    )  # fmt: skip
    [passed] = router.hear(refused)
    assert isinstance(passed, PathErr)
    assert passed.error == error
    router.assert_empty()


@pytest.mark.requirement("MPLA-5-01")
def test_the_edge_tries_again_three_times_at_most() -> None:
    network = Network("street:1", has_own_teds=True)
    for name in ("s1", "s2"):
        network.nodes[name].derate(network.link(name, "c1"), 0, 0)
    network.on("lamp-1")
    network.run()
    assert len([path for path in network.heard(Path) if len(path.route) == 2]) == 2


def test_a_lamp_side_that_knows_nothing_of_the_path_ends_it() -> None:
    router = Cabinet()
    router.hear(router.path)
    [resv] = router.hear(router.resv)
    assert isinstance(resv, Resv)
    for code, is_over in ((24, False), (3, True)):
        error = ErrorSpec.refusal(router.path.hop.node, code, 0)
        said = router.hear(ResvErr(
            session=router.path.session, hop=router.path.hop, error=error, style=resv.style,
            flowspec=resv.flowspec, sender=router.path.sender,
        ))  # fmt: skip
        assert (len(router.switching) == 0) is is_over
        assert any(isinstance(one, PathTear) for one in said) is is_over
        if not is_over:
            assert not any(entry.is_closed for entry in router.lfib.entries())
            again = replace(
                router.resv, circuits=(replace(router.resv.circuits[0], flow_label=77),)
            )
            router.hear(again)
    router.assert_empty()


@pytest.mark.requirement("MPLA-4.6-02")
def test_ending_a_circuit_speaks_both_ways() -> None:
    router = Cabinet()
    router.hear(router.path)
    router.hear(router.resv)
    fault_12 = fault_of(Case.PREEMPTED)
    router.switching.end(router.circuit, fault_12, DeleteReason.PREEMPTED, 0)
    said = router.said()
    assert fault(said) == (12, 0)
    assert any(isinstance(one, PathTear) for one in said)
    router.assert_empty()
    router.switching.end(router.circuit, fault_12, DeleteReason.PREEMPTED, 0)
    assert router.said() == [], "it is no more"
