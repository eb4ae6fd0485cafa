"""A network in simulated time: exact, the same for the same seed, and its nodes are the live ones."""

from dataclasses import replace

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.machine import Buffer, Event
from powertcp.mplamps.engine import MAX_SEED, Engine, EngineSettings
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.node import LampChanged, LampState, NodeEvent, NodeSettings, StreamOpened
from powertcp.mplamps.recorder import Recorder
from powertcp.mplamps.rsvp import Style, decode_message
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.scenario import dusk, outcome_of
from powertcp.mplamps.script import DEFAULT_SCRIPT, parse_script
from powertcp.mplamps.tcp import Ended, Endpoint
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.mplamps.wires import Wire
from powertcp.units import NS_PER_MS, NS_PER_S, NS_PER_US
from powertcp.wire.capture import read_capture

ONE_LAMP = "tree:1,1,1,1,1"


def settings(
    *, is_reliable: bool = True, style: Style = Style.SE, **more: object
) -> EngineSettings:
    node = NodeSettings(signalling=Settings(is_reliable=is_reliable, **more))  # type: ignore[arg-type]
    return EngineSettings(node=node, style=style)


class Run:
    """A simulation with its files."""

    def __init__(
        self,
        topology: str | Topology,
        script: str = DEFAULT_SCRIPT,
        seed: int = 1,
        made: EngineSettings | None = None,
    ) -> None:
        if isinstance(topology, str):
            topology = generate_topology(topology)
        self.capture, self.trace = bytearray(), bytearray()
        recorder = Recorder(topology, capture=self.capture.extend, trace=self.trace.extend)
        self.engine = Engine(topology, seed, made or settings(), recorder=recorder)
        self.engine.play(parse_script(script, topology))

    def until(self, seconds: float) -> Engine:
        self.engine.run(round(seconds * NS_PER_S))
        return self.engine

    def states(self) -> dict[str, LampState]:
        return {name: lamp.state for name, lamp in self.engine.lamps.items()}

    def hashes(self) -> tuple[object, ...]:
        recorder = self.engine.recorder
        files = bytes(self.capture), bytes(self.trace)
        return recorder.trace_hash(), recorder.capture_hash(), self.engine.labels_hash(), *files


def test_a_lamp_is_signalled_after_ten_delays_and_nine_services() -> None:
    engine = Run(ONE_LAMP).until(60)
    lamp = engine.lamps["lamp-1"]
    assert (lamp.state, lamp.on_at) == (LampState.SIGNALLED, 0)
    assert lamp.signalled_at == 10 * NS_PER_MS + 9 * 500 * NS_PER_US == 14_500_000
    assert lamp.grant is not None
    assert (lamp.grant.voltage_mv, lamp.grant.current_ma) == (230_000, 260)
    assert engine.recorded_labels("lamp-1") == [380_000, 110_000, 20_000, 400, 230]
    assert engine.now == 60 * NS_PER_S


@pytest.mark.requirement("MPLA-8-01")
def test_the_same_seed_gives_the_same_octets_and_another_one_others() -> None:
    def run(seed: int) -> tuple[object, ...]:
        one = Run("street:3", "0s on *\n5s set lamp-2 230V/500mA@50Hz\n9s off lamp-3", seed)
        one.until(60)
        return one.hashes()

    first, again, other = run(1), run(1), run(2)
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]
    assert first[2] == other[2], "labels are those of the topology, not of the dice"


@pytest.mark.requirement("MPLA-8-01")
def test_the_hash_of_a_trace_needs_no_trace() -> None:
    bare = Engine(generate_topology("street:3"), 1, settings())
    bare.play(parse_script(DEFAULT_SCRIPT, bare.topology))
    bare.run(60 * NS_PER_S)
    written = Run("street:3").until(60)
    assert bare.recorder.trace_hash() == written.recorder.trace_hash()
    assert bare.recorder.capture_hash() is None


@pytest.mark.requirement("MPLA-8-01")
def test_tables_do_not_depend_on_the_order_of_arrival() -> None:
    made = settings(is_reliable=False)
    forward = Run("tree:2,2,2", "0s on lamp-[1-4]\n1s on *", made=made).until(2)
    backward = Run("tree:2,2,2", "0s on lamp-[5-8]\n1s on *", made=made).until(2)
    assert forward.labels_hash() == backward.labels_hash()
    assert forward.recorder.trace_hash() != backward.recorder.trace_hash()


