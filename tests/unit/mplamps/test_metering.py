"""Edge LSRs with a policeman: who may, at which price, what the meter tells, and who is cut off."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import TypeVar

import pytest

from powertcp.mplamps.blotter import CircuitAdmitted, CircuitMetered, CircuitReleased
from powertcp.mplamps.cops import DeleteReason, Pep
from powertcp.mplamps.label import stack_octets
from powertcp.mplamps.metering import Account, Forbidden, Metering, PolicemanWanted
from powertcp.mplamps.node import LampState, SupplierChanged
from powertcp.mplamps.packet import Packet
from powertcp.mplamps.power import TariffKind, TariffObject
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.messages import Path, PathErr, Resv
from powertcp.mplamps.rsvp.objects import Sender, Session, Style
from powertcp.mplamps.tariffs import parse_market
from powertcp.mplamps.topology import Draft, NodeKind, Topology
from powertcp.profile import PowerProfile
from powertcp.registry import Flag, Reason, SegmentType
from powertcp.units import NS_PER_MS, NS_PER_S
from powertcp.wire.frames import HEADER
from tests.mplamps_network import SECOND, Network
from tests.policed import MARKET, street

EventT = TypeVar("EventT")
REQUEST = "230V/260mA@50Hz"
LIMIT = TariffObject.make(TariffKind.LIMIT, 400_000, "EUR")


class Town:
    """A street with two sources of two suppliers, and a policeman on duty."""

    def __init__(self, market: str = MARKET) -> None:
        topology = street()
        self.network = Network(topology, market=parse_market(market, "market", topology))
        assert self.network.police is not None
        self.police = self.network.police
        self.network.call_police()
        self.network.run()

    def on(self, lamp: str = "lamp-1", source: str = "", **wish: object) -> int:
        if source:
            wish["es"] = self.network.nodes[source].address
        tunnel = self.network.on(lamp, REQUEST, **wish)
        self.network.run()
        return tunnel

    def off(self, tunnel: int, lamp: str = "lamp-1") -> None:
        self.network.nodes[lamp].switch_off(tunnel, self.network.now)
        self.network.settle(lamp)
        self.network.run()

    def noted(self, kind: type[EventT]) -> list[EventT]:
        found: list[EventT] = []
        while (event := self.police.next_event()) is not None:
            if isinstance(event, kind):
                found.append(event)
        return found


def data(circuit: CircuitId, port: int, esn: int, *, flow: int = 1, text: bytes = b"") -> bytes:
    """Return a packet of a source with the header of a DATA segment."""
    head = HEADER.pack(0x504F, 1, 5, SegmentType.DATA, 0, 0, flow, esn)
    packet = Packet(
        source=circuit.session.es, destination=circuit.sender.lamp,
        source_port=3251, destination_port=port, seq=1, flags=int(Flag.ACK),
        payload=head + text,
    )  # fmt: skip
    return packet.to_wire()


@pytest.mark.requirement("MPLA-4.5-06")
@pytest.mark.requirement("MPLA-6-04")
def test_a_circuit_has_the_quote_of_the_policeman() -> None:
    town = Town()
    town.on(source="es1")
    change = town.network.changes("lamp-1")[-1]
    assert change.state is LampState.SIGNALLED
    assert change.quote is not None
    assert (change.quote.supplier, change.quote.kind) == (7, TariffKind.QUOTE)
    assert len(town.noted(CircuitAdmitted)) == 1
    tariffs = [resv.circuits[0].tariff for resv in town.network.heard(Resv)]
    assert tariffs == [None, None, None, change.quote], "from the edge on"


@pytest.mark.requirement("MPLA-6-02")
def test_without_a_policeman_nobody_may() -> None:
    topology = street()
    network = Network(topology, market=parse_market(MARKET, "market", topology))
    network.on("lamp-1", es=network.nodes["es1"].address)
    network.run()
    # nobody has tried to speak to him yet: he has a second
    assert network.heard(PathErr) == []
    network.run(NS_PER_S)
    error = network.heard(PathErr)[0].error
    assert (error.code, error.value) == (2, 0)
    change = network.changes("lamp-1")[-1]
    assert change.refusal is not None
    assert change.refusal.code == Reason.POLICY
    network.assert_empty()
    assert network.drain("h1") == [PolicemanWanted(at=0)]


@pytest.mark.requirement("MPLA-6-02")
def test_circuits_stay_when_the_policeman_is_gone_and_new_ones_have_his_last_quote() -> None:
    town = Town()
    town.on(source="es1")
    town.network.lose_police()
    town.network.run(299 * SECOND)
    assert town.network.nodes["lamp-1"].lamp_state is LampState.SIGNALLED
    house = town.network.nodes["h1"]
    town.off(1)
    town.on(source="es1")
    quote = town.network.changes("lamp-1")[-1].quote
    assert quote is not None
    assert quote.supplier == 7
    town.network.run(2 * SECOND)
    town.off(2)
    town.on(source="es1")
    refused = town.network.changes("lamp-1")[-1].refusal
    assert refused is not None
    assert refused.code == Reason.POLICY
    assert house.circuits(town.network.now) == []


@pytest.mark.requirement("MPLA-6-06")
def test_a_lamp_without_preference_takes_the_cheapest_offer() -> None:
    town = Town(MARKET.replace("supplier = 7, best", "best"))
    prices = {number: town.police.state.price(number, 0) for number in (7, 9)}
    town.on()
    change = town.network.changes("lamp-1")[-1]
    assert change.state is LampState.SIGNALLED
    assert change.quote is not None
    cheapest = min(prices, key=lambda number: (prices[number], number))
    assert change.quote.supplier == cheapest
    error = town.network.heard(PathErr)[0]
    assert (error.error.code, error.error.value) == (252, Reason.TARIFF)
    assert error.offers[0].supplier == cheapest
    [row] = town.network.nodes["lamp-1"].tunnels()
    assert row.supplier == cheapest


@pytest.mark.requirement("MPLA-6-06")
def test_a_lamp_takes_the_supplier_that_it_wants_or_none() -> None:
    town = Town()
    town.on(supplier=9)
    change = town.network.changes("lamp-1")[-1]
    assert change.quote is not None
    assert change.quote.supplier == 9
    town.off(1)
    town.network.changes("lamp-1")
    town.on(limit=replace(LIMIT, price=1000))
    refused = town.network.changes("lamp-1")[-1]
    assert refused.state is LampState.DARK
    assert refused.refusal is not None
    assert refused.refusal.code == Reason.TARIFF
    town.network.assert_empty()


@pytest.mark.requirement("MPLA-6-01")
@pytest.mark.requirement("MPLA-4.9-03")
def test_a_price_above_another_offer_changes_the_supplier_before_the_old_one_is_left() -> None:
    town = Town()
    town.on(limit=LIMIT)
    network = town.network
    first = network.changes("lamp-1")[-1].quote
    assert first is not None
    town.police.set_price(first.supplier, 310_000, network.now)
    network.hear_police()
    network.run(20 * NS_PER_MS)
    resv = [message for _, node, _, message in network.said if node == "h1"]
    assert any(isinstance(one, Resv) for one in resv)
    [changed] = [event for event in network.drain("lamp-1") if isinstance(event, SupplierChanged)]
    lamp = network.nodes["lamp-1"]
    assert {row.number: row.state for row in lamp.tunnels()} == {
        changed.old: LampState.SIGNALLED,
        changed.new: LampState.SIGNALLED,
    }
    network.run(2 * SECOND)
    [row] = lamp.tunnels()
    assert row.number == changed.new
    assert row.supplier != first.supplier
    assert len(network.nodes["h1"].circuits(network.now)) == 1


@pytest.mark.requirement("MPLA-6-01")
def test_a_lamp_stays_when_nobody_else_is_cheaper() -> None:
    town = Town()
    town.on()
    network = town.network
    first = network.changes("lamp-1")[-1].quote
    assert first is not None
    town.police.set_price(first.supplier, first.price - 80_000 + 1000, network.now)
    network.hear_police()
    network.run(2 * SECOND)
    [row] = network.nodes["lamp-1"].tunnels()
    assert row.quote is not None
    assert row.quote.price == first.price + 1000
    assert len(list(network.nodes["lamp-1"].tunnels())) == 1
    assert len(network.nodes["h1"].circuits(network.now)) == 1, "what only asked is gone"


@pytest.mark.requirement("MPLA-6-04")
@pytest.mark.requirement("MPLA-3-02")
def test_the_meter_is_told_each_minute_and_at_the_end() -> None:
    town = Town()
    network = town.network
    tunnel = town.on(source="es1")
    circuit = network.changes("lamp-1")[-1].circuit
    assert circuit is not None
    inject(town, data(circuit, 49_152, 1000))
    network.run(30 * SECOND)
    inject(town, data(circuit, 49_152, 1_001_000))
    network.run(31 * SECOND)
    metered = town.noted(CircuitMetered)
    assert [event.used_uj for event in metered] == [1_000_000]
    inject(town, data(circuit, 49_152, 1_501_000))
    network.run()
    [row] = network.nodes["h1"].circuits(network.now)
    assert row.energy_uj == 1_500_000
    town.off(tunnel)
    [last] = town.noted(CircuitMetered)
    assert (last.used_uj, last.is_final) == (500_000, True)
    assert sum(bill.energy_uj for bill in town.police.bills()) == 1_500_000
    network.assert_empty()


def inject(town: Town, inner: bytes) -> None:
    """Let a packet of the source come to the house, as its circuit would bring it."""
    network = town.network
    house = network.nodes["h1"]
    entries = [entry for entry in house.lfib.entries() if entry.label == 400 and entry.outs]
    [entry] = entries[-1:]
    stack = (400 << 12 | 3 << 9 | 60).to_bytes(4, "big")
    stack += (entry.flow << 12 | 3 << 9 | 0x100 | 60).to_bytes(4, "big")
    house.receive_packet(network.link("c1", "h1"), stack + inner, network.now)
    network.settle("h1")


@pytest.mark.requirement("MPLA-6-04")
def test_the_policeman_ends_a_circuit_and_has_its_last_meter() -> None:
    town = Town()
    network = town.network
    town.on(source="es1")
    circuit = network.changes("lamp-1")[-1].circuit
    assert circuit is not None
    inject(town, data(circuit, 49_152, 5))
    inject(town, data(circuit, 49_152, 700_005))
    town.noted(object)
    town.police.withdraw(7, network.now)
    network.hear_police()
    network.run()
    metered = town.noted(object)
    kinds = [type(event) for event in metered]
    assert CircuitMetered in kinds
    assert CircuitReleased in kinds
    assert sum(bill.energy_uj for bill in town.police.bills()) == 700_000
    change = network.changes("lamp-1")[-1]
    assert change.refusal is not None
    assert (change.state, change.refusal.code) == (LampState.SHED, Reason.TARIFF)
    assert len(network.nodes["c1"].circuits(network.now)) == 0


@pytest.mark.requirement("MPLA-3-03")
def test_a_lamp_that_has_more_than_its_grant_is_cut_off() -> None:
    town = Town()
    network = town.network
    town.on(source="es1")
    circuit = network.changes("lamp-1")[-1].circuit
    assert circuit is not None
    esn = 0
    for _ in range(30):
        inject(town, data(circuit, 49_152, esn))
        esn += 6_000_000
        network.run(100 * NS_PER_MS)
    assert network.changes("lamp-1") == [], "60 W of 59.8 W are within 125 %"
    for _ in range(20):
        inject(town, data(circuit, 49_152, esn))
        esn += 8_000_000
        network.run(100 * NS_PER_MS)
        if not network.nodes["h1"].circuits(network.now):
            break
    network.run()
    change = network.changes("lamp-1")[-1]
    assert change.refusal is not None
    assert (change.state, change.refusal.code) == (LampState.SHED, Reason.OVER_CURRENT)


@pytest.mark.requirement("MPLA-3-03", "MPLA-4.9-01")
@pytest.mark.parametrize("late", [1, 3])
@pytest.mark.parametrize("is_honest", [True, False])
def test_a_lower_grant_is_for_what_is_sent_under_it(late: int, *, is_honest: bool) -> None:
    """The source sends 59.8 W until it has taken the new terms, `late` tenths of a second later."""
    town = Town()
    network = town.network
    tunnel = town.on(source="es1")
    circuit = network.changes("lamp-1")[-1].circuit
    assert circuit is not None
    esn = 0
    for tenth in range(120):
        if tenth == 23:
            lamp = network.nodes["lamp-1"]
            lamp.set_request(tunnel, PowerProfile.parse("230V/100mA@50Hz"), network.now)
            network.settle("lamp-1")
            network.run()
        inject(town, data(circuit, 49_152, esn))
        esn += 2_300_000 if is_honest and tenth >= 23 + late else 5_980_000
        network.run(100 * NS_PER_MS)
        if not network.nodes["h1"].circuits(network.now):
            break
    network.run()
    found = network.changes("lamp-1")[-1]
    if is_honest:
        assert (found.state, found.refusal) == (LampState.SIGNALLED, None)
        assert found.grant is not None
        assert found.grant.power_mw == 23_000
    else:
        assert found.refusal is not None
        assert (found.state, found.refusal.code) == (LampState.SHED, Reason.OVER_CURRENT)
        # the terms before count 2.4 s more, as long as they were in force, and a mean over 1 s
        assert 46 < tenth < 76


def shared_house() -> Topology:
    """A source, and one house with the lamps of two customers."""
    draft = Draft("house")
    source, house = draft.node("es1", NodeKind.ES), draft.node("h1", NodeKind.SWITCH)
    draft.node("pdp", NodeKind.PDP)
    draft.link(source, house, 230_000)
    for lamp in ("ada", "bob"):
        draft.link(house, draft.node(lamp, NodeKind.LAMP), 230_000)
    return draft.finish()


@pytest.mark.requirement("MPLA-3-02", "MPLA-6-04")
@pytest.mark.parametrize("style", [Style.WF, Style.SE], ids=["wf", "se"])
def test_each_lamp_of_a_session_has_a_meter_of_its_own(style: Style) -> None:
    topology = shared_house()
    market = (
        MARKET[: MARKET.index("  {id = 9")]
        + """]
