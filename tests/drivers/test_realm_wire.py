"""Connections of a realm: what is sealed comes, and nothing else does; strangers keep nobody out."""

import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import blake2s
from typing import Any

import pytest
import trio
import trio.testing

from powertcp.crypto import Aead
from powertcp.drivers.dial import listen
from powertcp.drivers.realm_hearing import MAX_WIRES, Hearer, listeners_of
from powertcp.drivers.realm_members import (
    MAX_MOVED,
    MAX_REPLICAS,
    SILENT_S,
    Member,
    owner_of,
)
from powertcp.drivers.realm_telling import Teller
from powertcp.drivers.realm_wire import GREET_S, RealmWire
from powertcp.errors import DecodeError, WireBroken
from powertcp.potcp.realm import (
    Beat,
    Gone,
    Message,
    Moved,
    Replica,
    Seen,
    Share,
    Took,
    encode_message,
)
from powertcp.potcp.tickets import MEMBER_SHIFT, Tenure
from powertcp.profile import PowerProfile, ProfileType
from powertcp.wire.options import Sampling

SECRET = bytes(range(32))
GRANT = PowerProfile.parse("12V/1A,lease=60s", ProfileType.GRANT)
LOOP = "127.0.0.1"


def share_of(key: int, sent_uj: int = 0) -> Share:
    tenure = Tenure(
        key=key, contract=1, profile=GRANT, fallback=None, sampling=Sampling(1000), minimum_mv=0,
        acked_uj=0, sent_uj=sent_uj, limit_uj=0,
    )  # fmt: skip
    return Share.of(tenure, GRANT, None, 0)


async def streams() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Return both ends of a TCP connection."""
    (listener,) = await trio.open_tcp_listeners(0, host=LOOP)
    port = listener.socket.getsockname()[1]
    async with listener:
        dialed = await trio.open_tcp_stream(LOOP, port)
        return dialed, await listener.accept()


@asynccontextmanager
async def wires(
    one: bytes = SECRET, other: bytes = SECRET
) -> AsyncIterator[tuple[RealmWire, RealmWire]]:
    dialed, accepted = await streams()
    dialer, hearer = RealmWire(dialed, "there"), RealmWire(accepted, "here")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: dialer.greet(one, is_dialer=True))
        await hearer.greet(other, is_dialer=False)
    try:
        yield dialer, hearer
    finally:
        dialer.close()
        hearer.close()


@pytest.mark.requirement("DPDP-10-08")
async def test_messages_come_both_ways_in_order() -> None:
    most = Seen(flows=(((1 << 63) - 1,) * 3,) * 1024)
    async with wires() as (dialer, hearer), trio.open_nursery() as nursery:
        messages: list[Message] = [Beat(member=1), most, share_of(7), Gone(keys=(1, 2))]

        async def say() -> None:
            for message in messages:
                await dialer.send(message)

        nursery.start_soon(say)
        assert [await hearer.receive() for _ in messages] == messages
        await hearer.send(Took(key=3))
        assert await dialer.receive() == Took(key=3)


@pytest.mark.requirement("DPDP-10-08")
async def test_another_secret_reads_nothing() -> None:
    async with wires(SECRET, bytes(32)) as (dialer, hearer):
        await dialer.send(Beat(member=1))
        with pytest.raises(DecodeError):
            await hearer.receive()


async def test_keys_come_first() -> None:
    dialed, accepted = await streams()
    wire = RealmWire(dialed, "there")
    with pytest.raises(WireBroken, match="keys come first"):
        await wire.send(Beat(member=1))
    with pytest.raises(WireBroken, match="keys come first"):
        await wire.receive()
    wire.close()
    await accepted.aclose()
    with pytest.raises(WireBroken):
        await wire.greet(SECRET, is_dialer=True)


class Peer:
    """A dialer made by hand from the draft's words, which knows the secret."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream, self.sent = stream, 0
        self.record = b""  # all that it has sent

    async def greet(self, ours: bytes = b"r" * 32) -> None:
        await self.say(ours)
        theirs = await self.read(32)
        text = ours + theirs
        self.to = Aead(blake2s(text, key=SECRET, person=b"realm to").digest())
        self.back = Aead(blake2s(text, key=SECRET, person=b"realm fr").digest())

    async def say(self, octets: bytes) -> None:
        self.record += octets
        await self.stream.send_all(octets)

    async def read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            more = await self.stream.receive_some(count - len(found))
            if not more:
                raise EOFError
            found += more
        return found

    def sealed(self, plain: bytes) -> bytes:
        nonce = self.sent.to_bytes(12, "big")
        self.sent += 1
        sealed = self.to.seal(nonce, plain)
        return len(sealed).to_bytes(2, "big") + sealed

    async def ended(self) -> None:
        """Wait until the other end hangs up."""
        with trio.fail_after(2 * SILENT_S + 2 * GREET_S):
            try:
                while await self.stream.receive_some(1000):
                    pass
            except trio.BrokenResourceError:
                pass


