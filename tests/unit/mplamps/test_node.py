"""Conversations of 2 to 9 real nodes: circuits are made, moved, refused, pre-empted and removed."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.node import (
    LampState,
    Model,
    Node,
    NodeSettings,
)
from powertcp.mplamps.power import TariffKind
from powertcp.mplamps.rsvp.admission import Sharing
from powertcp.mplamps.rsvp.messages import Path, PathErr, PathTear, Resv, ResvTear
from powertcp.mplamps.rsvp.objects import IN_PLACE, STATE_REMOVED, RouteHop, Style
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.ted import Ted
from powertcp.mplamps.topology import Draft, NodeKind, Topology
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason
from powertcp.units import NS_PER_MS
from tests.cops_messages import OFFERS
from tests.mplamps_network import SECOND, Network, dice

LAMP = "230V/260mA@50Hz"
LEAST = PowerProfile.parse("230V/100mA@50Hz").with_type(ProfileType.MINIMUM)


def feeder(watts: int = 100, lamps: int = 2) -> Topology:
    """A source, a cabinet, and houses behind one feeder of little power."""
    draft = Draft("feeder")
    source = draft.node("es1", NodeKind.ES, supply=PowerProfile.parse("230V/1kA@50Hz"))
    cabinet = draft.node("c1", NodeKind.SWITCH)
    house = draft.node("h1", NodeKind.TRANSFORMER)
    names = [draft.node(f"lamp-{number}", NodeKind.LAMP) for number in range(1, lamps + 1)]
    draft.link(source, cabinet, 400_000)
    draft.link(cabinet, house, 400_000, capacity_mw=watts * 1000)
    for name in names:
        draft.link(house, name, 230_000)
    return draft.finish()


def states(network: Network, lamp: str = "lamp-1") -> list[LampState]:
    return [change.state for change in network.changes(lamp)]


# ---- a circuit ----------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.5-04")
@pytest.mark.requirement("MPLA-4.5-07")
@pytest.mark.requirement("MPLA-2.3-01")
def test_a_lamp_that_is_switched_on_gets_a_circuit_that_is_closed_at_every_node() -> None:
    network = Network("tree:1,1,1,1,1")
    network.on("lamp-1")
    network.run(10 * NS_PER_MS)
    asked, signalled = network.changes("lamp-1")
    assert (asked.state, asked.at) == (LampState.REQUESTING, 0)
    assert (signalled.state, signalled.at) == (LampState.SIGNALLED, 10 * NS_PER_MS)
    assert signalled.grant is not None
    assert (signalled.grant.type, signalled.grant.current_ma) == (ProfileType.GRANT, 260)
    assert {name: node.label_table() for name, node in network.nodes.items()} == {
        "es1": ["0 lamp-1/1 closed here"],
        "g1": ["0 lamp-1/1 closed es1--g1 0", "380000 lamp-1/1 closed g1--s1 110000"],
        "s1": ["0 lamp-1/1 closed g1--s1 0", "110000 lamp-1/1 closed s1--c1 20000"],
        "c1": ["0 lamp-1/1 closed s1--c1 0", "20000 lamp-1/1 closed c1--h1 400"],
        "h1": ["0 lamp-1/1 closed c1--h1 0", "400 lamp-1/1 closed h1--lamp-1 230"],
        "lamp-1": ["230 lamp-1/1 closed here"],
    }
    resv = network.heard(Resv)[-1]
    labels = [hop.phase for hop in resv.circuits[0].record]
    assert labels == [230, 400, 20_000, 110_000, 380_000]


@pytest.mark.requirement("MPLA-3-01")
def test_entries_are_open_until_the_resv_has_passed() -> None:
    network = Network("tree:1,1,1,1,1")
    network.on("lamp-1")
    network.run(5 * NS_PER_MS - 1)
    assert network.nodes["g1"].label_table() == ["380000 lamp-1/1 open"]
    network.run(2)
    assert network.nodes["g1"].label_table() == ["380000 lamp-1/1 open"]
    network.run(NS_PER_MS)
    assert all("closed" in line for line in network.nodes["g1"].label_table())
    names = [name for name, _ in network.traced if name == "lfib:breaker_closed"]
    assert len(names) == 1


@pytest.mark.requirement("MPLA-4.5-08")
def test_a_lamp_that_is_switched_off_leaves_nothing() -> None:
    network = Network("street:2")
    tunnel = network.on("lamp-1")
    network.on("lamp-2")
    network.run()
    network.nodes["lamp-1"].switch_off(tunnel, network.now)
    network.settle("lamp-1")
    network.run()
    assert states(network)[-1] is LampState.DARK
    assert network.nodes["h1"].circuits(network.now) == []
    assert len(network.nodes["c1"].circuits(network.now)) == 1, "that of lamp-2"
    network.nodes["lamp-2"].switch_off(1, network.now)
    network.settle("lamp-2")
    network.run()
    network.assert_empty()


@pytest.mark.requirement("MPLA-4.4-02")
def test_the_lease_of_a_grant_is_the_lifetime_of_soft_state() -> None:
    network = Network("tree:1,1")
    network.on("lamp-1")
    network.run()
    resv = network.heard(Resv)[0]
    assert resv.circuits[0].power.profile.lease_s == 152
    assert resv.circuits[0].power.second is None


@pytest.mark.requirement("MPLA-5-03")
def test_the_edge_makes_the_route_in_the_overlay_and_the_lamp_in_the_peer_model() -> None:
    for model, lengths in ((Model.OVERLAY, [0, 3, 2, 1]), (Model.PEER, [4, 3, 2, 1])):
        network = Network("street:1")
        network.on("lamp-1", model=model)
        network.run()
        paths = network.heard(Path)
        assert [len(path.route) for path in paths] == lengths
        assert not any(hop.is_loose for path in paths for hop in path.route)
        assert states(network)[-1] is LampState.SIGNALLED


def test_what_a_manager_of_energy_sees() -> None:
    network = Network("tree:1,1")
    network.on("lamp-1")
    network.run()
    nodes, now = network.nodes, network.now
    [lamp], [house], [source] = (nodes[name].circuits(now) for name in ("lamp-1", "h1", "es1"))
    up, down = network.link("es1", "h1"), network.link("h1", "lamp-1")
    assert (lamp.lamp_link, lamp.source_link) == (0, down)
    assert (house.lamp_link, house.source_link) == (down, up)
    assert (source.lamp_link, source.source_link) == (up, 0)
    assert (house.energy_uj, lamp.energy_uj) == (0, None)
    assert lamp.grant is not None
    assert house.grant == source.grant == lamp.grant
    assert house.is_closed
    assert house.request.power_mw == 59_800


def test_a_policeman_is_no_node_and_verbs_belong_to_kinds() -> None:
    network = Network("tree:1,1")
    house = network.nodes["h1"]
    for verb in (
        lambda: house.switch_on(PowerProfile.parse(LAMP), 0),
        lambda: house.withdraw(0),
        lambda: house.receive_cops(b"", 0),
        lambda: house.set_link(9, True, 0),
        lambda: network.nodes["lamp-1"].switch_off(1, 0),
    ):
        with pytest.raises(LocalProtocolError):
            verb()
    topology = Network("tree:1,1").topology
    draft = Draft("with")
    draft.node("pdp", NodeKind.PDP)
    with pytest.raises(LocalProtocolError, match="policeman"):
        Node(draft.finish(), "pdp", Ted(topology), NodeSettings(), dice("x"), 0)


# ---- admission ----------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.5-03")
@pytest.mark.requirement("MPLA-4.5-09")
def test_the_second_lamp_behind_a_full_feeder_is_refused_with_numbers() -> None:
    network = Network(feeder())
    network.on("lamp-1")
    network.run()
    network.on("lamp-2")
    network.run()
    refused = network.changes("lamp-2")[-1]
    assert refused.state is LampState.DARK
    assert refused.refusal is not None
    assert refused.refusal.code == Reason.NO_CAPACITY
    assert (refused.refusal.value, refused.refusal.limit) == (59_800, 40_020)
    assert "c1 has 40,020 mW left at priority 4, asked 59,800 mW" in refused.refusal.text
    error = network.heard(PathErr)[-1]
    assert (error.error.code, error.error.value, error.error.flags) == (1, 2, STATE_REMOVED)
    assert network.nodes["h1"].holds()[network.link("h1", "lamp-2")] == 0
    assert len(network.nodes["h1"].circuits(network.now)) == 1


@pytest.mark.requirement("MPLA-4.5-03")
def test_a_lamp_that_would_do_with_less_gets_what_is_left() -> None:
    network = Network(feeder())
    network.on("lamp-1")
    network.run()
    network.on("lamp-2", minimum=LEAST)
    network.run()
    signalled = network.changes("lamp-2")[-1]
    assert signalled.grant is not None
    assert (signalled.grant.current_ma, signalled.grant.power_mw) == (174, 40_020)
    link = network.link("h1", "lamp-2")
    assert network.nodes["h1"].holds()[link] == 40_020, "the grant, not what was asked"


@pytest.mark.requirement("MPLA-4.6-02")
@pytest.mark.requirement("MPLA-4.6-04")
def test_a_more_important_lamp_takes_the_place_of_another_which_asks_again_later() -> None:
    network = Network(feeder())
    network.on("lamp-1", f"{LAMP},prio=9")
    network.run()
    network.on("lamp-2", f"{LAMP},prio=3")
    network.run()
    assert states(network, "lamp-2")[-1] is LampState.SIGNALLED
    shed = network.changes("lamp-1")[-1]
    assert shed.state is LampState.SHED
    assert shed.refusal is not None
    assert shed.refusal.code == Reason.BUDGET
    assert network.nodes["es1"].holds() == {network.link("es1", "c1"): 59_800}
    cut_at = shed.at
    network.nodes["lamp-2"].switch_off(1, network.now)
    network.settle("lamp-2")
    network.run(11 * SECOND)
    again, signalled = network.changes("lamp-1")
    assert 5 * SECOND <= again.at - cut_at <= 10 * SECOND
    assert signalled.state is LampState.SIGNALLED


@pytest.mark.requirement("MPLA-4.6-02")
def test_a_link_that_is_derated_sheds_the_least_important_lamps() -> None:
    network = Network(feeder(300, 3))
    for number, priority in ((1, 5), (2, 12), (3, 8)):
        network.on(f"lamp-{number}", f"{LAMP},prio={priority}")
    network.run()
    network.nodes["c1"].derate(network.link("c1", "h1"), 120_000, network.now)
    network.settle("c1")
    network.run()
    ends = {lamp: states(network, lamp)[-1] for lamp in ("lamp-1", "lamp-2", "lamp-3")}
    assert ends == {
        "lamp-1": LampState.SIGNALLED,
        "lamp-2": LampState.SHED,
        "lamp-3": LampState.SIGNALLED,
    }
    source = network.nodes["es1"]
    source.derate(network.link("es1", "c1"), 0, network.now)
    network.settle("es1")
    network.run()
    assert states(network)[-1] is LampState.SHED
    assert source.circuits(network.now) == []


@pytest.mark.requirement("MPLA-4.5-03")
def test_a_source_admits_no_more_than_it_has() -> None:
    draft = Draft("small")
    source = draft.node("es1", NodeKind.ES, capacity_mw=100_000)
    house = draft.node("h1", NodeKind.TRANSFORMER)
    lamps = [draft.node(f"lamp-{number}", NodeKind.LAMP) for number in (1, 2)]
    draft.link(source, house, 400_000)
    for lamp in lamps:
        draft.link(house, lamp, 230_000)
    network = Network(draft.finish())
    network.on("lamp-1")
    network.on("lamp-2", minimum=LEAST)
    network.run()
    change = network.changes("lamp-2")[-1]
    assert change.grant is not None
    assert change.grant.current_ma == 174
    assert network.nodes["es1"].holds()[1] == 99_820


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.5-02")
@pytest.mark.requirement("MPLA-4.8-01")
@pytest.mark.parametrize(
    ("request_text", "node", "reason"),
    [
        ("400V/1A@50Hz", "h1", Reason.VOLTAGE_RANGE),
        ("206V/1A@50Hz", "h1", Reason.VOLTAGE_RANGE),
        ("230V/1A", "es1", Reason.WAVEFORM),
        ("230V/1A@60Hz", "es1", Reason.WAVEFORM),
        ("207V/1A@50Hz", "", 0),
        ("253V/1A@any", "", 0),
    ],
)
def test_edge_and_source_look_at_what_is_asked_for(
    request_text: str, node: str, reason: int
) -> None:
    network = Network("tree:1,1,1")
    network.on("lamp-1", request_text)
    network.run()
    change = network.changes("lamp-1")[-1]
    if not reason:
        assert change.state is LampState.SIGNALLED
        return
    assert change.state is LampState.DARK
    assert change.refusal is not None
    assert change.refusal.code == reason
    error = network.heard(PathErr)[-1].error
    assert (error.code, error.value, error.node) == (252, reason, network.nodes[node].address)
    network.run(20 * SECOND)
    assert network.changes("lamp-1") == [], "a lamp that never was on does not ask again"
    network.assert_empty()


@pytest.mark.requirement("MPLA-4.5-02")
def test_a_source_belongs_to_suppliers() -> None:
    own = {"es1": NodeSettings(suppliers=frozenset({7}))}
    network = Network("tree:1,1", of=own)

    for supplier, state in ((7, LampState.SIGNALLED), (8, LampState.DARK)):
        limit = replace(OFFERS[0], kind=TariffKind.LIMIT, supplier=supplier)
        tunnel = network.on("lamp-1", limit=limit, es=network.nodes["es1"].address)
        network.run()
        change = network.changes("lamp-1")[-1]
        assert (change.tunnel, change.state) == (tunnel, state)
    assert change.refusal is not None
    assert change.refusal.code == Reason.TARIFF


@pytest.mark.requirement("MPLA-4.5-05")
def test_a_session_with_no_source_has_no_route() -> None:
    network = Network("tree:1,1,1")
    network.on("lamp-1", es=network.nodes["c1"].address)
    network.run()
    error = network.heard(PathErr)[-1].error
    assert (error.code, error.value) == (24, 5)
    network.on("lamp-1", es=IPv4Address("10.1.2.3"), model=Model.PEER)
    network.run()
    change = network.changes("lamp-1")[-1]
    assert change.refusal is not None
    assert change.refusal.code == Reason.NO_CAPACITY


# ---- routes -------------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-5-01")
def test_the_edge_tries_another_way_when_a_link_is_full_that_it_did_not_know_of() -> None:
    network = Network("street:1", has_own_teds=True)
    network.nodes["s1"].derate(network.link("s1", "c1"), 1000, 0)
    network.on("lamp-1")
    network.run()
    assert states(network) == [LampState.REQUESTING, LampState.SIGNALLED]
    assert len(network.heard(PathErr)) == 2, "from s1 to c1 and to h1, no further"
    assert len(network.nodes["s2"].circuits(network.now)) == 1
    assert network.nodes["s1"].circuits(network.now) == []
    before = len(network.heard(PathErr))
    network.nodes["lamp-1"].reroute(1, network.now)
    network.settle("lamp-1")
    network.run(2 * SECOND)
    assert len(network.heard(PathErr)) == before, "excluded for 30 s"


@pytest.mark.requirement("MPLA-5-01")
def test_who_made_the_route_passes_the_last_error_on_when_there_is_no_other_way() -> None:
    for model in Model:
        network = Network("street:1", has_own_teds=True)
        for name in ("s1", "s2"):
            network.nodes[name].derate(network.link(name, "c1"), 1000, 0)
        network.on("lamp-1", model=model)
        network.run()
        change = network.changes("lamp-1")[-1]
        assert change.refusal is not None
        assert (change.state, change.refusal.code) == (LampState.DARK, Reason.NO_CAPACITY)
        assert "s2 has 920 mW left" in change.refusal.text
        network.assert_empty()


@pytest.mark.requirement("MPLA-4.9-02")
@pytest.mark.requirement("MPLA-5-01")
@pytest.mark.parametrize("model", list(Model))
def test_a_lamp_is_moved_when_a_link_of_its_circuit_is_cut(model: Model) -> None:
    network = Network("street:1")
    network.on("lamp-1", model=model)
    network.run()
    network.changes("lamp-1")
    assert len(network.nodes["s1"].circuits(network.now)) == 1
    network.sever("s1", "c1")
    network.run(100 * NS_PER_MS)
    error = network.heard(PathErr)[0].error
    assert (error.code, error.value, error.flags) == (24, 5, IN_PLACE)
    moved = network.changes("lamp-1")[-1]
    assert moved.circuit is not None
    assert (moved.state, moved.circuit.sender.lsp) == (LampState.SIGNALLED, 2)
    assert len(network.nodes["s2"].circuits(network.now)) == 1
    assert len(network.nodes["c1"].circuits(network.now)) == 2, "the old one is there for 1 s"
    network.run(SECOND)
    assert len(network.nodes["c1"].circuits(network.now)) == 1


@pytest.mark.requirement("MPLA-4.7-01")
def test_a_neighbour_that_is_silent_is_stale_and_the_lamp_moves() -> None:
    live = NodeSettings(signalling=Settings(hello_ns=300 * NS_PER_MS))
    network = Network("street:1", settings=live)
    network.on("lamp-1")
    network.run(SECOND)
    network.changes("lamp-1")
    network.sever("s1", "c1", is_known=False)
    network.sever("es1", "s1", is_known=False)
    network.run(2 * SECOND)
    moved = network.changes("lamp-1")[-1]
    assert moved.circuit is not None
    assert (moved.state, moved.circuit.sender.lsp) == (LampState.SIGNALLED, 2)
    assert len(network.nodes["s1"].circuits(network.now)) == 1, "held for its lifetime"
    network.run(200 * SECOND)
    assert network.nodes["s1"].circuits(network.now) == []
    assert len(network.nodes["es1"].circuits(network.now)) == 1


@pytest.mark.requirement("MPLA-5-03")
@pytest.mark.requirement("MPLA-4.9-02")
def test_a_lamp_migrates_from_overlay_to_peer() -> None:
    network = Network("street:1")
    tunnel = network.on("lamp-1")
    network.run()
    lamp = network.nodes["lamp-1"]
    lamp.migrate(tunnel, Model.PEER, network.now)
    network.settle("lamp-1")
    network.run()
    path = network.heard(Path)[-4]
    hops = ["h1", "c1", "s1", "es1"]
    assert path.route == tuple(RouteHop(network.nodes[name].address) for name in hops)
    assert path.sender.lsp == 2
    assert states(network)[-1] is LampState.SIGNALLED
    network.run(SECOND)
    assert [row.owner.sender[1] for row in lamp.circuits(network.now)] == [2]
    assert len(network.heard(PathTear)) == 4


@pytest.mark.requirement("MPLA-4.6-01")
@pytest.mark.requirement("MPLA-4.9-02")
def test_a_changed_profile_counts_once_with_what_it_replaces() -> None:
    network = Network(feeder(100, 1))
    tunnel = network.on("lamp-1")
    network.run()
    lamp, link = network.nodes["lamp-1"], network.link("c1", "h1")
    for current, held in ((400, 92_000), (100, 92_000)):
        request = PowerProfile.parse(f"230V/{current}mA@50Hz")
        lamp.set_request(tunnel, request, network.now)
        network.settle("lamp-1")
        network.run()
        grant = network.changes("lamp-1")[-1].grant
        assert grant is not None
        assert grant.current_ma == current
        assert network.nodes["c1"].holds()[link] == held, "the greatest of both"
        network.run(SECOND)
    assert network.nodes["c1"].holds()[link] == 23_000
    lamp.set_request(tunnel, PowerProfile.parse("230V/1A@50Hz"), network.now)
    network.settle("lamp-1")
    network.run()
    refused = network.changes("lamp-1")[-1]
    assert refused.refusal is not None
    assert (refused.state, refused.refusal.code) == (LampState.SIGNALLED, Reason.NO_CAPACITY)
    assert refused.grant is not None
    assert refused.grant.current_ma == 100, "the old circuit stays"


# ---- styles -------------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.6-01")
@pytest.mark.requirement("MPLA-4.6-05")
@pytest.mark.parametrize(("sharing", "held_mw"), [(Sharing.SUM, 119_600), (Sharing.MAX, 59_800)])
def test_lamps_of_a_shared_session_go_by_one_neutral(sharing: Sharing, held_mw: int) -> None:
    network = Network(feeder(1000, 2), settings=NodeSettings(sharing=sharing))
    for lamp in ("lamp-1", "lamp-2"):
        network.on(lamp, style=Style.WF)
        network.run()
        assert states(network, lamp)[-1] is LampState.SIGNALLED
    assert not any(path.route for path in network.heard(Path))
    assert {resv.style for resv in network.heard(Resv)} == {Style.WF}
    house = network.nodes["c1"]
    assert house.holds()[network.link("c1", "h1")] == held_mw
    neutrals = [line for line in house.label_table() if line.startswith("0 ")]
    assert len(neutrals) == 1
    network.nodes["lamp-1"].switch_off(1, network.now)
    network.settle("lamp-1")
    network.run()
    table = house.label_table()
    assert [line for line in table if line.startswith("0 ")] == neutrals, "lamp-2 goes by it"
    network.nodes["lamp-2"].switch_off(1, network.now)
    network.settle("lamp-2")
    network.run()
    network.assert_empty()


@pytest.mark.requirement("MPLA-4.6-01")
def test_fixed_filter_counts_each_circuit() -> None:
    network = Network(feeder(1000, 1))
    tunnel = network.on("lamp-1", style=Style.FF)
    network.run()
    network.nodes["lamp-1"].reroute(tunnel, network.now)
    network.settle("lamp-1")
    network.run()
    assert network.nodes["c1"].holds()[network.link("c1", "h1")] == 119_600
    assert {resv.style for resv in network.heard(Resv)} == {Style.FF}


# ---- soft state ---------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.5-08")
def test_state_that_nobody_refreshes_ends_everywhere() -> None:
    network = Network("tree:1,1,1")
    network.on("lamp-1")
    network.run()
    network.sever("c1", "h1", is_known=False)
    network.run(150 * SECOND)
    assert len(network.nodes["es1"].circuits(network.now)) == 1, "not yet"
    network.run(50 * SECOND)
    assert network.nodes["es1"].circuits(network.now) == []
    assert network.nodes["c1"].circuits(network.now) == []
    assert states(network)[2] is LampState.SHED, "the edge says that there is no power"


@pytest.mark.requirement("MPLA-1-01")
def test_a_lamp_whose_grant_has_timed_out_is_dark() -> None:
    network = Network("tree:1,1,1")
    network.on("lamp-1")
    network.run()
    network.sever("h1", "lamp-1", is_known=False)
    network.run(200 * SECOND)
    assert states(network)[2] is LampState.DARK
    assert network.nodes["es1"].circuits(network.now) == []


@pytest.mark.requirement("MPLA-4.5-08")
def test_a_source_that_withdraws_opens_the_entries_and_the_lamp_asks_again() -> None:
    network = Network("tree:1,1,1")
    network.on("lamp-1")
    network.run()
    source = network.nodes["es1"]
    source.withdraw(network.now)
    network.settle("es1")
    network.run(NS_PER_MS)
    assert source.holds() == {1: 0}
    assert [line.split()[2] for line in network.nodes["c1"].label_table()] == ["open", "open"]
    assert network.nodes["c1"].holds()[network.link("c1", "h1")] == 0
    network.run()
    assert len(network.heard(ResvTear)) == 3
    assert states(network)[-1] is LampState.SHED
    network.run(11 * SECOND)
    assert states(network)[-1] is LampState.SIGNALLED


def test_a_router_that_has_crashed_learns_its_circuits_again() -> None:
    live = NodeSettings(signalling=Settings(hello_ns=300 * NS_PER_MS))
    network = Network("tree:1,1,1", settings=live)
    network.on("lamp-1")
    network.run(SECOND)
    before = network.nodes["c1"].label_table()
    network.start("c1")
    assert network.nodes["c1"].label_table() == []
    network.run(3 * SECOND)
    assert [line.replace("/2", "/1") for line in network.nodes["c1"].label_table()] == before
    assert network.nodes["lamp-1"].lamp_state is LampState.SIGNALLED


def test_early_timers_do_nothing() -> None:
    network = Network("tree:1,1,1")
    network.on("lamp-1")
    network.run()
    said = len(network.said)
    for name, node in network.nodes.items():
        node.handle_timer(network.now)
        network.settle(name)
    assert len(network.said) == said


def test_unreliable_signalling_sends_each_message_once() -> None:
    network = Network(
        "tree:1,1,1,1,1", settings=NodeSettings(signalling=Settings(is_reliable=False))
    )
    network.on("lamp-1")
    network.run()
    assert [type(row[-1]).__name__ for row in network.said] == ["Path"] * 5 + ["Resv"] * 5
