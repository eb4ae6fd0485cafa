"""One end against another, and against packets that a peer would not or should not send."""

from ipaddress import IPv4Address

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.machine import Event
from powertcp.mplamps.packet import DEFAULT_MSS, MSS, WINDOW, Packet
from powertcp.mplamps.tcp import (
    FIRST_RTO_NS,
    LINGER_NS,
    MAX_BACKLOG,
    MAX_RTO_NS,
    MAX_TRIES,
    MIN_RTO_NS,
    Ended,
    Endpoint,
    Opened,
    PeerFinished,
    State,
)
from powertcp.profile import PowerProfile
from powertcp.registry import Flag
from powertcp.units import NS_PER_MS, NS_PER_S

LAMP, ES = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.1")
PORT = 49152
REQUEST = PowerProfile.parse("230V/260mA@50Hz")
SYN, ACK, FIN, RST = int(Flag.SYN), int(Flag.ACK), int(Flag.FIN), int(Flag.RST)
DELAY = 5 * NS_PER_MS


class Talk:
    """A lamp and a source, and a clock between them."""

    def __init__(self, lamp_seq: int = 1000, es_seq: int = 0xFFFF_FFF0) -> None:
        self.lamp, self.es = Endpoint(LAMP, PORT, lamp_seq), Endpoint(ES, 3251, es_seq)
        self.now = 0

    def opened(self) -> "Talk":
        self.es.listen()
        self.lamp.connect(ES, REQUEST, self.now)
        self.exchange()
        assert events(self.lamp) == [Opened(request=None)]
        assert events(self.es) == [Opened(request=REQUEST)]
        return self

    def exchange(self) -> list[Packet]:
        """Carry packets both ways until there are none; return them."""
        carried: list[Packet] = []
        while True:
            there, back = self.lamp.packets_to_send(), self.es.packets_to_send()
            if not there and not back:
                return carried
            self.now += DELAY
            for end, packets in ((self.es, there), (self.lamp, back)):
                for octets in packets:
                    assert end.receive_packet(octets, self.now)
                    carried.append(Packet.from_wire(octets))

    def to_lamp(self, **changes: object) -> list[Packet]:
        """Hand the lamp a packet of the source with changes; return what it answers."""
        return deliver(self.lamp, from_es(self, **changes), self.now)


def events(end: Endpoint) -> list[Event]:
    found = []
    while (event := end.next_event()) is not None:
        found.append(event)
    return found


def state(end: Endpoint) -> State:
    return end.state


def sent(end: Endpoint) -> list[Packet]:
    return [Packet.from_wire(octets) for octets in end.packets_to_send()]


def deliver(end: Endpoint, packet: Packet, now: int) -> list[Packet]:
    end.receive_packet(packet.to_wire(), now)
    return sent(end)


def from_es(talk: Talk, **changes: object) -> Packet:
    fields: dict[str, object] = {
        "source": ES,
        "destination": LAMP,
        "source_port": 3251,
        "destination_port": PORT,
        "seq": 0xFFFF_FFF1,
        "ack": 1001,
        "flags": ACK,
    }
    return Packet(**(fields | changes))  # type: ignore[arg-type]


