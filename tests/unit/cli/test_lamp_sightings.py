"""What captures and traces show: names of nodes, messages, and what is neither."""

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from ipaddress import IPv4Address

import pytest

from powertcp.cli.lamp_sightings import MAX_LINE, Names, Other, Seen, Sighting, Told, read_file
from powertcp.errors import ConfigError, DecodeError
from powertcp.mplamps import cops, rsvp
from powertcp.mplamps.plans import parse_topology
from powertcp.wire.capture import MAX_BLOCK, CaptureWriter, ipv4_packet, udp_packet
from powertcp.wire.trace import event, opening
from tests.cops_messages import MESSAGES
from tests.lamp_captures import ADDRESSES, DUSK_NS, TOPOLOGY, Capture, path, segment
from tests.rsvp_messages import GOLDEN_PATH, PATH, node


def read(octets: bytes, names: Names | None = None) -> list[Seen]:
    is_named = names is not None
    return [*read_file(BytesIO(octets), "F", names or Names(), is_named=is_named)]


def ways(seen: list[Seen]) -> list[tuple[str, str]]:
    return [(one.source, one.target) for one in seen if isinstance(one, Sighting)]


# ---- captures -----------------------------------------------------------------------------------


def test_nodes_have_the_names_of_their_links() -> None:
    capture = Capture()
    capture.switch_on("lamp-1")
    capture.police("h1", "pdp", MESSAGES["open"])
    seen = read(capture.octets())
    assert ways(seen) == [
        ("lamp-1", "h1"), ("h1", "c1"), ("c1", "s1"), ("s1", "es1"), ("es1", "s1"), ("s1", "c1"),
        ("c1", "h1"), ("h1", "lamp-1"), ("h1", "pdp"),
    ]  # fmt: skip
    first, last = seen[0], seen[-1]
    assert isinstance(first, Sighting)
    assert isinstance(last, Sighting)
    assert (first.at_ns, first.link, first.is_cops) == (DUSK_NS, "h1--lamp-1", False)
    assert first.said == path("lamp-1", "lamp-1", "h1")
    assert (last.said, last.link, last.is_cops) == (MESSAGES["open"], "h1--pdp", True)


def test_a_name_is_known_before_it_could_be_told_apart() -> None:
    capture = Capture()
    # two addresses on one link: only what follows says which of them is h1
    capture.say("h1", "lamp-1", rsvp.Hello(source=1, destination=0))
    capture.say("c1", "h1", rsvp.Hello(source=2, destination=0))
    assert ways(read(capture.octets())) == [("h1", "lamp-1"), ("c1", "h1")]


def test_on_a_single_link_a_lamp_says_its_name_itself() -> None:
    capture = Capture()
    capture.say("h1", "lamp-1", rsvp.Hello(source=1, destination=0))
    capture.say("lamp-1", "h1", path("lamp-1", "lamp-1", "h1"))
    seen = read(capture.octets())
    assert ways(seen) == [("10.0.0.4", "10.0.0.5"), ("10.0.0.5", "10.0.0.4")]
    names = Names()
    list(read_file(BytesIO(capture.octets()), "F", names, is_named=False))
    assert names.of(ADDRESSES["lamp-1"]) == "lamp-1"


def test_a_topology_knows_them_all() -> None:
    capture = Capture()
    capture.say("h1", "lamp-1", rsvp.Hello(source=1, destination=0))
    names = Names(parse_topology(TOPOLOGY, "small.toml"))
    assert ways(read(capture.octets(), names)) == [("h1", "lamp-1")]


def test_links_whose_names_do_not_say_it_name_nobody() -> None:
    names = Names()
    for link in ("a--b--c", "", "ab"):
        names.note(link, 1, 2)
    names.settle()
    assert names.known == {}


def test_a_name_is_taken_once_and_is_a_name() -> None:
    names = Names()
    names.call(node(1), "lamp-1")
    names.call(node(2), "lamp-1")
    names.call(node(1), "lamp-2")
    names.call(node(3), "es\n1")
    names.call(node(4), "")
    assert names.known == {node(1): "lamp-1"}
    assert names.of(node(2)) == "10.0.0.2"


