"""Packets by the thousand, rewritten where they lie."""

from ipaddress import IPv4Address

import numpy as np
import pytest
from numpy.typing import NDArray

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.batch import forward_batch
from powertcp.mplamps.label import stack_octets
from powertcp.mplamps.lfib import Delivery, Drop, Lfib, Out
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Sender, Session

ES, LAMP = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.5")
OWNER = CircuitId(Session(ES, 1, LAMP), Sender(LAMP, 1))


def places(packets: list[bytes]) -> tuple[bytearray, NDArray[np.int64], NDArray[np.int64]]:
    """Return packets with an octet between each two, and where they are."""
    octets, starts = bytearray(), []
    for packet in packets:
        octets += b"|"
        starts.append(len(octets))
        octets += packet
    sizes = [len(packet) for packet in packets]
    return octets, np.array(starts, np.int64), np.array(sizes, np.int64)


def house() -> Lfib:
    """A switch between two links of 230 V: circuits 16 and 17, the own end at 18, 19 open."""
    lfib = Lfib({1: 230, 2: 230})
    flows = [lfib.allocate(OWNER, 230, 0) for _ in range(4)]
    neutral = lfib.allocate(OWNER, 0, 0)
    for flow in flows[:2]:
        lfib.close_entry(230, flow, [Out(2, 230, flow + 100)])
    lfib.deliver(230, flows[2])
    lfib.close_entry(0, neutral, [Out(1, 0, 500)])
    return lfib


def test_a_batch_is_swapped_in_place_and_the_rest_told() -> None:
    lfib = house()
    packets = [
        stack_octets((230, 16), 3) + b"one",
        stack_octets((230, 17), 7) + b"of seven",
        stack_octets((230, 18), 3) + b"own",
        stack_octets((230, 19), 3),
        stack_octets((400, 16), 3),
        stack_octets((0, 16), 5, 2) + b"back",
        stack_octets((0, 16), 5, 1) + b"back",
        b"\0\0\0\0",
        stack_octets((230, 9999), 3),
    ]
    octets, starts, sizes = places(packets)
    batch = forward_batch(lfib, 1, octets, starts, sizes)
    assert batch.links.tolist() == [2, 2, 0, 0, 0, 1, 0, 0, 0]
    assert batch.others == {
        2: Delivery(OWNER, b"own"),
        3: Drop.OPEN,
        4: Drop.WRONG_VOLTAGE,
        6: Drop.TTL,
        7: Drop.MALFORMED,
        8: Drop.UNKNOWN_LABEL,
    }
    packets[0] = stack_octets((230, 116), 3, 63) + b"one"
    packets[1] = stack_octets((230, 117), 7, 63) + b"of seven"
    packets[5] = stack_octets((0, 500), 5, 1) + b"back"
    assert octets == places(packets)[0]
    assert [(entry.packets, entry.octets) for entry in lfib.entries()] == [
        (1, 11),
        (1, 16),
        (1, 11),
        (0, 0),
        (1, 12),
    ]
    # the columns may grow again: nobody looks at them any more
    assert lfib.allocate(OWNER, 230, 0) == 20


@pytest.mark.parametrize("packets", [[], [b""], [b"\0\0\0\0"]])
def test_batches_of_hardly_anything(packets: list[bytes]) -> None:
    octets, starts, sizes = places(packets)
    batch = forward_batch(house(), 2, octets, starts, sizes)
    assert batch.links.tolist() == [0] * len(packets)
    assert batch.others == dict.fromkeys(range(len(packets)), Drop.MALFORMED)


def test_a_batch_of_a_link_that_is_not_there() -> None:
    with pytest.raises(LocalProtocolError, match="no link 3"):
        forward_batch(house(), 3, *places([]))


@pytest.mark.requirement("MPLA-2.2-05")
def test_a_batch_of_another_link_than_that_of_its_circuit() -> None:
    lfib = Lfib({1: 230, 2: 230})
    for origin in (1, 2, 0):
        flow = lfib.allocate(OWNER, 230, 0, origin)
        lfib.close_entry(230, flow, [Out(2, 230, 100)])
    octets, starts, sizes = places([stack_octets((230, flow), 3) for flow in (16, 17, 18)])
    batch = forward_batch(lfib, 1, octets, starts, sizes)
    assert batch.links.tolist() == [2, 0, 2]
    assert batch.others == {1: Drop.UNKNOWN_LABEL}
