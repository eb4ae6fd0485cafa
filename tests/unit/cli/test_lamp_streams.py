"""Messages of COPS out of TCP segments: in order, each once, found again after a gap."""

import random
from ipaddress import IPv4Address

import pytest

from powertcp.cli import lamp_streams
from powertcp.cli.lamp_streams import MAX_HELD, Streams
from powertcp.errors import DecodeError
from powertcp.mplamps.cops import PORT, encode_message
from tests.cops_messages import MESSAGES
from tests.lamp_captures import segment

EDGE, POLICEMAN = IPv4Address("10.0.0.4"), IPv4Address("10.0.0.9")
OCTETS = [encode_message(message) for message in MESSAGES.values()]
STREAM = b"".join(OCTETS)
# the numbers pass 2^32 within the stream
FIRST = 2**32 - 300
Cut = tuple[int, bytes]


def cut(size: int, stream: bytes = STREAM) -> list[Cut]:
    return [(at, stream[at : at + size]) for at in range(0, len(stream), size)]


def packet(at: int, payload: bytes, flags: int = 0x18, port: int = 40_000) -> bytes:
    seq = (FIRST + at) % 2**32
    return segment(EDGE, POLICEMAN, port, PORT, seq, payload, flags)


def read(cuts: list[Cut], *, has_syn: bool = True, streams: Streams | None = None) -> list[bytes]:
    streams = streams or Streams()
    packets = [packet(-1, b"", 0x02)] if has_syn else []
    packets += [packet(*one) for one in cuts]
    return [piece.octets for one in packets for piece in streams.take(one)]


@pytest.mark.parametrize("size", [1, 7, 64, 1400, len(STREAM)])
def test_every_message_comes_once_however_the_stream_is_cut(size: int) -> None:
    assert read(cut(size)) == OCTETS


def test_a_piece_says_who_speaks() -> None:
    (piece,) = Streams().take(packet(0, OCTETS[0]))
    assert (piece.source, piece.target, piece.fault) == (EDGE, POLICEMAN, None)


def test_segments_may_come_twice_late_and_overlapping(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        cuts = cut(rng.choice((50, 100, 500)))
        mixed = []
        for at, octets in cuts:
            more = STREAM[at : at + len(octets) + rng.randrange(40)]
            mixed += [(at, more)] * rng.choice((1, 1, 2))
        # not later than a window
        for at in range(0, len(mixed) - 4, 4):
            part = mixed[at : at + 4]
            rng.shuffle(part)
            mixed[at : at + 4] = part
        assert read(mixed) == OCTETS


def test_a_capture_may_begin_within_a_connection() -> None:
    assert read(cut(len(STREAM)), has_syn=False) == OCTETS
    # the first segment is the middle of a message: from the next one on that begins with one
    at = len(OCTETS[0])
    middle = [(at - 8, STREAM[at - 8 : at]), (at, STREAM[at:])]
    assert read(middle, has_syn=False) == OCTETS[1:]


def test_after_a_gap_messages_are_found_again() -> None:
    starts = [sum(map(len, OCTETS[:number])) for number in range(len(OCTETS))]
    cuts = list(zip(starts, OCTETS, strict=True))
    del cuts[3]
    # it is only lost when more than the window waits for it
    alive = encode_message(MESSAGES["keep alive"])
    late = [(len(STREAM) + len(alive) * number, alive) for number in range(MAX_HELD)]
    found = read([*cuts, *late])
    assert found[:3] == OCTETS[:3]
    assert OCTETS[3] not in found
    assert found[3 : len(OCTETS) - 1] == OCTETS[4:]


def test_octets_that_are_no_message_are_told_once_and_passed_over() -> None:
    streams = Streams()
    bad = b"\x20" + OCTETS[0][1:]
    pieces = [piece for at, octets in ((0, bad), (len(bad), b"more"), (len(bad) + 4, OCTETS[1]))
              for piece in streams.take(packet(at, octets))]  # fmt: skip
    # a stream that was joined waits for a message without a word
    assert [piece.octets for piece in pieces] == [OCTETS[1]]
    again = len(bad) + 4 + len(OCTETS[1])
    (fault,) = streams.take(packet(again, bad))
    assert fault.fault is not None
    assert fault.fault.field == "version"
    assert list(streams.take(packet(again + len(bad), b"more"))) == []
    (good,) = streams.take(packet(again + len(bad) + 4, OCTETS[1]))
    assert good.octets == OCTETS[1]


def test_a_connection_that_ended_may_begin_again() -> None:
    streams = Streams()
    assert read([(0, OCTETS[0])], streams=streams) == OCTETS[:1]
    assert list(streams.take(packet(len(OCTETS[0]), OCTETS[1][:4], 0x19))) == []
    assert read([(0, OCTETS[2])], streams=streams) == OCTETS[2:3]


def test_other_ports_and_other_packets_have_no_messages() -> None:
    other = segment(EDGE, POLICEMAN, 40_000, 80, 1, OCTETS[0])
    assert list(Streams().take(other)) == []
    with pytest.raises(DecodeError):
        list(Streams().take(other[:30]))


def test_of_too_many_connections_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lamp_streams, "MAX_STREAMS", 2)
    streams = Streams()
    half, rest = STREAM[:4], STREAM[4:]
    for port in (1, 2):
        assert list(streams.take(packet(-1, b"", 0x02, port))) == []
        assert list(streams.take(packet(0, half, port=port))) == []
    assert [one.octets for one in streams.take(packet(4, rest, port=1))] == OCTETS
    # a third one takes the place of the second, which was heard of last the longest time ago
    assert list(streams.take(packet(-1, b"", 0x02, 3))) == []
    assert list(streams.take(packet(4, rest, port=2))) == []
