"""Providers and those who look for them as processes, in namespaces of their own; avahi as peer."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from powertcp.dpdp.advert import TYPE_TCP, TYPE_UDP, decode_txt
from powertcp.dpdp.txt import split_txt
from powertcp.store import write_secret
from tests.drivers.processes import Running, asked, running
from tests.drivers.spaces import (
    AVAHI,
    Peer,
    avahi,
    check_spaces,
    inside,
    ip,
    need,
    pair,
    peer,
    spaces,
)
from tests.drivers.test_readme import HASH, SHOWN, example, shape

pytestmark = [pytest.mark.kernel, pytest.mark.interop]

BENCH = (
    "txtvers=1", "id=7f31a2c4d5e60718293a4b5c6d7e8f90",
    "p1=4c00002ee0000bb8000000000000000064000013880000000000000000000000",
    "cap=36000", "src=grid", "tariff=EUR:250000",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _allowed() -> None:
    """Skip with the reason: an async test would lose it."""
    check_spaces(AVAHI)


@asynccontextmanager
async def announced(
    folder: Path, space: str, *words: str, listen: str = "[::]:3251"
) -> AsyncIterator[Running]:
    """Run a provider in a namespace until it is announced."""
    async with running(
        folder, "provider", "--listen", listen, "--supply", "12V/5A", *words, before=inside(space)
    ) as one:
        await one.until_logged("announced as")
        yield one


async def found(folder: Path, space: str, *words: str) -> tuple[int, list[Mapping[str, Any]], str]:
    """Run `powertcp discover`; returns its exit status, its objects and its log."""
    async with running(folder, "discover", *words, before=inside(space)) as one:
        status = await one.end()
        await one.until_closed()
        return status, list(one.events), one.log


async def adverts_of(folder: Path, source: Running) -> list[dict[str, Any]]:
    """Return what a provider says that it announces, with the id and the pairs of each."""
    status: Any = await asked(folder, f"provider-{source.pid}.sock", op="status")
    rows: list[dict[str, Any]] = status["adverts"]
    for row in rows:
        txt = bytes.fromhex(row["txt"])
        row["id"] = decode_txt(txt).id.hex()
        row["pairs"] = {key: value.decode() for key, value in split_txt(txt) if value is not None}
    return rows


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


async def saw(other: Peer, is_there: Callable[[str], bool], within_s: float = 20) -> str:
    return await trio.to_thread.run_sync(other.until, is_there, within_s)


# ---- on the loopback alone ----------------------------------------------------------------------


@pytest.mark.requirement("DPDP-4-03")
async def test_a_provider_without_any_network_is_found_and_says_goodbye(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with announced(tmp_path, space, "--name", "Bench PSU") as source:
            status, adverts, _ = await found(tmp_path, space)
            assert status == 0
            (advert,) = adverts
            assert (advert["name"], advert["standing"], advert["cap_mw"]) == (
                "Bench PSU",
                "good",
                60_000,
            )
            assert advert["offers"][0]["text"] == "12V/5A"
            assert advert["addresses"] == ["127.0.0.1:3251"]
            async with running(tmp_path, "discover", "--watch", before=inside(space)) as watch:
                await watch.until("new")
                source.signal(signal.SIGTERM)
                gone = await watch.until("gone")
                assert gone["id"] == advert["id"]
            assert await source.end() == 0
        status, adverts, log = await found(tmp_path, space, "--timeout", "1s")
        assert (status, adverts) == (3, [])
        assert "nothing found on lo" in log


async def test_power_is_given_and_found_on_the_loopback_alone_without_a_privilege(
    tmp_path: Path,
) -> None:
    need({"setpriv": "util-linux"})
    none = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    with spaces(1) as (space,):
        before = (*inside(space), *none)
        words = ("provider", "--listen", "127.0.0.1:0", "--supply", "12V/5A")
        async with running(tmp_path, *words, before=before) as source:
            await source.until_logged("announced as")
            assert capabilities(source.pid) == [0, 0, 0]
            words = ("consumer", "--request", "12V/1A", "--run", "sleep 1")
            async with running(tmp_path, *words, before=before) as sink:
                assert await sink.end() == 0
                assert "ready" in sink.names()


def capabilities(pid: int) -> list[int]:
    """Return those that a process may use, uses, and may ever have."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return [int(each, 16) for each in re.findall(r"Cap(?:Prm|Eff|Bnd):\s+(\w+)", text)]


