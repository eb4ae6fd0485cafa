"""What a wire sends past its machine: octets that many wires share."""

import pytest
import trio
import trio.testing

from powertcp.drivers.wheel import Wheel
from powertcp.drivers.wire import WRITE_NS, Wire
from powertcp.units import NS_PER_S
from tests.drivers.line_machine import Lines, Pair


def ignore(_: object) -> None:
    """Handle events of nobody."""


async def test_a_shared_object_is_sent_whole_or_not_at_all(small_pair: Pair) -> None:
    ours, theirs = small_pair
    peer, shared = Lines(), Lines()
    for number in range(40):
        shared.send(bytes((number,)) * 1000)
    octets = shared.data_to_send()
    async with trio.open_nursery() as nursery:
        machine = Lines()
        wire = Wire(ours, machine, ignore, nursery=nursery)
        machine.send(b"first")
        assert not wire.push(octets), "the machine goes first"
        assert wire.flush()
        assert wire.push(octets)
        assert not wire.push(octets), "the rest of the last object goes first"
        machine.send(b"last")
        assert not wire.flush()
        while b"last" not in peer.events:
            await trio.lowlevel.wait_readable(theirs)
            peer.receive_data(theirs.recv(3000), 0)
        assert peer.events == [b"first", *[bytes((n,)) * 1000 for n in range(40)], b"last"]
        await trio.testing.wait_all_tasks_blocked()
        assert wire.push(octets[:1020])
        wire.close()
        assert not wire.push(octets)


async def test_a_wire_whose_peer_is_gone_takes_nothing(small_pair: Pair) -> None:
    ours, theirs = small_pair
    async with trio.open_nursery() as nursery:
        wire = Wire(ours, Lines(), ignore, nursery=nursery)
        theirs.close()
        assert not wire.push(b"octets")
        assert wire.closed


@pytest.mark.requirement("PTCP-14-01")
async def test_a_peer_that_reads_nothing_of_it_is_cut_off(
    small_pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    ours, _ = small_pair
    wheel = Wheel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wheel.run)
        wire = Wire(ours, Lines(), ignore, nursery=nursery, wheel=wheel)
        while wire.push(bytes(5000)):
            pass
        await trio.sleep(WRITE_NS / NS_PER_S - 1)
        assert not wire.closed
        await trio.sleep(2)
        assert wire.closed
        nursery.cancel_scope.cancel()
