"""A feed on real sockets: one emission, many who hear it, slow ones, hostile ones."""

import socket
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import connect, listen, parse_address
from powertcp.drivers.feed import Emission, FeedStation
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.drivers.ring import RING_BLOCKS, RING_PIECES
from powertcp.potcp.events import Alerted, ConnectionTerminated
from powertcp.potcp.feed import ANY_FEED, feed_segment
from powertcp.potcp.receiver import FeedReceiver
from powertcp.potcp.subscription import FeedSubscription
from powertcp.registry import Flag, Reason
from powertcp.wire import Feed, FeedSegment, Options, encode_segment
from tests.conversation import segments
from tests.drivers.feeding import Told, broadcasting
from tests.feeds import KEY, events


class Ear:
    """A TCP subscriber that reads when it is told to."""

    def __init__(self, sock: socket.socket, wanted: bytes = b"") -> None:
        self.sock = sock
        self.receiver = FeedReceiver()
        self.machine = FeedSubscription(self.receiver, wanted=wanted)
        self.now = 0
        self.machine.start(0)
        self.say()

    def say(self) -> None:
        self.sock.sendall(self.machine.data_to_send())

    async def read(self) -> bytes:
        """Read once what there is; b"" at the end."""
        with trio.fail_after(10):
            await trio.lowlevel.wait_readable(self.sock)
        octets = self.sock.recv(1 << 20)
        self.now += 1
        if octets:
            self.machine.receive_data(octets, self.now)
        return octets

    async def until_banked(self, energy_uj: int) -> None:
        while self.receiver.esn_uj < energy_uj:
            assert await self.read()


async def until_closed(sock: socket.socket) -> None:
    """Read until the other end closes, by goodbye or reset."""
    with trio.fail_after(10), suppress(ConnectionResetError):
        octets = b"open"
        while octets:
            await trio.lowlevel.wait_readable(sock)
            octets = sock.recv(65_536)


async def subscribe(told: Told, wanted: bytes = b"") -> Ear:
    return Ear(await connect(told.host, told.port), wanted)


@pytest.mark.requirement("PTCP-12-02")
async def test_subscribers_hear_one_emission_and_leave() -> None:
    async with broadcasting() as told:
        ears = [await subscribe(told) for _ in range(3)]
        for ear in ears:
            await ear.until_banked(6_000_000)
            assert ear.machine.is_confirmed
            assert ear.receiver.tally().lost == 0
        assert len(told.station.subscribers) == 3
        ears[0].machine.leave(ears[0].now)
        ears[0].say()
        await ears[1].until_banked(9_000_000)
        assert len(told.station.subscribers) == 2
        ears[1].sock.close()
        await ears[2].until_banked(18_000_000)
        assert len(told.station.subscribers) == 1
        for ear in ears:
            ear.sock.close()
    # a block may be on its way
    assert told.station.energy_uj >= 18_000_000
    assert told.emitted_uj == told.station.energy_uj


@pytest.mark.requirement("PTCP-12-02")
async def test_the_end_of_a_feed_is_signed_and_said() -> None:
    async with broadcasting() as told:
        ear = await subscribe(told)
        await ear.until_banked(3_000_000)
        told.station.stop()
        while not ear.machine.is_terminated:
            assert await ear.read()
        last = events(ear.machine)[-1]
        assert isinstance(last, ConnectionTerminated)
        assert last.refusal is not None
        assert last.refusal.code == Reason.NORMAL
        tally = ear.receiver.tally()
        assert (tally.pending, tally.lost) == (0, 0)
        ear.sock.close()


@pytest.mark.requirement("PTCP-12-02")
async def test_who_asks_for_another_feed_is_told_and_the_connection_stays() -> None:
    async with broadcasting() as told:
        ear = await subscribe(told, b"x" * 16)
        while not ear.machine.is_terminated:
            await ear.read()
        alert = events(ear.machine)[0]
        assert isinstance(alert, Alerted)
        assert alert.refusal is not None
        assert alert.refusal.code == Reason.NOT_OFFERED
        ear.sock.sendall(feed_segment(Feed(ANY_FEED, 0), Flag.SYN))
        await readable(ear)
        # blocks may follow at once
        answer, *_ = segments(ear.sock.recv(2048))
        assert isinstance(answer, FeedSegment)
        assert answer.flags == Flag.SYN | Flag.ACK
        ear.sock.close()