async def test_a_provider_may_be_silent(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        async with running(
            tmp_path, "provider", "--listen", "127.0.0.1:0", "--supply", "12V/5A", "--no-mdns",
            before=inside(space),
        ) as source:  # fmt: skip
            await source.until("listening")
            status, _, _ = await found(tmp_path, space, "--timeout", "2s")
            assert status == 3
            status, _, log = await found(tmp_path, space, "--interface", "nowhere0")
            assert status == 2
            assert 'no "nowhere0" here, only lo' in log


@pytest.mark.requirement("DPDP-3-05")
async def test_an_id_stays_over_a_restart_with_and_without_a_ledger(tmp_path: Path) -> None:
    with spaces(1) as (space,):
        for words in ([], ["--no-ledger"]):
            ids = []
            for _ in range(2):
                async with running(
                    tmp_path, "provider", "--listen", "127.0.0.1:0", "--supply", "12V/5A", *words,
                    before=inside(space),
                ) as source:  # fmt: skip
                    await source.until("listening")
                    ids.append((await adverts_of(tmp_path, source))[0]["id"])
                    source.signal(signal.SIGTERM)
                    assert await source.end() == 0
            assert ids[0] == ids[1]


async def test_everything_a_provider_has_to_say_is_found_judged_and_pinned(tmp_path: Path) -> None:
    tariff = tmp_path / "tariff.json"
    tariff.write_text('{"currency": "EUR", "price_micro_per_kwh": 250000}', encoding="utf-8")
    key = tmp_path / "identity"
    async with running(tmp_path, "vppn", "keygen", "--out", str(key)) as keygen:
        assert await keygen.end() == 0
    with spaces(1) as (space,):
        async with announced(
            tmp_path, space, "--name", "Bench 1.2", "--tariff", str(tariff), "--seal", "opt",
            "--key", str(key), "--feed", "5V/1A", "--feed-to", "239.255.80.84:3251",
            listen="127.0.0.1:0",
        ) as source:  # fmt: skip
            await source.until_logged("announced as", 2)
            told = await adverts_of(tmp_path, source)
            status, adverts, _ = await found(tmp_path, space, "--feeds")
            assert status == 0
            by_kind = {advert["kind"]: advert for advert in adverts}
            flows, feed = by_kind[TYPE_TCP], by_kind[TYPE_UDP]
            assert (flows["name"], flows["seal"], flows["source"]) == ("Bench 1-2", "opt", "grid")
            assert (flows["currency"], flows["price_micro_per_kwh"]) == ("EUR", 250_000)
            assert len(bytes.fromhex(flows["exchange_key"])) == 32
            assert (feed["id"], feed["source"]) == (flows["id"], "feed")
            assert (feed["group"], feed["port"]) == ("239.255.80.84", 3251)
            for mine, theirs in zip(told, (flows, feed), strict=True):
                assert mine["pairs"] == {
                    key: value
                    for key, value in theirs["pairs"].items()
                    if key not in ("exp", "sig")
                }
            words = ("--why", "--request", "12V/1A", "--max-price")
            _, (dear,), _ = await found(tmp_path, space, *words, "0.20")
            assert (dear["verdict"], dear["sentence"]) == ("tariff", "0.25 EUR/kWh above 0.20")
            _, (good,), _ = await found(tmp_path, space, *words, "0.25EUR", "--one")
            assert good["verdict"] == "chosen"
            assert good["sentence"].startswith("12V/1A in full, any, grid, 0.25 EUR/kWh")
            assert (await found(tmp_path, space, "--pin", "ffffffff"))[0] == 3
            assert (await found(tmp_path, space, "--pin", flows["id"][:8]))[0] == 0
            _, (pinned,), _ = await found(tmp_path, space, "--one")
            assert pinned["trust"] == "pinned"


async def test_readme_shows_what_discover_prints(tmp_path: Path) -> None:
    words, _ = example("provider --supply 12V/5A --supply")
    with pair() as (there, here):
        async with running(tmp_path, *words, before=inside(there)) as source:
            await source.until_logged("announced as")
            for looks, text in (row for row in SHOWN if row[0].split()[0] == "discover"):
                done = await trio.run_process(
                    [*inside(here), sys.executable, "-m", "powertcp", *looks.split()],
                    capture_stdout=True,
                )
                said = done.stdout.decode().splitlines()
                assert [plain(line) for line in said] == [plain(line) for line in text.splitlines()]


def plain(line: str) -> str:
    """Return a line of discover without what is another one elsewhere: the id, the address."""
    return shape(re.sub(r"\[fe80[^ ]*", "THERE", HASH.sub("ID", line)))


# ---- avahi --------------------------------------------------------------------------------------


@pytest.mark.requirement("DPDP-2-01")
@pytest.mark.requirement("DPDP-5-04")
@pytest.mark.requirement("DPDP-8-03")
async def test_what_avahi_announces_is_found_over_ipv4_and_link_local_ipv6(tmp_path: Path) -> None:
    with pair() as (there, here), avahi(tmp_path, there) as bus:
        words = bus.words("avahi-publish", "-s", "Bench PSU", "_powertcp._tcp", "3251", *BENCH)
        with peer(tmp_path, words) as publish:
            await saw(publish, lambda text: "Established" in text)
            status, adverts, _ = await found(tmp_path, here)
            assert status == 0
            (advert,) = adverts
            scoped, plain = advert["addresses"]
            assert re.fullmatch(r"\[fe80::[0-9a-f:]+%e0\]:3251", scoped)
            assert plain == "10.9.0.1:3251"
            assert advert["offers"] == [
                {
                    "text": "5-12V/3A", "voltage_mv": 12_000, "current_ma": 3_000,
                    "least_voltage_mv": 5_000, "least_current_ma": 0, "frequency_chz": 0,
                    "waveform": "dc", "phases": "one",
                }
            ]  # fmt: skip
            assert (advert["currency"], advert["price_micro_per_kwh"]) == ("EUR", 250_000)
            assert advert["pairs"]["tariff"] == "EUR:250000"


@pytest.mark.requirement("DPDP-4-01")
@pytest.mark.requirement("DPDP-4-03")
async def test_avahi_sees_what_we_announce_and_that_it_goes(tmp_path: Path) -> None:
    with pair() as (there, here), avahi(tmp_path, there) as bus:
        with peer(tmp_path, bus.words("avahi-browse", "-rp", "_powertcp._tcp")) as browse:
            async with announced(tmp_path, here, "--name", "Hall B") as source:
                text = await saw(browse, lambda text: text.count("=;e0;") >= 2)
                row = next(line for line in text.splitlines() if line.startswith("=;e0;IPv4"))
                assert ";Hall\\032B;_powertcp._tcp;local;" in row
                assert ";10.9.0.2;3251;" in row
                (said,) = await adverts_of(tmp_path, source)
                pairs = dict(one.split("=", 1) for one in re.findall(r'"([^"]*)"', row))
                # what it signs is renewed
                assert {"exp", "sig"} <= pairs.keys()
                assert {key: pairs[key] for key in pairs.keys() - {"exp", "sig"}} == said["pairs"]
                host = row.split(";")[6]
                with peer(tmp_path, bus.words("avahi-resolve", "-4", "-n", host)) as resolve:
                    await saw(resolve, lambda text: "10.9.0.2" in text)
                source.signal(signal.SIGTERM)
                began = time.monotonic()
                # avahi keeps a record for 1 s after its goodbye, RFC 6762 section 10.1
                await saw(browse, lambda text: "-;e0;IPv4;Hall\\032B" in text, within_s=2)
                say(f"gone from avahi-browse {time.monotonic() - began:.2f} s after SIGTERM")
                assert await source.end() == 0


async def test_who_is_announced_by_avahi_alone_gives_power(tmp_path: Path) -> None:
    with pair() as (there, here), avahi(tmp_path, there) as bus:
        words = ("provider", "--listen", "[::]:3251", "--supply", "12V/3A", "--no-mdns")
        async with running(tmp_path, *words, before=inside(there)) as source:
            await source.until("listening")
            publish = bus.words(
                "avahi-publish", "-s", "Bench PSU", "_powertcp._tcp", "3251", *BENCH
            )
            with peer(tmp_path, publish) as program:
                await saw(program, lambda text: "Established" in text)
                async with running(
                    tmp_path, "consumer", "--request", "12V/1A", "--run", "sleep 0.1",
                    before=inside(here),
                ) as sink:  # fmt: skip
                    assert await sink.end() == 0
                    assert "ready" in sink.names()


async def test_avahi_on_the_same_host_keeps_its_name(tmp_path: Path) -> None:
    host = socket.gethostname().partition(".")[0]
    with pair() as (here, _), avahi(tmp_path, here, name=host) as bus:
        # an address that avahi does not announce on this interface
        ip("-n", here, "addr", "add", "10.8.0.1/24", "dev", "lo")
        # it answers for its name once it has probed for it
        with peer(tmp_path, bus.words("avahi-resolve", "-4", "-n", f"{host}.local")) as resolve:
            await saw(resolve, lambda text: "10.9.0.1" in text)
        async with announced(tmp_path, here):
            with peer(tmp_path, bus.words("avahi-browse", "-rp", "_powertcp._tcp")) as browse:
                text = await saw(browse, lambda text: "=;e0;IPv4" in text)
                assert f";{host}-" in text
            with peer(tmp_path, bus.words("avahi-resolve", "-4", "-n", f"{host}.local")) as resolve:
                await saw(resolve, lambda text: "10.9.0.1" in text)


# ---- conflicts and changes ----------------------------------------------------------------------


@pytest.mark.requirement("DPDP-5-01")
@pytest.mark.parametrize("hosts", [1, 2])
async def test_of_two_of_one_name_that_start_together_one_gets_a_number(
    tmp_path: Path, hosts: int
) -> None:
    words = ("provider", "--listen", "[::]:0", "--supply", "12V/5A", "--name", "Lamp")
    with pair() as (there, here):
        other = (there, here)[hosts - 1]
        async with (
            running(tmp_path, *words, before=inside(there)) as one,
            running(
                tmp_path, *words, "--state-dir", str(tmp_path / "two"), before=inside(other)
            ) as two,
            running(tmp_path, "discover", "--watch", before=inside(here)) as watch,
        ):
            await watch.until("new", 2, when=lambda each: each["name"] in ("Lamp", "Lamp (2)"))
            for each in (one, two):
                await each.until_logged("announced as")
            _, adverts, _ = await found(tmp_path, here, "--all")
            assert {advert["name"] for advert in adverts} == {"Lamp", "Lamp (2)"}
            assert {advert["standing"] for advert in adverts} == {"good"}


@pytest.mark.requirement("DPDP-2-01")
@pytest.mark.parametrize("is_one_id", [False, True])
async def test_hosts_of_one_name_that_start_together_are_each_found_at_their_own_addresses(
    tmp_path: Path, is_one_id: bool
) -> None:
    with pair() as (there, here):
        async with AsyncExitStack() as stack:
            for name, space, digit in (("one", there, "a"), ("two", here, "b")):
                state = tmp_path / name
                state.mkdir(mode=0o700)
                write_secret(state / "provider.id", ("a" if is_one_id else digit).encode() * 16)
                words = (
                    "provider", "--listen", "[::]:3251", "--supply", "12V/5A", "--no-ledger",
                    "--name", name, "--state-dir", str(state),
                )  # fmt: skip
                await stack.enter_async_context(running(tmp_path, *words, before=inside(space)))
            async with running(tmp_path, "discover", "--watch", before=inside(here)) as watch:
                await watch.until("new", when=lambda each: each["name"] == "one")
                await watch.until("new", when=lambda each: each["name"] == "two")
            _, adverts, _ = await found(tmp_path, here, "--all")
            hosts = {}
            for advert in adverts:
                hosts[advert["name"]] = advert["host"]
                plain = [each for each in advert["addresses"] if not each.startswith("[")]
                assert plain == ["10.9.0.1:3251" if advert["name"] == "one" else "10.9.0.2:3251"]
                # one of each family
                assert len(advert["addresses"]) == 2
            own = re.escape(socket.gethostname().partition(".")[0])
            assert len(set(hosts.values())) == 2
            assert all(
                re.fullmatch(rf"{own}-[0-9a-f]{{8}}\.local\.", host) for host in hosts.values()
            )


@pytest.mark.requirement("DPDP-8-04")
async def test_an_address_that_comes_and_a_link_that_goes_are_followed(tmp_path: Path) -> None:
    with pair() as (there, here):
        async with announced(tmp_path, here):
            async with running(tmp_path, "discover", "--watch", before=inside(there)) as watch:
                await watch.until("new")
                ip("-n", here, "addr", "add", "10.9.0.77/24", "dev", "e0")
                with trio.fail_after(4):
                    await watch.until(
                        "changed", when=lambda facts: "10.9.0.77:3251" in facts["addresses"]
                    )