def test_packets_that_are_no_messages_are_counted() -> None:
    capture = Capture()
    capture.labelled("lamp-1", "h1")
    ends = IPv4Address("10.0.0.4"), IPv4Address("10.0.0.5")
    whole = udp_packet(*ends, rsvp.PORT, GOLDEN_PATH)
    for octets in (
        udp_packet(*ends, 53, b""), ipv4_packet(*ends, 46, GOLDEN_PATH), ipv4_packet(*ends, 6, b""),
        b"\x45", b"", b"\x60" + whole[1:], whole[:60], whole[:6] + b"\x20\0" + whole[8:],
        ipv4_packet(*ends, 17, b"\0" * 7),
    ):  # fmt: skip
        capture.packet("h1--lamp-1", octets)
    seen = read(capture.octets())
    assert seen == [Other(is_labelled=True)] + [Other(is_labelled=False)] * 9


def test_what_is_no_message_is_shown_with_its_fault() -> None:
    capture = Capture()
    capture.datagram("lamp-1", "h1", rsvp.PORT, GOLDEN_PATH[:-4])
    capture.police("h1", "pdp", MESSAGES["keep alive"])
    capture.packet("h1--pdp", b"")
    (message, _, _) = read(capture.octets())
    assert isinstance(message, Sighting)
    assert isinstance(message.said, DecodeError)


def test_what_is_no_message_of_cops_is_shown_with_its_fault() -> None:
    capture = Capture()
    # a whole header, and an object that goes past its end
    bad = bytes.fromhex("1005000100000010") + bytes.fromhex("000c01010000002a")
    ends = ADDRESSES["h1"], ADDRESSES["pdp"]
    capture.packet("h1--pdp", segment(*ends, 40_000, cops.PORT, 1, bad))
    (message,) = read(capture.octets())
    assert isinstance(message, Sighting)
    assert isinstance(message.said, DecodeError)
    assert message.is_cops


def test_the_messages_of_a_bundle_are_shown_one_by_one() -> None:
    inner = rsvp.encode_message(PATH)
    head = bytes((0x11, 12, 0, 0, 64, 0)) + (8 + 2 * len(inner)).to_bytes(2, "big")
    capture = Capture()
    capture.datagram("lamp-1", "h1", rsvp.PORT, head + inner + inner)
    assert [one.said for one in read(capture.octets()) if isinstance(one, Sighting)] == [PATH] * 2


def faults() -> Iterator[tuple[bytes, str]]:
    capture = Capture()
    capture.say("lamp-1", "h1", PATH)
    whole = capture.octets()
    yield b"", "octet 0: neither a capture (pcapng) nor a trace"
    yield b"GIF8", "octet 0: neither a capture (pcapng) nor a trace"
    yield bytes.fromhex("d4c3b2a102000400"), "octet 0: a capture in the format pcap; pcapng is read"
    yield whole[:-4], "the capture ends within a block of 320 octets: 316 are left"
    yield whole + b"\6\0\0\0", "the capture ends within a block: 4 octets are left"
    foreign = bytearray(CaptureWriter(["a--b"]).header())
    foreign[36] = 1
    yield bytes(foreign), "link type 1, only raw IPv4 (101) is read"
    long = b"\5\0\0\0" + (MAX_BLOCK + 4).to_bytes(4, "little") + bytes(4)
    yield whole + long, "a block of 16,777,220 octets, at most 16,777,216 are read"
    yield whole[:8] + bytes(4) + whole[12:], "no capture: byte order is 0"


