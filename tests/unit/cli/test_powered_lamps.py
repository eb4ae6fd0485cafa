"""Power over TCP in simulated circuits: sent, verified, metered and billed to the microjoule."""

from dataclasses import replace

import pytest

from powertcp.cli.powered_lamps import PoweredLamps, _Sink
from powertcp.machine import Event
from powertcp.mplamps.engine import Engine, EngineSettings
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.node import LampState, NodeEvent, NodeSettings, SupplierChanged
from powertcp.mplamps.policeman import Policeman
from powertcp.mplamps.script import DEFAULT_SCRIPT, parse_script
from powertcp.mplamps.tariffs import parse_market
from powertcp.mplamps.topology import Draft, NodeKind, Topology
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import FlowCut, RenegotiationRequested, SamplesReceived
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_MS, NS_PER_S, parse_duration_ns

# direct current: ten blocks a second
DC = PowerProfile.parse("230V/260mA")
AC = PowerProfile.parse("230V/260mA@50Hz")
MARKET = """currency = "EUR"
default = "any"
supplier = [
  {id = 7, name = "Watt", sources = ["es1"], capacity = "2MW", prices = [
    {at = "00:00", price = "0.2100/kWh"}, {at = "00:01", price = "0.4500/kWh"},
  ]},
  {id = 8, name = "Ampere", sources = ["es2"], capacity = "2MW", prices = [
    {at = "00:00", price = "0.3000/kWh"},
  ]},
  {id = 9, name = "Volta", sources = ["es3"], capacity = "2MW", prices = [
    {at = "00:00", price = "0.5000/kWh"}, {at = "00:01", price = "0.2500/kWh"},
  ]},
]
"""
SUPPLIERS = {"es1": frozenset({7}), "es2": frozenset({8}), "es3": frozenset({9})}


def three_sources() -> Topology:
    draft = Draft("three")
    for number in (1, 2, 3):
        draft.node(f"es{number}", NodeKind.ES, supply=PowerProfile.parse("230V/1kA"))
    draft.node("s1", NodeKind.TRANSFORMER)
    draft.node("h1", NodeKind.TRANSFORMER)
    for number in (1, 2):
        draft.node(f"lamp-{number}", NodeKind.LAMP, request=DC)
    draft.node("pdp", NodeKind.PDP)
    for number in (1, 2, 3):
        draft.link(f"es{number}", "s1", 110_000_000)
    draft.link("s1", "h1", 20_000_000)
    for number in (1, 2):
        draft.link("h1", f"lamp-{number}", 230_000)
    return draft.finish()


class Powered:
    """A simulation with power, and with policemen if there is a market."""

    def __init__(
        self, topology: Topology, script: str = DEFAULT_SCRIPT, market: str = "", seed: int = 1
    ) -> None:
        self.policeman: Policeman | None = None
        if market:
            self.policeman = Policeman(topology, parse_market(market, "market", topology), 0)
        suppliers = SUPPLIERS if market else {}
        settings = EngineSettings(node=NodeSettings(), suppliers=suppliers)
        self.engine = Engine(topology, seed, settings, policeman=self.policeman)
        self.lamps = PoweredLamps(self.engine, seed)
        self.engine.play(parse_script(script, topology))
        self.changed: list[tuple[str, int]] = []
        inner = self.engine.watch
        assert inner is not None

        def watch(name: str, event: NodeEvent, now: int) -> None:
            if isinstance(event, SupplierChanged):
                self.changed.append((name, now))
            inner(name, event, now)

        self.engine.watch = watch

    def until(self, seconds: float) -> Engine:
        self.engine.run(round(seconds * NS_PER_S))
        return self.engine


def test_a_lamp_is_lit_by_its_first_verified_block() -> None:
    run = Powered(generate_topology("street:2"))
    lamp = run.until(2).lamps["lamp-1"]
    assert lamp.state is LampState.LIT
    assert lamp.signalled_at is not None
    assert lamp.lit_at is not None
    # TCP and PoTCP take a round of 4 hops each, then a READY and a block
    assert 4 * 4 * NS_PER_MS <= lamp.lit_at - lamp.signalled_at <= 6 * 4 * NS_PER_MS
    run.lamps.finish()
    supplies = run.lamps.supplies()
    assert set(supplies) == {"lamp-1", "lamp-2"}
    for sent_uj, banked_uj, cut_uj in supplies.values():
        assert (sent_uj, cut_uj) == (banked_uj, 0)
        # 59.8 W for nearly two seconds
        assert 110_000_000 < sent_uj < 119_600_000
    assert run.lamps.residual_uj() == 0


