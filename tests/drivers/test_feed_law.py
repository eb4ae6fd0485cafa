"""The broken first law: fifty receivers bank one emission, and the audit says by how much."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from powertcp.drivers.feed import FeedConfig, FeedStation
from powertcp.drivers.feed_books import CLOCK_END_S, next_epoch, open_station
from powertcp.drivers.feed_pages import ReceiptBook, Tops
from powertcp.drivers.ledger import Ledger, open_ledger
from powertcp.drivers.wheel import Wheel
from powertcp.errors import HostError, known
from powertcp.ledger import Transfer
from powertcp.ledger.audit import NodeBook, audit, chi
from powertcp.ledger.pairing import Held
from powertcp.machine import Entropy
from powertcp.potcp.receiver import FeedPageDue, FeedReceiver
from powertcp.profile import PowerProfile, ProfileType
from powertcp.store import LedgerStore, write_secret
from tests.drivers.test_feed import Pipe, join_station
from tests.feeds import events

RECEIVERS = 50


class Lossy(Pipe):
    """A subscriber that loses each of its pieces with some probability, as multicast does."""

    def __init__(self, receiver: FeedReceiver, loss: float, seed: int) -> None:
        super().__init__(receiver)
        self._loss = loss
        self._random = Random(seed)

    def push(self, octets: bytes) -> bool:
        at = 0
        while at < len(octets):
            size = 4 * octets[at + 3] + int.from_bytes(octets[at + 6 : at + 8], "big")
            if self._random.random() >= self._loss:
                super().push(octets[at : at + size])
            at += size
        return True


@asynccontextmanager
async def on_air(
    state: Path, power: str, *, booked: bool = True
) -> AsyncIterator[tuple[FeedStation, Ledger]]:
    """Run a station without sockets whose emissions are in a ledger, once the first of them is."""
    profile = PowerProfile.parse(power, ProfileType.OFFER)
    config = FeedConfig(profile=profile, groups=())
    wheel = Wheel()
    async with (
        open_ledger(state, entropy(0)) as ledger,
        open_station(config, wheel, ledger, state) as station,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(wheel.run)
        nursery.start_soon(station.run)
        station.start()
        while booked and not station.booked_uj:  # noqa: ASYNC110 - the disk has another clock
            await trio.sleep(0.1)
        yield station, ledger
        station.stop()
        nursery.cancel_scope.cancel()


def entropy(number: int) -> Entropy:
    """Return entropy that makes one meter key."""
    return lambda count: (number + 1).to_bytes(count, "big")


def book(state: Path) -> NodeBook:
    """Return what the ledger in `state` says."""
    with LedgerStore(state / "ledger.db", read_only=True) as store:
        assert store.verify() == []
        return NodeBook(
            name=state.name,
            accounts={account.id: account for account in store.accounts()},
            entries=list(store.entries()),
            pages=[
                Held(row.transcript, row.page, row.side, row.state, row.body)
                for row in store.pages()
            ],
        )


async def sign(pipe: Pipe, books: ReceiptBook) -> int:
    """Sign the pages that are due; return their energy."""
    energy_uj = 0
    for event in events(pipe.machine):
        if isinstance(event, FeedPageDue):
            await books.sign(event)
            energy_uj += event.end_uj - event.start_uj
    return energy_uj


@pytest.mark.requirement("LEDG-6-05")
@pytest.mark.requirement("LEDG-8-02")
async def test_fifty_lossy_receivers_bank_more_than_was_emitted_and_nothing_is_left_over(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    states = [tmp_path / f"receiver-{number}" for number in range(RECEIVERS)]
    signed = []
    async with AsyncExitStack() as stack:
        station, _ = await stack.enter_async_context(on_air(tmp_path / "source", "230V/1A@50Hz"))
        pipes = [Lossy(FeedReceiver(receipt_s=4), n / 200, n) for n in range(RECEIVERS)]
        for pipe in pipes:
            join_station(station, pipe)
        await trio.sleep(5)
        # some leave, one comes later
        for pipe in pipes[:5]:
            pipe.is_open = False
        await trio.sleep(5)
        station.stop()
        emitted_uj = station.energy_uj
        for number, (pipe, state) in enumerate(zip(pipes, states, strict=True)):
            pipe.machine.receiver.leave(10**12)
            async with open_ledger(state, entropy(number + 1)) as ledger:
                signed.append(await sign(pipe, ReceiptBook(ledger, "store:lamp", Tops(state))))
    law = audit([book(path) for path in (tmp_path / "source", *states)])
    [feed] = law.feeds
    assert law.residual_uj == 0
    assert law.broken == 0, law.findings
    assert feed.emitted_uj == emitted_uj
    assert len(feed.receivers) == RECEIVERS
    assert sorted(one.energy_uj for one in feed.receivers.values()) == sorted(signed)
    assert feed.miracle_uj == sum(signed) - emitted_uj > 0
    assert 30 < float(chi(feed)) < RECEIVERS
    assert chi(feed) in law.sentence()
    for number, pipe in enumerate(pipes):
        tally = pipe.machine.receiver.tally()
        assert signed[number] == pipe.machine.receiver.esn_uj
        assert (tally.lost > 0) == (number > 0)
        assert tally.forged == tally.malformed == 0
    assert signed[5] < emitted_uj
    print(law.sentence())  # noqa: T201 - the figures of a run, shown with -s


async def test_an_epoch_is_never_used_twice(tmp_path: Path) -> None:
    assert next_epoch(tmp_path, 1000) == 1000
    assert next_epoch(tmp_path, 1000) == 1001
    assert next_epoch(tmp_path, 5) == 1002
    assert next_epoch(tmp_path, 2000) == 2000
    (tmp_path / "feed.epoch").chmod(0o644)
    with pytest.raises(HostError):
        next_epoch(tmp_path, 3000)


async def test_a_restarted_source_begins_another_epoch_of_the_same_feed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    receiver = FeedReceiver()
    pipe, total = Pipe(receiver), 0
    feeds = []
    for _ in range(2):
        async with on_air(tmp_path, "12V/0.5A") as (station, _):
            join_station(station, pipe)
            feeds.append(station.source.feed)
            await trio.sleep(2)
        total += station.energy_uj
        pipe = Pipe(receiver)
    assert feeds[0].feed_id == feeds[1].feed_id
    assert feeds[1].epoch > feeds[0].epoch
    assert receiver.feed == feeds[1]
    with LedgerStore(tmp_path / "ledger.db", read_only=True) as store:
        account = store.account(f"feed:{feeds[0].feed_id.hex()}")
    assert account is not None
    assert account.debit - account.credit == total


@pytest.mark.requirement("LEDG-8-02")
async def test_nothing_is_emitted_before_it_is_in_the_books(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    is_fast, post = trio.Event(), Ledger.post

    async def post_late(ledger: Ledger, *transfers: Transfer) -> object:
        await is_fast.wait()
        return await post(ledger, *transfers)

    monkeypatch.setattr(Ledger, "post", post_late)
    async with on_air(tmp_path, "12V/0.5A", booked=False) as (station, ledger):
        name = f"feed:{station.source.feed.feed_id.hex()}"
        await trio.sleep(1)
        assert (station.energy_uj, ledger.account(name)) == (0, None)
        is_fast.set()
        with trio.fail_after(600):
            while not station.energy_uj:  # noqa: ASYNC110 - the disk has another clock
                await trio.sleep(0.1)
        account = known(ledger.account(name), "it was told")
        # a source that is killed here leaves no more than 6 s of its rate too much in its books
        assert station.energy_uj <= account.debit <= station.energy_uj + 6 * 6_120_000


@pytest.mark.requirement("LEDG-7-07")
async def test_a_feed_ends_with_the_ledger_that_takes_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    async with on_air(tmp_path, "12V/0.5A") as (station, ledger):
        ledger.close()
        await trio.sleep(6)
        assert station.energy_uj <= 6 * 6_120_000
        assert station.get_timer() is None
    assert "an emission is not in the ledger, the feed ends" in caplog.text


async def test_what_a_receiver_knows_of_an_epoch_outlives_it(tmp_path: Path) -> None:
    tops = Tops(tmp_path)
    assert tops.read() == {}
    tops.write(bytes(16), b"a" * 32, 7)
    tops.write(b"\1" * 16, b"b" * 32, 9)
    tops.write(bytes(16), b"c" * 32, 1)
    assert tops.read() == {b"b" * 32: 9, b"c" * 32: 1}


async def test_no_bit_of_what_a_receiver_knows_changes_unseen(tmp_path: Path) -> None:
    tops = Tops(tmp_path)
    tops.write(bytes(16), b"a" * 32, 7)
    path = tmp_path / f"feed-{bytes(16).hex()}.top"
    octets = path.read_bytes()
    for bit in range(8 * len(octets)):
        altered = bytearray(octets)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        with pytest.raises(HostError, match=r"what was banked, altered since: .*\.top"):
            tops.read()
    path.write_bytes(octets[:-1])
    with pytest.raises(HostError, match="has not 48 octets"):
        tops.read()


async def test_epochs_end_where_their_field_does(tmp_path: Path) -> None:
    write_secret(tmp_path / "feed.epoch", b"\xff\xff\xff\xfe")
    assert next_epoch(tmp_path, 7) == 0xFFFF_FFFF
    with pytest.raises(HostError, match=r"move meter\.key away with this file: a new feed begins"):
        next_epoch(tmp_path, 7)
    (tmp_path / "feed.epoch").unlink()
    assert next_epoch(tmp_path, 7) == 7


async def test_a_clock_that_no_epoch_can_hold_counts_for_nothing(tmp_path: Path) -> None:
    assert next_epoch(tmp_path, -5) == 1
    for number, wrong in enumerate((CLOCK_END_S, 0xFFFF_FFFF, 1 << 32, 9_300_000_000)):
        assert next_epoch(tmp_path, wrong) == 2 + number
    assert next_epoch(tmp_path, 1_790_000_000) == 1_790_000_000
    assert next_epoch(tmp_path, 0xFFFF_FFFF) == 1_790_000_001
    assert next_epoch(tmp_path, CLOCK_END_S - 1) == CLOCK_END_S - 1
    assert next_epoch(tmp_path, CLOCK_END_S) == CLOCK_END_S