@pytest.mark.parametrize(("octets", "said"), list(faults()))
def test_what_is_no_capture_is_refused_in_one_sentence(octets: bytes, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(octets)
    assert str(caught.value).startswith("F: octet ")
    assert said in str(caught.value)


def test_what_came_before_the_end_of_a_cut_capture_is_shown() -> None:
    capture = Capture()
    capture.say("lamp-1", "h1", PATH)
    capture.say("h1", "c1", PATH)
    seen = read_file(BytesIO(capture.octets()[:-1]), "F", Names(), is_named=False)
    first = next(seen)
    assert isinstance(first, Sighting)
    # the pass for names did not stop at the fault
    assert first.said == PATH
    with pytest.raises(ConfigError, match="ends within a block"):
        list(seen)


def test_a_storm_is_not_held_in_memory() -> None:
    capture = Capture()
    for _ in range(2_000):
        capture.say("lamp-1", "h1", PATH)
    octets = capture.octets()
    file = BytesIO(octets)
    ahead, at = 0, len(capture.writer.header())
    size = (len(octets) - at) // 2_000
    for seen in read_file(file, "F", Names(), is_named=False):
        assert isinstance(seen, Sighting)
        at += size
        ahead = max(ahead, file.tell() - at)
    assert at == len(octets)
    assert ahead <= 1 << 18 < len(octets) // 2


# ---- traces -------------------------------------------------------------------------------------


def trace(*events: bytes) -> bytes:
    return opening("1", "network", DUSK_NS // 10**6) + b"".join(events)


def said_by(source: str, target: str, octets: bytes) -> dict[str, object]:
    return {"node": source, "to": target, "hex": octets.hex()}


def test_a_trace_shows_messages_and_what_nodes_tell() -> None:
    message = said_by("lamp-1", "h1", rsvp.encode_message(PATH))
    policed = said_by("h1", "pdp", cops.encode_message(MESSAGES["keep alive"]))
    changed = {"node": "10.0.0.5", "tunnel": 1, "state": "dark", "list": [1], "odd": "10.0.0.999"}
    seen = read(trace(
        event(1_500_001, "rsvp:message_sent", message),
        event(2_000_000, "cops:message_sent", policed),
        event(3_000_000, "mplamps:lamp_changed", changed),
    ))  # fmt: skip
    assert seen == [
        Sighting(DUSK_NS + 1_500_001, "lamp-1", "h1", "", PATH),
        Sighting(DUSK_NS + 2_000_000, "h1", "pdp", "", MESSAGES["keep alive"], is_cops=True),
        # the PATH says that lamp-1 is 10.0.0.5
        Told(DUSK_NS + 3_000_000, "mplamps:lamp_changed", {**changed, "node": "lamp-1"}),
    ]


def test_an_edge_router_tells_its_address_to_the_policeman() -> None:
    policed = said_by("h1", "pdp", cops.encode_message(MESSAGES["open"]))
    seen = read(trace(event(0, "lfib:breaker_closed", {"node": "10.0.0.4"}),
                      event(0, "cops:message_sent", policed)))  # fmt: skip
    assert isinstance(seen[0], Told)
    assert seen[0].data == {"node": "h1"}


def test_a_trace_may_be_lines_without_a_head_and_messages_without_octets() -> None:
    lines = b'{"time":0.5,"name":"rsvp:message_sent","data":{"type":"PATH","hex":"odd"}}\n\n'
    assert read(lines) == [
        Told(500_000, "rsvp:message_sent", {"type": "PATH", "hex": "odd"})
    ]  # fmt: skip


BAD_LINES: list[tuple[bytes, str]] = [
    (b"{\n", "line 1: no JSON"),
    (b'{"time":1', "line 1: the trace ends within a record"),
    (b'\x1e{}\n', "line 1: no event: an event has time (ms), name and data"),
    (b'{"time":"noon","name":"a:b","data":{}}\n', "line 1: no event: an event has time"),
    (b'{"time":1e9999,"name":"a:b","data":{}}\n', "line 1: no event: an event has time"),
    (b'{"time":1,"name":2,"data":{}}\n', "line 1: no event: name is a text"),
    (b'{"time":1,"name":"a:b","data":[]}\n', "line 1: no event: name is a text"),
    (b'{"time":1,"name":"a:b","data":{}}\n[]\n', "line 2: no event: not an object"),
    (b'{"x":' + b"[" * 100_000 + b"\n", "line 1: no JSON"),
    (b"{" + b" " * MAX_LINE + b"\n", f"line 1: more than {MAX_LINE:,} octets"),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "said"), BAD_LINES, ids=range(len(BAD_LINES)))
def test_what_is_no_trace_is_refused_in_one_sentence(octets: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match="F: line ") as caught:
        read(octets)
    assert said in str(caught.value)


@pytest.mark.parametrize("head", [{"qlog_version": 1}, {"qlog_version": 1, "trace": 2}])
def test_a_head_that_says_no_time_begins_at_0(head: dict[str, object]) -> None:
    line = json.dumps(head).encode() + b'\n{"time":-1.25,"name":"a:b","data":{}}\n'
    (told,) = read(line)
    assert isinstance(told, Told)
    assert told.at_ns == -1_250_000


@pytest.mark.parametrize("make", [lambda octets: octets[:-3], lambda octets: octets + b"{"])
def test_a_cut_trace_shows_what_came_before(make: Callable[[bytes], bytes]) -> None:
    whole = trace(*(event(number, "a:b", {}) for number in range(3)))
    seen = read_file(BytesIO(make(whole)), "F", Names(), is_named=False)
    assert isinstance(next(seen), Told)
    with pytest.raises(ConfigError, match="the trace ends within a record"):
        list(seen)
