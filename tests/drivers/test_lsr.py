"""Live nodes on real sockets: they signal, carry, time out and leave as simulated ones do."""

import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from powertcp.cli import main
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.lsp import LspStream
from powertcp.drivers.lsr import HELLO_NS, MPLS_PORT, LiveNode, live_settings, names_to_run
from powertcp.drivers.lsr_keys import LinkKeys
from powertcp.errors import BrokenInvariant, ConfigError
from powertcp.mplamps.engine import Engine, EngineSettings
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.node import LampState, Model, Node, NodeSettings, StreamOpened
from powertcp.mplamps.rsvp import PORT as RSVP_PORT
from powertcp.mplamps.rsvp import Key
from powertcp.mplamps.script import parse_script
from powertcp.mplamps.tcp import Endpoint, State
from powertcp.registry import Refusal
from powertcp.units import NS_PER_S
from tests.drivers.live import NEVER_S, Town, town, until


def tables(made: Town) -> list[str]:
    """Return the canonical label tables of all nodes, in the order of the topology."""
    found = {name: live.node.label_table() for name, live in made.lives.items()}
    return [line for node in made.topology.nodes for line in found.get(node.name, [])]


@pytest.mark.requirement("MPLA-8-02")
async def test_live_and_simulated_nodes_have_the_same_label_tables() -> None:
    async with town("street:3") as made:
        lamps = [made.lamp(f"lamp-{number}") for number in (1, 2, 3)]
        await made.until_alive()
        for lamp in lamps:
            request = made.topology.node(lamp.live.name).request
            assert request is not None
            number = lamp.switch_on(request)
            assert not isinstance(await lamp.answer(number), Refusal)
        engine = Engine(made.topology, 1, EngineSettings(node=NodeSettings()))
        engine.play(parse_script("0s on *", made.topology))
        engine.run(10 * NS_PER_S)
        simulated = [line for node in engine.nodes() for line in node.label_table()]
        assert len(simulated) == 24
        assert sorted(tables(made)) == sorted(simulated)
        for lamp in lamps:
            lamp.close()


async def test_all_off_nothing_is_left() -> None:
    async with town("street:2") as made:
        lamp = made.lamp("lamp-1")
        request = made.topology.node("lamp-1").request
        assert request is not None
        number = lamp.switch_on(request)
        answer = await lamp.answer(number)
        assert not isinstance(answer, Refusal)
        assert answer.power_mw == 59_800
        assert sum(sum(live.node.holds().values()) for live in made.lives.values()) == 4 * 59_800
        lamp.switch_off(number)
        lamp.switch_off(number)
        await until(lambda: not tables(made))
        assert lamp.node.lamp_state is LampState.DARK
        assert sum(sum(live.node.holds().values()) for live in made.lives.values()) == 0


@pytest.mark.requirement("MPLA-4.7-05")
async def test_a_silent_neighbour_is_stale_and_found_again() -> None:
    async with town("street:1") as made:
        await made.until_alive()
        made.lives.pop("s1").close()
        c1 = made.lives["c1"]
        await until(lambda: not c1.neighbours()["s1--c1"])
        assert c1.neighbours()["s2--c1"]
        made.run("s1")
        await made.until_alive()
        assert c1.neighbours()["s1--c1"]


@pytest.mark.requirement("MPLA-4.9-02")
async def test_the_way_moves_without_a_source_in_between() -> None:
    async with town("street:1") as made:
        lamp = made.lamp("lamp-1")
        request = made.topology.node("lamp-1").request
        assert request is not None
        number = lamp.switch_on(request)
        await lamp.answer(number)
        assert lamp.migrate(Model.PEER) == 1
        await made.until(lambda: made.said[-1].get("lsp") == 2)
        assert lamp.status()["state"] == "signalled"


async def opened(made: Town) -> tuple[LiveNode, LspStream, LiveNode, LspStream]:
    """Signal a lamp, connect to its source; return node and stream of both ends."""
    lamp = made.lamp("lamp-1")
    request = made.topology.node("lamp-1").request
    assert request is not None
    number = lamp.switch_on(request)
    assert not isinstance(await lamp.answer(number), Refusal)
    end = lamp.node.open_stream(number, now_ns())
    near = lamp.live.stream(end)
    lamp.live.settle(now_ns())
    await made.until(lambda: any(isinstance(one, StreamOpened) for _, one in made.events))
    [(name, event)] = [pair for pair in made.events if isinstance(pair[1], StreamOpened)]
    assert isinstance(event, StreamOpened)
    far = made.lives[name]
    return lamp.live, near, far, far.stream(event.end)


async def test_only_those_streams_are_looked_at_that_are_concerned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[LspStream] = []
    turn = LspStream.turn

    def note(stream: LspStream) -> bool:
        looked.append(stream)
        return turn(stream)

    async with town("street:1") as made:
        _, near, far_node, far = await opened(made)
        idle = [Endpoint(far_node.node.address, 3251, number) for number in range(100)]
        for end in idle:
            end.listen()
            far_node.stream(end)
        far_node.turn(now_ns())
        monkeypatch.setattr(LspStream, "turn", note)
        far_node.turn(now_ns())
        assert looked == []
        await near.send_all(b"light")
        assert await far.receive_some() == b"light"
        await far.send_all(b"power")
        assert await near.receive_some() == b"power"
        assert set(looked) == {near, far}
        assert far_node.streams == 101
        # who is told of nothing is still closed with its node
        far_node.close()
        assert all(end.state is State.CLOSED for end in idle)