@pytest.mark.requirement("MPLA-8-02")
def test_every_message_is_octets_that_decode() -> None:
    seen: list[str] = []

    def observe(wire: Wire, octets: bytes, now: int) -> None:
        message = decode_message(octets).message
        seen.append(f"{wire.source} {wire.target} {type(message).__name__} {now}")

    run = Run(ONE_LAMP)
    run.engine.observe = observe
    engine = run.until(1)
    assert len(seen) == engine.recorder.messages().total()
    assert seen[:2] == ["lamp-1 h1 Path 0", "h1 c1 Path 1500000"]
    assert sum(" Path " in line for line in seen) == sum(" Resv " in line for line in seen) == 5
    udp = [packet for packet in read_capture(bytes(run.capture)) if packet.octets[9] == 17]
    assert len(udp) == len(seen)
    assert {packet.interface for packet in udp} == {link.name for link in engine.topology.links}


def test_without_numbers_there_are_two_messages_for_each_hop() -> None:
    topology = generate_topology("tree:3,2,2,2,3")
    engine = Engine(topology, 1, settings(is_reliable=False, style=Style.FF))
    engine.play(dusk(topology, 1, 0))
    engine.run_settled(60 * NS_PER_S)
    lamps = len(topology.of_kind(NodeKind.LAMP))
    assert lamps == 72
    assert engine.recorder.messages() == {"PATH": 5 * lamps, "RESV": 5 * lamps}
    assert engine.busiest() == ("es1", lamps)
    outcome = outcome_of(engine, is_powered=False)
    assert (outcome.signalled, outcome.unlit, outcome.residual_mw) == (lamps, [], 0)
    # the source serves them one by one: the last one waits for all others
    spread = outcome.to_signalled
    assert spread is not None
    assert spread.max == 14_500_000 + (lamps - 1) * 500 * NS_PER_US


def test_a_storm_ends_when_no_lamp_waits() -> None:
    engine = Run(ONE_LAMP).engine
    engine.run_settled(60 * NS_PER_S)
    assert engine.is_settled
    assert engine.now == 14_500_000


def test_steps_are_as_long_as_they_are_said_to_be() -> None:
    whole, stepped = Run("street:2"), Run("street:2")
    whole.until(20)
    steps = 0
    while stepped.engine.step(7, 20 * NS_PER_S):
        steps += 1
        assert stepped.engine.events == 7 * steps
    assert steps > 5
    assert stepped.hashes() == whole.hashes()
    assert stepped.engine.now == 20 * NS_PER_S


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_a_seed_has_64_bits(seed: int) -> None:
    with pytest.raises(LocalProtocolError):
        Engine(generate_topology(ONE_LAMP), seed, settings())


# ---- acts -----------------------------------------------------------------------------------------


def held(engine: Engine) -> int:
    return sum(sum(node.holds().values()) for node in engine.nodes())


def entries(engine: Engine) -> int:
    return sum(len(node.lfib) for node in engine.nodes())


def test_a_lamp_that_is_off_leaves_nothing_behind() -> None:
    run = Run("street:3", "0s on *\n5s off *")
    assert entries(run.until(4)) > 0
    assert held(run.engine) > 0
    assert entries(run.until(8)) == held(run.engine) == 0
    assert set(run.states().values()) == {LampState.DARK}
    assert not any(lamp.is_wanted for lamp in run.engine.lamps.values())


def test_a_lamp_takes_the_other_substation_when_its_feeder_is_cut() -> None:
    run = Run("street:1", "0s on *\n5s cut s1--c1\n60s mend s1--c1")
    run.until(4)
    assert run.engine.node("s1").lfib.circuits == 1  # type: ignore[union-attr]
    run.until(20)
    assert run.states() == {"lamp-1": LampState.SIGNALLED}
    node = run.engine.node("s2")
    assert node is not None
    assert node.lfib.circuits == 1


def test_a_set_lamp_has_what_was_set() -> None:
    run = Run("street:1", "0s on *\n5s set lamp-1 230V/1A@50Hz")
    run.until(20)
    grant = run.engine.lamps["lamp-1"].grant
    assert grant is not None
    assert grant.current_ma == 1000
    assert run.states() == {"lamp-1": LampState.SIGNALLED}


def test_a_lamp_migrates_without_getting_dark() -> None:
    changes: list[LampState] = []
    run = Run("street:1", "0s on *\n5s migrate lamp-1\n10s migrate lamp-1 overlay")
    run.engine.watch = lambda _name, event, _now: changes.append(getattr(event, "state", None))  # type: ignore[arg-type]
    run.until(4)
    before = len(changes)
    run.until(20)
    assert LampState.DARK not in changes[before:]
    assert run.states() == {"lamp-1": LampState.SIGNALLED}


def test_what_a_link_cannot_carry_any_more_is_shed() -> None:
    run = Run("street:2", "0s on *\n5s derate es1--s1 80W\n5s derate es1--s2 10W")
    run.until(5.5)
    assert sorted(run.states().values()) == [LampState.SHED, LampState.SIGNALLED]
    refusal = next(lamp.refusal for lamp in run.engine.lamps.values() if lamp.refusal)
    assert refusal.code == 309