async def readable(ear: Ear) -> None:
    with trio.fail_after(10):
        await trio.lowlevel.wait_readable(ear.sock)


async def test_a_provider_without_a_feed_says_so() -> None:
    provider = Provider(ProviderConfig(supplies=[], rating_mw=0))
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(provider.serve, listen([("127.0.0.1", 0)]))
        ear = Ear(await connect(*parse_address(addresses[0])))
        while not ear.machine.is_terminated:
            await ear.read()
        assert isinstance(events(ear.machine)[0], Alerted)
        ear.sock.sendall(feed_segment(Feed(ANY_FEED, 0), Flag.FIN))
        ear.sock.close()
        nursery.cancel_scope.cancel()


@pytest.mark.requirement("PTCP-12-04")
async def test_the_group_hears_what_subscribers_hear() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six,
    ):
        four.bind(("127.0.0.1", 0))
        six.bind(("::1", 0))
        groups = (("127.0.0.1", four.getsockname()[1]), ("::1", six.getsockname()[1]))
        async with broadcasting("230V/0.5A@50Hz", groups) as told:
            ear = await subscribe(told)
            receivers = {four: FeedReceiver(), six: FeedReceiver()}
            for sock, receiver in receivers.items():
                sock.settimeout(0)
                while receiver.esn_uj < 50_000_000:
                    with trio.fail_after(10):
                        await trio.lowlevel.wait_readable(sock)
                    octets, peer = sock.recvfrom(2048)
                    assert len(octets) <= 1200
                    receiver.receive_datagram(octets, peer[:2], 0)
            await ear.until_banked(50_000_000)
            assert receivers[four].tally().malformed == 0
            ear.sock.close()


class Pipe:
    """A wire without a socket: takes what is pushed while it is open, a whole object at a time."""

    def __init__(self, receiver: FeedReceiver) -> None:
        self.machine = FeedSubscription(receiver)
        self.is_open = True
        self.is_aborted = False

    def push(self, octets: bytes) -> bool:
        if self.is_open:
            self.machine.receive_data(octets, now_ns())
        return self.is_open

    def abort(self) -> None:
        self.is_aborted = True


def join_station(station: FeedStation, pipe: Pipe) -> None:
    """Subscribe a pipe to the feed."""
    wire: Any = pipe
    pipe.machine.receive_data(station.subscribe(wire, Feed(ANY_FEED, 0)), now_ns())


