"""Cables that are pulled, stopped and full providers of a realm: contracts go on, counted once."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from powertcp.store import LedgerStore
from powertcp.vppn.identity import Algorithm, SecretKey
from tests.drivers.processes import NEVER_S, Running, asked, running
from tests.drivers.spaces import check_spaces, inside, ip
from tests.drivers.test_realm import MEMBERS, WISH, hall, make_realm, member, pages

pytestmark = [pytest.mark.kernel, pytest.mark.interop]
SITE = SecretKey(Algorithm.X25519, bytes([0x21]) * 32)
ALICE = SecretKey(Algorithm.X25519, bytes([0x22]) * 32)


@pytest.fixture(scope="module", autouse=True)
def _allowed() -> None:
    """Skip with the reason: an async test would lose it."""
    check_spaces({})


@dataclass
class Place:
    """A provider of the realm, where it is, and its number."""

    number: int
    space: str
    process: Running
    folder: Path

    async def status(self) -> Any:
        return await asked(self.folder, f"provider-{self.process.pid}.sock", op="status")

    async def until(self, holds: Callable[[Any], bool]) -> Any:
        """Wait until its status is as wanted."""
        found: Any = None
        for _ in range(NEVER_S * 10):
            if holds(found := await self.status()):
                return found
            await trio.sleep(0.1)  # nothing else tells when another process has heard it
        raise AssertionError(found)

    @property
    def books(self) -> Path:
        return self.folder / f"hall{self.number}"

    def cable(self, state: str, name: str = "e0") -> None:
        ip("-n", self.space, "link", "set", name, state)


@dataclass
class Scene:
    """A consumer that has power of `source`, which `other` could give it, too."""

    folder: Path
    here: str
    source: Place
    other: Place
    sink: Running

    async def goes_on(self, count: int = 3) -> None:
        """Wait until the contract goes on and some time has passed."""
        again = await self.sink.until("ready", 2)
        assert again["resumed"] is True
        seen = len(self.sink.all("readings"))
        await self.sink.until("readings", seen + count)

    async def end(self) -> Any:
        """End the consumer; returns its last words."""
        self.sink.signal(signal.SIGTERM)
        assert await self.sink.end() == 0
        await self.sink.until_closed()
        return self.sink.events[-1]

    async def end_all(self) -> None:
        for place in (self.source, self.other):
            if place.process.process.returncode is None:
                place.process.signal(signal.SIGTERM)
                assert await place.process.end() == 0

    def states(self) -> tuple[Path, ...]:
        return self.source.books, self.other.books

    async def verify(self) -> None:
        """Have the command check every ledger whole."""
        for state in (*self.states(), self.folder / "sink"):
            if not (state / "ledger.db").exists():
                continue
            found = await trio.run_process(
                [sys.executable, "-m", "powertcp", "ledger", "verify", "--full",
                 "--state-dir", str(state)],
                check=False, capture_stdout=True, stderr=subprocess.STDOUT,
            )  # fmt: skip
            assert found.returncode == 0, found.stdout.decode()


@asynccontextmanager
async def scene(
    folder: Path, *words: str, sink_words: tuple[str, ...] = ("--receipts", "1s"),
    other_words: tuple[str, ...] = (),
) -> AsyncIterator[Scene]:  # fmt: skip
    """Bring up both providers and a consumer that has power of one for a while."""
    make_realm(folder)
    with hall() as (here, first, second):
        async with (
            member(folder, first, 1, *words) as one,
            member(folder, second, 2, *words, *other_words) as two,
        ):
            for each in (one, two):
                await each.until_logged("told of our flows")
            async with running(
                folder, "consumer", *WISH, "--run", "sleep 600", "--state-dir", str(folder / "sink"),
                *sink_words, before=inside(here),
            ) as sink:  # fmt: skip
                await sink.until("ready")
                await sink.until("readings", 4)
                places = [Place(1, first, one, folder), Place(2, second, two, folder)]
                if sink.all("found")[0]["provider"] == "Hall 2":
                    places.reverse()
                yield Scene(folder, here, places[0], places[1], sink)


def union_is_exact(the: Scene, done: Any) -> None:
    """Both ledgers together have each page once, and all that the consumer has had."""
    written = pages(*the.states())
    assert [page.page for page in written] == list(range(len(written)))
    assert [page.start_uj for page in written[1:]] == [page.end_uj for page in written[:-1]]
    assert sum(page.energy_uj for page in written) == done["energy_uj"] == done["signed_uj"]
    assert (done["unsigned_uj"], done["disputed"]) == (0, 0)
    assert "load ended" not in the.sink.names()


def residuals_are_0(*statuses: Any) -> None:
    for status in statuses:
        assert status["ledger"]["residual_uj"] == 0, status["ledger"]
        assert status["bugs"] == 0


@pytest.mark.requirement("DPDP-10-05")
@pytest.mark.requirement("DPDP-10-06")
async def test_a_cable_to_the_consumer_is_pulled_and_the_first_provider_is_told(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as the:
        the.source.cable("down")
        await the.sink.until("ready", 2)
        first = await the.source.until(lambda status: status["realm"]["handed"] == 1)
        assert (first["reserved_mw"], first["flow_count"]) == (0, 0)
        await the.goes_on()
        first, second = await the.source.status(), await the.other.status()
        assert (second["realm"]["taken"], second["reserved_mw"]) == (1, 12_000)
        assert second["realm"]["members"][0]["unheard"] == 0
        residuals_are_0(first, second)
        done = await the.end()
        residuals_are_0(await the.source.status(), await the.other.status())
        await the.end_all()
        union_is_exact(the, done)
        await the.verify()


@pytest.mark.requirement("DPDP-10-06")
@pytest.mark.requirement("DPDP-10-07")
async def test_the_backbone_is_cut_as_well_and_heals_after_the_grace(tmp_path: Path) -> None:
    async with scene(tmp_path, "--lease", "10s") as the:
        the.source.cable("down", "back")
        the.source.cable("down")
        await the.goes_on()
        first = await the.source.until(lambda status: status["reserved_mw"] == 0)
        assert (first["realm"]["handed"], first["flow_count"]) == (0, 0)
        second = await the.other.status()
        assert second["realm"]["members"][0] == {
            **second["realm"]["members"][0], "told": False, "tells": False, "unheard": 1,
        }  # fmt: skip
        the.source.cable("up", "back")
        first = await the.source.until(lambda status: status["realm"]["members"][0]["told"])
        second = await the.other.until(lambda status: status["realm"]["members"][0]["unheard"] == 0)
        residuals_are_0(first, second)
        assert first["realm"]["handed"] == 0
        done = await the.end()
        await the.end_all()
        union_is_exact(the, done)
        await the.verify()


@pytest.mark.requirement("DPDP-10-07", "DPDP-10-09")
async def test_the_backbone_alone_is_cut_and_pages_go_on_before_the_cable_goes(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as the:
        the.source.cable("down", "back")
        seen = len(the.sink.all("receipt"))
        # the other one is told of none of these
        await the.sink.until("receipt", seen + 3)
        the.source.cable("down")
        await the.goes_on()
        the.source.cable("up", "back")
        first = await the.source.until(lambda status: status["reserved_mw"] == 0)
        second = await the.other.until(lambda status: status["realm"]["members"][0]["unheard"] == 0)
        residuals_are_0(first, second)
        done = await the.end()
        residuals_are_0(await the.other.status())
        await the.end_all()
        union_is_exact(the, done)
        await the.verify()


@pytest.mark.requirement("DPDP-10-06")
async def test_a_provider_that_was_stopped_hears_that_its_flow_went_on(tmp_path: Path) -> None:
    async with scene(tmp_path) as the:
        the.source.process.signal(signal.SIGSTOP)
        began = trio.current_time()
        await the.goes_on()
        await trio.sleep_until(began + 5)
        the.source.process.signal(signal.SIGCONT)
        first = await the.source.until(lambda status: status["reserved_mw"] == 0)
        second = await the.other.until(lambda status: status["realm"]["members"][0]["unheard"] == 0)
        assert first["realm"]["handed"] == 1
        residuals_are_0(first, second)
        done = await the.end()
        residuals_are_0(await the.source.status(), await the.other.status())
        await the.end_all()
        union_is_exact(the, done)
        await the.verify()


@pytest.mark.requirement("DPDP-10-05")
async def test_a_provider_that_is_full_leaves_the_flow_where_it_is(tmp_path: Path) -> None:
    make_realm(tmp_path)
    with hall() as (here, first, second):
        async with (
            member(tmp_path, first, 1) as one,
            member(tmp_path, second, 2, supply="12V/1A") as two,
        ):
            for each in (one, two):
                await each.until_logged("told of our flows")
            # all that the second one has goes to somebody of its own
            hog = running(
                tmp_path, "consumer", "--connect", "10.2.0.2", "--request", "12V/1A",
                "--for", "60s", "--no-ledger", before=inside(here),
            )  # fmt: skip
            lamp = running(
                tmp_path, "consumer", *WISH, "--give-up", "60s", "--for", "60s",
                "--receipts", "1s", "--state-dir", str(tmp_path / "sink"), before=inside(here),
            )  # fmt: skip
            async with hog as other, lamp as sink:
                await other.until("ready")
                await sink.until("ready")
                assert sink.all("found")[-1]["provider"] == "Hall 1"
                await sink.until("receipt", 3)
                ip("-n", first, "link", "set", "e0", "down")
                await sink.until("stale")
                source, full = Place(1, first, one, tmp_path), Place(2, second, two, tmp_path)
                status = await full.status()
                assert (status["realm"]["taken"], status["reserved_mw"]) == (0, 12_000)
                status = await source.status()
                assert (status["realm"]["handed"], status["reserved_mw"]) == (0, 12_000)
                # it goes on where it is
                ip("-n", first, "link", "set", "e0", "up")
                await sink.until("receipt", len(sink.all("receipt")) + 2)
                sink.signal(signal.SIGTERM)
                await sink.end()
                await sink.until_closed()
                done = sink.events[-1]
                status = await source.status()
                residuals_are_0(status)
            for each in (one, two):
                each.signal(signal.SIGTERM)
                assert await each.end() == 0
    written = pages(tmp_path / "hall1")
    assert sum(page.energy_uj for page in written) == done["energy_uj"]


def unsigned_uj(state: Path) -> int:
    """Return what a ledger has given without receipts."""
    store = LedgerStore(state / "ledger.db")
    try:
        return sum(
            account.debit - account.credit
            for account in store.accounts()
            if account.name.startswith("sink:")
        )
    finally:
        store.close()


@pytest.mark.requirement("DPDP-10-06")
async def test_without_receipts_both_ledgers_together_have_what_was_had(tmp_path: Path) -> None:
    async with scene(tmp_path, sink_words=("--no-ledger",)) as the:
        the.source.cable("down")
        await the.goes_on()
        first = await the.source.until(lambda status: status["realm"]["handed"] == 1)
        residuals_are_0(first, await the.other.status())
        done = await the.end()
        residuals_are_0(await the.source.status(), await the.other.status())
        await the.end_all()
        assert sum(map(unsigned_uj, the.states())) == done["energy_uj"] > 0
        await the.verify()


def write_key(path: Path, key: SecretKey) -> str:
    path.touch(0o600)
    path.write_text(key.format())
    return str(path)


@pytest.mark.requirement("DPDP-10-05")
@pytest.mark.requirement("VPPN-2.3-07")
async def test_sealed_power_goes_on_sealed_with_the_same_key(tmp_path: Path) -> None:
    site, alice = write_key(tmp_path / "site", SITE), write_key(tmp_path / "alice", ALICE)
    seal = ("--seal", "req", "--key", site)
    words = ("--receipts", "1s", "--key", alice, "--seal", "--peer", str(SITE.public))
    async with scene(tmp_path, *seal, sink_words=words) as the:
        the.source.cable("down")
        await the.goes_on()
        first = await the.source.until(lambda status: status["realm"]["handed"] == 1)
        residuals_are_0(first, await the.other.status())
        done = await the.end()
        await the.end_all()
        union_is_exact(the, done)
        await the.verify()


@pytest.mark.requirement("DPDP-10-05")
async def test_who_may_not_draw_there_is_left_where_it_is(tmp_path: Path) -> None:
    watts = tmp_path / "authorized_watts"
    watts.write_text("clear from=10.9.0.0/16 max-power=200W\n")
    async with scene(tmp_path) as the:
        # the other one comes back with a list of who may draw
        the.other.process.signal(signal.SIGTERM)
        assert await the.other.process.end() == 0
        number, space = the.other.number, the.other.space
        async with member(tmp_path, space, number, "--authorized", str(watts)) as again:
            await again.until_logged("told of our flows")
            await the.source.process.until_logged("told of our flows", 2)
            other = Place(number, space, again, tmp_path)
            await other.until(lambda status: status["realm"]["members"][0]["flows"] == 1)
            the.source.cable("down")
            await again.until_logged("may not go on here")
            status = await other.status()
            assert (status["realm"]["taken"], status["reserved_mw"]) == (0, 0)
            residuals_are_0(status)
            first = await the.source.status()
            assert (first["realm"]["handed"], first["reserved_mw"]) == (0, 12_000)
            the.source.cable("up")
            await the.sink.until("receipt", len(the.sink.all("receipt")) + 2)
            done = await the.end()
            again.signal(signal.SIGTERM)
            assert await again.end() == 0
        await the.end_all()
        union_is_exact(the, done)


@pytest.mark.requirement("DPDP-10-05")
async def test_prices_and_quotas_go_on_with_the_other_one(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"currency": "EUR", "price_micro_per_kwh": 36000000000}')
    words = ("--tariff", str(prices), "--quota", "20kJ")
    async with scene(tmp_path, *words) as the:
        the.source.cable("down")
        await the.goes_on()
        first = await the.source.until(lambda status: status["realm"]["handed"] == 1)
        residuals_are_0(first, await the.other.status())
        done = await the.end()
        residuals_are_0(await the.source.status(), await the.other.status())
        await the.end_all()
        union_is_exact(the, done)
        # 36,000 EUR per kWh are 0.01 EUR per J: 10,000 millionths for 1,000,000 uJ
        written = pages(*the.states())
        assert len({page.tariff for page in written}) == 1
        for page in written:
            assert abs(page.cost_micro - page.energy_uj // 100) <= 1
        assert abs(sum(page.cost_micro for page in written) - done["energy_uj"] // 100) <= len(
            written
        )
        await the.verify()


@pytest.mark.requirement("DPDP-10-05")
@pytest.mark.requirement("DPDP-10-06")
async def test_a_provider_that_begins_again_has_none_of_its_old_flows(tmp_path: Path) -> None:
    async with scene(tmp_path) as the:
        the.source.process.process.kill()
        await the.source.process.end()
        async with member(tmp_path, the.source.space, the.source.number) as again:
            await again.until_logged("told of our flows")
            await the.goes_on()
            place = Place(the.source.number, the.source.space, again, tmp_path)
            second = await the.other.until(
                lambda status: status["realm"]["members"][0]["unheard"] == 0
            )
            first = await place.status()
            assert (first["realm"]["handed"], first["flow_count"]) == (0, 0)
            assert second["flow_count"] == 1
            residuals_are_0(first, second)
            done = await the.end()
            again.signal(signal.SIGTERM)
            assert await again.end() == 0
        await the.end_all()
        union_is_exact(the, done)
        await the.verify()


# --- what is one sentence -------------------------------------------------------------------------


async def fails(folder: Path, space: str, *words: str) -> str:
    """Return the one line that a provider says, which cannot begin."""
    async with running(
        folder, "provider", "--listen", "10.1.0.2:0", "--supply", "12V/5A",
        "--state-dir", str(folder / "books"), *words, before=inside(space),
    ) as one:  # fmt: skip
        assert await one.end() == 2
        await one.until_closed()
        assert one.log.count("\n") == 1, one.log
        return one.log


async def test_what_keeps_a_provider_out_of_a_realm_is_one_sentence(tmp_path: Path) -> None:
    make_realm(tmp_path)
    file = str(tmp_path / "hall.realm")
    with hall() as (_, first, _second):
        said = await fails(tmp_path, first, "--realm", file, "--member", "10.8.0.9")
        assert "10.8.0.9 is none of 10.8.0.1:3252, 10.8.0.2:3252" in said
        # an address of somebody else
        said = await fails(tmp_path, first, "--realm", file, "--member", MEMBERS[1][0])
        assert "10.8.0.2:3252" in said
        async with member(tmp_path, first, 1) as one:
            said = await fails(tmp_path, first, "--realm", file, "--member", MEMBERS[0][0])
            assert "10.8.0.1:3252: Address already in use" in said
            await one.until_logged("it is tried again")
            one.signal(signal.SIGINT)
            with trio.fail_after(3):
                assert await one.end() in (0, 130)
        (tmp_path / "hall.realm").chmod(0o644)
        said = await fails(tmp_path, first, "--realm", file, "--member", MEMBERS[0][0])
        assert "secret that others may read" in said


async def test_another_realm_takes_a_new_start(tmp_path: Path) -> None:
    make_realm(tmp_path)
    config = tmp_path / "provider.toml"

    def offer(name: str) -> None:
        config.write_text(
            f'supply = ["12V/5A"]\nlisten = ["10.1.0.2:3251"]\nrealm = "{tmp_path / name}"\n'
            f'member = "10.8.0.1"\nstate_dir = "{tmp_path}/books"\n'
        )

    offer("hall.realm")
    with hall() as (_, first, _second):
        async with running(
            tmp_path, "provider", "--config", str(config), "-v", before=inside(first)
        ) as one:
            await one.until("listening")
            offer("other.realm")
            one.signal(signal.SIGHUP)
            await one.until_logged("configuration kept: configuration: realm: it is settled")
            one.signal(signal.SIGTERM)
            assert await one.end() == 0


@pytest.mark.requirement("DPDP-10-07")
async def test_a_flow_that_ends_before_its_first_block_elsewhere_has_its_page_signed(
    tmp_path: Path,
) -> None:
    # no page ends while the first one has it: all of it is signed elsewhere
    async with scene(tmp_path, sink_words=()) as the:
        the.source.process.signal(signal.SIGTERM)
        again = await the.sink.until("ready", 2)
        done = await the.end()
        await the.end_all()
        assert again["resumed"] is True
        union_is_exact(the, done)
        await the.verify()