def test_a_lamp_that_is_switched_off_has_verified_all_that_was_sent() -> None:
    run = Powered(generate_topology("street:1"), "0s on *\n2s off *\n4s on *")
    run.until(3.5)
    (before,) = run.lamps.supplies().values()
    assert before.sent_uj == before.banked_uj > 100_000_000
    assert run.engine.lamps["lamp-1"].state is LampState.DARK
    assert sum(len(node.lfib) for node in run.engine.nodes()) == 0
    assert run.until(6).lamps["lamp-1"].state is LampState.LIT
    run.lamps.finish()
    (after,) = run.lamps.supplies().values()
    assert after.sent_uj == after.banked_uj > before.sent_uj + 100_000_000


@pytest.mark.parametrize("act", ["migrate lamp-1 peer", "cut s1--c1"])
def test_no_block_is_lost_when_a_circuit_moves(act: str) -> None:
    run = Powered(generate_topology("street:1"), f"0s on *\n2s {act}")
    run.until(6)
    assert run.engine.lamps["lamp-1"].state is LampState.LIT
    run.lamps.finish()
    (supply,) = run.lamps.supplies().values()
    assert supply.sent_uj == supply.banked_uj
    # 59.8 W for nearly six seconds, whatever happened to the feeder
    assert supply.sent_uj > 5 * 59_800_000


def test_what_was_under_way_in_a_circuit_that_is_cut_is_told_apart() -> None:
    script = f"{DEFAULT_SCRIPT}\n2s derate c1--h1 30W"
    run = Powered(generate_topology("street:1"), script)
    run.until(5)
    run.lamps.finish()
    (supply,) = run.lamps.supplies().values()
    # it takes the source 2 s to see that nobody answers, and 2 s of credit are all it may send
    assert 0 < supply.cut_uj < 4 * 59_800_000
    assert supply.sent_uj == supply.banked_uj + supply.cut_uj
    assert run.lamps.residual_uj() == 0


