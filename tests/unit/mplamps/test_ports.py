"""Links as a node sees them: what they tell the routes, and when."""

import pytest

from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.ports import Port, capacity_of, labels_of, ports_of
from powertcp.mplamps.rsvp.admission import NoRoom
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.messages import Path
from powertcp.mplamps.ted import Reservations, Ted
from tests.mplamps_network import Network

STREET = generate_topology("street:2")


def a_path() -> tuple[CircuitId, Path]:
    network = Network("tree:1,1")
    network.on("lamp-1")
    path = network.heard(Path)[0]
    return CircuitId(path.session, path.sender), path


def house() -> tuple[Ted, Port]:
    ted = Ted(STREET)
    ports = ports_of(STREET, "h1", ted)
    return ted, next(port for port in ports.values() if port.is_lamp)


def test_what_a_port_is() -> None:
    ports = ports_of(STREET, "c1", Ted(STREET))
    assert {port.other: port.label for port in ports.values()} == {
        "s1": 20_000, "s2": 20_000, "h1": 400, "h2": 400,
    }  # fmt: skip
    assert labels_of(ports.values()) == {number: port.label for number, port in ports.items()}
    _, port = house()
    assert (port.name, port.is_lamp, port.is_source, port.held_mw) == ("h1--lamp-1", True, False, 0)
    ends = ports_of(STREET, "s1", Ted(STREET)).values()
    assert [port.is_source for port in ends] == [True, False]


def test_routes_are_told_of_a_link_only_when_it_is_nearly_full_or_has_refused() -> None:
    ted, port = house()
    circuit, path = a_path()
    fresh = ted.state(port.number)
    port.admit(circuit, path, path.power)
    assert ted.state(port.number) is fresh, "it has enough for others like this one"
    assert port.held_mw == 59_800
    port.release(circuit)
    port.derate(100_000)
    assert ted.state(port.number).free_mw[0] == 100_000
    port.admit(circuit, path, path.power)
    assert ted.state(port.number).free_mw == (100_000,) * 4 + (40_200,) * 4
    with pytest.raises(NoRoom):
        port.admit(CircuitId(circuit.session._replace(tunnel=2), circuit.sender), path, path.power)
    port.release(circuit)
    assert ted.state(port.number).free_mw == (100_000,) * 8
    port.release(circuit)


def test_a_node_that_begins_again_has_its_links_free() -> None:
    ted, port = house()
    port.derate(7)
    port.set_up(is_up=False)
    assert not ted.state(port.number).is_up
    for again in ports_of(STREET, "h1", ted).values():
        again.forget()
    assert ted.state(port.number) == Reservations(STREET.link(port.number)).state()


def test_a_port_that_is_down_is_told_once() -> None:
    ted, port = house()
    port.set_up(is_up=False)
    told = ted.state(port.number)
    port.set_up(is_up=False)
    assert ted.state(port.number) is told
    port.set_up(is_up=True)
    assert ted.state(port.number).is_up


def test_the_capacity_of_a_source_is_its_own_or_that_of_its_links() -> None:
    circuit, path = a_path()
    own = capacity_of(STREET, "es1")
    assert own.free_mw(7) == 2 * STREET.links[0].capacity_mw
    assert own.name == "es1"
    assert circuit not in own
    assert path.power.profile.power_mw < own.free_mw(0)