def test_a_node_that_crashed_knows_nothing_when_it_comes_back() -> None:
    run = Run("street:1", "0s on *\n5s crash h1\n6s restart h1")
    run.until(5.5)
    assert run.engine.node("h1") is None
    run.until(5.9)
    engine = run.until(7)
    node = engine.node("h1")
    assert node is not None


def test_a_crashed_lamp_is_dark_until_it_is_switched_on_again() -> None:
    run = Run("street:1", "0s on *\n5s crash lamp-1\n6s restart lamp-1\n7s on lamp-1")
    run.until(6.5)
    assert run.states() == {"lamp-1": LampState.DARK}
    run.until(60)
    assert run.states() == {"lamp-1": LampState.SIGNALLED}


@pytest.mark.parametrize("loss_ppm", [20_000, 50_000])
def test_lamps_come_on_over_links_that_lose(loss_ppm: int) -> None:
    street = generate_topology("street:5")
    links = [replace(link, loss_ppm=loss_ppm) for link in street.links]
    run = Run(Topology(street.name, street.base, street.nodes, links))
    run.until(60)
    assert set(run.states().values()) == {LampState.SIGNALLED}
    assert run.engine.lost() > 0
    run.engine.play(parse_script("61s off *", run.engine.topology))
    run.until(400)
    assert held(run.engine) == entries(run.engine) == 0


def test_messages_are_disturbed_on_their_way() -> None:
    engine = Run(ONE_LAMP, made=settings(is_reliable=False)).engine
    sent = 0

    def disturb(wire: Wire, octets: bytes, now: int) -> list[tuple[bytes, int]]:
        nonlocal sent
        sent += 1
        if wire.source == "es1":
            return [(b"\0\0", 0), (octets, NS_PER_MS), (octets, 2 * NS_PER_MS)]
        return [(octets, 0)]

    engine.disturb = disturb
    engine.run(NS_PER_S)
    assert sent == 10, "each message once, and a copy of what was said brings none"
    assert engine.lamps["lamp-1"].signalled_at == 15_500_000
    neighbours = [one for node in engine.nodes() for one in node.rsvp.neighbours.values()]
    assert sum(neighbour.drops.total() for neighbour in neighbours) == 1


class Ticking:
    """A machine of an inner connection that says what it is told to, and wants to be woken."""

    def __init__(self, period_ns: int | None) -> None:
        self.period_ns = period_ns
        self.to_say = b""
        self.woken: list[int] = []

    def receive_data(self, data: Buffer, now: int) -> None:
        pass

    def receive_eof(self, now: int) -> None:
        pass

    def data_to_send(self) -> bytes:
        said, self.to_say = self.to_say, b""
        return said

    def next_event(self) -> Event | None:
        return None

    def get_timer(self) -> int | None:
        last = self.woken[-1] if self.woken else 0
        return None if self.period_ns is None else last + self.period_ns

    def handle_timer(self, now: int) -> None:
        self.woken.append(now)


class Joined:
    """A simulation of one lamp with a machine at each end of its inner connection."""

    def __init__(self, script: str) -> None:
        self.run = Run("street:1", script)
        self.engine = self.run.engine
        self.machines = {"lamp-1": Ticking(NS_PER_S), "es1": Ticking(None)}
        self.told: dict[str, list[Event]] = {"lamp-1": [], "es1": []}
        self.engine.watch = self._watch

    def _watch(self, name: str, event: NodeEvent, now: int) -> None:
        match event:
            case LampChanged(state=LampState.SIGNALLED):
                node = self.engine.node(name)
                assert node is not None
                self._attach(name, node.open_stream(event.tunnel, now))
            case StreamOpened(end=end):
                self._attach(name, end)

    def _attach(self, name: str, end: Endpoint) -> None:
        told = self.told[name]
        self.engine.attach(name, end, self.machines[name], lambda event, _: told.append(event))


def test_a_machine_is_woken_when_it_wants_and_not_after_its_node_has_crashed() -> None:
    joined = Joined("0s on *\n4500ms crash lamp-1\n6s restart lamp-1")
    joined.run.until(20)
    assert joined.machines["lamp-1"].woken == [number * NS_PER_S for number in range(1, 5)]
    assert joined.machines["es1"].woken == []


def test_a_machine_that_is_never_woken_is_told_that_its_peer_is_gone() -> None:
    joined = Joined("0s on *\n2s crash lamp-1")
    joined.run.until(3)
    joined.machines["es1"].to_say = b"power"
    joined.engine.settle("es1")
    joined.run.until(40)
    ended = joined.told["es1"][-1]
    assert isinstance(ended, Ended)
    assert ended.refusal is not None
    assert ended.refusal.code == 507