def from_lamp(**changes: object) -> Packet:
    fields: dict[str, object] = {
        "source": LAMP,
        "destination": ES,
        "source_port": PORT,
        "destination_port": 3251,
        "seq": 1000,
        "flags": SYN,
        "mss": MSS,
    }
    return Packet(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.requirement("MPLA-9-01", "MPLA-9-02", "MPLA-3-05")
def test_a_lamp_opens_and_the_source_is_silent_until_then() -> None:
    talk = Talk()
    talk.es.listen()
    talk.es.handle_timer(NS_PER_S)
    assert talk.es.packets_to_send() == []
    assert talk.es.get_timer() is None
    talk.lamp.connect(ES, REQUEST, 0)
    syn, answer, ack = talk.exchange()
    assert (syn.flags, syn.seq, syn.ack, syn.mss, syn.request) == (SYN, 1000, 0, MSS, REQUEST)
    assert (syn.source, syn.source_port) == (LAMP, PORT)
    assert (syn.destination, syn.destination_port) == (ES, 3251)
    assert (answer.flags, answer.ack, answer.mss, answer.request) == (SYN | ACK, 1001, MSS, None)
    assert (ack.flags, ack.seq, ack.ack) == (ACK, 1001, 0xFFFF_FFF1)
    assert {packet.window for packet in (syn, answer, ack)} == {WINDOW}
    assert events(talk.es) == [Opened(request=REQUEST)]
    assert events(talk.lamp) == [Opened(request=None)]
    assert state(talk.lamp) is state(talk.es) is State.ESTABLISHED
    assert talk.lamp.get_timer() is talk.es.get_timer() is None


@pytest.mark.requirement("MPLA-9-01")
def test_octets_go_both_ways_and_each_segment_is_acknowledged() -> None:
    talk = Talk().opened()
    there, back = bytes(range(256)) * 20, b"volts" * 100
    talk.lamp.send(there, talk.now)
    talk.es.send(back, talk.now)
    assert talk.lamp.backlog == len(there)
    assert talk.lamp.room == MAX_BACKLOG - len(there)
    carried = talk.exchange()
    assert sum(bool(packet.payload) for packet in carried) == 5
    assert sum(not packet.payload for packet in carried) == 5
    # the last of what was queued is pushed
    assert [
        bool(one.flags & Flag.PSH) for one in carried if one.payload and one.source == LAMP
    ] == [
        False,
        False,
        False,
        True,
    ]
    assert (talk.es.unread, talk.lamp.unread) == (len(there), len(back))
    assert talk.es.read(100) == there[:100]
    assert talk.es.read() == there[100:]
    assert talk.es.read() == b""
    assert talk.lamp.read() == back
    assert talk.lamp.backlog == talk.es.backlog == 0
    assert talk.lamp.get_timer() is None


@pytest.mark.requirement("MPLA-9-03")
def test_a_packet_begins_where_it_is_asked_to() -> None:
    talk = Talk().opened()
    # nothing fits the window but one octet, so that what follows waits
    talk.to_lamp(window=1)
    talk.lamp.send(b"a", talk.now, starts_packet=True)
    for size, starts in ((10, False), (1500, True), (20, True), (5, False), (0, True), (3, False)):
        talk.lamp.send(bytes(size), talk.now, starts_packet=starts)
    assert [len(packet.payload) for packet in sent(talk.lamp)] == [1]
    (ack,) = deliver(talk.es, from_lamp(flags=ACK, mss=None, seq=1001, ack=0xFFFF_FFF1,
                                        payload=b"a"), talk.now)  # fmt: skip
    assert [len(one.payload) for one in deliver(talk.lamp, ack, talk.now)] == [10, 1400, 100, 28]


def test_queued_before_the_opening_is_sent_after_it() -> None:
    talk = Talk()
    talk.es.listen()
    talk.lamp.connect(ES, REQUEST, 0)
    assert talk.lamp.may_send
    talk.lamp.send(b"early", 0)
    talk.lamp.close(0)
    assert not talk.lamp.may_send
    (syn,) = sent(talk.lamp)
    (answer,) = deliver(talk.es, syn, 0)
    # the source cannot send yet either, and closes once it can
    talk.es.send(b"too", 0)
    talk.es.close(0)
    assert sent(talk.es) == []
    ack, data, end = deliver(talk.lamp, answer, 0)
    assert (ack.payload, data.payload, end.flags) == (b"", b"early", FIN | ACK)
    too, fin = deliver(talk.es, ack, 0)
    assert (too.payload, fin.flags) == (b"too", FIN | ACK)
    assert deliver(talk.es, data, 0)[0].flags == ACK
    assert talk.es.read() == b"early"


@pytest.mark.requirement("MPLA-9-01")
def test_fin_both_ways() -> None:
    talk = Talk().opened()
    talk.lamp.send(b"last words", talk.now)
    talk.lamp.close(talk.now)
    talk.lamp.close(talk.now)
    assert state(talk.lamp) is State.FIN_WAIT_1
    with pytest.raises(LocalProtocolError, match="FIN_WAIT_1"):
        talk.lamp.send(b"more", talk.now)
    talk.exchange()
    assert events(talk.es) == [PeerFinished()]
    assert state(talk.es) is State.CLOSE_WAIT
    assert state(talk.lamp) is State.FIN_WAIT_2
    assert events(talk.lamp) == []
    # the other way is still open
    talk.es.send(b"answer", talk.now)
    talk.exchange()
    assert (talk.lamp.read(), talk.es.read()) == (b"answer", b"last words")
    talk.es.close(talk.now)
    (fin,) = sent(talk.es)
    assert state(talk.es) is State.LAST_ACK
    (ack,) = deliver(talk.lamp, fin, talk.now)
    assert events(talk.lamp) == [PeerFinished(), Ended(refusal=None)]
    assert state(talk.lamp) is State.TIME_WAIT
    # the last acknowledgment was lost: FIN comes once more
    assert deliver(talk.lamp, fin, talk.now) == [ack]
    assert deliver(talk.es, ack, talk.now) == []
    assert state(talk.es) is State.CLOSED
    assert events(talk.es) == [Ended(refusal=None)]
    talk.es.close(talk.now)
    assert events(talk.es) == []
    timer = talk.lamp.get_timer()
    assert timer == talk.now + LINGER_NS
    talk.lamp.handle_timer(timer - 1)
    assert state(talk.lamp) is State.TIME_WAIT
    talk.lamp.handle_timer(timer)
    assert state(talk.lamp) is State.CLOSED
    assert events(talk.lamp) == []
    assert not talk.lamp.receive_packet(fin.to_wire(), timer)


def test_both_ends_close_at_once() -> None:
    talk = Talk().opened()
    talk.lamp.close(talk.now)
    talk.es.close(talk.now)
    (ours,), (theirs,) = sent(talk.lamp), sent(talk.es)
    (first,) = deliver(talk.lamp, theirs, talk.now)
    assert state(talk.lamp) is State.CLOSING
    (second,) = deliver(talk.es, ours, talk.now)
    assert deliver(talk.lamp, second, talk.now) == deliver(talk.es, first, talk.now) == []
    assert state(talk.lamp) is state(talk.es) is State.TIME_WAIT
    assert events(talk.lamp) == events(talk.es) == [PeerFinished(), Ended(refusal=None)]
    # a reset in TIME_WAIT is no second end
    deliver(talk.lamp, from_es(talk, flags=RST, seq=0xFFFF_FFF2), talk.now)
    assert state(talk.lamp) is State.CLOSED
    assert events(talk.lamp) == []


def test_octets_after_a_fin_are_nobodys() -> None:
    talk = Talk().opened()
    talk.to_lamp(flags=FIN | ACK, payload=b"end")
    assert talk.lamp.read() == b"end"
    assert state(talk.lamp) is State.CLOSE_WAIT
    (answer,) = talk.to_lamp(seq=0xFFFF_FFF5, payload=b"more")
    assert answer.ack == 0xFFFF_FFF5
    assert talk.lamp.unread == 0


@pytest.mark.requirement("MPLA-9-01")
def test_the_first_lost_octet_is_sent_again_after_the_timeout() -> None:
    talk = Talk().opened()
    start = talk.now
    talk.lamp.send(bytes(3000), start)
    first = sent(talk.lamp)
    # both ways took 10 ms when it opened: the timeout is the least there is
    timer = talk.lamp.get_timer()
    assert timer == start + MIN_RTO_NS
    talk.lamp.handle_timer(timer - 1)
    assert sent(talk.lamp) == []
    talk.lamp.handle_timer(timer)
    assert sent(talk.lamp) == first
    assert talk.lamp.get_timer() == timer + 2 * MIN_RTO_NS
    # the second of three is lost: what is in order is acknowledged, the rest is dropped
    assert [deliver(talk.es, first[at], timer)[0].ack for at in (0, 2, 2)] == [2401] * 3
    talk.to_lamp(ack=2401)
    again = talk.lamp.get_timer()
    assert again == talk.now + MIN_RTO_NS
    talk.lamp.handle_timer(again)
    assert sent(talk.lamp) == first[1:]


@pytest.mark.requirement("MPLA-9-01")
def test_eight_times_and_then_it_is_broken() -> None:
    lamp = Endpoint(LAMP, PORT, 7)
    lamp.connect(ES, REQUEST, 0)
    syn = lamp.packets_to_send()
    waits, now = [], 0
    for _ in range(MAX_TRIES):
        timer = lamp.get_timer()
        assert timer is not None
        waits.append(timer - now)
        now = timer
        lamp.handle_timer(now)
        assert lamp.packets_to_send() == syn
    assert waits == [NS_PER_S, 2 * NS_PER_S, *[MAX_RTO_NS] * 6]
    assert waits[0] == FIRST_RTO_NS
    now += MAX_RTO_NS
    lamp.handle_timer(now)
    assert lamp.packets_to_send() == []
    (ended,) = events(lamp)
    assert isinstance(ended, Ended)
    assert ended.refusal is not None
    assert (ended.refusal.code, ended.refusal.value, ended.refusal.limit) == (507, 31_000, 31_000)
    assert state(lamp) is State.CLOSED
    assert lamp.get_timer() is None
    lamp.handle_timer(now + NS_PER_S)
    with pytest.raises(LocalProtocolError, match="opens once"):
        lamp.connect(ES, REQUEST, now)


@pytest.mark.requirement("MPLA-9-01")
def test_the_third_duplicate_acknowledgment_sends_again_at_once() -> None:
    talk = Talk().opened()
    talk.lamp.send(bytes(6000), talk.now)
    lost, *rest = sent(talk.lamp)
    answers = [deliver(talk.es, packet, talk.now)[0] for packet in rest]
    assert {answer.ack for answer in answers} == {1001}
    assert len(answers) == 4
    again = [deliver(talk.lamp, answer, talk.now) for answer in answers]
    assert again == [[], [], [lost, *rest], []]
    # more of them for the same loss do nothing
    for _ in range(5):
        assert deliver(talk.lamp, answers[0], talk.now) == []
    talk.now += DELAY
    for packet in [lost, *rest]:
        deliver(talk.lamp, deliver(talk.es, packet, talk.now)[0], talk.now)
    assert talk.es.unread == 6000
    assert talk.lamp.get_timer() is None


def test_a_window_that_opens_is_no_duplicate() -> None:
    talk = Talk().opened()
    talk.lamp.send(bytes(100), talk.now)
    assert len(sent(talk.lamp)) == 1
    for window in range(WINDOW - 5, WINDOW):
        assert talk.to_lamp(window=window) == []


def test_timeouts_follow_the_way_there_and_back() -> None:
    talk = Talk().opened()
    for rtt_ms in (500, 500, 500):
        talk.lamp.send(b"x", talk.now)
        (packet,) = sent(talk.lamp)
        talk.now += rtt_ms * NS_PER_MS
        deliver(talk.lamp, deliver(talk.es, packet, talk.now)[0], talk.now)
    talk.lamp.send(b"x", talk.now)
    timer = talk.lamp.get_timer()
    # srtt 171.7 ms and rttvar 245.2 ms, by RFC 6298 from 10, 500, 500, 500
    assert timer is not None
    assert (timer - talk.now) // NS_PER_MS == 1152


def test_what_is_sent_twice_is_not_timed() -> None:
    talk = Talk().opened()
    talk.lamp.send(b"x", talk.now)
    (packet,) = sent(talk.lamp)
    timer = talk.lamp.get_timer()
    assert timer is not None
    talk.lamp.handle_timer(timer)
    talk.now = timer + 5 * NS_PER_S
    deliver(talk.lamp, deliver(talk.es, packet, talk.now)[0], talk.now)
    sent(talk.lamp)
    talk.lamp.send(b"y", talk.now)
    assert talk.lamp.get_timer() == talk.now + MIN_RTO_NS


@pytest.mark.requirement("MPLA-9-01")
def test_what_is_not_read_is_dropped_beyond_a_window() -> None:
    talk = Talk().opened()
    seq = 0xFFFF_FFF1
    for size in (*[1400] * 46, 1135):
        (answer,) = talk.to_lamp(seq=seq, payload=bytes(size))
        seq = seq + size & 0xFFFF_FFFF
        assert answer.ack == seq
        assert answer.window == WINDOW
    assert talk.lamp.unread == WINDOW
    (answer,) = talk.to_lamp(seq=seq, payload=b"x")
    assert answer.ack == seq
    assert talk.lamp.unread == WINDOW
    talk.lamp.read(1)
    (answer,) = talk.to_lamp(seq=seq, payload=b"x")
    assert answer.ack == seq + 1


def test_a_small_window_and_one_that_is_shut() -> None:
    talk = Talk().opened()
    assert talk.to_lamp(window=2000) == []
    talk.lamp.send(bytes(3000), talk.now)
    assert [len(packet.payload) for packet in sent(talk.lamp)] == [1400]
    # the second does not fit behind the first
    assert [len(one.payload) for one in talk.to_lamp(ack=2401, window=0)] == [1]
    assert talk.to_lamp(ack=2401, window=0) == []
    assert [len(one.payload) for one in talk.to_lamp(ack=2402, window=WINDOW)] == [1400, 199]


def test_a_peer_with_small_segments() -> None:
    for mss, size in ((None, DEFAULT_MSS), (100, 100), (9000, MSS), (0, DEFAULT_MSS)):
        es = Endpoint(ES, 3251, 5)
        es.listen()
        deliver(es, from_lamp(mss=mss), 0)
        es.receive_packet(from_lamp(flags=ACK, mss=None, seq=1001, ack=6).to_wire(), 0)
        es.send(bytes(5000), 0)
        assert len(sent(es)[0].payload) == size


def test_old_and_overlapping_octets_are_taken_once() -> None:
    talk = Talk().opened()
    talk.to_lamp(payload=b"abcd")
    for offset, payload, ack in ((0, b"abcd", 4), (2, b"cdef", 6), (7, b"h", 6)):
        (answer,) = talk.to_lamp(seq=0xFFFF_FFF1 + offset, payload=payload)
        assert answer.ack == 0xFFFF_FFF1 + ack
    assert talk.to_lamp(seq=0xFFFF_FFF2) == []
    assert talk.lamp.read() == b"abcdef"


@pytest.mark.parametrize(
    ("changes", "answers"),
    [
        # acknowledges what was not sent; has no acknowledgment; lies outside of the window
        ({"ack": 1002}, [ACK]),
        ({"flags": 0}, [ACK]),
        ({"seq": 0xFFFF_FFF1 + WINDOW & 0xFFFF_FFFF}, [ACK]),
        ({"seq": 0xFFFF_FFF1 - WINDOW - 1}, [ACK]),
        # a SYN, as of one that has started again: RFC 5961
        ({"flags": SYN}, [ACK]),
        ({"flags": SYN | ACK}, [ACK]),
        # a reset in the window but not at its edge, and one outside
        ({"flags": RST, "seq": 0xFFFF_FFF2}, [ACK]),
        ({"flags": RST, "seq": 0xFFFF_FFF0}, []),
        # an old acknowledgment
        ({"ack": 1000}, []),
        # of another connection
        ({"source_port": 3252}, []),
        ({"source": LAMP}, []),
        ({"destination_port": 1}, []),
        ({"destination": ES}, []),
    ],
)
def test_what_does_not_belong_changes_nothing(
    changes: dict[str, object], answers: list[int]
) -> None:
    talk = Talk().opened()
    assert [packet.flags for packet in talk.to_lamp(**changes)] == answers
    assert state(talk.lamp) is State.ESTABLISHED
    assert events(talk.lamp) == []
    assert talk.lamp.unread == 0


def test_packets_that_are_malformed_are_not_ours() -> None:
    talk = Talk().opened()
    octets = bytearray(from_es(talk, payload=b"x").to_wire())
    octets[-1] ^= 1
    assert not talk.lamp.receive_packet(octets, talk.now)
    assert not talk.lamp.receive_packet(b"", talk.now)
    assert talk.lamp.unread == 0


@pytest.mark.requirement("MPLA-9-01")
def test_a_reset_ends_it() -> None:
    talk = Talk().opened()
    talk.es.send(b"to be read", talk.now)
    talk.exchange()
    talk.lamp.send(b"lost", talk.now)
    talk.es.abort()
    (reset,) = sent(talk.es)
    assert reset.flags == RST | ACK
    assert state(talk.es) is State.CLOSED
    assert events(talk.es) == []
    talk.lamp.receive_packet(reset.to_wire(), talk.now)
    (ended,) = events(talk.lamp)
    assert isinstance(ended, Ended)
    assert ended.refusal is not None
    assert ended.refusal.code == 506
    assert talk.lamp.read() == b"to be read"
    assert talk.lamp.get_timer() is None
    assert talk.lamp.room == MAX_BACKLOG


def test_a_reset_during_the_opening() -> None:
    lamp = Endpoint(LAMP, PORT, 1000)
    lamp.connect(ES, REQUEST, 0)
    sent(lamp)
    talk = Talk()
    # of another, then of the peer
    assert deliver(lamp, from_es(talk, flags=RST | ACK, ack=1000), 0) == []
    assert deliver(lamp, from_es(talk, flags=RST, ack=1001), 0) == []
    assert state(lamp) is State.SYN_SENT
    # an answer to something else is reset, a SYN alone and an acknowledgment alone are ignored
    (reset,) = deliver(lamp, from_es(talk, flags=SYN | ACK, ack=999), 0)
    assert (reset.flags, reset.seq, reset.ack) == (RST, 999, 0)
    assert deliver(lamp, from_es(talk, flags=SYN), 0) == []
    assert deliver(lamp, from_es(talk, flags=ACK), 0) == []
    assert deliver(lamp, from_es(talk, flags=RST | ACK), 0) == []
    assert state(lamp) is State.CLOSED
    assert len(events(lamp)) == 1


def test_a_source_that_is_answered_wrongly() -> None:
    es = Endpoint(ES, 3251, 5)
    es.listen()
    for flags in (ACK, RST, FIN, SYN | ACK):
        assert not es.receive_packet(from_lamp(flags=flags).to_wire(), 0)
    (answer,) = deliver(es, from_lamp(), 0)
    # the answer was lost: the SYN comes again
    assert deliver(es, from_lamp(), 0) == [answer]
    (reset,) = deliver(es, from_lamp(flags=ACK, seq=1001, ack=99), 0)
    assert (reset.flags, reset.seq) == (RST, 99)
    assert state(es) is State.SYN_RECEIVED
    assert events(es) == []
    # data with the first acknowledgment opens, too
    (ack,) = deliver(es, from_lamp(flags=ACK, mss=None, seq=1001, ack=6, payload=b"hi"), 0)
    assert ack.ack == 1003
    assert events(es) == [Opened(request=None)]
    assert es.read() == b"hi"


@pytest.mark.parametrize("opening", ["connect", "listen"])
def test_an_end_that_never_opened_closes_at_once(opening: str) -> None:
    end = Endpoint(LAMP, PORT, 0)
    if opening == "connect":
        end.connect(ES, REQUEST, 0)
    else:
        end.listen()
    end.packets_to_send()
    end.close(0)
    assert events(end) == [Ended(refusal=None)]
    assert state(end) is State.CLOSED
    assert end.packets_to_send() == []
    assert end.get_timer() is None


def test_nothing_is_reset_that_was_not_opened() -> None:
    end = Endpoint(LAMP, PORT, 0)
    end.abort()
    end.connect(ES, REQUEST, 0)
    end.packets_to_send()
    end.abort()
    assert end.packets_to_send() == []
    assert state(end) is State.CLOSED
    assert events(end) == []


def test_misuse_changes_nothing() -> None:
    talk = Talk().opened()
    for wrong in (talk.lamp.listen, lambda: talk.lamp.connect(ES, REQUEST, 0)):
        with pytest.raises(LocalProtocolError, match="opens once"):
            wrong()
    with pytest.raises(LocalProtocolError, match="room for"):
        talk.lamp.send(bytes(MAX_BACKLOG + 1), talk.now)
    assert talk.lamp.room == MAX_BACKLOG
    talk.lamp.send(bytes(MAX_BACKLOG), talk.now)
    assert talk.lamp.room == 0
    with pytest.raises(LocalProtocolError, match="CLOSED"):
        Endpoint(LAMP, PORT, 0).send(b"x", 0)