@pytest.mark.parametrize("act", ["", "\n2s derate c1--h1 30W"])
@pytest.mark.parametrize("off_uj", [-1, 1, 40_000])
def test_a_lamp_that_verifies_more_or_less_than_was_sent_is_found(
    act: str, off_uj: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_event = PowerConnection.next_event
    wrong: list[Event] = []

    def err_once(connection: PowerConnection) -> Event | None:
        event = next_event(connection)
        if isinstance(event, SamplesReceived) and not wrong:
            event = replace(event, energy_uj=event.energy_uj + off_uj)
            wrong.append(event)
        return event

    monkeypatch.setattr(PowerConnection, "next_event", err_once)
    run = Powered(generate_topology("street:1"), f"{DEFAULT_SCRIPT}{act}")
    run.until(5)
    run.lamps.finish()
    (supply,) = run.lamps.supplies().values()
    assert bool(supply.cut_uj) is bool(act)
    assert run.lamps.residual_uj() == -off_uj


def test_the_meter_of_a_circuit_that_is_cut_lies_between_its_ends() -> None:
    run = Powered(three_sources(), f"{DEFAULT_SCRIPT}\n3s derate h1--lamp-1 30W", MARKET)
    run.until(10)
    run.lamps.finish()
    assert run.policeman is not None
    supplies = run.lamps.supplies()
    assert supplies["lamp-1"].cut_uj > 0
    assert run.lamps.residual_uj() == 0
    for number, (sent_uj, banked_uj, _) in enumerate(supplies.values(), 5):
        bills = [bill for bill in run.policeman.bills() if bill.customer[-1] == str(number)]
        assert 0 < banked_uj <= sum(bill.energy_uj for bill in bills) <= sent_uj


def test_a_lamp_that_is_set_gets_its_new_power() -> None:
    run = Powered(generate_topology("street:1"), "0s on *\n2s set lamp-1 230V/1A@50Hz")
    run.until(3)
    (early,) = run.lamps.supplies().values()
    run.until(4)
    (late,) = run.lamps.supplies().values()
    assert 225_000_000 < late.banked_uj - early.banked_uj < 235_000_000
    run.lamps.finish()
    assert run.lamps.residual_uj() == 0


def test_the_cheapest_supplier_is_chosen_and_left_when_another_is_cheaper() -> None:
    run = Powered(three_sources(), market=MARKET)
    engine = run.until(59)

    def circuits() -> list[int]:
        sources = [engine.node(f"es{number}") for number in (1, 2, 3)]
        return [node.lfib.circuits for node in sources if node is not None]

    assert circuits() == [2, 0, 0]
    # at a minute past midnight the first becomes dear, and the third cheap
    run.until(70)
    assert circuits() == [0, 0, 2]
    assert [name for name, _ in run.changed] == ["lamp-1", "lamp-2"]
    assert all(60 * NS_PER_S < at < 61 * NS_PER_S for _, at in run.changed)
    assert {lamp.state for lamp in engine.lamps.values()} == {LampState.LIT}
    run.lamps.finish()
    policeman = run.policeman
    assert policeman is not None
    bills = policeman.bills()
    assert sorted((bill.customer[-1], bill.supplier) for bill in bills) == [
        ("5", 7), ("5", 9), ("6", 7), ("6", 9),
    ]  # fmt: skip
    supplies = run.lamps.supplies()
    assert run.lamps.residual_uj() == 0
    for number, (sent_uj, banked_uj, _) in enumerate(supplies.values(), 5):
        billed_uj = sum(bill.energy_uj for bill in bills if bill.customer[-1] == str(number))
        assert sent_uj == banked_uj == billed_uj > 4_000_000_000
    assert policeman.residual() == 0


def test_a_price_that_is_set_makes_lamps_leave() -> None:
    run = Powered(three_sources(), f"{DEFAULT_SCRIPT}\n3s price 7 0.40", MARKET)
    run.until(6)
    assert [name for name, _ in run.changed] == ["lamp-1", "lamp-2"]
    node = run.engine.node("es2")
    assert node is not None
    assert node.lfib.circuits == 2


@pytest.mark.requirement("MPLA-1-01")
@pytest.mark.requirement("MPLA-6-07")
def test_the_light_returns_when_a_supplier_is_bankrupt_in_mid_flow() -> None:
    run = Powered(three_sources(), market=MARKET)
    engine = run.until(5)
    assert {lamp.state for lamp in engine.lamps.values()} == {LampState.LIT}
    policeman = run.policeman
    assert policeman is not None
    policeman.withdraw(7, engine.now)
    # the engine sends what a policeman has to say when something is done with it
    engine.play(parse_script("5s pdp-up", engine.topology))
    run.until(6)
    assert {lamp.state for lamp in engine.lamps.values()} == {LampState.LIT}
    before = run.lamps.supplies()
    run.until(16)
    for name, supply in run.lamps.supplies().items():
        # 59.8 W for ten seconds
        assert 590_000_000 < supply.banked_uj - before[name].banked_uj < 600_000_000
    run.lamps.finish()
    bills = policeman.bills()
    assert sorted({bill.supplier for bill in bills}) == [7, 8]
    assert run.lamps.residual_uj() == 0
    assert policeman.residual() == 0
    for number, supply in enumerate(run.lamps.supplies().values(), 5):
        billed_uj = sum(bill.energy_uj for bill in bills if bill.customer[-1] == str(number))
        # what the meter has passed: all but what was under way on either side of it
        assert supply.banked_uj <= billed_uj <= supply.sent_uj
        assert supply.cut_uj < 4 * 59_800_000


def test_lamps_stay_lit_without_a_policeman() -> None:
    script = f"{DEFAULT_SCRIPT}\n3s pdp-down\n8s pdp-up"
    run = Powered(three_sources(), script, MARKET)
    run.until(7)
    assert {lamp.state for lamp in run.engine.lamps.values()} == {LampState.LIT}
    policeman = run.policeman
    assert policeman is not None
    assert policeman.peps == ()
    run.until(45)
    assert len(policeman.peps) == 1
    assert len(policeman) == 2
    assert {lamp.state for lamp in run.engine.lamps.values()} == {LampState.LIT}
    run.lamps.finish()
    total_uj = sum(bill.energy_uj for bill in policeman.bills())
    assert total_uj == sum(one.banked_uj for one in run.lamps.supplies().values())


def test_power_crosses_links_that_lose_and_links_that_are_narrow() -> None:
    draft = Draft("narrow")
    draft.node("es1", NodeKind.ES, supply=PowerProfile.parse("230V/1kA@50Hz"))
    draft.node("h1", NodeKind.TRANSFORMER)
    draft.link("es1", "h1", 20_000_000, loss_ppm=20_000)
    for number, rate_bps in ((1, 330_000), (2, None)):
        draft.link("h1", draft.node(f"lamp-{number}", NodeKind.LAMP), 230_000, rate_bps=rate_bps)
    run = Powered(draft.finish())
    run.until(10)
    assert run.engine.lost() > 20
    # before the last packets of the narrow link have gone, its tunnel is given up
    run.lamps.finish()
    supplies = run.lamps.supplies()
    assert all(one.banked_uj > 5 * 59_800_000 for one in supplies.values())
    assert run.lamps.residual_uj() == 0
    assert {lamp.state for lamp in run.engine.lamps.values()} == {LampState.DARK}


def test_a_lamp_is_switched_on_again_while_it_still_ends() -> None:
    run = Powered(generate_topology("street:1"), "0s on *\n2s off *\n2.001s on *")
    assert run.until(4).lamps["lamp-1"].state is LampState.LIT
    run.lamps.finish()
    assert run.lamps.residual_uj() == 0
    assert run.lamps.supplies()["lamp-1"].cut_uj == 0


@pytest.mark.parametrize("off_ms", [2000, 2100, 3500])
def test_a_lamp_that_is_switched_off_while_it_is_shed_is_dark(off_ms: int) -> None:
    script = f"0s on *\n2s derate h1--lamp-1 1mW\n{off_ms}ms off lamp-1"
    engine = Powered(generate_topology("street:2"), script).until(10)
    assert engine.lamps["lamp-1"].state is LampState.DARK
    assert engine.lamps["lamp-2"].state is LampState.LIT
    node = engine.node("lamp-1")
    assert node is not None
    assert not list(node.tunnels())


def events_of_connections(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Return the list to which each event of both ends of all connections is put."""
    next_event = PowerConnection.next_event
    seen: list[Event] = []

    def note(connection: PowerConnection) -> Event | None:
        event = next_event(connection)
        if event is not None:
            seen.append(event)
        return event

    monkeypatch.setattr(PowerConnection, "next_event", note)
    return seen


@pytest.mark.parametrize("off_ms", range(20, 80, 5))
def test_a_lamp_that_is_switched_off_while_it_asks_for_power_says_so(
    off_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = events_of_connections(monkeypatch)
    run = Powered(generate_topology("street:1"), f"0s on *\n{off_ms}ms off *")
    run.until(3)
    assert not [event for event in seen if isinstance(event, FlowCut)]
    # a block that crosses the lamp's word comes in a flow that is over
    ((sent_uj, banked_uj, cut_uj),) = run.lamps.supplies().values()
    assert sent_uj == banked_uj + cut_uj
    assert sum(len(node.lfib) for node in run.engine.nodes()) == 0


def test_a_lamp_that_is_switched_off_says_so_at_once() -> None:
    run = Powered(generate_topology("street:1"), "0s on *\n2003ms off *")
    # FIN of Power over TCP and of TCP take a round of 4 hops each
    assert run.until(2.018).lamps["lamp-1"].state is LampState.LIT
    assert run.until(2.019).lamps["lamp-1"].state is LampState.DARK


def test_a_lamp_that_is_set_asks_its_source_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = events_of_connections(monkeypatch)
    run = Powered(generate_topology("street:1"), "0s on *\n2003ms set * 230V/130mA@50Hz")

    def asked() -> int:
        return sum(isinstance(event, RenegotiationRequested) for event in seen)

    # a round of 4 hops until the circuit is granted, 7 messages of 500 us each, then 4 hops
    run.until(2.018)
    assert not asked()
    run.until(2.0185)
    assert asked() == 1


@pytest.mark.parametrize("cut_ms", range(10, 50, 5))
@pytest.mark.parametrize("mend_s", [2, 4, 8])
def test_a_lamp_whose_circuit_was_cut_while_it_asked_is_lit(cut_ms: int, mend_s: int) -> None:
    script = f"0s on *\n{cut_ms}ms cut es1--r1\n{mend_s}s mend es1--r1"
    run = Powered(generate_topology("ring:3"), script)
    assert {lamp.state for lamp in run.until(mend_s + 12).lamps.values()} == {LampState.LIT}
    run.lamps.finish()
    assert run.lamps.residual_uj() == 0


def lossy(delay: str, loss_ppm: int, lamps: int = 2, request: PowerProfile = DC) -> Topology:
    """Return a street whose long line loses packets."""
    names = [f"lamp-{number}" for number in range(1, lamps + 1)]
    draft = Draft("lossy")
    draft.node("es1", NodeKind.ES)
    draft.node("h1", NodeKind.TRANSFORMER)
    draft.link("es1", "h1", 20_000_000, delay_ns=parse_duration_ns(delay), loss_ppm=loss_ppm)
    for name in names:
        draft.node(name, NodeKind.LAMP, request=request)
        draft.link("h1", name, 230_000)
    return draft.finish()


@pytest.mark.parametrize("seed", range(6))
def test_what_a_lamp_gave_up_before_it_came_is_cut_off(seed: int) -> None:
    run = Powered(lossy("300ms", 100_000, request=AC), seed=seed)
    run.engine.run_settled(60 * NS_PER_S)
    run.lamps.finish()
    assert run.lamps.residual_uj() == 0


@pytest.mark.parametrize("again", [1, 3])
def test_what_passes_after_a_lamp_has_connected_again_is_metered(again: int) -> None:
    times = [40 * number for number in range(1, again + 1)]
    crashes = "".join(f"\n{at}s crash es1\n{at}100ms restart es1" for at in times)
    run = Powered(generate_topology("street:1"), f"0s on *{crashes}")
    run.until(40 * (again + 1))
    assert run.engine.lamps["lamp-1"].state is LampState.LIT
    (supply,) = run.lamps.supplies().values()
    (house,) = [node for node in run.engine.nodes() if node.name == "h1"]
    metered_uj = sum(row.energy_uj or 0 for row in house.circuits(run.engine.now))
    # a header tells what was sent before its own block: the last of each connection is not told
    assert 0 <= supply.banked_uj - metered_uj <= (again + 1) * 1_196_000


def test_a_lamp_flickers_from_the_end_of_a_connection_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sinks: list[_Sink] = []
    opened = _Sink.open

    def note(sink: _Sink, now: int) -> None:
        sinks.append(sink)
        opened(sink, now)

    monkeypatch.setattr(_Sink, "open", note)
    run = Powered(generate_topology("street:1"))
    engine = run.until(3)
    sinks[0].close(engine.now)
    engine.settle("lamp-1")
    assert run.until(3.5).lamps["lamp-1"].state is LampState.FLICKER
    assert run.until(4.5).lamps["lamp-1"].state is LampState.LIT
    assert len(sinks) == 2


@pytest.mark.parametrize("seed", range(6))
def test_a_lamp_whose_connection_was_lost_connects_again(seed: int) -> None:
    run = Powered(lossy("300ms", 100_000), seed=seed)
    found = run.until(120).lamps.values()
    assert [lamp.lit_at is not None for lamp in found] == [True, True]
    run.lamps.finish()
    assert run.lamps.residual_uj() == 0


def test_a_storm_with_losses_ends_when_each_lamp_has_been_lit_once() -> None:
    run = Powered(lossy("1ms", 100_000, 12))
    run.engine.run_settled(60 * NS_PER_S)
    lit_at = [lamp.lit_at for lamp in run.engine.lamps.values()]
    assert None not in lit_at
    assert run.engine.now == max(at for at in lit_at if at is not None)


@pytest.mark.parametrize("again_ms", [4_900, 4_980, 5_000])
def test_each_time_a_lamp_waits_as_long_for_its_first_block(again_ms: int) -> None:
    run = Powered(generate_topology("street:1"), f"0s on *\n1s off *\n{again_ms}ms on *")
    run.engine.run_settled(60 * NS_PER_S)
    assert run.engine.lamps["lamp-1"].state is LampState.LIT


def test_a_lamp_that_has_crashed_is_lit_again() -> None:
    run = Powered(
        generate_topology("street:2"), "0s on *\n2s crash lamp-1\n3s restart lamp-1\n4s on *"
    )
    lamps = run.until(20).lamps
    assert {lamp.state for lamp in lamps.values()} == {LampState.LIT}
    run.lamps.finish()
    assert run.lamps.residual_uj() == 0


@pytest.mark.parametrize("end_ms", [0, 5, 10, 20, 5_000])
def test_nothing_is_switched_on_after_the_end(end_ms: int) -> None:
    run = Powered(generate_topology("street:2"), "0s on lamp-1\n8s on lamp-2")
    run.until(end_ms / 1_000)
    had = len(run.lamps.supplies())
    run.lamps.finish()
    assert len(run.lamps.supplies()) == had
    assert run.lamps.residual_uj() == 0
    assert sum(len(node.lfib) for node in run.engine.nodes()) == 0


def test_nothing_is_sent_in_a_flow_whose_lamp_has_left_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = events_of_connections(monkeypatch)
    run = Powered(generate_topology("street:1"), "0s on *\n2s off *")

    def leave(sink: _Sink, now: int) -> None:
        sink.is_over = True

    monkeypatch.setattr(_Sink, "close", leave)
    run.until(6)
    assert [event for event in seen if isinstance(event, FlowCut)]
    (supply,) = run.lamps.supplies().values()
    assert supply.sent_uj == supply.banked_uj + supply.cut_uj
    assert 100_000_000 < supply.banked_uj < 119_600_000
