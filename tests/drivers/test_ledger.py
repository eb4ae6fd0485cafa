"""The ledger of a daemon: groups, the meter key, expiry, heads, and what a cancel leaves."""

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from powertcp.drivers.ledger import GROUP, QUEUE, Ledger, meter_key, open_ledger
from powertcp.errors import HostError, LedgerBroken, LocalProtocolError, PowerRefused
from powertcp.ledger import Code, Kind, Posted, Transfer, transfer_key
from powertcp.registry import Reason, Refusal
from powertcp.store import Answer, Job, LedgerStore, PageState

TRANSCRIPT = bytes([7]) * 32
BODY = bytes(range(256)) + bytes(60)
SIGNED = BODY + b"\x5a" * 64


def entropy(count: int) -> bytes:
    return bytes(range(count))


def transfer(
    page: int,
    amount: int = 1000,
    *,
    debit: str = "sink:lamp",
    kind: Kind = Kind.POST,
    pending: bytes = b"",
    role: str = "energy",
) -> Transfer:
    key = transfer_key(TRANSCRIPT, page, role, debit, "source:main")
    return Transfer(
        key=key, debit=debit, credit="source:main", unit="uJ", amount=amount, code=Code.RECEIPT,
        kind=kind, pending=pending,
    )  # fmt: skip


def refusal(refused: PowerRefused) -> Refusal:
    assert isinstance(refused.refusal, Refusal)
    return refused.refusal


def read(state: Path) -> LedgerStore:
    return LedgerStore(state / "ledger.db", read_only=True)