class Desk:
    """What a hearer sees of a provider: no flows of its own."""

    def __init__(self) -> None:
        self.adopted: dict[int, Replica] = {}
        self.away: list[tuple[int, int]] = []

    def live(self) -> dict[int, object]:
        return {}

    def tenure(self, _: int) -> Tenure | None:
        return None

    def share(self, _: int) -> Share | None:
        return None

    def replica(self, share: Share) -> Replica:
        share.tenure(0, 0)
        return Replica(share, 0, lambda: 0, lambda _: True, lambda *_: None)

    @property
    def adopt(self) -> Callable[[int, Replica], None]:
        return self.adopted.__setitem__

    def _leave(self, key: int) -> None:
        del self.adopted[key]

    @property
    def leave(self) -> Callable[[int], None]:
        return self._leave

    def move_away(self, key: int, esn_uj: int) -> None:
        self.away.append((key, esn_uj))


class House:
    """Member 1, which hears; members 2 and 3 are others."""

    def __init__(self, port: int, hearer: Hearer, desk: Desk, members: list[Member]) -> None:
        self.port, self.hearer, self.desk, self.members = port, hearer, desk, members

    async def dial(self, *, greet: bool = True) -> Peer:
        peer = Peer(await trio.open_tcp_stream(LOOP, self.port))
        if greet:
            await peer.greet()
        return peer

    async def tells(self, *messages: Any, member: int = 2) -> Peer:
        """Return a member that has told `messages` and all of it."""
        peer = await self.dial()
        for message in (Beat(member=member), *messages):
            await peer.say(peer.sealed(encode_message(message)))
        await self.heard(peer)
        return peer

    async def heard(self, peer: Peer) -> None:
        """Wait until all that a member has told was heeded."""
        await peer.say(peer.sealed(encode_message(Moved(key=0, esn_uj=0))))
        length = int.from_bytes(await peer.read(2), "big")
        await peer.read(length)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    members = [Member(2, LOOP, 1), Member(3, LOOP, 1)]
    desk = Desk()
    hearer = Hearer(desk, members, SECRET, grace_s=10.0)
    (listener,) = listeners_of(listen([(LOOP, 0)]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hearer.run, [listener])
        yield House(listener.socket.getsockname()[1], hearer, desk, members)
        nursery.cancel_scope.cancel()


def key_of(member: int, number: int) -> int:
    return (member << MEMBER_SHIFT) + number


@pytest.mark.requirement("DPDP-10-07", "DPDP-10-08")
async def test_what_a_member_tells_is_honoured_until_it_is_gone(house: House) -> None:
    one, two = key_of(2, 1), key_of(2, 2)
    peer = await house.tells(share_of(one), share_of(two))
    assert sorted(house.desk.adopted) == [one, two]
    await peer.say(peer.sealed(encode_message(Gone(keys=(one, one, key_of(1, 1), key_of(9, 1))))))
    await peer.say(peer.sealed(encode_message(Seen(flows=((two, 5, 9), (one, 1, 1))))))
    await house.heard(peer)
    assert list(house.desk.adopted) == [two]
    share = house.desk.adopted[two].share
    assert (share.acked_uj, share.sent_uj) == (5, 9)
    await peer.stream.aclose()


@pytest.mark.requirement("DPDP-10-07")
async def test_flows_of_a_silent_member_are_honoured_for_the_grace(
    autojump_clock: trio.testing.MockClock, house: House
) -> None:
    peer = await house.tells(share_of(key_of(2, 1)))
    began = trio.current_time()
    await peer.ended()  # it says nothing for 3 s
    assert SILENT_S <= trio.current_time() - began < SILENT_S + 1
    assert house.desk.adopted
    await trio.sleep_until(began + SILENT_S + 9.5)
    assert house.desk.adopted
    await trio.sleep_until(began + SILENT_S + 10.5)
    assert not house.desk.adopted
    await peer.stream.aclose()


@pytest.mark.requirement("DPDP-10-07")
async def test_the_grace_begins_anew_with_each_silence(
    autojump_clock: trio.testing.MockClock, house: House
) -> None:
    first = await house.tells(share_of(key_of(2, 1)))
    await first.stream.aclose()
    await trio.sleep(8)
    second = await house.tells(share_of(key_of(2, 1)))
    await second.stream.aclose()
    await trio.sleep(8)
    assert house.desk.adopted
    await trio.sleep(3)
    assert not house.desk.adopted


@pytest.mark.requirement("DPDP-10-07", "DPDP-10-08")
async def test_what_is_not_told_again_is_void_after_the_second_beat(house: House) -> None:
    one, two, three = (key_of(2, number) for number in (1, 2, 3))
    first = await house.tells(share_of(one), share_of(two))
    second = await house.tells(share_of(two), share_of(three))
    await first.ended()  # a member has one connection
    assert sorted(house.desk.adopted) == [one, two, three]
    await second.say(second.sealed(encode_message(Beat(member=2))))
    await house.heard(second)
    assert sorted(house.desk.adopted) == [two, three]
    for each in (first, second):
        await each.stream.aclose()


BAD = {
    "no JSON": b"{",
    "another type": b'{"type":"Boot"}',
    "a key of another member": encode_message(share_of(key_of(3, 1))),
    "a key of ours": encode_message(share_of(key_of(1, 1))),
    "a flow that is none": encode_message(share_of(key_of(2, 1))).replace(b'"esn', b'"x')[:-1],
}


@pytest.mark.requirement("DPDP-10-08")
@pytest.mark.parametrize("name", BAD)
async def test_what_cannot_be_read_ends_the_connection(house: House, name: str) -> None:
    peer = await house.tells(share_of(key_of(2, 9)))
    await peer.say(peer.sealed(BAD[name]))
    await peer.ended()
    assert list(house.desk.adopted) == [key_of(2, 9)]
    await peer.stream.aclose()


@pytest.mark.requirement("DPDP-10-08")
@pytest.mark.parametrize("first", [Beat(member=1), Beat(member=4), Beat(member=0), Took(key=1)])
async def test_the_first_message_says_who_it_is(house: House, first: Any) -> None:
    peer = await house.dial()
    await peer.say(peer.sealed(encode_message(first)))
    await peer.ended()
    assert all(each.wire is None for each in house.members)
    await peer.stream.aclose()


@pytest.mark.requirement("DPDP-10-08")
async def test_flipped_bits_and_bent_lengths_end_the_connection(
    autojump_clock: trio.testing.MockClock, house: House
) -> None:
    for at in range(0, 60, 7):
        peer = await house.tells()
        frame = bytearray(peer.sealed(encode_message(Beat(member=2))))
        if at < len(frame):
            frame[at] ^= 1
        await peer.say(bytes(frame))
        await peer.ended()
        await peer.stream.aclose()
    for length in (0, 15, 16, 65_535):
        peer = await house.tells()
        await peer.say(length.to_bytes(2, "big") + bytes(length))
        await peer.ended()
        await peer.stream.aclose()
    assert house.members[0].wire is None


@pytest.mark.requirement("DPDP-10-08")
async def test_half_a_frame_and_then_silence_is_silence(
    autojump_clock: trio.testing.MockClock, house: House
) -> None:
    peer = await house.tells()
    began = trio.current_time()
    await peer.say(peer.sealed(encode_message(Beat(member=2)))[:11])
    await peer.ended()
    assert SILENT_S <= trio.current_time() - began < SILENT_S + 1
    await peer.stream.aclose()


@pytest.mark.requirement("DPDP-10-08")
async def test_a_recording_that_is_played_again_says_nothing(house: House) -> None:
    peer = await house.tells(share_of(key_of(2, 1)))
    await peer.say(peer.sealed(encode_message(Gone(keys=(key_of(2, 1),)))))
    await house.heard(peer)
    assert not house.desk.adopted
    await peer.stream.aclose()
    again = await house.dial(greet=False)
    await again.say(peer.record)
    await again.ended()
    assert not house.desk.adopted
    await again.stream.aclose()


@pytest.mark.requirement("DPDP-10-08")
async def test_a_thousand_that_say_nothing_keep_no_member_out(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    good = await house.tells(share_of(key_of(2, 1)))
    crowd: list[trio.SocketStream] = []
    for _ in range(1000):
        crowd.append(await trio.open_tcp_stream(LOOP, house.port))
        if len(crowd) > 100:
            await crowd.pop(0).aclose()  # long thrown out
        assert house.hearer.wires <= MAX_WIRES + 8
    other = await house.tells(share_of(key_of(3, 1)), member=3)
    assert len(house.desk.adopted) == 2
    assert len(house.hearer.strangers) < MAX_WIRES
    await house.heard(good)
    for each in crowd:
        await each.aclose()
    await good.stream.aclose()
    await other.stream.aclose()


@pytest.mark.requirement("DPDP-10-08")
async def test_a_connection_that_is_reset_before_it_is_heard_harms_nobody(house: House) -> None:
    for _ in range(50):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.connect((LOOP, house.port))
    good = await house.tells(share_of(key_of(2, 1)))
    assert house.desk.adopted
    await good.stream.aclose()


# --- bounds ---------------------------------------------------------------------------------------


async def test_a_member_has_so_many_flows_and_no_more(house: House) -> None:
    peer = await house.tells()
    desk, member = house.desk, house.members[0]
    for number in range(MAX_REPLICAS):
        replica = desk.replica(share_of(key_of(2, number + 100)))
        member.theirs[replica.share.key] = replica
    await peer.say(peer.sealed(encode_message(share_of(key_of(2, 1)))))
    await peer.say(peer.sealed(encode_message(share_of(key_of(2, 100), sent_uj=5))))
    await house.heard(peer)
    assert len(member.theirs) == MAX_REPLICAS
    assert list(desk.adopted) == [key_of(2, 100)]
    assert desk.adopted[key_of(2, 100)].share.sent_uj == 5
    member.theirs.clear()
    await peer.stream.aclose()


async def test_what_is_not_heard_of_is_bounded() -> None:
    member, desk = Member(2, LOOP, 1), Desk()
    for number in range(MAX_MOVED + 1):
        key = key_of(2, number)
        member.theirs[key] = desk.replica(share_of(key))
        assert member.take(key, number)
        assert not member.take(key, number)
    assert len(member.moved) == MAX_MOVED
    assert key_of(2, 0) not in member.moved
    assert member.give_back(key_of(2, 0)) is None
    assert member.give_back(key_of(2, 5)) is not None
    assert key_of(2, 5) in member.theirs
    # who is not there is told nothing of flows that are over
    for number in range(1000):
        member.change(number)
        member.end(number)
    assert (member.changed, member.gone) == (set(), set())
    assert owner_of(key_of(2, 1), [member]) is member
    assert owner_of(key_of(3, 1), [member]) is None


@pytest.mark.requirement("DPDP-10-06")
async def test_a_move_is_said_again_on_each_new_connection_until_the_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host=LOOP)
    member, desk = Member(2, LOOP, listener.socket.getsockname()[1]), Desk()
    key = key_of(2, 7)
    member.theirs[key] = desk.replica(share_of(key))
    member.take(key, 99)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Teller(desk, member, 1, SECRET).run)
        for is_last in (False, True):
            wire = RealmWire(await listener.accept(), "member 1")
            await wire.greet(SECRET, is_dialer=False)
            assert await wire.receive() == Beat(member=1)
            assert await wire.receive() == Moved(key=key, esn_uj=99)
            assert await wire.receive() == Beat(member=1)
            # not said twice to who hears it
            assert await wire.receive() == Beat(member=1)
            if is_last:
                await wire.send(Took(key=key))
                await wire.receive()
                assert not member.moved
            wire.close()
        nursery.cancel_scope.cancel()
    await listener.aclose()