meter = [{at = "h1/ada", customer = "Ada"}, {at = "h1/bob", customer = "Bob"}]
"""
    )
    network = Network(topology, market=parse_market(market, "market", topology))
    network.call_police()
    network.run()
    house, up = network.nodes["h1"], network.link("es1", "h1")
    tunnels = {}
    for lamp in ("ada", "bob"):
        tunnels[lamp] = network.on(lamp, style=style, es=network.nodes["es1"].address)
        network.run()
    for second in range(11):
        for lamp, power_mw in (("ada", 60_000), ("bob", 20_000)):
            [row] = [
                row for row in house.circuits(network.now)
                if row.owner.sender[0] == network.nodes[lamp].address
            ]  # fmt: skip
            [entry] = [entry for entry in house.lfib.entries(row.owner) if entry.label]
            circuit = CircuitId(Session(*row.owner.session), Sender(*row.owner.sender))
            inner = data(circuit, 40_000, second * power_mw * 1000)
            house.receive_packet(up, stack_octets((230, entry.flow), 3) + inner, network.now)
        network.settle("h1")
        network.run(SECOND)
    for lamp, tunnel in tunnels.items():
        network.nodes[lamp].switch_off(tunnel, network.now)
        network.settle(lamp)
        network.run()
    assert network.police is not None
    bills = {bill.customer: bill.energy_uj for bill in network.police.bills()}
    assert bills == {"Ada": 600_000_000, "Bob": 200_000_000}
    network.assert_empty()


@pytest.mark.requirement("MPLA-4.10-03")
def test_a_circuit_is_refused_that_the_policeman_cannot_be_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("powertcp.mplamps.cops.machine.MAX_CIRCUITS", 1)
    town = Town()
    tunnel = town.on(source="es1")
    town.on(source="es1")
    [error] = [one.error for one in town.network.heard(PathErr)]
    assert (error.code, error.value) == (24, 9)
    house = town.network.nodes["h1"]
    [row] = house.circuits(town.network.now)
    assert row.is_closed
    assert house.holds()[row.lamp_link] == 59_800
    town.off(tunnel)
    town.on(source="es1")
    assert town.network.nodes["lamp-1"].lamp_state is LampState.SIGNALLED


# ---- shares -------------------------------------------------------------------------------------


def account_of(metering: Metering, lsp: int) -> tuple[CircuitId, Account]:
    network = Network("tree:1,1")
    lamp, source = network.nodes["lamp-1"].address, network.nodes["es1"].address
    circuit = CircuitId(Session(source, 1, lamp), Sender(lamp, lsp))
    network.on("lamp-1")
    path = network.heard(Path)[0]
    return circuit, metering.ask(circuit, path, lamp, 2, 0)


@pytest.mark.requirement("MPLA-4.9-02")
def test_the_shares_of_circuits_that_follow_each_other_are_the_register() -> None:
    metering = Metering(None, 0)
    (one, first), (two, second) = account_of(metering, 1), account_of(metering, 2)
    assert first.is_permitted
    meter = metering.close(first, 60_000, 0)
    meter.note(data(one, 49_152, 0))
    meter.note(data(one, 49_152, 5_000))
    assert metering.close(second, 60_000, SECOND) is meter
    meter.note(data(two, 49_152, 7_000))
    assert metering.read(first, SECOND).energy_uj == 5_000
    assert metering.read(second, SECOND).energy_uj == 2_000
    metering.end(second, DeleteReason.TEAR, 2 * SECOND)
    meter.note(data(one, 49_152, 7_500))
    last = metering.read(first, 3 * SECOND, is_final=True)
    assert (last.energy_uj, last.seconds, last.packets, last.is_final) == (5_500, 3, 3, True)
    metering.end(first, DeleteReason.TEAR, 3 * SECOND)
    assert metering.get_timer() is None


def test_what_is_ruled_of_a_circuit_without_a_connection() -> None:
    metering = Metering(Pep(IPv4Address("10.0.0.2"), bytes), 7)
    assert metering.next_event() == PolicemanWanted(at=7)
    metering.receive_eof(7)
    assert metering.next_event() == PolicemanWanted(at=SECOND + 7)
    circuit, _ = account_of(metering, 1)
    ruling = metering.next_ruling()
    assert isinstance(ruling, Forbidden)
    assert (ruling.circuit, ruling.fault) == (circuit, (2, 0))
    assert metering.next_ruling() is None
