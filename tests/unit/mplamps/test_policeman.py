"""Conversations of a policeman with edge LSRs, over octets: prices, meters, losses, and bills."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powertcp.errors import LocalProtocolError, PowerRefused
from powertcp.mplamps.blotter import (
    CircuitAdmitted,
    CircuitEnded,
    CircuitMetered,
    CircuitRefused,
    CircuitReleased,
    CircuitRequoted,
    MeterDoubted,
    PaymentTaken,
    PepJoined,
    PepLeft,
    PriceStepped,
    SupplierWithdrawn,
)
from powertcp.mplamps.cops import (
    ClientOpen,
    Code,
    Decision,
    ErrorCode,
    Interface,
    ServerAddress,
    Splitter,
    decode_message,
    encode_message,
    inner_objects,
)
from powertcp.mplamps.market import UJ_PER_KWH, Bill, amount_of
from powertcp.mplamps.policeman import MAX_UNOPENED, PER_TICK, TICK_NS
from powertcp.mplamps.power import TariffKind, TariffObject
from powertcp.mplamps.rsvp.codec import error_at
from powertcp.registry import Reason
from powertcp.units import NS_PER_S
from tests.policed import CREDIT, LAMP, MARKET, Edge, Network, asking, limit

KWH = UJ_PER_KWH
# what a 59.8 W lamp can have in the time, and more is doubted
MINUTE_UJ = 3_588_000_000


@pytest.fixture(name="net")
def made() -> Network:
    return Network()


@pytest.fixture(name="edge")
def connected(net: Network) -> Edge:
    edge = net.edge()
    edge.connect()
    net.events.clear()
    return edge


def refused(edge: Edge, path: bytes) -> tuple[int, int, list[TariffObject]]:
    """Return code and value of the refusal of a PATH, and its OFFERs."""
    edge.ask(path)
    decided = edge.decided[-1]
    assert decided.quote is None
    assert not decided.is_local
    return told(decided.data)


def told(data: bytes) -> tuple[int, int, list[TariffObject]]:
    error, *rest = inner_objects(data)
    spec = error_at(error.octets, 4, len(error.octets) - 4)
    return spec.code, spec.value, [o.private for o in rest if isinstance(o.private, TariffObject)]


# ---- a circuit ------------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-6-03", "MPLA-6-04", "MPLA-6-07")
def test_a_circuit_from_request_to_bill(net: Network) -> None:
    edge = net.edge()
    edge.connect()
    assert net.of(PepJoined) == [PepJoined(pep=edge.node.address, has_state=False)]
    assert net.police.peps == (edge.node.address,)
    handle = edge.light()
    [admitted] = net.of(CircuitAdmitted)
    assert isinstance(admitted, CircuitAdmitted)
    assert (admitted.quote.price, admitted.quote.supplier, admitted.is_again) == (290_000, 7, False)
    assert len(net.police) == 1
    edge.draw(handle, MINUTE_UJ)
    net.wait(61)
    edge.draw(handle, 41)
    edge.end(handle)
    metered = net.of(CircuitMetered)
    assert [event.used_uj for event in metered if isinstance(event, CircuitMetered)] == [
        MINUTE_UJ, 41
    ]  # fmt: skip
    assert len(net.of(CircuitReleased)) == 1
    assert len(net.police) == 0
    energy = MINUTE_UJ + 41
    amount, fee = amount_of(energy * 290_000), amount_of(energy * 80_000)
    assert net.police.bills() == [Bill("Ada", 7, energy, amount, amount - fee, fee)]
    assert net.police.residual() == 0
    assert net.police.state.room_mw(7, admitted.standing.circuit) == 2_000_000_000


@pytest.mark.requirement("MPLA-6-05")
def test_refusals_are_those_of_the_market(net: Network, edge: Edge) -> None:
    assert refused(edge, edge.path(power=LAMP.with_type(LAMP.type, priority=7)))[:2] == (252, 105)
    assert refused(edge, edge.path(power=asking("230V/10kA")))[:2] == (1, 2)
    assert refused(edge, b"\0\x04\xfa\x01")[:2] == (252, 503)
    edge.interface = Interface(edge.lamp.address, 7)
    assert refused(edge, edge.path())[:2] == (2, 0)
    assert net.police.counters["refused"] == 4
    assert len(net.of(CircuitRefused)) == 4
    assert len(net.police) == len(net.police.bills()) == 0


@pytest.mark.requirement("MPLA-6-06")
def test_a_refusal_of_a_price_has_the_offers_of_all(edge: Edge) -> None:
    code, value, offers = refused(edge, edge.path(limit=limit(100)))
    assert (code, value) == (252, 104)
    assert [(o.kind, o.supplier, o.price, str(o.source)) for o in offers] == [
        (TariffKind.OFFER, 7, 290_000, "10.0.0.2"), (TariffKind.OFFER, 9, 330_000, "10.0.0.1"),
    ]  # fmt: skip


@pytest.mark.requirement("MPLA-6-06")
def test_a_lamp_without_preference_asks_at_its_own_house(net: Network) -> None:
    edge = net.edge("h2", "lamp-2")
    edge.connect()
    code, value, offers = refused(edge, edge.path(es="h2"))
    assert (code, value) == (252, 104)
    assert [offer.supplier for offer in offers] == [7, 9]
    # whoever has no contract pays no fee
    assert [offer.price for offer in offers] == [210_000, 250_000]
    handle = edge.light(edge.path(es="es2", limit=limit(250_000, 9)))
    assert edge.decided[-1].handle == handle


@pytest.mark.requirement("MPLA-6-07")
@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(0, 10**9)), max_size=30))
def test_bills_are_exact_and_nothing_is_left_over(steps: list[tuple[int, int]]) -> None:
    net = Network()
    edges = [net.edge(), net.edge("h2", "lamp-2")]
    for edge in edges:
        edge.connect()
    handles = [edges[0].light(), edges[1].light(edges[1].path(es="es2", limit=limit(10**6, 9)))]
    for who, energy in steps:
        edges[who].draw(handles[who], energy)
        edges[who].tell(handles[who])
    bills = {bill.customer: bill for bill in net.police.bills()}
    for who, (name, price) in enumerate([("Ada", 290_000), ("10.0.0.7/9", 250_000)]):
        energy = sum(used for one, used in steps if one == who)
        if energy:
            assert bills[name].energy_uj == energy
            assert bills[name].amount == amount_of(energy * price)
            assert bills[name].for_supply + bills[name].for_network == bills[name].amount
    assert net.police.residual() == 0


# ---- prices ---------------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-6-01")
def test_a_step_of_prices_is_told_and_the_meter_answers_first(net: Network, edge: Edge) -> None:
    handle = edge.light()
    edge.draw(handle, 1_000_000)
    net.wait(6 * 3600 - 1)
    assert edge.quotes == {}
    edge.draw(handle, 500)
    net.wait(1)
    assert edge.quotes == {handle: [390_000]}
    assert net.of(PriceStepped) == [PriceStepped(supplier=7, price=310_000, is_set=False)]
    assert len(net.of(CircuitRequoted)) == 1
    edge.draw(handle, 7)
    edge.end(handle)
    total = net.police.state.total("Ada", 7)
    assert total.for_supply == 1_000_500 * 210_000 + 7 * 310_000
    assert total.for_network == 1_000_507 * 80_000


@pytest.mark.requirement("MPLA-6-01")
def test_the_old_price_is_charged_until_the_answer(net: Network) -> None:
    edge = net.edge(is_meek=False)
    edge.connect()
    handle = edge.light()
    net.police.set_price(7, 400_000, net.now)
    net.exchange()
    assert edge.changed == [handle]
    edge.draw(handle, 100)
    edge.tell(handle)
    assert net.police.state.total("Ada", 7).for_supply == 100 * 210_000
    # a second price waits until the first one is answered
    net.police.set_price(7, 500_000, net.now)
    net.wait(1)
    assert edge.quotes[handle] == [480_000]
    edge.draw(handle, 10)
    edge.tell(handle, is_answer=True)
    net.wait(1)
    assert edge.quotes[handle] == [480_000, 580_000]
    edge.draw(handle, 1)
    edge.tell(handle, is_answer=True)
    edge.draw(handle, 1)
    edge.tell(handle)
    expected = 110 * 210_000 + 1 * 400_000 + 1 * 500_000
    assert net.police.state.total("Ada", 7).for_supply == expected


@pytest.mark.requirement("MPLA-6-01")
def test_at_most_1000_decisions_a_second_are_sent_unasked(net: Network, edge: Edge) -> None:
    count = 2_050
    for number in range(count):
        edge.pep.ask(edge.interface, edge.path(tunnel=number + 1), 7, net.now)
    net.exchange()
    assert len(net.police) == count
    edge.is_meek = False
    start = net.now
    net.police.set_price(7, 400_000, net.now)
    net.exchange()
    times = [net.now] * len(edge.changed)
    while (at := net.police.get_timer()) is not None and at < start + 10 * NS_PER_S:
        net.now = max(net.now, at)
        net.police.handle_timer(net.now)
        net.exchange()
        times += [net.now] * (len(edge.changed) - len(times))
        if len(times) == count:
            break
    assert len(times) == count
    for first in range(count - 1000):
        assert times[first + 1000] - times[first] >= NS_PER_S
    assert times[-1] - start <= 2.06 * NS_PER_S
    assert PER_TICK * NS_PER_S // TICK_NS == 1000


def test_a_price_is_for_a_supplier_that_there_is(net: Network) -> None:
    with pytest.raises(LocalProtocolError, match="no supplier 8"):
        net.police.set_price(8, 1, net.now)
    with pytest.raises(LocalProtocolError, match="no supplier 8"):
        net.police.withdraw(8, net.now)


def test_a_price_that_comes_back_before_it_is_told_is_not_told(net: Network, edge: Edge) -> None:
    handle = edge.light()
    edge.lose()
    net.exchange()
    net.police.set_price(7, 400_000, net.now)
    net.police.set_price(7, 210_000, net.now)
    edge.connect()
    net.wait(1)
    assert edge.quotes == {}
    edge.draw(handle, 5)
    edge.tell(handle)
    assert net.police.state.total("Ada", 7).for_supply == 5 * 210_000


# ---- suppliers, credit, another market ------------------------------------------------------------


@pytest.mark.requirement("MPLA-6-04", "MPLA-6-06")
def test_circuits_of_a_bankrupt_supplier_end_with_offers_and_a_last_meter(
    net: Network, edge: Edge
) -> None:
    handle = edge.light()
    edge.draw(handle, 12_345)
    net.police.withdraw(7, net.now)
    net.exchange()
    decided = edge.decided[-1]
    assert (decided.handle, decided.quote) == (handle, None)
    code, value, offers = told(decided.data)
    assert (code, value) == (252, 104)
    assert [offer.supplier for offer in offers] == [9]
    assert net.of(SupplierWithdrawn) == [SupplierWithdrawn(supplier=7)]
    assert len(net.of(CircuitEnded)) == 1
    assert len(net.police) == 0
    assert net.police.state.total("Ada", 7).energy_uj == 12_345
    assert refused(edge, edge.path(limit=limit(10**6, 7)))[:2] == (252, 104)
    edge.light(edge.path(es="es2", limit=limit(10**6, 9)))


@pytest.mark.requirement("MPLA-6-05")
def test_a_credit_that_is_used_up_ends_the_circuit_until_it_is_paid() -> None:
    net = Network(CREDIT)
    edge = net.edge()
    edge.connect()
    handle = edge.light(edge.path(power=asking("230V/2kA")))
    # 1.00 at 0.29 a kWh
    edge.draw(handle, KWH * 100 // 29 + 1)
    net.wait(7 * 3600)
    assert edge.registers == {}
    assert told(edge.decided[-1].data)[:2] == (252, 402)
    [ended] = net.of(CircuitEnded)
    assert isinstance(ended, CircuitEnded)
    assert "owes" in ended.refusal.text
    assert refused(edge, edge.path())[:2] == (252, 402)
    net.police.pay("Ada", 500_000)
    net.exchange()
    assert net.of(PaymentTaken) == [PaymentTaken(customer="Ada", amount=500_000)]
    edge.light()


def test_another_market_is_taken_and_each_circuit_looked_at(net: Network, edge: Edge) -> None:
    handle = edge.light()
    net.text = MARKET.replace("0.2100/kWh", "0.2200/kWh")
    net.police.take(net.market, net.now)
    net.exchange()
    assert edge.quotes == {handle: [300_000]}
    net.text = MARKET.replace('"h1/lamp-1", customer = "Ada"', '"h2/lamp-2", customer = "Bob"')
    net.text = net.text.replace('default = "any"', 'default = "none"')
    net.wait(1)
    net.police.take(net.market, net.now)
    net.exchange()
    assert told(edge.decided[-1].data)[:2] == (2, 0)
    assert edge.registers == {}


# ---- losses ---------------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-6-02", "MPLA-6-04", "MPLA-6-07")
def test_a_lost_connection_ends_nothing_and_charges_nothing_twice(net: Network, edge: Edge) -> None:
    stays, ends = edge.light(), edge.light(edge.path(tunnel=2))
    for handle in (stays, ends):
        edge.draw(handle, 1_000)
        edge.tell(handle)
    edge.lose()
    net.exchange()
    assert net.of(PepLeft) == [PepLeft(pep=edge.node.address)]
    assert len(net.police) == 2
    edge.draw(stays, 500)
    del edge.registers[ends]
    edge.pep.delete(ends, 4, None)  # type: ignore[arg-type]
    net.events.clear()
    edge.connect()
    [again] = net.of(CircuitAdmitted)
    assert isinstance(again, CircuitAdmitted)
    assert again.is_again
    assert len(net.of(CircuitReleased)) == 1, "it was not asked for again"
    edge.tell(stays)
    edge.end(stays)
    assert net.police.state.total("Ada", 7).energy_uj == 2_500
    assert len(net.police) == 0


@pytest.mark.requirement("MPLA-6-01", "MPLA-6-04")
@pytest.mark.parametrize("was_told", [False, True])
def test_a_restart_goes_on_from_what_was_charged_at_the_price_that_was(was_told: bool) -> None:
    net = Network()
    edge = net.edge()
    edge.connect()
    handle = edge.light()
    edge.draw(handle, 1_000)
    edge.tell(handle)
    edge.draw(handle, 200)
    if was_told:
        # the answer is lost with the policeman
        edge.is_meek = False
        net.police.set_price(7, 300_000, net.now)
        net.exchange()
        edge.is_meek = True
    net.text = MARKET.replace("0.2100/kWh", "0.3000/kWh")
    net.restart()
    assert len(net.police) == 1
    assert net.police.bills()[0].energy_uj == 1_000
    edge.connect()
    assert edge.quotes == {handle: [380_000]}, "the price is told once"
    if was_told:
        # the lower one is charged where it is not known when the new one began
        assert net.police.state.total("Ada", 7).for_supply == 1_000 * 210_000
        edge.tell(handle)
    assert net.police.state.total("Ada", 7).for_supply == 1_200 * 210_000
    edge.draw(handle, 10)
    edge.end(handle)
    assert net.police.state.total("Ada", 7).for_supply == 1_200 * 210_000 + 10 * 300_000
    assert net.police.residual() == 0


@pytest.mark.requirement("MPLA-6-05")
def test_a_circuit_stays_with_its_supplier_when_another_one_is_cheaper_now(net: Network) -> None:
    edge = net.edge("h2", "lamp-2")
    edge.connect()
    handle = edge.light(edge.path(limit=limit(220_000)))
    net.text = MARKET.replace("0.2500/kWh", "0.0100/kWh").replace("0.2100/kWh", "0.2400/kWh")
    net.restart()
    edge.connect()
    assert handle in edge.registers
    assert edge.quotes == {handle: [240_000]}, "the lamp decides whether that is too much"


@pytest.mark.requirement("MPLA-6-04")
def test_an_edge_that_begins_anew_has_nothing(net: Network, edge: Edge) -> None:
    edge.light()
    edge.lose()
    another = net.edge()
    another.connect()
    assert net.of(PepJoined)[-1] == PepJoined(pep=edge.node.address, has_state=False)
    assert len(net.police) == 0
    handle = another.light()
    another.draw(handle, 77)
    another.end(handle)
    assert net.police.state.total("Ada", 7).energy_uj == 77


@pytest.mark.requirement("MPLA-6-02")
def test_a_circuit_that_was_admitted_without_a_policeman_is_known_and_billed(
    net: Network, edge: Edge
) -> None:
    edge.light()
    edge.lose()
    handle = edge.ask(edge.path(tunnel=5))
    assert edge.decided[-1].is_local
    edge.registers[handle] = (0, net.now)
    edge.draw(handle, 999)
    edge.connect()
    assert len(net.police) == 2
    edge.tell(handle)
    assert net.police.state.total("Ada", 7).energy_uj == 999


def test_a_second_connection_of_an_edge_ends_the_first(net: Network, edge: Edge) -> None:
    edge.light()
    before = edge.number
    edge.pep.lose(net.now)
    edge.connect()
    assert edge.number != before
    assert net.police.is_closed(before)
    last = [decode_message(one) for one in Splitter().receive(net.police.data_to_send(before))]
    assert len(last) == 1
    assert net.police.data_to_send(before) == b""
    assert len(net.police) == 1
    assert len(net.police.peps) == 1


def test_a_silent_edge_is_given_up_and_its_circuits_stay(net: Network, edge: Edge) -> None:
    edge.light()
    net.edges.clear()
    net.wait(31)
    assert net.police.is_closed(edge.number)
    assert net.police.peps == ()
    assert len(net.police) == 1
    assert edge.number in net.police.ready()


def test_a_circuit_that_is_asked_for_under_another_handle_is_another_one(
    net: Network, edge: Edge
) -> None:
    first = edge.light()
    edge.draw(first, 10)
    edge.tell(first)
    second = edge.light()
    edge.draw(second, 5)
    edge.tell(second)
    edge.tell(first)
    assert net.police.counters == {"replaced": 1, "report of nobody": 1}
    assert net.police.state.total("Ada", 7).energy_uj == 15
    assert len(net.police) == 1


def test_off_duty_every_edge_is_told(net: Network, edge: Edge) -> None:
    edge.light()
    net.police.close(net.now)
    net.exchange()
    assert edge.number == 0
    assert net.police.peps == ()
    assert len(edge.pep) == 1


# ---- peers that err -------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-6-03")
@pytest.mark.parametrize("name", ["10.0.0.5", "10.0.0.8", "10.9.9.9", "h1", "10.0.0.06"])
def test_whoever_is_no_edge_of_the_topology_is_sent_away(net: Network, name: str) -> None:
    number = net.police.connect(net.now)
    net.police.receive_data(number, encode_message(ClientOpen(pep_id=name)), net.now)
    said = [decode_message(one) for one in Splitter().receive(net.police.data_to_send(number))]
    assert said[-1].error == Code(ErrorCode.AUTHENTICATION_FAILURE)  # type: ignore[union-attr]
    assert net.police.is_closed(number)
    assert net.police.counters["stranger"] == 1
    assert net.police.peps == ()


def test_where_addresses_are_vouched_for_nobody_says_to_be_another(net: Network) -> None:
    octets = encode_message(ClientOpen(pep_id="10.0.0.6"))
    number = net.police.connect(net.now, IPv4Address("10.0.0.7"))
    net.police.receive_data(number, octets, net.now)
    assert net.police.is_closed(number)
    number = net.police.connect(net.now, IPv4Address("10.0.0.6"))
    net.police.receive_data(number, octets, net.now)
    assert not net.police.is_closed(number)


def test_an_edge_opens_once(net: Network, edge: Edge) -> None:
    net.police.receive_data(edge.number, encode_message(ClientOpen(pep_id="10.0.0.6")), net.now)
    assert net.police.is_closed(edge.number)
    assert net.police.counters["opened twice"] == 1
    net.exchange()
    assert net.police.peps == ()


@pytest.mark.requirement("MPLA-4.10-03")
def test_connections_that_say_nothing_are_few(net: Network, edge: Edge) -> None:
    numbers = [net.police.connect(net.now) for _ in range(MAX_UNOPENED)]
    with pytest.raises(PowerRefused) as refusal:
        net.police.connect(net.now)
    assert refusal.value.refusal.code == Reason.LIMIT
    assert net.police.counters["too many connections"] == 1
    net.police.receive_eof(numbers[0], net.now)
    assert net.police.connect(net.now) > numbers[-1]
    net.edges.clear()
    net.wait(31)
    assert all(net.police.is_closed(number) for number in numbers)
    assert net.police.connect(net.now)
    assert edge.number


@pytest.mark.requirement("MPLA-4.10-03")
def test_a_message_that_is_too_long_ends_the_connection(net: Network, edge: Edge) -> None:
    handle = edge.light()
    header = bytes.fromhex("1001000100010004")
    net.police.receive_data(edge.number, header, net.now)
    net.exchange()
    assert edge.number == 0
    assert len(net.police) == 1
    edge.connect()
    assert edge.registers.keys() == {handle}


def test_a_meter_that_says_more_than_the_circuit_carries_is_doubted(
    net: Network, edge: Edge
) -> None:
    handle = edge.light()
    edge.draw(handle, 2 * MINUTE_UJ)
    edge.tell(handle)
    assert net.police.state.total("Ada", 7).energy_uj == 2 * MINUTE_UJ
    edge.draw(handle, 1)
    edge.tell(handle)
    assert net.police.state.total("Ada", 7).energy_uj == 2 * MINUTE_UJ
    [doubted] = net.of(MeterDoubted)
    assert isinstance(doubted, MeterDoubted)
    assert doubted.meter.energy_uj == 2 * MINUTE_UJ + 1
    assert net.police.counters["meter doubted"] == 1


def test_a_meter_that_runs_backward_charges_nothing(net: Network, edge: Edge) -> None:
    handle = edge.light()
    edge.draw(handle, 100)
    edge.tell(handle)
    edge.draw(handle, -50)
    edge.tell(handle)
    assert net.police.state.total("Ada", 7).energy_uj == 100
    assert net.police.state.backward == 1


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 40))
def test_octets_of_any_kind_end_the_connection_at_most(octets: bytes, cut: int) -> None:
    net = Network()
    edge = net.edge()
    edge.connect()
    handle = edge.light()
    edge.draw(handle, 5)
    for at in range(0, len(octets), cut):
        net.police.receive_data(edge.number, octets[at : at + cut], net.now)
    net.exchange()
    if edge.number:
        edge.lose()
    edge.connect()
    edge.tell(handle)
    assert net.police.state.total("Ada", 7).energy_uj == 5


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_octets_come_in_any_pieces(size: int) -> None:
    net = Network()
    edge = net.edge()
    edge.pep.connect(net_address(), net.now)
    number = net.police.connect(net.now)
    octets = edge.pep.data_to_send()
    for at in range(0, len(octets), size):
        net.police.receive_data(number, octets[at : at + size], net.now)
    edge.pep.receive_data(net.police.data_to_send(number), net.now)
    handle = edge.pep.ask(edge.interface, edge.path(), 7, net.now)
    octets = edge.pep.data_to_send()
    for at in range(0, len(octets), size):
        net.police.receive_data(number, octets[at : at + size], net.now)
    [decision] = [decode_message(o) for o in Splitter().receive(net.police.data_to_send(number))]
    assert isinstance(decision, Decision)
    assert (decision.handle, decision.is_solicited) == (handle, True)


def net_address() -> ServerAddress:
    return ServerAddress(IPv4Address("10.0.0.10"), 3288)


def test_reports_of_nobody_and_octets_of_nowhere_are_nothing(net: Network) -> None:
    net.police.receive_data(99, b"anything", net.now)
    net.police.receive_eof(99, net.now)
    assert net.police.data_to_send(99) == b""
    assert net.police.is_closed(99)
    assert net.police.get_timer() == 18 * 3600 * NS_PER_S