class Slow:
    """Holds each commit of the store back until it is let go; notes the groups."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: list[int] = []
        self.threads: set[str] = set()
        self.begun = threading.Event()
        self.go = threading.Event()
        commit = LedgerStore.commit

        def held(store: LedgerStore, jobs: list[Job], at_ns: int) -> list[Answer]:
            self.groups.append(sum(job.records for job in jobs))
            self.begun.set()
            self.go.wait(10)
            return commit(store, jobs, at_ns)

        monkeypatch.setattr(LedgerStore, "commit", held)

    async def wait_begun(self) -> None:
        await trio.to_thread.run_sync(self.begun.wait)


@pytest.mark.requirement("LEDG-7-06")
async def test_what_is_posted_is_on_the_disk_when_post_returns(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, entropy) as ledger:
        for page in range(3):
            assert await ledger.post(transfer(page)) == Posted((page + 1,))
            with read(tmp_path) as other:
                assert len(list(other.entries())) == page + 1
        assert await ledger.post(transfer(0)) == Posted((1,), is_repeat=True)
        found = ledger.account("sink:lamp")
        assert found is not None
        assert found.debit == 3000
        assert not ledger.is_read_only


@pytest.mark.requirement("LEDG-7-06")
async def test_a_lone_job_is_committed_at_once_and_those_that_wait_meanwhile_in_one_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    async with open_ledger(tmp_path, entropy) as ledger, trio.open_nursery() as nursery:
        nursery.start_soon(ledger.post, transfer(0))
        await slow.wait_begun()
        for page in range(1, 101):
            nursery.start_soon(ledger.post, transfer(page))
        await trio.testing.wait_all_tasks_blocked()
        slow.go.set()
    assert slow.groups == [1, GROUP, 36]


async def test_who_else_wants_the_thread_of_the_store_waits_for_a_few_groups_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("powertcp.drivers.ledger.GROUP", 1)
    monkeypatch.setattr("powertcp.drivers.ledger.IN_A_ROW", 2)
    slow = Slow(monkeypatch)
    before: list[int] = []

    async def look(ledger: Ledger) -> None:
        await ledger.last_page(TRANSCRIPT, 0)
        before.append(len(slow.groups))

    async with open_ledger(tmp_path, entropy) as ledger, trio.open_nursery() as nursery:
        await _until(lambda: (tmp_path / "heads.log").exists())
        nursery.start_soon(ledger.post, transfer(0))
        await slow.wait_begun()
        for page in range(1, 5):
            nursery.start_soon(ledger.post, transfer(page))
        nursery.start_soon(look, ledger)
        await trio.testing.wait_all_tasks_blocked()
        slow.go.set()
    assert before == [2]
    assert slow.groups == [1] * 5


async def test_a_batch_stays_whole_in_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    async with open_ledger(tmp_path, entropy) as ledger, trio.open_nursery() as nursery:
        nursery.start_soon(ledger.post, transfer(0))
        await slow.wait_begun()
        for first in (1, 41, 81):
            nursery.start_soon(ledger.post, *map(transfer, range(first, first + 40)))
        await trio.testing.wait_all_tasks_blocked()
        slow.go.set()
    assert slow.groups == [1, 40, 40, 40]
    with read(tmp_path) as store:
        assert {entry.link for entry in store.entries()} == {0, 2, 42, 82}


async def test_a_full_queue_makes_who_comes_wait_and_a_cancel_there_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("powertcp.drivers.ledger.QUEUE", 2)
    slow = Slow(monkeypatch)
    async with open_ledger(tmp_path, entropy) as ledger:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ledger.post, transfer(0))
            await slow.wait_begun()
            for page in range(1, 4):
                nursery.start_soon(ledger.post, transfer(page))
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        slow.go.set()
        await ledger.sign_head()
        await ledger.post(transfer(9))
        taken = [0, 1, 2, 9]
        for page in range(5):
            posted = await ledger.post(transfer(page))
            assert posted.is_repeat == (page in taken)


@pytest.mark.requirement("LEDG-7-06")
async def test_a_page_and_its_transfers_are_one(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, entropy) as ledger:
        await ledger.set_floor("sink:poor", "uJ", -10)
        with pytest.raises(PowerRefused) as refused:
            await ledger.post_page(TRANSCRIPT, 0, 0, SIGNED, 1, transfer(0, debit="sink:poor"))
        assert refusal(refused.value).code == Reason.ENERGY_QUOTA
        assert await ledger.last_page(TRANSCRIPT, 0) is None
        await ledger.post_page(TRANSCRIPT, 0, 0, BODY + bytes(64), PageState.SENT)
        posted = await ledger.post_page(TRANSCRIPT, 0, 0, SIGNED, 1, transfer(0))
        assert posted == Posted((1,))
        row = await ledger.last_page(TRANSCRIPT, 0)
        assert row is not None
        assert (row.page, row.body, row.state) == (0, SIGNED, PageState.COUNTERSIGNED)
        await ledger.record("firewall verdict", {"rule": 7, "bank_uj": 12})
    with read(tmp_path) as store:
        assert [event.kind for event in store.events()] == [
            "account", "floor", "page", "account", "account", "page", "firewall verdict",
        ]  # fmt: skip
        assert [event.data() for event in store.events()][-1] == {"rule": 7, "bank_uj": 12}
        assert store.verify() == []


async def test_a_bug_of_the_caller_is_told_to_the_caller_alone(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, entropy) as ledger:
        with pytest.raises(LocalProtocolError, match="amount 0"):
            await ledger.post(transfer(0, 0))
        with pytest.raises(LocalProtocolError, match="'account' is no kind"):
            await ledger.record("account", {})
        await ledger.post(transfer(0))


@pytest.mark.requirement("LEDG-7-08")
async def test_heads_are_signed_at_start_each_minute_and_at_close(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    unix_ns = itertools.count(1_800_000_000_000_000_000, -1000)
    async with open_ledger(tmp_path, entropy, unix_ns=lambda: next(unix_ns)) as ledger:
        meter = ledger.meter.public
        await _until(lambda: _heads(tmp_path) == [0])
        await ledger.post(transfer(0))
        mock_clock.jump(61)
        await _until(lambda: _heads(tmp_path) == [0, 1])
        mock_clock.jump(61)
        await ledger.post(transfer(1))
    with read(tmp_path) as store:
        heads = list(store.heads())
        assert [head.seq for head in heads][-1] == 2
        assert all(head.is_signed() and head.key == meter for head in heads)
        assert [head.line() for head in heads] == (tmp_path / "heads.log").read_text().splitlines(
            keepends=True
        )
        assert store.verify() == []
        times = [entry.at_ns for entry in store.entries()]
        assert times[0] > times[1], "a clock that goes backwards is stored as it was read"


def _heads(state: Path) -> list[int]:
    with read(state) as store:
        return [head.seq for head in store.heads()]


async def _until(is_so: Callable[[], bool]) -> None:
    """Wait until what another thread does has shown."""
    while not is_so():
        await trio.to_thread.run_sync(threading.Event().wait, 0.001)


async def test_the_meter_key_is_made_once_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with open_ledger(state, entropy) as ledger:
        public = ledger.meter.public
    key = state / "meter.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert (state.stat().st_mode & 0o777, (state / "ledger.db").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )
    async with open_ledger(state, lambda _: b"") as again:
        assert again.meter.public == public
    key.chmod(0o640)
    with pytest.raises(HostError, match="a secret that others may read"):
        meter_key(state, entropy)
    key.chmod(0o600)
    key.write_bytes(b"short")
    with pytest.raises(HostError, match="has not 32 octets"):
        meter_key(state, entropy)


@pytest.mark.requirement("LEDG-7-08")
async def test_an_altered_meter_key_is_nobody_elses(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, entropy) as ledger:
        public = ledger.meter.public
    key = tmp_path / "meter.key"
    octets = key.read_bytes()
    key.write_bytes(bytes([octets[0] ^ 1]) + octets[1:])
    with pytest.raises(LedgerBroken, match=r"meter\.key: head \d+: another key signed it"):
        async with open_ledger(tmp_path, entropy):
            pass
    key.write_bytes(octets)
    async with open_ledger(tmp_path, entropy) as ledger:
        assert ledger.meter.public == public
    # who takes the key away wants another one
    key.unlink()
    for _ in range(2):
        async with open_ledger(tmp_path, lambda count: b"2" * count) as ledger:
            assert ledger.meter.public != public


async def test_who_has_not_the_lock_makes_no_meter_key(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, entropy):
        (tmp_path / "meter.key").unlink()
        with pytest.raises(HostError, match="which process"):
            async with open_ledger(tmp_path, entropy):
                pass
        assert not (tmp_path / "meter.key").exists()


@pytest.mark.requirement("LEDG-7-05")
async def test_a_reservation_expires_after_its_interval_of_uptime(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    hold = transfer(0, 500, kind=Kind.PENDING, role="hold")
    async with open_ledger(tmp_path, entropy) as ledger:
        await ledger.set_floor("sink:lamp", "uJ", -600)
        await ledger.post(hold)
        mock_clock.jump(590)
    # a restart begins the interval again
    async with open_ledger(tmp_path, entropy) as ledger:
        mock_clock.jump(590)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert _reserved(ledger) == 500
        late = transfer(1, 200)
        with pytest.raises(PowerRefused):
            await ledger.post(late)
        mock_clock.jump(20)
        await _until(lambda: _reserved(ledger) == 0)
        await ledger.post(late)
        page = transfer(0, 100, kind=Kind.POST_PENDING, pending=hold.key)
        with pytest.raises(PowerRefused) as refused:
            await ledger.post(page)
        assert refusal(refused.value).rule == "the reservation is over"
    with read(tmp_path) as store:
        assert [entry.kind for entry in store.entries()] == [Kind.PENDING, Kind.VOID, Kind.POST]
        assert store.verify() == []


def _reserved(ledger: Ledger) -> int:
    found = ledger.account("sink:lamp")
    assert found is not None
    return found.reserved


@pytest.mark.requirement("LEDG-7-05")
async def test_a_reservation_that_was_posted_does_not_expire(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    hold = transfer(0, 500, kind=Kind.PENDING, role="hold")
    async with open_ledger(tmp_path, entropy, pending_s=10) as ledger:
        await ledger.post(hold)
        mock_clock.jump(9)
        page = transfer(0, 100, kind=Kind.POST_PENDING, pending=hold.key)
        again = transfer(1, 400, kind=Kind.PENDING, role="hold")
        await ledger.post(page, again)
        mock_clock.jump(9)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert _reserved(ledger) == 400
        mock_clock.jump(2)
        await _until(lambda: _reserved(ledger) == 0)


@pytest.mark.requirement("LEDG-7-05")
async def test_what_a_flow_that_lives_has_reserved_does_not_expire(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    hold = transfer(0, 500, kind=Kind.PENDING, role="hold")
    async with open_ledger(tmp_path, entropy, pending_s=10) as ledger:
        ledger.renew(hold)
        await ledger.post(hold)
        for _ in range(3):
            mock_clock.jump(9)
            ledger.renew(hold)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert _reserved(ledger) == 500
        mock_clock.jump(11)
        await _until(lambda: _reserved(ledger) == 0)


async def test_who_is_cancelled_when_it_is_let_in_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("powertcp.drivers.ledger.QUEUE", 3)
    monkeypatch.setattr("powertcp.drivers.ledger.GROUP", 2)
    scopes = [trio.CancelScope() for _ in range(200)]
    done: list[int] = []

    async def post(ledger: Ledger, page: int) -> None:
        with scopes[page]:
            await ledger.post(transfer(page))
            done.append(page)
            # the next ones are let in in the same turn
            for other in range(page + 1, min(page + 6, len(scopes))):
                if other % 3:
                    scopes[other].cancel()

    with trio.fail_after(10):
        async with open_ledger(tmp_path, entropy) as ledger, trio.open_nursery() as nursery:
            for page in range(len(scopes)):
                nursery.start_soon(post, ledger, page)
    assert set(done) >= set(range(0, len(scopes), 3))
    assert any(scope.cancelled_caught for scope in scopes)


@pytest.mark.requirement("LEDG-7-07")
@pytest.mark.parametrize("places", [QUEUE, 4])
async def test_an_error_of_the_disk_makes_it_read_only_for_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: int
) -> None:
    monkeypatch.setattr("powertcp.drivers.ledger.QUEUE", places)
    monkeypatch.setattr("powertcp.drivers.ledger.GROUP", min(GROUP, places))
    slow = Slow(monkeypatch)
    refused: list[int] = []

    async def post(ledger: Ledger, page: int) -> None:
        with pytest.raises(PowerRefused) as error:
            await ledger.post(transfer(page))
        refused.append(refusal(error.value).code)

    async with open_ledger(tmp_path, entropy) as ledger, trio.open_nursery() as nursery:
        await _until(lambda: (tmp_path / "heads.log").exists())
        for page in range(100):
            nursery.start_soon(post, ledger, page)
        await slow.wait_begun()
        await trio.testing.wait_all_tasks_blocked()
        monkeypatch.setattr("powertcp.store.ledger._INSERT_ENTRY", "INSERT INTO nowhere VALUES (1)")
        slow.go.set()
        nursery.cancel_scope.deadline = trio.current_time() + 10
        await ledger.wait_read_only()
    assert refused == [Reason.MAINTENANCE] * 100
    assert ledger.is_read_only
    with pytest.raises(PowerRefused) as error:
        await ledger.post(transfer(0))
    assert "nowhere" in refusal(error.value).rule
    with read(tmp_path) as store:
        assert list(store.entries()) == []
        assert store.verify() == []


async def test_a_closed_ledger_refuses(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, entropy) as ledger:
        await ledger.post(transfer(0))
    with pytest.raises(PowerRefused, match="the ledger is closed"):
        await ledger.post(transfer(1))


async def test_a_second_daemon_on_the_same_state_is_refused(tmp_path: Path) -> None:
    async with open_ledger(tmp_path, entropy) as ledger:
        with pytest.raises(HostError, match="cannot open the ledger, which process"):
            async with open_ledger(tmp_path, entropy):
                raise AssertionError("two writers")
        await ledger.post(transfer(0))


async def test_what_is_cleaned_up_under_a_shield_is_still_committed(tmp_path: Path) -> None:
    done: list[Posted] = []

    async def daemon(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            async with open_ledger(tmp_path, entropy) as ledger:
                task_status.started(scope)
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        done.append(await ledger.post(transfer(0)))

    async with trio.open_nursery() as nursery:
        scope = await nursery.start(daemon)
        scope.cancel()
    assert done == [Posted((1,))]
    with read(tmp_path) as store:
        assert [head.seq for head in store.heads()][-1] == 1


class CancelStep(trio.abc.Instrument):
    """Cancels this task's scope when it is about to run for the n-th time."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.scope = trio.CancelScope()
        self.task = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


