"""What a simulation leaves behind: counts, hashes, a capture and a trace."""

import json
from hashlib import sha256

import pytest

from powertcp.mplamps.cops import encode_message
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.label import stack_octets
from powertcp.mplamps.recorder import DUSK_NS, Recorder, policing_interface
from powertcp.mplamps.wires import Wire
from powertcp.wire.capture import ipv4_packet, read_capture
from tests.cops_messages import MESSAGES
from tests.rsvp_messages import GOLDEN_PATH, GOLDEN_RESV

STREET = generate_topology("street:1", has_pdp=True)
COPS = [encode_message(message) for message in MESSAGES.values()][:2]
WIRE = Wire(STREET, STREET.links[0], "es1", 5, 1)


class Files:
    """A recorder with its files."""

    def __init__(self, *, is_traced: bool = True) -> None:
        self.capture, self.trace = bytearray(), bytearray()
        trace = self.trace.extend if is_traced else None
        self.recorder = Recorder(STREET, capture=self.capture.extend, trace=trace)

    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.trace.decode().split("\x1e")[1:]]


def test_messages_are_counted_by_their_types() -> None:
    recorder = Recorder(STREET)
    for octets in (GOLDEN_PATH, GOLDEN_RESV, GOLDEN_PATH):
        recorder.message(WIRE, octets, 7)
    recorder.message(WIRE, b"\x11\xc8" + bytes(6), 7)
    assert recorder.messages() == {"PATH": 2, "RESV": 1, "200": 1}


@pytest.mark.requirement("MPLA-10-01")
def test_a_capture_has_what_was_sent_where_and_when() -> None:
    files = Files()
    stack = stack_octets((110_000, 16), tc=3)
    inner = ipv4_packet(WIRE.source_address, WIRE.target_address, 253, b"")
    files.recorder.message(WIRE, GOLDEN_PATH, 7)
    files.recorder.labelled(WIRE, stack + inner, 8)
    files.recorder.segment(policing_interface("h1", "pdp"), 0, inner, 9)
    first, second, third = read_capture(bytes(files.capture))
    assert [one.at_ns - DUSK_NS for one in (first, second, third)] == [7, 8, 9]
    assert [one.interface for one in (first, second, third)] == ["es1--s1", "es1--s1", "h1--pdp"]
    # the TTL of the datagram is that of the message
    assert (first.octets[8], first.octets[28:]) == (GOLDEN_PATH[4], GOLDEN_PATH)
    assert (second.octets[20:24].hex(), second.octets[28:]) == ("19eb19eb", stack + inner)
    assert third.octets == inner
    assert files.recorder.capture_hash() == sha256(files.capture).hexdigest()
    assert files.recorder.packets == 1


@pytest.mark.requirement("MPLA-8-01")
def test_the_hash_depends_on_what_was_sent_where_when_and_in_which_order() -> None:
    def hashed(*calls: tuple[bytes, int, int]) -> str:
        recorder = Recorder(STREET)
        for octets, index, now in calls:
            recorder.message(Wire(STREET, STREET.links[0], "es1", index, 1), octets, now)
        return recorder.trace_hash()

    path, resv = (GOLDEN_PATH, 1, 5), (GOLDEN_RESV, 1, 5)
    found = [
        hashed(path, resv),
        hashed(resv, path),
        hashed(path),
        hashed((GOLDEN_PATH, 2, 5)),
        hashed((GOLDEN_PATH, 1, 6)),
        hashed(),
    ]
    assert len(set(found)) == len(found)
    assert hashed(*[path] * 2000) == hashed(*[path] * 2000)


def test_a_message_and_a_packet_are_not_the_same() -> None:
    one, other = Recorder(STREET), Recorder(STREET)
    one.message(WIRE, GOLDEN_PATH, 1)
    other.labelled(WIRE, GOLDEN_PATH, 1)
    assert one.trace_hash() != other.trace_hash()


def test_a_trace_has_octets_and_facts() -> None:
    files = Files()
    recorder = files.recorder
    assert recorder.is_traced
    recorder.message(WIRE, GOLDEN_PATH, 1_500_000)
    recorder.event("mplamps:act_done", {"act": "on"}, 2_000_000)
    recorder.detail("lfib:breaker_closed", {"node": "h1"}, 3_000_001)
    octets = b"".join(COPS)
    recorder.policed("h1", "pdp", octets, 4_000_000)
    opening, path, act, detail, *cops = files.records()
    trace = opening["trace"]
    assert isinstance(trace, dict)
    assert trace["common_fields"]["reference_time"] == 1_017_619_200_000
    assert path == {
        "time": 1.5,
        "name": "rsvp:message_sent",
        "data": {"node": "es1", "to": "s1", "link": 1, "type": "PATH", "hex": GOLDEN_PATH.hex()},
    }
    assert (act["name"], act["data"]) == ("mplamps:act_done", {"act": "on"})
    assert detail["time"] == 3.000001
    assert [one["data"] for one in cops] == [
        {"node": "h1", "to": "pdp", "hex": one.hex()} for one in COPS
    ]


def test_events_are_hashed_and_details_are_not() -> None:
    bare, told, detailed = Recorder(STREET), Recorder(STREET), Recorder(STREET)
    told.event("mplamps:act_done", {"act": "on"}, 1)
    detailed.detail("lfib:breaker_closed", {"node": "h1"}, 1)
    assert bare.trace_hash() == detailed.trace_hash() != told.trace_hash()
    assert not bare.is_traced
    assert bare.capture_hash() is None