async def test_streams_that_are_over_are_forgotten_and_their_ends_told() -> None:
    async with town("street:1") as made:
        near_node, near, far_node, far = await opened(made)
        assert (near_node.streams, far_node.streams) == (1, 1)
        await near.aclose()
        assert await far.receive_some() == b""
        await far.aclose()
        with trio.fail_after(NEVER_S):
            await near.wait_over()
            await far.wait_over()
        await until(lambda: near_node.streams == far_node.streams == 0)


async def test_a_stream_that_nobody_reads_any_more_is_reset_and_forgotten() -> None:
    async with town("street:1") as made:
        near_node, near, far_node, far = await opened(made)
        await far.aclose()
        await near.send_all(b"to nobody")
        with trio.fail_after(NEVER_S):
            await near.wait_over()
        assert near.refusal is not None
        await until(lambda: near_node.streams == far_node.streams == 0)


@pytest.mark.parametrize("is_timed_out", [True, False])
async def test_who_waits_is_told_that_a_connection_is_over(*, is_timed_out: bool) -> None:
    async with town("street:1") as made:
        near_node, near, _, _ = await opened(made)
        told = trio.Event()

        async def wait() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await near.receive_some()
            told.set()

        with trio.fail_after(NEVER_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                if is_timed_out:
                    near.end.send(b"lost", now_ns())
                    for tries in range(1, 20):
                        near.end.handle_timer(now_ns() + 5 * tries * NS_PER_S)
                    assert near.end.state is State.CLOSED
                else:
                    near_node.node.switch_off(1, now_ns())
                    near_node.settle(now_ns())
                await told.wait()
        assert near_node.streams == 0


@pytest.mark.requirement("MPLA-3-04")
@pytest.mark.requirement("MPLA-4.10-02")
async def test_what_comes_of_strangers_is_counted_and_nothing_else() -> None:
    async with town("street:1") as made:
        live = made.lives["c1"]
        here = str(live.node.address)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(bytes(40), (here, MPLS_PORT))
            stranger.sendto(bytes(40), (here, RSVP_PORT))
        await until(lambda: len(live.drops()) == 2)
        assert live.drops() == {"not_neighbour": 2, "rsvp:not_neighbour": 1}


@pytest.mark.requirement("MPLA-4.10-01")
async def test_neighbours_with_another_key_are_not_heard() -> None:
    one = LinkKeys(Key(1, b"1" * 32), {1: b"1" * 32})
    async with town("street:1", keys=one) as made:
        await made.until_alive()
        made.lives.pop("s1").close()
        made.carrier.keys = LinkKeys(Key(1, b"2" * 32), {1: b"2" * 32})
        s1 = made.run("s1")
        await until(lambda: "rsvp:decrypt" in s1.drops())
        await until(lambda: not any(s1.neighbours().values()))


async def test_an_address_that_is_taken_is_said(tmp_path: Path) -> None:
    async with town("street:1") as made:
        with pytest.raises(
            ConfigError, match=r"topology: s1: cannot have 127\..*UDP 3455: Address already"
        ):
            LiveNode("s1", made.carrier, lambda *_: None)


def test_a_live_node_says_hello_and_signs_with_greater_numbers() -> None:
    first, second = live_settings().signalling, live_settings().signalling
    assert first.hello_ns == HELLO_NS
    assert first.first_sequence < second.first_sequence
    assert first.accepted is None


def test_lamps_and_the_policeman_are_commands_of_their_own() -> None:
    topology = generate_topology("street:1", has_pdp=True)
    assert names_to_run(topology, ["c1"], is_all=True) == ["c1", "es1", "s1", "s2", "h1"]
    for name, said in (
        ("lamp-1", "lamp run lamp-1"),
        ("pdp", "powertcp mplamps pdp"),
        ("x", 'no node of topology street is called "x"'),
    ):
        with pytest.raises(ConfigError, match=said):
            names_to_run(topology, [name], is_all=False)


async def test_time_goes_on_when_nothing_comes() -> None:
    """The wheel calls a node that nobody sends anything to: HELLO goes out all the same."""
    async with town("street:1", names=["h1"]) as made:
        live = made.lives["h1"]
        at = live.get_timer()
        assert at is not None
        await until(lambda: live.get_timer() != at)
        later = live.get_timer()
        assert later is not None
        assert at < later <= now_ns() + HELLO_NS


@pytest.mark.parametrize("where", ["receive_packet", "receive_rsvp", "handle_timer"])
async def test_a_bug_of_a_node_ends_the_daemon(
    where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It must not look alive and be deaf."""

    def fail(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(Node, where, fail)

    async def run() -> None:
        async with town("street:1", names=["s1", "c1"]) as made:
            link = made.topology.between("c1", "s1")
            assert link is not None
            made.lives["c1"].packets.send(link.number, bytes(8))
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as met, trio.fail_after(NEVER_S):
        await run()
    assert pytest.RaisesGroup(BrokenInvariant, flatten_subgroups=True).matches(met.value)
    assert main.judge("mplamps", met.value) == main.BUG
    assert "a node cannot go on: KeyError('a bug')" in capsys.readouterr().err