CALLS = {
    "post": lambda ledger: ledger.post(transfer(0)),
    "post_page": lambda ledger: ledger.post_page(TRANSCRIPT, 0, 1, SIGNED, 1, transfer(0)),
    "record": lambda ledger: ledger.record("noted", {"value": 1}),
    "set_floor": lambda ledger: ledger.set_floor("sink:lamp", "uJ", -5000),
    "last_page": lambda ledger: ledger.last_page(TRANSCRIPT, 1),
    "sign_head": lambda ledger: ledger.sign_head(),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_cancelled_at_each_checkpoint_leaves_a_ledger_that_works(
    tmp_path: Path, name: str
) -> None:
    cancelled = 0
    async with open_ledger(tmp_path, entropy) as ledger:
        for number in itertools.count():
            step = CancelStep(number)
            trio.lowlevel.add_instrument(step)
            if not number:
                step.scope.cancel()
            with step.scope:
                await CALLS[name](ledger)
            trio.lowlevel.remove_instrument(step)
            if not step.scope.cancelled_caught:
                break
            cancelled += 1
        for _ in range(2):
            await CALLS[name](ledger)
        await ledger.post(transfer(1))
    assert cancelled >= 1
    with read(tmp_path) as store:
        assert store.verify() == []
        balances = {account.name: account.balance for account in store.accounts()}
        posted = 2000 if name in ("post", "post_page") else 1000
        assert balances == {"sink:lamp": -posted, "source:main": posted}


async def test_a_bug_in_the_writer_ends_the_daemon_and_nobody_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[int] = []

    def broken(store: LedgerStore, jobs: list[Job], at_ns: int) -> list[Answer]:
        raise ZeroDivisionError

    async def post(ledger: Ledger, page: int) -> None:
        with trio.CancelScope(shield=True), pytest.raises(PowerRefused) as error:
            await ledger.post(transfer(page))
        refused.append(refusal(error.value).code)

    monkeypatch.setattr(LedgerStore, "commit", broken)
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with open_ledger(tmp_path, entropy) as ledger, trio.open_nursery() as nursery:
            for page in range(3):
                nursery.start_soon(post, ledger, page)
    assert refused == [Reason.MAINTENANCE] * 3