@pytest.mark.requirement("PTCP-12-02")
async def test_a_slow_subscriber_loses_the_oldest_blocks_whole(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with broadcasting("230V/0.5A@50Hz") as told:
        slow, quick = Pipe(FeedReceiver()), Pipe(FeedReceiver())
        join_station(told.station, slow)
        join_station(told.station, quick)
        await trio.sleep(1)
        slow.is_open = False
        await trio.sleep(10)
        slow.is_open = True
        await trio.sleep(1)
    first, second = slow.machine.receiver.tally(), quick.machine.receiver.tally()
    assert second.banked > 550
    assert (second.lost, second.unsigned, second.pending) == (0, 0, 0)
    assert first.banked + first.lost == second.banked
    assert first.lost == told.station.lost
    # 10 s are 500 blocks; 64 of them are still there, and those of the sweep before
    assert 500 - RING_BLOCKS - 5 <= first.lost <= 500 - RING_BLOCKS + 5
    assert first.malformed == first.forged == first.strange == 0
    missing = second_energy(quick) - second_energy(slow)
    assert abs(first.lost_uj - missing) <= 2


def second_energy(pipe: Pipe) -> int:
    return pipe.machine.receiver.esn_uj


@pytest.mark.requirement("PTCP-14-01")
async def test_a_subscriber_beyond_the_ring_is_cut_off(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with broadcasting() as told:
        deaf, good = Pipe(FeedReceiver()), Pipe(FeedReceiver())
        join_station(told.station, deaf)
        join_station(told.station, good)
        deaf.is_open = False
        # 10 blocks and 2 signatures a second, of which 64 and all are kept
        await trio.sleep(RING_PIECES / 12 - 10)
        assert not deaf.is_aborted
        await trio.sleep(20)
        assert deaf.is_aborted
        assert len(told.station.subscribers) == 1
    assert good.machine.receiver.tally().lost == 0


@pytest.mark.requirement("PTCP-13-02")
async def test_subscribing_again_and_again_ends_the_connection_alone() -> None:
    async with broadcasting() as told:
        good, bad = await subscribe(told), await connect(told.host, told.port)
        bad.sendall(feed_segment(Feed(ANY_FEED, 0), Flag.SYN) * 30)
        await good.until_banked(3_000_000)
        await until_closed(bad)
        assert len(told.station.subscribers) == 1
        bad.close()
        good.sock.close()


@pytest.mark.requirement("PTCP-12-04")
async def test_an_emission_is_told_ahead_each_5_s_and_settled_with_its_epoch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with broadcasting() as told:
        await trio.sleep(12.5)
        assert [emission.number for emission in told.emissions] == [0, 1, 2]
        source = told.station.source
        assert {emission.feed for emission in told.emissions} == {source.feed}
        assert told.emitted_uj >= told.station.energy_uj + 3 * 6_000_000
        source._next = (1 << 32) - 50  # noqa: SLF001 - 49 days later
        await trio.sleep(1)
        assert told.station.source.feed == Feed(source.feed.feed_id, 8)
        await trio.sleep(5)
        assert told.emitted_uj > told.station.energy_uj, "never less than was emitted"
        assert told.emitted_uj < told.station.energy_uj + 7 * 6_120_000, "and little more"
    assert [emission.number for emission in told.emissions] == [0, 1, 2, 3, 0, 1, 2]
    last = [emission for emission in told.emissions if emission.is_last]
    assert [emission.number for emission in last] == [3, 2]
    assert all(emission.energy_uj < 0 for emission in last)
    assert told.emitted_uj == told.station.energy_uj
    assert abs(told.emitted_uj - 18_500 * 6_000) <= 1_800_000


@pytest.mark.requirement("PTCP-12-07", "LEDG-8-02")
async def test_a_feed_whose_next_epoch_cannot_be_written_ends_with_602_and_its_books_are_right(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    async with broadcasting(epochs=1) as told:
        station, pipe = told.station, Pipe(FeedReceiver())
        join_station(station, pipe)
        station.booked_uj = 10**12
        await trio.sleep(6.25)
        source = station.source
        source._next = (1 << 32) - 50  # noqa: SLF001 - 49 days later
        await trio.sleep(10)
        assert "no other epoch of the feed, it ends: cannot begin another epoch" in caplog.text
        assert (station.get_timer(), told.provider.wheel.faults) == (None, 0)
        assert station.source is source
        tally = pipe.machine.receiver.tally()
        assert (tally.pending, tally.lost) == (0, 0)
        assert station.energy_uj == source.esn_uj >= 6 * 6_000_000
        assert codes(pipe) == [Reason.MAINTENANCE] * 2
        late = Pipe(FeedReceiver())
        join_station(station, late)
        assert codes(late) == [Reason.MAINTENANCE] * 2
        settled = list(told.emissions)
    assert told.emissions == settled
    assert [(one.number, one.is_last) for one in settled] == [(0, False), (1, False), (2, True)]
    assert told.emitted_uj == station.energy_uj


def codes(pipe: Pipe) -> list[int]:
    """Return why the subscription of a pipe was refused or ended, each time that it was said."""
    return [
        event.refusal.code
        for event in events(pipe.machine)
        if isinstance(event, Alerted | ConnectionTerminated) and event.refusal is not None
    ]


async def test_a_signature_alone_subscribes_nobody() -> None:
    async with broadcasting() as told:
        ear = await subscribe(told)
        await ear.until_banked(3_000_000)
        octets = encode_segment(
            FeedSegment(0, Flag.PSH, 0, Options(feed=told.station.source.feed), b"")
        )
        ear.sock.sendall(octets)
        await until_closed(ear.sock)
        ear.sock.close()


async def test_an_emission_says_what_feed_it_is_of() -> None:
    async with broadcasting() as told:
        ear = await subscribe(told)
        await ear.until_banked(3_000_000)
        ear.sock.close()
    ahead, last = told.emissions
    feed = told.station.source.feed
    assert ahead == Emission(feed=feed, number=0, energy_uj=6 * 6_120_000, is_last=False)
    assert last.energy_uj == told.station.energy_uj - ahead.energy_uj
    assert last.is_last
    assert feed.feed_id == told.station.source.feed.feed_id
    assert told.station.source.meter.key == KEY.public
