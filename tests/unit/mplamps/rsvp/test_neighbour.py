"""Two neighbours over a link that loses, doubles, reorders and spoils: what is new of what comes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from heapq import heappop, heappush
from ipaddress import IPv4Address
from itertools import pairwise
from random import Random

import pytest

from powertcp.mplamps.rsvp import (
    Ack,
    Acknowledgement,
    Bundle,
    Found,
    Hello,
    Hop,
    Key,
    Lost,
    Message,
    MessageId,
    Neighbour,
    Path,
    PathTear,
    Received,
    Refreshed,
    Rejected,
    Resv,
    ResvTear,
    Session,
    Settings,
    Signal,
    Srefresh,
    decode_message,
    encode_message,
    path_key,
    resv_key,
)
from powertcp.mplamps.rsvp.neighbour import RESTART_NS
from powertcp.mplamps.rsvp.post import Post
from tests.rsvp_messages import (
    CIRCUIT,
    LAMP,
    MESSAGES,
    PATH,
    RESV,
    SESSION,
    entity,
    message,
    node,
    objects,
)

MS = 1_000_000
SECOND = 1_000 * MS
KEY = Key(7, b"sixteen octets and more")
OTHER = LAMP._replace(lsp=2)
SAID_PATH = replace(PATH, message_id=None)
SAID_RESV = replace(RESV, message_id=None)
TEAR = PathTear(session=SESSION, hop=Hop(node(5), 1), sender=LAMP, tspec=PATH.tspec)
RESV_TEAR = ResvTear(session=SESSION, hop=Hop(node(4), 1), style=RESV.style, sender=LAMP)


def path(tunnel: int, flow_label: int = 16) -> Path:
    return replace(SAID_PATH, session=SESSION._replace(tunnel=tunnel), flow_label=flow_label)


def tear(tunnel: int) -> PathTear:
    return replace(TEAR, session=SESSION._replace(tunnel=tunnel))


def key_of_path(tunnel: int) -> tuple[object, ...]:
    return path_key(SESSION._replace(tunnel=tunnel), LAMP)


def dice(seed: int) -> Callable[[int], bytes]:
    return Random(seed).randbytes


class Link:
    """Two neighbours, 1 ms apart; `loss` and the others are chances of each datagram."""

    def __init__(self, settings: Settings | None = None, seed: int = 1) -> None:
        self.now = 5 * SECOND
        self.settings = settings or Settings()
        self.random = Random(seed)
        self.ends = [self.make(0, 0xA), self.make(1, 0xB)]
        self.heard: list[list[Message]] = [[], []]
        self.refreshed: list[list[tuple[object, ...]]] = [[], []]
        self.sent: list[list[tuple[int, bytes]]] = [[], []]
        self.loss = self.double = self.spoil = 0.0
        self.jitter_ns = 0
        self.is_cut = [False, False]
        self._wire: list[tuple[int, int, int, bytes]] = []
        self._count = 0

    def make(self, end: int, epoch: int) -> Neighbour:
        entropy = dice(epoch)
        return Neighbour(node(4 + end), self.settings, epoch, entropy, self.now, Post(), 1)

    def restart(self, end: int, epoch: int) -> None:
        self.ends[end] = self.make(end, epoch)

    def say(self, end: int, said: Signal) -> None:
        self.ends[end].send(said, self.now)
        self.carry()

    def carry(self) -> None:
        for end, neighbour in enumerate(self.ends):
            for octets, _ in neighbour.post.drain():
                self.sent[end].append((self.now, octets))
                if not self.is_cut[end] and self.random.random() >= self.loss:
                    self.put(1 - end, octets)

    def put(self, end: int, octets: bytes) -> None:
        copies = 2 if self.random.random() < self.double else 1
        for _ in range(copies):
            delay = MS + self.random.randint(0, self.jitter_ns)
            self._count += 1
            heappush(self._wire, (self.now + delay, self._count, end, self.damaged(octets)))

    def damaged(self, octets: bytes) -> bytes:
        if self.random.random() >= self.spoil:
            return octets
        at, bit = self.random.randrange(8 * len(octets)) // 8, self.random.randrange(8)
        return octets[:at] + bytes((octets[at] ^ 1 << bit,)) + octets[at + 1 :]

    def deliver(self, end: int, octets: bytes) -> None:
        for arrival in self.ends[end].receive(octets, self.now):
            match arrival:
                case Received(message=said):
                    self.heard[end].append(said)
                case Refreshed(keys=keys):
                    self.refreshed[end] += keys

    def run(self, duration_ns: int) -> None:
        until = self.now + duration_ns
        self.carry()
        while True:
            timers = [at for one in self.ends if (at := one.get_timer()) is not None]
            due = min([*timers, *(one[0] for one in self._wire[:1])], default=until + 1)
            if due > until:
                break
            self.now = max(self.now, due)
            while self._wire and self._wire[0][0] <= self.now:
                _, _, end, octets = heappop(self._wire)
                self.deliver(end, octets)
            for one in self.ends:
                one.handle_timer(self.now)
            self.carry()
        self.now = until

    def said(self, end: int) -> list[Message]:
        """Return what one end has sent, as it stands on the wire, and forget it."""
        keys = self.settings.accepted
        found = [decode_message(octets, keys).message for _, octets in self.sent[end]]
        self.sent[end].clear()
        return found


def plain(said: Message) -> Message:
    assert not isinstance(said, Ack | Bundle)
    return replace(said, message_id=None, acks=())


# --- one message ------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.7-03")
def test_a_state_is_said_once_and_acknowledged_within_10_ms() -> None:
    link = Link()
    link.say(0, SAID_PATH)
    start = link.now
    link.run(20 * SECOND // 100)
    assert [plain(one) for one in link.heard[1]] == [SAID_PATH]
    assert [at - start for at, _ in link.sent[1]] == [11 * MS]
    assert link.said(1) == [Ack(acks=(Acknowledgement(0xA, 1),))]
    assert link.said(0) == [replace(SAID_PATH, message_id=MessageId(0xA, 1))]
    link.run(5 * SECOND)
    assert link.said(0) == []
    assert link.ends[0].waiting == 0


@pytest.mark.requirement("MPLA-4.7-03")
@pytest.mark.parametrize("name", ["path", "resv", "path-err", "resv-err", "path-tear", "resv-conf"])
def test_what_nobody_acknowledges_is_sent_again_after_half_a_second_1_and_2(name: str) -> None:
    said = MESSAGES[name]
    assert not isinstance(said, Ack | Srefresh | Hello)
    said = replace(said, message_id=None)
    link = Link()
    link.is_cut[0] = True
    link.say(0, said)
    start = link.now
    link.run(12 * SECOND)
    assert [at - start for at, _ in link.sent[0]] == [0, SECOND // 2, 3 * SECOND // 2,
                                                      7 * SECOND // 2]  # fmt: skip
    assert len({octets for _, octets in link.sent[0]}) == 1
    assert link.ends[0].drops["unanswered"] == 1
    assert link.ends[0].waiting == 0


@pytest.mark.requirement("MPLA-4.7-03")
def test_an_acknowledgement_goes_with_what_is_said_anyway() -> None:
    link = Link()
    link.say(0, SAID_PATH)
    link.run(2 * MS)
    link.say(1, SAID_RESV)
    link.run(40 * MS)
    (resv,) = link.said(1)
    assert isinstance(resv, Resv)
    assert resv.acks == (Acknowledgement(0xA, 1),)
    assert link.ends[0].waiting == 0
    assert [plain(one) for one in link.heard[0]] == [SAID_RESV]


@pytest.mark.requirement("MPLA-4.7-03")
def test_changed_state_has_a_new_number_and_is_sent_again_in_place_of_the_old_one() -> None:
    link = Link()
    link.is_cut[0] = True
    link.say(0, path(1, 16))
    link.say(0, path(1, 17))
    link.run(10 * SECOND)
    numbers = [one.message_id.number for one in link.said(0)
               if isinstance(one, Path) and one.message_id]  # fmt: skip
    assert numbers == [1, 2, 2, 2, 2]
    sent = link.ends[0].sent(key_of_path(1))
    assert isinstance(sent, Path)
    assert sent.flow_label == 17


@pytest.mark.requirement("MPLA-4.7-03")
def test_a_late_message_changes_nothing_and_the_same_one_refreshes() -> None:
    link = Link()
    for label in (16, 17):
        link.say(0, path(1, label))
    (_, first), (_, second) = link.sent[0]
    receiver = link.make(1, 0xB)
    assert [type(one) for one in receiver.receive(second, 0)] == [Received]
    assert receiver.receive(first, 0) == []
    assert receiver.receive(second, 0) == [Refreshed((key_of_path(1),))]
    assert receiver.drops == {"old_number": 1}
    receiver.handle_timer(10 * MS)
    (ack,) = (decode_message(octets) for octets, _ in receiver.post.drain())
    acks = (Acknowledgement(0xA, 2), Acknowledgement(0xA, 1), Acknowledgement(0xA, 2))
    assert ack.message == Ack(acks=acks)


@pytest.mark.requirement("MPLA-4.7-03")
def test_a_late_path_cannot_raise_what_is_torn() -> None:
    link = Link()
    link.say(0, SAID_PATH)
    link.say(0, TEAR)
    (_, first), (_, last) = link.sent[0]
    receiver = link.make(1, 0xB)
    assert [
        type(one.message) for one in receiver.receive(last, 0) if isinstance(one, Received)
    ] == [PathTear]
    assert receiver.receive(first, 9 * SECOND) == []
    assert receiver.receive(last, 9 * SECOND) == []
    assert receiver.drops == {"old_number": 2}
    assert link.ends[0].states == 0


@pytest.mark.requirement("MPLA-4.7-03")
def test_the_tear_of_one_sender_is_heard_although_the_rest_is_said_after_it() -> None:
    both = replace(SAID_RESV, circuits=(CIRCUIT, replace(CIRCUIT, sender=OTHER)))
    rest = replace(SAID_RESV, circuits=both.circuits[1:])
    link = Link()
    for said in (both, RESV_TEAR, rest):
        link.say(0, said)
    assert link.ends[0].waiting == 2
    octets = [one for _, one in link.sent[0]]
    for order in ((0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 0, 2), (1, 2, 0), (2, 0, 1)):
        receiver = link.make(1, 0xB)
        found = [one.message for at in order for one in receiver.receive(octets[at], 0)
                 if isinstance(one, Received)]  # fmt: skip
        kinds = [plain(one) for one in found]
        assert RESV_TEAR in kinds
        assert rest in kinds
        # what is torn is not said after its tear
        assert both not in kinds[kinds.index(RESV_TEAR) :]


@pytest.mark.requirement("MPLA-4.7-03")
def test_who_is_granted_again_is_torn_no_more() -> None:
    link = Link()
    for said in (SAID_RESV, RESV_TEAR, SAID_RESV):
        link.say(0, said)
    assert link.ends[0].waiting == 1
    octets = [one for _, one in link.sent[0]]
    receiver = link.make(1, 0xB)
    assert [type(one) for one in receiver.receive(octets[2], 0)] == [Received]
    assert receiver.receive(octets[1], 0) == []


@pytest.mark.requirement("MPLA-4.7-03")
def test_a_message_without_number_is_always_new() -> None:
    receiver = Link().ends[1]
    octets = encode_message(SAID_PATH, ttl=9)
    for _ in range(2):
        assert receiver.receive(octets, 0) == [Received(SAID_PATH, 9)]
    receiver.receive(encode_message(PATH), 0)
    receiver.receive(encode_message(RESV), 0)
    for said in (TEAR, RESV_TEAR):
        assert receiver.receive(encode_message(said), 0) == [Received(said, 64)]
    named = Srefresh(epoch=0xBEEF, numbers=(1,))
    assert receiver.receive(encode_message(named), 0) == []


# --- refresh ----------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.7-04")
def test_state_is_refreshed_by_one_summary_between_half_and_one_and_a_half_periods() -> None:
    link = Link()
    for tunnel in (1, 2, 3):
        link.say(0, path(tunnel))
    start = link.now
    link.run(10 * SECOND)
    link.sent[0].clear()
    link.run(120 * SECOND)
    times = [start, *(at for at, _ in link.sent[0])]
    gaps = [after - before for before, after in pairwise(times)]
    assert 3 <= len(gaps) <= 8
    assert all(15 * SECOND <= gap <= 45 * SECOND for gap in gaps)
    assert len(set(gaps)) == len(gaps)
    assert set(link.said(0)) == {Srefresh(epoch=0xA, numbers=(1, 2, 3))}
    assert link.refreshed[1] == [key_of_path(tunnel) for tunnel in (1, 2, 3)] * len(gaps)
    assert len(link.heard[1]) == 3


@pytest.mark.requirement("MPLA-4.7-04")
@pytest.mark.parametrize(("key", "room"), [(None, 364), (KEY, 351)])
def test_more_states_than_fit_need_several_summaries(key: Key | None, room: int) -> None:
    link = Link(Settings(key=key))
    for tunnel in range(1, room + 2):
        link.say(0, path(tunnel))
    link.run(10 * SECOND)
    link.said(0)
    link.run(40 * SECOND)
    lengths = [len(one.numbers) for one in link.said(0) if isinstance(one, Srefresh)]
    assert lengths[:2] == [room, 1]
    assert len(link.refreshed[1]) >= room + 1


@pytest.mark.requirement("MPLA-4.7-04")
def test_a_summary_of_what_is_not_known_brings_the_full_message() -> None:
    link = Link()
    link.say(0, path(1))
    link.say(0, path(2))
    link.run(SECOND)
    link.ends[1].unlearn(key_of_path(2), link.now)
    link.said(0), link.said(1)
    link.run(50 * SECOND)
    assert Ack(acks=(Acknowledgement(0xA, 2, is_nack=True),)) in link.said(1)
    assert link.said(0)[1] == replace(path(2), message_id=MessageId(0xA, 3))
    assert [one.session.tunnel for one in link.heard[1] if isinstance(one, Path)] == [1, 2, 2]


@pytest.mark.requirement("MPLA-4.7-04")
def test_a_neighbour_that_has_started_again_asks_for_everything() -> None:
    link = Link()
    link.say(0, path(1))
    link.run(SECOND)
    link.restart(1, 0xC)
    link.run(50 * SECOND)
    assert len(link.heard[1]) == 2
    assert link.ends[0].waiting == 0


@pytest.mark.requirement("MPLA-4.7-04")
def test_forgotten_and_torn_state_is_refreshed_no_more() -> None:
    link = Link()
    for tunnel in (1, 2, 3):
        link.say(0, path(tunnel))
    link.say(0, tear(1))
    link.ends[0].forget(key_of_path(2))
    link.ends[0].forget(key_of_path(9))
    link.run(10 * SECOND)
    link.said(0)
    link.run(50 * SECOND)
    assert link.said(0)[0] == Srefresh(epoch=0xA, numbers=(3,))
    assert link.ends[0].sent(key_of_path(2)) is None
    link.say(0, tear(3))
    link.run(100 * SECOND)
    assert link.ends[0].states == 0
    assert not any(isinstance(one, Srefresh) for one in link.said(0)[2:])


@pytest.mark.requirement("MPLA-4.7-04")
def test_without_numbers_states_are_refreshed_in_full() -> None:
    link = Link(Settings(is_reliable=False))
    for said in (path(1), path(2), SAID_RESV, tear(2)):
        link.say(0, said)
    link.run(SECOND)
    assert link.said(0) == [path(1), path(2), SAID_RESV, tear(2)]
    link.run(50 * SECOND)
    assert link.said(0)[:2] == [path(1), SAID_RESV]
    assert link.said(1) == []
    assert link.ends[0].waiting == 0


def test_one_without_numbers_acknowledges_one_with_them() -> None:
    link = Link()
    link.ends[1] = Neighbour(
        node(5), Settings(is_reliable=False), 0xB, dice(1), link.now, Post(), 1
    )
    link.say(0, SAID_PATH)
    link.run(2 * MS)
    link.say(1, SAID_RESV)
    link.run(SECOND)
    assert link.said(1) == [replace(SAID_RESV, acks=(Acknowledgement(0xA, 1),))]
    assert link.ends[0].waiting == 0


def test_a_mended_link_carries_all_state_again() -> None:
    link = Link()
    link.say(0, path(1))
    link.run(SECOND)
    link.said(0)
    link.ends[0].resend(link.now)
    link.run(SECOND)
    assert link.said(0) == [replace(path(1), message_id=MessageId(0xA, 2))]


# --- epochs -----------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.7-03")
def test_a_late_message_of_an_epoch_that_is_over_is_dropped() -> None:
    receiver = Link().ends[1]
    old, new = (encode_message(replace(PATH, message_id=MessageId(epoch, 9))) for epoch in (1, 2))
    assert len(receiver.receive(old, 0)) == 1
    assert len(receiver.receive(new, 0)) == 1
    assert receiver.receive(old, 9 * SECOND) == []
    assert receiver.drops == {"former_epoch": 1}


# --- HELLO ------------------------------------------------------------------------------------

LIVE = Settings(hello_ns=300 * MS)


@pytest.mark.requirement("MPLA-4.7-05")
def test_a_hello_goes_every_300_ms_and_is_answered() -> None:
    link = Link(LIVE)
    start = link.now
    link.run(3 * SECOND - 1)
    asked = [at - start for at, octets in link.sent[0]
             if not decode_message(octets).message.is_ack]  # type: ignore[union-attr]  # fmt: skip
    assert asked == [300 * MS * number for number in range(10)]
    answers = [one for one in link.said(1) if isinstance(one, Hello) and one.is_ack]
    assert len(answers) == 10
    assert len({one.source for one in answers}) == 1
    assert link.ends[0].next_change() is None
    assert link.ends[0].is_alive


@pytest.mark.requirement("MPLA-4.7-01")
def test_a_neighbour_is_lost_after_3_and_a_half_intervals_and_keeps_its_state() -> None:
    link = Link(LIVE)
    link.say(0, path(1))
    link.run(3 * SECOND + 100 * MS)
    link.is_cut = [True, True]
    link.run(500 * MS)
    assert link.ends[0].is_alive
    link.run(700 * MS)
    assert not link.ends[0].is_alive
    assert link.ends[0].next_change() == Lost()
    assert link.ends[0].next_change() is None
    assert link.ends[0].states == 1


@pytest.mark.requirement("MPLA-4.7-01")
def test_a_mended_link_is_found_and_state_is_said_again() -> None:
    link = Link(LIVE)
    link.run(SECOND)
    link.is_cut = [True, True]
    link.say(0, path(1))
    link.run(20 * SECOND)
    assert link.heard[1] == []
    link.is_cut = [False, False]
    link.run(SECOND)
    for end in (0, 1):
        changes = [link.ends[end].next_change() for _ in range(3)]
        assert changes == [Lost(), Found(is_new_instance=True), None]
        assert link.ends[end].is_alive
    assert len(link.heard[1]) == 1


@pytest.mark.requirement("MPLA-4.7-01")
def test_who_was_not_heard_for_a_while_gets_what_it_has_not_acknowledged() -> None:
    link = Link(LIVE)
    link.say(0, path(1))
    link.run(SECOND)
    link.is_cut = [False, True]
    link.run(2 * SECOND)
    link.is_cut = [True, True]
    link.say(0, path(2))
    link.is_cut = [True, False]
    link.run(250 * MS)
    assert [link.ends[0].next_change() for _ in range(3)] == [Lost(), Found(False), None]
    paths = [one for one in link.said(0) if isinstance(one, Path)]
    assert [one.session.tunnel for one in paths] == [1, 2, 2]


@pytest.mark.requirement("MPLA-4.7-01")
def test_all_state_goes_to_a_neighbour_with_another_instance() -> None:
    link = Link(LIVE)
    for tunnel in (1, 2):
        link.say(0, path(tunnel))
    link.run(SECOND)
    link.restart(1, 0xC)
    link.run(500 * MS)
    assert len(link.heard[1]) == 4
    assert link.ends[0].next_change() == Found(is_new_instance=True)
    assert link.ends[0].is_alive
    assert link.ends[0].waiting == 0


def test_a_neighbour_that_starts_all_the_time_gets_all_state_once_a_second() -> None:
    link = Link(LIVE)
    link.say(0, path(1))
    link.run(SECOND)
    link.said(0)
    for source in range(1, 9):
        link.deliver(0, encode_message(Hello(source=source, destination=0)))
        link.carry()
    assert sum(isinstance(one, Path) for one in link.said(0)) == 1
    link.is_cut = [True, True]
    link.ends[0].handle_timer(link.now + RESTART_NS)
    link.carry()
    assert any(isinstance(one, Path) for one in link.said(0))


def test_a_hello_of_no_instance_or_for_another_one_says_nothing() -> None:
    link = Link(LIVE)
    link.run(SECOND)
    for hello in (Hello(source=0, destination=0), Hello(source=77, destination=78)):
        link.deliver(0, encode_message(hello))
    assert link.ends[0].drops == {"instance": 2}
    assert link.ends[0].next_change() is None


def test_a_node_without_hello_answers_and_believes() -> None:
    link = Link()
    link.deliver(0, encode_message(Hello(source=5, destination=0)))
    link.carry()
    (answer,) = link.said(0)
    assert isinstance(answer, Hello)
    assert (answer.is_ack, answer.destination) == (True, 5)
    assert link.ends[0].is_alive
    assert link.ends[0].get_timer() is None


# --- INTEGRITY --------------------------------------------------------------------------------

KEYED = Settings(key=KEY)


@pytest.mark.requirement("MPLA-4.10-01")
def test_with_a_key_each_message_has_integrity_and_a_number_of_its_own() -> None:
    link = Link(replace(KEYED, hello_ns=300 * MS, first_sequence=1_000))
    link.say(0, SAID_PATH)
    link.run(40 * SECOND)
    received = [decode_message(octets, KEYED.accepted) for _, octets in link.sent[0]]
    assert [one.key_id for one in received] == [7] * len(received)
    assert [one.sequence for one in received] == list(range(1_000, 1_000 + len(received)))
    assert {Path, Hello, Srefresh} <= {type(one.message) for one in received}
    assert [plain(one) for one in link.heard[1]] == [SAID_PATH]
    assert link.ends[1].drops == {}


@pytest.mark.requirement("MPLA-4.10-01")
@pytest.mark.parametrize(
    "octets",
    [
        encode_message(PATH),
        encode_message(PATH, 64, Key(7, b"another secret of 16"), 5),
        encode_message(PATH, 64, Key(8, KEY.secret), 5),
        encode_message(Hello(source=1, destination=0)),
    ],
)
def test_with_a_key_what_has_no_right_integrity_is_dropped(octets: bytes) -> None:
    receiver = Link(KEYED).ends[1]
    assert receiver.receive(octets, 0) == []
    assert receiver.drops == {"decrypt": 1}
    assert receiver.post.drain() == []
    assert receiver.get_timer() is None


@pytest.mark.requirement("MPLA-4.10-01")
def test_a_replay_is_dropped() -> None:
    receiver = Link(Settings(keys={7: KEY.secret})).ends[1]
    octets = [encode_message(path(one), 64, KEY, one) for one in (1, 2, 3)]
    assert [len(receiver.receive(octets[at], 0)) for at in (0, 2, 1, 0, 1, 2)] == [1, 1, 1, 0, 0, 0]
    assert receiver.drops == {"replay": 3}


@pytest.mark.requirement("MPLA-4.10-01")
def test_a_replay_in_a_bundle_is_dropped_too() -> None:
    receiver = Link(Settings(keys={7: KEY.secret})).ends[1]
    one = encode_message(path(1), 64, KEY, 9)
    bundle = message(12, [one, one])
    assert len(receiver.receive(bundle, 0)) == 1
    assert receiver.drops == {"replay": 1}


# --- what is dropped --------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.2-03")
def test_a_bundle_is_opened() -> None:
    receiver = Link().ends[1]
    parts = [encode_message(one) for one in (PATH, RESV, Hello(source=1, destination=0))]
    assert receiver.receive(message(12, parts), 0) == [Received(PATH, 64), Received(RESV, 64)]
    (answer,) = (decode_message(octets) for octets, _ in receiver.post.drain())
    assert isinstance(answer.message, Hello)


@pytest.mark.requirement("MPLA-4.1-02", "MPLA-4.2-02")
def test_what_is_dropped_is_counted_and_changes_nothing() -> None:
    traced: list[tuple[str, Mapping[str, object]]] = []
    receiver = Neighbour(node(4), Settings(), 1, dice(1), 0, Post(), 1,
                         lambda name, data: traced.append((name, data)))  # fmt: skip
    octets = encode_message(PATH)
    parts = objects(octets)
    bad = {
        "bad_option": octets[:20] + bytes((octets[20] ^ 1,)) + octets[21:],
        "bad_length": message(1, [*parts, b"\0\3\1\1"]),
        "state": message(1, [*parts, parts[1]]),
        "bad_version": b"\x21" + octets[1:],
        "unsupported_type": message(9, parts),
        "limit": bytes(4_100),
    }
    for one in bad.values():
        assert receiver.receive(one, 0) == []
    assert receiver.drops == dict.fromkeys(bad, 1)
    assert receiver.post.drain() == []
    assert receiver.get_timer() is None
    assert [data["reason"] for _, data in traced] == list(bad)
    assert {name for name, _ in traced} == {"mplamps:message_dropped"}
    assert receiver.receive(octets, 0) == [Received(PATH, 64)]


def test_what_is_answered_with_an_error_is_said_once_for_its_number() -> None:
    receiver = Link().ends[1]
    parts = objects(encode_message(PATH))
    octets = message(1, [*parts, entity(99, 1, bytes(4))])
    (fresh,) = receiver.receive(octets, 0)
    assert isinstance(fresh, Received)
    assert isinstance(fresh.message, Rejected)
    assert receiver.receive(octets, 0) == []
    assert receiver.drops == {"old_number": 1}


def test_changes_of_a_neighbour_are_traced() -> None:
    traced: list[str] = []
    one = Neighbour(node(4), LIVE, 1, dice(1), 0, Post(), 1, lambda name, _: traced.append(name))
    one.receive(encode_message(Hello(source=5, destination=0)), 0)
    one.handle_timer(1_050 * MS)
    one.receive(encode_message(Hello(source=5, destination=0)), 1_100 * MS)
    one.receive(encode_message(Hello(source=6, destination=0)), 1_200 * MS)
    assert traced == [f"mplamps:neighbour_{what}" for what in ("lost", "found", "started")]


# --- all of it --------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.7-03", "MPLA-4.7-04")
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("settings", [Settings(), KEYED], ids=["plain", "keyed"])
def test_both_ends_agree_in_the_end_whatever_the_link_does(seed: int, settings: Settings) -> None:
    """The last that is heard of each circuit is the last that was said of it."""
    link = Link(settings, seed)
    link.loss, link.double, link.spoil, link.jitter_ns = 0.2, 0.2, 0.1, 700 * MS
    dice_of_test = Random(seed)
    last: dict[Session, Signal] = {}
    for _ in range(120):
        tunnel = dice_of_test.randint(1, 12)
        said = path(tunnel, dice_of_test.randint(16, 999)) if dice_of_test.random() < 0.7 else (
            tear(tunnel))  # fmt: skip
        last[said.session] = said
        link.say(0, said)
        link.run(dice_of_test.randint(0, 200) * MS)
    link.loss = link.spoil = 0.0
    link.run(120 * SECOND)
    heard: dict[Session, Message] = {}
    for one in link.heard[1]:
        assert isinstance(one, Path | PathTear)
        heard[one.session] = plain(one)
    wanted = {session: said for session, said in last.items() if isinstance(said, Path)}
    assert {session: said for session, said in heard.items()
            if isinstance(said, Path)} == wanted  # fmt: skip
    assert link.ends[0].waiting == 0
    assert link.ends[0].states == len(wanted)
    assert link.ends[1].drops["bad_option"] + link.ends[1].drops["decrypt"] > 0
    assert link.ends[1].drops["replay"] > 0 or settings is not KEYED


def test_a_link_to_one_address_has_it() -> None:
    one = Neighbour(IPv4Address("10.0.0.9"), Settings(), 0, dice(1), 0, Post(), 1)
    assert one.address == node(9)


def test_the_reservation_of_a_session_has_one_key() -> None:
    link = Link()
    link.say(0, SAID_RESV)
    assert link.ends[0].sent(resv_key(SESSION)) == SAID_RESV


@pytest.mark.requirement("MPLA-4.7-03")
def test_what_asks_for_no_acknowledgement_gets_none() -> None:
    receiver = Link().ends[1]
    mark = MessageId(3, 4, is_ack_desired=False)
    assert len(receiver.receive(encode_message(replace(PATH, message_id=mark)), 0)) == 1
    named = Srefresh(epoch=3, numbers=(4,), message_id=replace_ack(mark))
    assert receiver.receive(encode_message(named), 0) == [Refreshed((path_key(SESSION, LAMP),))]
    receiver.handle_timer(10 * MS)
    ((ack, _),) = receiver.post.drain()
    assert decode_message(ack).message == Ack(acks=(Acknowledgement(3, 5),))


def replace_ack(mark: MessageId) -> MessageId:
    return mark._replace(number=5, is_ack_desired=True)


@pytest.mark.requirement("MPLA-4.7-04")
def test_a_shared_reservation_is_refreshed_and_torn_as_one() -> None:
    said = MESSAGES["resv-shared"]
    over = MESSAGES["resv-tear-shared"]
    assert isinstance(said, Resv)
    assert isinstance(over, ResvTear)
    over = replace(over, session=said.session)
    link = Link()
    link.say(0, said)
    link.run(50 * SECOND)
    assert set(link.refreshed[1]) == {resv_key(said.session)}
    link.say(0, over)
    link.run(SECOND)
    assert [plain(one) for one in link.heard[1]] == [said, over]
    assert link.ends[0].states == 0
    assert link.ends[0].waiting == 0
