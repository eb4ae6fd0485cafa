"""What a lamp does when things change: states it tells, retries, circuits in its place, and choices."""

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.lamp import MAX_TUNNELS
from powertcp.mplamps.node import (
    LampChanged,
    LampState,
    Model,
    NodeSettings,
    StreamCut,
    SupplierChanged,
)
from powertcp.mplamps.power import TariffKind, TariffObject
from powertcp.mplamps.rsvp.messages import Path, PathTear
from powertcp.mplamps.rsvp.objects import Style
from powertcp.mplamps.tariffs import parse_market
from powertcp.mplamps.topology import Draft, NodeKind
from powertcp.profile import PowerProfile
from powertcp.registry import Reason
from powertcp.units import NS_PER_MS
from tests.mplamps_network import SECOND, Network, topology_of
from tests.policed import MARKET, street

S = LampState


def shown(network: Network) -> list[tuple[LampState, int]]:
    """Return states, and the LSP of the circuit in use, 0 without one."""
    return [
        (change.state, change.circuit.sender.lsp if change.circuit else 0)
        for change in network.changes("lamp-1")
    ]


@pytest.mark.requirement("MPLA-1-01")
def test_each_change_of_state_is_told_with_its_time_and_circuit() -> None:
    network = Network("tree:1,1")
    tunnel = network.on("lamp-1")
    network.run()
    lamp = network.nodes["lamp-1"]
    for tell in (lamp.lamp_banked, lamp.lamp_banked, lamp.lamp_flickered, lamp.lamp_banked):
        network.run(SECOND)
        tell(tunnel, network.now)
        network.settle("lamp-1")
    lamp.switch_off(tunnel, network.now)
    network.settle("lamp-1")
    changes = network.changes("lamp-1")
    assert [(change.state, change.at // SECOND) for change in changes] == [
        (S.REQUESTING, 0),
        (S.SIGNALLED, 0),
        (S.LIT, 1),
        (S.FLICKER, 3),
        (S.LIT, 4),
        (S.DARK, 4),
    ]
    assert {change.tunnel for change in changes} == {tunnel}
    assert lamp.lamp_state is S.DARK
    names = [name for name, _ in network.traced if name == "mplamps:lamp_changed"]
    assert len(names) == len(changes)


@pytest.mark.requirement("MPLA-1-01")
def test_the_state_of_a_lamp_is_the_best_of_its_tunnels() -> None:
    network = Network("tree:1,1")
    first = network.on("lamp-1")
    network.run()
    second = network.on("lamp-1", "400V/1A@50Hz")
    network.run()
    lamp = network.nodes["lamp-1"]
    assert [(row.number, row.state) for row in lamp.tunnels()] == [
        (first, S.SIGNALLED),
        (second, S.DARK),
    ]
    assert lamp.lamp_state is S.SIGNALLED


@pytest.mark.requirement("MPLA-4.6-04")
def test_a_lamp_that_was_shed_asks_every_5_to_10_s_until_it_is_lit_or_off() -> None:
    network = Network("tree:1,1,1")
    tunnel = network.on("lamp-1")
    network.run()
    link = network.link("c1", "h1")
    network.nodes["c1"].derate(link, 0, network.now)
    network.settle("c1")
    network.run(60 * SECOND)
    changes = network.changes("lamp-1")[2:]
    assert {change.state for change in changes} == {S.SHED, S.REQUESTING}
    asked = [change.at for change in changes if change.state is S.REQUESTING]
    shed = [change.at for change in changes if change.state is S.SHED]
    waits = [ask - cut for ask, cut in zip(asked, shed, strict=False)]
    assert 6 <= len(waits) <= 12
    assert all(5 * SECOND <= wait <= 10 * SECOND for wait in waits)
    assert len(set(waits)) > 1, "by chance"
    assert changes[0].refusal is not None
    assert changes[0].refusal.code == Reason.BUDGET
    network.nodes["lamp-1"].switch_off(tunnel, network.now)
    network.settle("lamp-1")
    network.run(60 * SECOND)
    assert shown(network) == [(S.DARK, 0)]


@pytest.mark.requirement("MPLA-4.9-02")
def test_a_change_that_is_refused_leaves_everything_as_it_was() -> None:
    network = Network("tree:1,1,1")
    tunnel = network.on("lamp-1")
    network.run()
    lamp = network.nodes["lamp-1"]
    lamp.set_request(tunnel, PowerProfile.parse("400V/1A@50Hz"), network.now)
    network.settle("lamp-1")
    network.run(30 * SECOND)
    assert shown(network)[2:] == [(S.SIGNALLED, 1)]
    assert len(network.heard(Path)) == 3 + 1, "it does not try for ever"
    network.nodes["lamp-1"].reroute(tunnel, network.now)
    network.settle("lamp-1")
    network.run()
    assert shown(network) == [(S.SIGNALLED, 3)], "with what was asked before"


def test_a_circuit_in_trouble_is_moved_once_there_is_another_way() -> None:
    network = Network("street:1")
    network.on("lamp-1")
    network.run()
    for cabinet in ("s2", "s1"):
        network.sever(cabinet, "c1")
    network.run(40 * SECOND)
    assert {state for state, _ in shown(network)} == {S.REQUESTING, S.SIGNALLED}
    network.mend("s2", "c1")
    network.run(45 * SECOND)
    state, lsp = shown(network)[-1]
    assert (state, lsp > 2) == (S.SIGNALLED, True)
    assert len(network.nodes["s2"].circuits(network.now)) == 1


def test_the_circuit_that_comes_takes_the_place_of_one_that_is_cut() -> None:
    network = Network("street:1")
    tunnel = network.on("lamp-1")
    network.run()
    lamp = network.nodes["lamp-1"]
    lamp.reroute(tunnel, network.now)
    network.settle("lamp-1")
    network.run(6 * NS_PER_MS)
    source = network.nodes["es1"]
    source.withdraw(network.now)
    network.settle("es1")
    network.run(11 * SECOND)
    assert lamp.lamp_state is S.SIGNALLED
    assert len(lamp.circuits(network.now)) == 1
    assert shown(network)[-1][0] is S.SIGNALLED


@pytest.mark.requirement("MPLA-4.9-02")
def test_the_old_circuit_is_torn_a_second_after_the_new_one_is_there() -> None:
    network = Network("tree:1,1")
    tunnel = network.on("lamp-1")
    network.run()
    network.nodes["lamp-1"].reroute(tunnel, network.now)
    network.settle("lamp-1")
    network.run(3 * SECOND)
    moved = network.changes("lamp-1")[-1].at
    torn = [at for at, _, _, message in network.said if isinstance(message, PathTear)]
    assert torn[0] == moved + SECOND


def test_wishes_that_cannot_be_changed_to() -> None:
    network = Network("tree:1,1")
    tunnel = network.on("lamp-1", style=Style.WF)
    lamp = network.nodes["lamp-1"]
    with pytest.raises(LocalProtocolError, match="shared session"):
        lamp.migrate(tunnel, Model.PEER, 0)
    with pytest.raises(LocalProtocolError, match="no tunnel 7"):
        lamp.reroute(7, 0)


def test_a_lamp_has_a_limit_of_tunnels() -> None:
    network = Network("tree:1,1", settings=NodeSettings())
    lamp = network.nodes["lamp-1"]
    request = PowerProfile.parse("230V/1mA@50Hz")
    for _ in range(MAX_TUNNELS):
        lamp.switch_on(request, 0)
    with pytest.raises(LocalProtocolError, match="at most 1,024 tunnels"):
        lamp.switch_on(request, 0)


@pytest.mark.requirement("MPLA-6-06")
def test_of_several_sources_the_nearest_is_asked_without_a_policeman() -> None:
    draft = Draft("two")
    far = draft.node("far", NodeKind.ES)
    near = draft.node("near", NodeKind.ES)
    middle = draft.node("c1", NodeKind.SWITCH)
    house = draft.node("h1", NodeKind.SWITCH)
    lamp = draft.node("lamp-1", NodeKind.LAMP)
    draft.link(far, middle, 230_000)
    draft.link(middle, house, 230_000)
    draft.link(near, house, 230_000)
    draft.link(house, lamp, 230_000)
    network = Network(draft.finish())
    network.on("lamp-1")
    network.run()
    [row] = network.nodes["lamp-1"].tunnels()
    assert (row.es, row.state) == (network.nodes["near"].address, S.SIGNALLED)


@pytest.mark.requirement("MPLA-6-01")
@pytest.mark.requirement("MPLA-4.9-03")
def test_a_lamp_with_a_connection_is_not_cut_when_its_supplier_changes() -> None:
    topology = street()
    network = Network(topology, market=parse_market(MARKET, "market", topology))
    network.call_police()
    network.run()
    limit = TariffObject.make(TariffKind.LIMIT, 400_000, "EUR")
    tunnel = network.on("lamp-1", limit=limit)
    network.run()
    lamp = network.nodes["lamp-1"]
    end = lamp.open_stream(tunnel, network.now)
    network.settle("lamp-1")
    network.run()
    assert end.may_send
    [row] = lamp.tunnels()
    assert network.police is not None
    network.police.set_price(row.supplier, 310_000, network.now)
    network.hear_police()
    network.run(5 * SECOND)
    [changed] = [event for event in network.drain("lamp-1") if isinstance(event, SupplierChanged)]
    assert len(list(lamp.tunnels())) == 2, "the connection is moved by who owns it"
    other = lamp.open_stream(changed.new, network.now)
    network.settle("lamp-1")
    network.run()
    assert other.may_send
    assert other.peer != end.peer
    lamp.switch_off(changed.old, network.now)
    network.settle("lamp-1")
    network.run()
    [row] = lamp.tunnels()
    assert row.number == changed.new


TOWN = """
topology = {name = "two"}
node = [
  {name = "es1", kind = "es"}, {name = "es2", kind = "es"}, {name = "s1", kind = "switch"},
  {name = "h1", kind = "switch"}, {name = "lamp-1", kind = "lamp"}, {name = "pdp", kind = "pdp"},
]
link = [
  {a = "es1", b = "s1", voltage = "230V"}, {a = "es2", b = "s1", voltage = "230V"},
  {a = "s1", b = "h1", voltage = "230V"}, {a = "h1", b = "lamp-1", voltage = "230V"},
]
"""
SELLERS = """
currency = "EUR"
default = "any"
supplier = [
  {id = 7, name = "Cheap", sources = ["es1"], capacity = "2MW", prices = [
    {at = "00:00", price = "0.10/kWh"},
  ]},
  {id = 9, name = "Dear", sources = ["es2"], capacity = "2MW", prices = [
    {at = "00:00", price = "0.30/kWh"},
  ]},
]
"""


def two_sellers(full: str = "") -> Network:
    """Return a town of two suppliers; the feeder of the source `full` carries 10 W."""
    text = TOWN.replace(f'{{a = "{full}",', f'{{a = "{full}", capacity = "10W",')
    topology = topology_of(text)
    network = Network(topology, market=parse_market(SELLERS, "market", topology))
    network.call_police()
    network.run()
    return network


def price(network: Network, micro: int, supplier: int = 7) -> None:
    assert network.police is not None
    network.police.set_price(supplier, micro, network.now)
    network.hear_police()
    network.run(20 * SECOND)


@pytest.mark.requirement("MPLA-1-01")
@pytest.mark.requirement("MPLA-6-06")
def test_a_lamp_whose_supplier_is_withdrawn_says_so_and_opens_at_the_next_one() -> None:
    network = two_sellers()
    tunnel = network.on("lamp-1")
    network.run(SECOND)
    lamp = network.nodes["lamp-1"]
    end = lamp.open_stream(tunnel, network.now)
    network.settle("lamp-1")
    network.run()
    lamp.lamp_banked(tunnel, network.now)
    network.settle("lamp-1")
    assert shown(network)[-1][0] is S.LIT
    assert network.police is not None
    network.police.withdraw(7, network.now)
    network.hear_police()
    network.run()
    events = network.drain("lamp-1")
    assert [event.end for event in events if isinstance(event, StreamCut)] == [end]
    changes = [event for event in events if isinstance(event, LampChanged)]
    assert [change.state for change in changes] == [S.SHED, S.REQUESTING, S.SIGNALLED]
    assert changes[0].refusal is not None
    assert changes[0].refusal.code == Reason.TARIFF
    assert changes[-1].quote is not None
    assert changes[-1].quote.supplier == 9
    other = lamp.open_stream(tunnel, network.now)
    network.settle("lamp-1")
    network.run(5 * SECOND)
    assert other.may_send
    assert other.peer == network.nodes["es2"].address


@pytest.mark.requirement("MPLA-1-01")
def test_a_lamp_whose_next_supplier_does_not_answer_is_not_lit() -> None:
    network = two_sellers()
    tunnel = network.on("lamp-1")
    network.run(SECOND)
    lamp = network.nodes["lamp-1"]
    lamp.lamp_banked(tunnel, network.now)
    network.settle("lamp-1")
    network.sever("es2", "s1", is_known=False)
    assert network.police is not None
    network.police.withdraw(7, network.now)
    network.hear_police()
    network.run(SECOND)
    assert lamp.lamp_state is S.REQUESTING


@pytest.mark.requirement("MPLA-6-06")
def test_the_cheapest_supplier_to_whom_there_is_a_way_is_taken() -> None:
    network = two_sellers(full="es1")
    network.on("lamp-1")
    network.run(60 * SECOND)
    changes = network.changes("lamp-1")
    assert [change.state for change in changes] == [S.REQUESTING, S.SIGNALLED]
    assert changes[-1].quote is not None
    assert changes[-1].quote.supplier == 9
    assert changes[-1].at < SECOND


@pytest.mark.requirement("MPLA-6-06")
def test_a_supplier_without_room_is_not_replaced_by_one_above_the_limit() -> None:
    network = two_sellers(full="es1")
    network.on("lamp-1", limit=TariffObject.make(TariffKind.LIMIT, 200_000, "EUR"))
    network.run(60 * SECOND)
    changes = network.changes("lamp-1")
    assert [change.state for change in changes] == [S.REQUESTING, S.DARK]
    assert changes[-1].refusal is not None
    assert changes[-1].refusal.code == Reason.NO_CAPACITY
    network.nodes["lamp-1"].switch_off(changes[-1].tunnel, network.now)
    network.settle("lamp-1")
    network.run()
    network.assert_empty()


@pytest.mark.requirement("MPLA-6-01")
def test_a_supplier_change_that_fails_leaves_nothing_and_the_next_one_is_tried() -> None:
    network = two_sellers(full="es2")
    tunnel = network.on("lamp-1")
    network.run(SECOND)
    network.changes("lamp-1")
    lamp = network.nodes["lamp-1"]
    for micro in (400_000, 500_000):
        price(network, micro)
        said = [change for change in network.changes("lamp-1") if change.tunnel != tunnel]
        assert [(one.state, one.refusal is not None) for one in said] == [
            (S.DARK, True),
            (S.DARK, False),
        ]
        assert [row.number for row in lamp.tunnels()] == [tunnel]
        assert len(lamp.circuits(network.now)) == 1
    network.nodes["lamp-1"].switch_off(tunnel, network.now)
    network.settle("lamp-1")
    network.run()
    network.assert_empty()


@pytest.mark.requirement("MPLA-6-01")
@pytest.mark.parametrize("milliseconds", range(1, 16))
def test_a_lamp_that_is_switched_off_while_it_changes_its_supplier_is_off(
    milliseconds: int,
) -> None:
    network = two_sellers()
    tunnel = network.on("lamp-1")
    network.run(SECOND)
    assert network.police is not None
    network.police.set_price(7, 400_000, network.now)
    network.hear_police()
    network.run(milliseconds * NS_PER_MS)
    lamp = network.nodes["lamp-1"]
    is_changed = any(isinstance(event, SupplierChanged) for event in network.drain("lamp-1"))
    lamp.switch_off(tunnel, network.now)
    network.settle("lamp-1")
    network.run(20 * SECOND)
    assert len(list(lamp.tunnels())) == is_changed, "who is told of the change has the new tunnel"
    for row in tuple(lamp.tunnels()):
        lamp.switch_off(row.number, network.now)
    network.settle("lamp-1")
    network.run(5 * SECOND)
    network.assert_empty()


@pytest.mark.requirement("MPLA-6-01")
def test_a_supplier_that_has_room_again_is_taken_at_the_next_rise() -> None:
    network = two_sellers()
    tunnel = network.on("lamp-1")
    network.run(SECOND)
    source, link = network.nodes["es2"], network.link("es2", "s1")
    for capacity_mw, micro in ((0, 400_000), (1_000_000, 500_000)):
        source.derate(link, capacity_mw, network.now)
        network.settle("es2")
        network.run(40 * SECOND)
        price(network, micro)
    [row] = network.nodes["lamp-1"].tunnels()
    assert row.number != tunnel
    assert (row.supplier, row.state) == (9, S.SIGNALLED)
