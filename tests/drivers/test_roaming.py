"""Consumers that roam, as processes: power comes from elsewhere before it ends where it was."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from tests.drivers.processes import Facts, Running, asked, running
from tests.drivers.spaces import check_spaces, inside, ip, spaces
from tests.drivers.test_finder import WISH, held, identity, offering
from tests.drivers.test_realm import drawing, hall, make_realm, member, pages

pytestmark = [pytest.mark.kernel, pytest.mark.interop]


@pytest.fixture(scope="module", autouse=True)
def _allowed() -> None:
    """Skip with the reason: an async test would lose it."""
    check_spaces({})


@asynccontextmanager
async def consuming(
    folder: Path, space: str, *words: str, run: str = "sleep 600"
) -> AsyncIterator[Running]:
    """Run a consumer of WISH in a namespace, until it has power."""
    async with running(
        folder, "consumer", *WISH, "--run", run, *words, before=inside(space)
    ) as one:
        await one.until("ready")
        yield one


def cable(one: str, two: str, number: int) -> None:
    """Lay a cable between two namespaces: eN at both ends, 10.9.N.1 and 10.9.N.2."""
    name = f"e{number}"
    ip("-n", one, "link", "add", name, "type", "veth", "peer", "name", name, "netns", two)
    for end, space in ((1, one), (2, two)):
        ip("netns", "exec", space, "sysctl", "-q", f"net.ipv6.conf.{name}.disable_ipv6=1")
        ip("-n", space, "addr", "add", f"10.9.{number}.{end}/24", "dev", name)
        ip("-n", space, "link", "set", name, "up")


@asynccontextmanager
async def served(
    folder: Path, space: str, name: str, supply: str, address: str, *words: str
) -> AsyncIterator[Running]:
    """Run a provider called `name` that listens on one address, until it is announced."""
    async with running(
        folder, "provider", "--listen", address, "--supply", supply, "--name", name,
        "--state-dir", str(folder / name), *words, before=inside(space),
    ) as one:  # fmt: skip
        await one.until_logged("announced as")
        yield one


async def supplied_uj(folder: Path, *sources: Running) -> int:
    """Return the energy that providers have delivered, of flows that are over."""
    found = 0
    for one in sources:
        status = await asked(folder, f"provider-{one.pid}.sock", op="status")
        found += int(str(status["energy_uj"]))
    return found


def tell(figure: str) -> None:
    """Show a figure of a run to who reads the output."""
    sys.stdout.write(f"{figure}\n")


def prices(folder: Path, micro: int) -> tuple[str, str]:
    """Return the words of a provider that asks for so much in all hours."""
    path = folder / f"{micro}.json"
    path.write_text(json.dumps({"currency": "EUR", "price_micro_per_kwh": micro}))
    return "--tariff", str(path)


def check_signed(done: Facts) -> None:
    """Check that every microjoule of a consumer has two signatures."""
    assert done["event"] == "done"
    assert done["energy_uj"] > 0
    assert (done["unsigned_uj"], done["disputed"]) == (0, 0)
    assert done["signed_uj"] == done["energy_uj"]


@pytest.mark.requirement("DPDP-10-02", "DPDP-10-03")
async def test_who_drains_is_left_when_all_is_ready_elsewhere(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Half", "12V/0.5A") as other:
            async with offering(tmp_path, space, "Full", "12V/5A") as best:
                async with consuming(tmp_path, space) as sink:
                    await sink.until("readings", 1, when=lambda one: one["energy_uj"] > 0)
                    best.signal(signal.SIGTERM)
                    left = await sink.until("left")
                    await sink.until("ready", 2)
                    assert await best.end() == 0
                    await drawing(sink, 6000)
                    assert await held(tmp_path, other) == 6000
                    sink.signal(signal.SIGTERM)
                    assert await sink.end() == 0
    assert not {"lost", "drained", "lease over"} & set(sink.names())
    assert left["cause"] == "goodbye"
    check_signed(sink.events[-1])


class Ticks:
    """Watches how a command gets on: `longest_ns` without a tick of its CPU time."""

    def __init__(self, load: str) -> None:
        self._stat = Path("/proc") / load.rpartition("[")[2].removesuffix("]") / "stat"
        self.longest_ns = 0
        self.count = 0

    def look(self) -> int:
        return sum(int(word) for word in self._stat.read_text().rpartition(") ")[2].split()[11:13])

    async def watch(self) -> None:
        """Look each 10 ms until cancelled."""
        last, since = self.look(), trio.current_time()
        while True:
            await trio.sleep(0.01)
            ticks, now = self.look(), trio.current_time()
            if ticks != last:
                self.longest_ns = max(self.longest_ns, round((now - since) * 1e9))
                self.count += ticks - last
                last, since = ticks, now


@pytest.mark.requirement("DPDP-10-02", "DPDP-10-03")
async def test_who_is_cheaper_for_10_s_is_moved_to_and_the_command_never_pauses(
    tmp_path: Path,
) -> None:
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Dear", "12V/5A", *prices(tmp_path, 300_000)) as dear:
            async with consuming(
                tmp_path, space, "--roam", "better", run="sha256sum /dev/zero"
            ) as sink:
                async with offering(
                    tmp_path, space, "Cheap", "12V/5A", *prices(tmp_path, 100_000)
                ) as cheap:
                    seen = trio.current_time()
                    reading = await sink.until("readings")
                    ticks = Ticks(reading["load"])
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(ticks.watch)
                        left = await sink.until("left")
                        waited_s = trio.current_time() - seen
                        await drawing(sink, 12_000)
                        nursery.cancel_scope.cancel()
                    assert await held(tmp_path, cheap) == 12_000
                    assert await held(tmp_path, dear) == 0
                    sink.signal(signal.SIGTERM)
                    assert await sink.end() == 0
                    done = sink.events[-1]
                    assert await supplied_uj(tmp_path, dear, cheap) == done["energy_uj"]
    tell(f"moved after {waited_s:.1f} s, {ticks.longest_ns / 1e6:.0f} ms without a tick")
    assert left["cause"] == "better"
    # the announcement is heard before it is said that it was made
    assert 8 < waited_s < 14
    assert ticks.longest_ns < 300_000_000
    assert ticks.count > 10
    assert not {"lost", "shed", "lease over"} & set(sink.names())
    check_signed(done)
    assert done["pages"] == 2


@contextmanager
def star() -> Iterator[tuple[str, str, str]]:
    """Make a namespace with a cable to each of two others: e1 and e2."""
    with spaces(3) as (middle, one, two):
        cable(middle, one, 1)
        cable(middle, two, 2)
        yield middle, one, two


@pytest.mark.requirement("DPDP-10-03")
async def test_a_plug_that_is_pulled_is_heard_of_at_once(tmp_path: Path) -> None:
    with star() as (middle, one, two):
        async with served(tmp_path, one, "Full", "12V/5A", "10.9.1.2:0"):
            async with served(tmp_path, two, "Half", "12V/0.5A", "10.9.2.2:0") as other:
                async with consuming(tmp_path, middle) as sink:
                    await sink.until("readings", 2)
                    ip("-n", one, "link", "set", "e1", "down")
                    pulled = trio.current_time()
                    left = await sink.until("left")
                    await sink.until("ready", 2)
                    waited_s = trio.current_time() - pulled
                    await drawing(sink, 6000)
                    assert await held(tmp_path, other) == 6000
    tell(f"powered elsewhere {waited_s * 1000:.0f} ms after the plug was pulled")
    assert left["cause"] == "link"
    assert waited_s < 1.5
    assert not {"lost", "lease over", "stale"} & set(sink.names())


@pytest.mark.requirement("DPDP-10-01", "DPDP-10-03")
async def test_a_provider_is_followed_to_its_other_address_with_contract_and_energy(
    tmp_path: Path,
) -> None:
    with spaces(2) as (here, there):
        cable(here, there, 1)
        cable(here, there, 2)
        async with served(tmp_path, there, "Bench", "12V/5A", "0.0.0.0:3251") as source:
            async with consuming(tmp_path, here) as sink:
                await sink.until("readings", 3)
                number = sink.all("found")[0]["address"].split(".")[2]
                ip("-n", there, "link", "set", f"e{number}", "down")
                left = await sink.until("left")
                again = await sink.until("ready", 2)
                await drawing(sink, 12_000)
                sink.signal(signal.SIGTERM)
                assert await sink.end() == 0
                done = sink.events[-1]
                assert await supplied_uj(tmp_path, source) == done["energy_uj"]
    assert left["cause"] == "link"
    assert left["resumed"]
    assert again["resumed"]
    assert again["contract"] == sink.all("ready")[0]["contract"]
    numbers = [one["esn_uj"] for one in sink.all("readings")]
    assert numbers == sorted(numbers)
    assert numbers[-1] == sink.all("readings")[-1]["energy_uj"]
    assert not {"lost", "lease over"} & set(sink.names())
    check_signed(done)


@pytest.mark.requirement("DPDP-10-03")
async def test_never_stays_with_who_is_silent(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Half", "12V/0.5A"):
            async with offering(tmp_path, space, "Full", "12V/5A") as best:
                async with consuming(tmp_path, space, "--roam", "never") as sink:
                    best.signal(signal.SIGSTOP)
                    await sink.until("stale")
                    await sink.until("readings", 4 + len(sink.all("readings")))
                    best.signal(signal.SIGCONT)
                    await sink.until("fresh")
                    await drawing(sink, 12_000)
    assert len(sink.all("ready")) == len(sink.all("found")) == 1


@pytest.mark.requirement("DPDP-10-02")
async def test_who_is_refused_elsewhere_goes_on_where_it_was(tmp_path: Path) -> None:
    rules = tmp_path / "authorized_watts"
    rules.write_text("clear deny\n")
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Half", "12V/0.5A", "--authorized", str(rules)):
            async with offering(tmp_path, space, "Full", "12V/5A") as best:
                async with consuming(tmp_path, space) as sink:
                    best.signal(signal.SIGSTOP)
                    stays = await sink.until("stays")
                    best.signal(signal.SIGCONT)
                    await sink.until("fresh")
                    await drawing(sink, 12_000)
                    assert await held(tmp_path, best) == 12_000
                    sink.signal(signal.SIGTERM)
                    assert await sink.end() == 0
    assert "goes on" in stays["sentence"]
    assert not {"left", "lost", "refused"} & set(sink.names())
    assert len(sink.all("ready")) == 1
    check_signed(sink.events[-1])


@pytest.mark.requirement("DPDP-6-03")
async def test_no_advert_that_comes_changes_or_goes_moves_a_flow_that_is_well(
    tmp_path: Path,
) -> None:
    config = tmp_path / "provider.toml"
    config.write_text('supply = ["12V/5A"]\n')
    with spaces(1) as (space,):
        async with (
            running(
                tmp_path, "provider", "--listen", "127.0.0.1:0", "--name", "Own", "--config",
                str(config), *prices(tmp_path, 300_000), "--state-dir", str(tmp_path / "own"),
                before=inside(space),
            ) as own,
            running(tmp_path, "discover", "--watch", "--all", before=inside(space)) as watch,
        ):  # fmt: skip
            await watch.until("new")
            async with consuming(tmp_path, space) as sink:
                async with offering(
                    tmp_path, space, "Cheap", "12V/5A", *prices(tmp_path, 1)
                ) as cheap:
                    await watch.until("new", 2)
                    config.write_text('supply = ["12V/5A", "5V/1A"]\n')
                    own.signal(signal.SIGHUP)
                    await watch.until("changed", when=lambda one: len(one["offers"]) == 2)
                    name = f"provider-{own.pid}.sock"
                    # all that is left is what the consumer has
                    await asked(tmp_path, name, op="set", rating_mw=12_000)
                    await watch.until("changed", when=lambda one: one["cap_mw"] == 0)
                    await sink.until("readings", 2 + len(sink.all("readings")))
                    cheap.signal(signal.SIGTERM)
                    assert await cheap.end() == 0
                await watch.until("gone")
                await drawing(sink, 12_000)
                assert await held(tmp_path, own) == 12_000
    assert sink.names() == ["warning", "found", "granted", "ready"]


@pytest.mark.requirement("DPDP-10-01", "DPDP-10-05")
async def test_in_a_realm_a_drained_provider_is_left_by_a_ticket_with_the_contract(
    tmp_path: Path,
) -> None:
    make_realm(tmp_path)
    with hall() as (here, first, second):
        async with member(tmp_path, first, 1) as one, member(tmp_path, second, 2) as two:
            for each in (one, two):
                await each.until_logged("told of our flows")
            async with consuming(tmp_path, here) as sink:
                found = str(sink.all("found")[0]["provider"])
                source, other = (one, two) if found == "Hall 1" else (two, one)
                await sink.until("readings", 3)
                source.signal(signal.SIGTERM)
                left = await sink.until("left")
                again = await sink.until("ready", 2)
                assert await source.end() == 0
                await drawing(sink, 12_000)
                sink.signal(signal.SIGTERM)
                assert await sink.end() == 0
            other.signal(signal.SIGTERM)
            assert await other.end() == 0
    assert (left["cause"], left["resumed"], again["resumed"]) == ("goodbye", True, True)
    assert again["contract"] == sink.all("ready")[0]["contract"]
    assert not {"lost", "drained", "lease over"} & set(sink.names())
    done = sink.events[-1]
    check_signed(done)
    written = pages(tmp_path / "hall1", tmp_path / "hall2")
    assert sum(page.energy_uj for page in written) == done["energy_uj"]
    assert len({page.transcript for page in written}) == 1


@pytest.mark.requirement("DPDP-10-02")
async def test_sealed_power_moves_like_any_other(tmp_path: Path) -> None:
    for name in ("device", "half", "full"):
        identity(tmp_path / f"{name}.key")
    with spaces(1) as (space,):
        half = ("--seal", "req", "--key", str(tmp_path / "half.key"))
        full = ("--seal", "req", "--key", str(tmp_path / "full.key"))
        async with offering(tmp_path, space, "Half", "12V/0.5A", *half) as other:
            async with offering(tmp_path, space, "Full", "12V/5A", *full) as best:
                device = ("--seal", "--key", str(tmp_path / "device.key"))
                async with consuming(tmp_path, space, *device) as sink:
                    await sink.until("readings", 2)
                    best.signal(signal.SIGTERM)
                    left = await sink.until("left")
                    await sink.until("ready", 2)
                    assert await best.end() == 0
                    await drawing(sink, 6000)
                    assert await held(tmp_path, other) == 6000
                    sink.signal(signal.SIGTERM)
                    assert await sink.end() == 0
    assert left["cause"] == "goodbye"
    assert not {"lost", "drained", "lease over"} & set(sink.names())
    check_signed(sink.events[-1])


def signed_uj(folder: Path, *names: str) -> int:
    """Return the energy of all pages in the ledgers of some providers."""
    return sum(page.energy_uj for page in pages(*(folder / name for name in names)))


async def end_in_order(*sources: Running) -> None:
    """End providers; their ledgers are whole then."""
    for one in sources:
        one.signal(signal.SIGTERM)
        assert await one.end() == 0


@pytest.mark.requirement("DPDP-10-02")
async def test_who_answers_again_after_it_was_left_gets_its_receipt(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Half", "12V/0.5A") as other:
            async with offering(tmp_path, space, "Full", "12V/5A") as best:
                async with consuming(tmp_path, space) as sink:
                    await sink.until("readings", 3)
                    best.signal(signal.SIGSTOP)
                    left = await sink.until("left")
                    # more than 3 s
                    await sink.until("readings", 4 + len(sink.all("readings")))
                    best.signal(signal.SIGCONT)
                    await sink.until("receipt")
                    await drawing(sink, 6000)
                    assert await held(tmp_path, best) == 0
                    assert await held(tmp_path, other) == 6000
                    sink.signal(signal.SIGTERM)
                    assert await sink.end() == 0
                await end_in_order(best, other)
    assert left["cause"] == "silent"
    done = sink.events[-1]
    check_signed(done)
    assert signed_uj(tmp_path, "Full", "Half") == done["energy_uj"]


@pytest.mark.parametrize("quota", [("--energy", "80J"), ("--for", "8s")])
@pytest.mark.requirement("DPDP-10-02")
async def test_a_quota_is_counted_across_a_move_and_ends_within_one_block(
    tmp_path: Path, quota: tuple[str, str]
) -> None:
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Half", "12V/0.5A") as other:
            async with offering(tmp_path, space, "Full", "12V/5A") as best:
                async with consuming(tmp_path, space, *quota) as sink:
                    await sink.until("readings", 2)
                    best.signal(signal.SIGTERM)
                    left = await sink.until("left")
                    assert await sink.end() == 0
                assert await best.end() == 0
                await end_in_order(other)
    assert left["cause"] == "goodbye"
    done = sink.events[-1]
    check_signed(done)
    full_uj, half_uj = signed_uj(tmp_path, "Full"), signed_uj(tmp_path, "Half")
    assert full_uj + half_uj == done["energy_uj"]
    assert min(full_uj, half_uj) > 5_000_000
    powered_s = full_uj / 12e6 + half_uj / 6e6
    tell(f"{done['energy_uj'] / 1e6:.3f} J in {powered_s:.3f} s at full power")
    # a block is 0.1 s
    if quota[0] == "--energy":
        assert 80_000_000 <= done["energy_uj"] < 81_200_000
    else:
        # congestion that is marked lowers the power, not the time
        assert 5 < powered_s < 8.11
        written = pages(tmp_path / "Full", tmp_path / "Half")
        assert 8000 <= sum(page.samples for page in written) <= 8100
