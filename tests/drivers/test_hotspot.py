"""A hot spot between two networks: who holds a lease of power is forwarded, exactly as long."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

import powertcp.drivers.hotspot as spots
from powertcp.dpdp.leases import HotSpotConfig
from powertcp.drivers.hotspot import address_of, open_hotspot
from powertcp.errors import ConfigError
from powertcp.linux.route import way_out
from tests.drivers.processes import Running, asked, running
from tests.drivers.spaces import SLOW_S, Peer, inside, ip, need, peer, spaces

pytestmark = [pytest.mark.kernel, pytest.mark.interop]

NFT = {"nft": "nftables"}
# what a guest uses: one line each tenth of a second, and when it came back
ECHO = """
import socket, sys
listener = socket.create_server((sys.argv[1], 7), family=getattr(socket, sys.argv[2]))
print("listening", flush=True)
while True:
    peer, _ = listener.accept()
    with peer:
        while data := peer.recv(64):
            peer.sendall(data)
"""
TALK = """
import socket, sys, time
try:
    end = socket.create_connection((sys.argv[1], 7), timeout=float(sys.argv[2]))
except OSError as error:
    print("refused", type(error).__name__, flush=True)
    sys.exit(1)
end.settimeout(30)
count = 0
while True:
    count += 1
    end.sendall(b"%d\\n" % count)
    end.recv(64)
    print("echo", count, time.monotonic_ns(), flush=True)
    time.sleep(0.05)
"""
GUEST = ("--request", "12V/0.5A", "--no-ledger")


class Hall(NamedTuple):
    """Three namespaces: a guest, the access point, somebody beyond it."""

    guest: str
    point: str
    beyond: str


def _nft(space: str, *words: str) -> str:
    ran = subprocess.run([*inside(space), "nft", *words], capture_output=True, text=True)
    return ran.stdout


def listed(hall: Hall, version: int = 4) -> list[str]:
    """Return the addresses that the kernel has in the set now."""
    text = _nft(hall.point, "-j", "list", "set", "inet", "powertcp", f"leased{version}")
    sets = [each["set"] for each in json.loads(text)["nftables"] if "set" in each]
    return [each["elem"]["val"] for each in sets[0].get("elem", [])]


@contextmanager
def hall() -> Iterator[Hall]:
    """Make guest 10.8.0.2 - (inside) point (outside) - beyond 10.7.0.2, with IPv6 alike."""
    need(NFT)
    with spaces(3) as names:
        made = Hall(*names)
        for one, end, network in ((made.guest, "inside", 8), (made.beyond, "outside", 7)):
            ip("-n", made.point, "link", "add", end, "type", "veth", "peer", "name", "e0", "netns", one)  # fmt: skip
            for name, device, number in ((made.point, end, 1), (one, "e0", 2)):
                off = f"net.ipv6.conf.{device}.accept_dad=0"
                subprocess.run([*inside(name), "sysctl", "-q", off], check=True)
                ip("-n", name, "addr", "add", f"10.{network}.0.{number}/24", "dev", device)
                ip("-n", name, "addr", "add", f"fd00:{network}::{number}/64", "dev", device)
                ip("-n", name, "link", "set", device, "up")
            ip("-n", one, "route", "add", "default", "via", f"10.{network}.0.1")
            ip("-n", one, "route", "add", "default", "via", f"fd00:{network}::1")
        for key in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
            subprocess.run([*inside(made.point), "sysctl", "-q", key], check=True)
        yield made


@asynccontextmanager
async def hotspot(
    folder: Path, where: Hall, *words: str, lease: str = "5s"
) -> AsyncIterator[Running]:
    """Run a provider at the access point until it serves."""
    async with running(
        folder, "provider", "--listen", "[::]:3251", "--supply", "12V/5A", "--no-ledger",
        "--no-mdns", "--hotspot", "guest", "--inside", "inside", "--lease", lease, *words,
        before=inside(where.point),
    ) as one:  # fmt: skip
        await one.until("listening")
        yield one


@contextmanager
def echo(folder: Path, where: Hall, host: str = "10.7.0.2") -> Iterator[None]:
    family = "AF_INET6" if ":" in host else "AF_INET"
    words = (*inside(where.beyond), sys.executable, "-c", ECHO, host, family)
    with peer(folder, words) as server:
        server.until(lambda text: "listening" in text)
        yield


@contextmanager
def talk(folder: Path, where: Hall, host: str = "10.7.0.2", within: str = "10") -> Iterator[Peer]:
    """Let the guest talk to somebody beyond, until the block ends."""
    with peer(folder, (*inside(where.guest), sys.executable, "-c", TALK, host, within)) as one:
        yield one


async def heard(one: Peer, count: int) -> int:
    """Wait for `count` echoes; return how many there are."""
    await trio.to_thread.run_sync(one.until, lambda text: text.count("echo") >= count)
    return one.text.count("echo")


def last_ns(one: Peer) -> int:
    return int(re.findall(r"echo \d+ (\d+)\n", one.text)[-1])


@asynccontextmanager
async def guest(
    folder: Path, where: Hall, address: str = "10.8.0.1:3251", *words: str
) -> AsyncIterator[Running]:
    """Run a consumer at the guest until it is powered."""
    async with running(
        folder, "consumer", "--connect", address, *GUEST, *words, before=inside(where.guest)
    ) as one:
        await one.until("ready")
        yield one


async def until_listed(where: Hall, wanted: list[str], version: int = 4) -> None:
    """Wait for what the kernel has; an element that ends there tells nobody."""

    def look() -> None:
        end = time.monotonic() + SLOW_S
        while (found := listed(where, version)) != wanted:
            assert time.monotonic() < end, found
            time.sleep(0.02)

    await trio.to_thread.run_sync(look)


@pytest.mark.requirement("DPDP-9-02")
async def test_without_a_lease_a_connect_times_out_and_with_one_it_is_answered(
    tmp_path: Path,
) -> None:
    with hall() as where, echo(tmp_path, where):
        with talk(tmp_path, where) as free:
            await heard(free, 2)  # before there is a hot spot, the site's own rules hold
        async with hotspot(tmp_path, where, "--outside", "outside") as source:
            with talk(tmp_path, where, within="1") as shut:
                await trio.to_thread.run_sync(shut.until, lambda text: "refused" in text)
                assert "refused TimeoutError" in shut.text
            async with guest(tmp_path, where) as lamp:
                await until_listed(where, ["10.8.0.2"])
                with talk(tmp_path, where) as open_:
                    await heard(open_, 5)
                    lamp.signal(signal.SIGTERM)
                    assert await lamp.end() == 0
                    await until_listed(where, [])
                    before = open_.text.count("echo")
                    await trio.sleep(0.5)
                    assert open_.text.count("echo") <= before + 1
            status = await asked(tmp_path, f"provider-{source.pid}.sock", op="status")
            assert status["hotspot"] == {
                "kind": "guest", "inside": "inside", "outside": "outside",
                "forwarding": True, "addresses": 0, "refused": 0, "fault": "",
            }  # fmt: skip
            source.signal(signal.SIGTERM)
            assert await source.end() == 0
        assert "powertcp" not in _nft(where.point, "list", "ruleset")


@pytest.mark.requirement("DPDP-9-02")
async def test_ipv6_is_forwarded_alike(tmp_path: Path) -> None:
    with hall() as where, echo(tmp_path, where, "fd00:7::2"):
        async with hotspot(tmp_path, where):
            with talk(tmp_path, where, "fd00:7::2", within="1") as shut:
                await trio.to_thread.run_sync(shut.until, lambda text: "refused" in text)
            async with guest(tmp_path, where, "[fd00:8::1]:3251"):
                await until_listed(where, ["fd00:8::2"], 6)
                assert listed(where) == []
                with talk(tmp_path, where, "fd00:7::2") as open_:
                    await heard(open_, 3)


@pytest.mark.requirement("DPDP-9-02")
async def test_an_established_flow_stops_within_a_second_of_the_lapse(tmp_path: Path) -> None:
    with hall() as where, echo(tmp_path, where):
        async with hotspot(tmp_path, where) as source:
            async with guest(tmp_path, where) as lamp:
                with talk(tmp_path, where) as talking:
                    await heard(talking, 3)
                    # longer than a lease: each answered MAINTAIN has renewed it
                    before = await heard(talking, 3)
                    await trio.sleep(6)
                    assert await heard(talking, before + 60) >= before + 60
                    assert listed(where) == ["10.8.0.2"]
                    lamp.signal(signal.SIGSTOP)
                    try:
                        stopped_ns = time.monotonic_ns()
                        await source.until_logged("307 LEASE_EXPIRED")
                        lapsed_ns = time.monotonic_ns()
                        await until_listed(where, [])
                        await trio.sleep(1.5)
                    finally:
                        lamp.signal(signal.SIGCONT)
                    assert -1e9 < last_ns(talking) - lapsed_ns < 1e9
                    assert 3.5e9 < last_ns(talking) - stopped_ns < 6e9


@pytest.mark.requirement("DPDP-9-02")
async def test_a_fallback_is_power_without_a_network_until_the_path_is_well_again(
    tmp_path: Path,
) -> None:
    with hall() as where:
        async with hotspot(tmp_path, where) as source:
            async with guest(tmp_path, where, "10.8.0.1:3251", "--fallback", "12V/0.1A") as lamp:
                await until_listed(where, ["10.8.0.2"])
                lamp.signal(signal.SIGSTOP)
                try:
                    await source.until_logged("lapsed")
                    await until_listed(where, [])
                finally:
                    lamp.signal(signal.SIGCONT)
                await until_listed(where, ["10.8.0.2"])
                assert "closed" not in source.log


@pytest.mark.requirement("DPDP-9-02")
async def test_a_trip_ends_it(tmp_path: Path) -> None:
    with hall() as where:
        async with hotspot(tmp_path, where, "--source", "mains:swell=150%@2s/1s") as source:
            async with guest(tmp_path, where):
                await until_listed(where, ["10.8.0.2"])
                await source.until_logged("tripped")
                await until_listed(where, [])


@pytest.mark.requirement("DPDP-9-02")
async def test_a_provider_that_is_killed_forwards_nobody_beyond_the_lease(tmp_path: Path) -> None:
    with hall() as where, echo(tmp_path, where):
        async with hotspot(tmp_path, where) as source:
            async with guest(tmp_path, where):
                await until_listed(where, ["10.8.0.2"])
                with talk(tmp_path, where) as talking:
                    await heard(talking, 3)
                    source.signal(signal.SIGKILL)
                    await source.end()
                    killed_ns = time.monotonic_ns()
                    await until_listed(where, [])
                    await trio.sleep(0.5)
                    assert last_ns(talking) - killed_ns < 5.5e9
        # its rules stay, and nobody passes; the next one begins anew
        with talk(tmp_path, where, within="1") as shut:
            await trio.to_thread.run_sync(shut.until, lambda text: "refused" in text)
        async with hotspot(tmp_path, where):
            assert _nft(where.point, "list", "ruleset").count("chain forward") == 1
            async with guest(tmp_path, where):
                await until_listed(where, ["10.8.0.2"])


@pytest.mark.requirement("DPDP-9-03")
async def test_an_address_is_listed_once_and_nobody_behind_the_host_is(tmp_path: Path) -> None:
    with hall() as where:
        async with hotspot(tmp_path, where) as source:
            async with guest(tmp_path, where), guest(tmp_path, where) as second:
                for space, host in ((where.point, "127.0.0.1"), (where.point, "10.8.0.1"), (where.beyond, "10.7.0.1")):  # fmt: skip
                    async with running(
                        tmp_path, "consumer", "--connect", f"{host}:3251", *GUEST, "--for", "300ms",
                        before=inside(space),
                    ) as other:  # fmt: skip
                        await other.until("ready")
                        assert await other.end() == 0
                assert listed(where) == ["10.8.0.2"]
                second.signal(signal.SIGTERM)
                assert await second.end() == 0
                await source.until_logged("closed", 4)
                assert listed(where) == ["10.8.0.2"]


@pytest.mark.requirement("DPDP-9-01")
async def test_a_guest_has_a_trickle_of_its_address_however_many_flows(tmp_path: Path) -> None:
    watts = tmp_path / "authorized_watts"
    watts.write_text("clear max-power=10W\n")
    with hall() as where:
        async with hotspot(tmp_path, where, "--authorized", str(watts)):
            async with guest(tmp_path, where):
                async with running(
                    tmp_path, "consumer", "--connect", "10.8.0.1:3251", *GUEST, "--give-up", "1s",
                    before=inside(where.guest),
                ) as second:  # fmt: skip
                    refused = await second.until("refused")
                    assert (refused["code"], refused["limit"]) == (204, 4_000)
                assert listed(where) == ["10.8.0.2"]


@pytest.mark.requirement("DPDP-9-01")
async def test_a_ticket_is_a_key_or_a_certificate(tmp_path: Path) -> None:
    """A guest draws its trickle, a member its contract, and only the member is forwarded."""
    home = {"XDG_CONFIG_HOME": str(tmp_path / "member")}

    def key_of(name: str) -> tuple[str, str]:
        path = tmp_path / f"{name}.key"
        words = [sys.executable, "-m", "powertcp", "vppn", "keygen", "--out", str(path)]
        ran = subprocess.run(words, capture_output=True, text=True, check=True)
        return ran.stdout.split()[1], str(path)

    (public, ours), (member, theirs) = key_of("point"), key_of("member")
    watts = tmp_path / "authorized_watts"
    watts.write_text(f"guest max-power=2W\nkey {member} max-power=24W alice@lamp\n")
    with hall() as where:
        async with hotspot(
            tmp_path, where, "--hotspot", "ticket", "--seal", "req", "--key", ours,
            "--authorized", str(watts),
        ):  # fmt: skip
            sealed = ("--seal", "--peer", public)
            trickle = ("--request", "12V/0.1A", "--no-ledger", "--pattern", "nk")
            async with running(
                tmp_path, "consumer", "--connect", "10.8.0.1:3251", *sealed, *trickle,
                before=inside(where.guest), **home,
            ) as stranger:  # fmt: skip
                await stranger.until("ready")
                assert listed(where) == []
                async with guest(
                    tmp_path, where, "10.8.0.1:3251", *sealed, "--key", theirs
                ) as lamp:
                    await until_listed(where, ["10.8.0.2"])
                    lamp.signal(signal.SIGTERM)
                    assert await lamp.end() == 0
                await until_listed(where, [])


@pytest.mark.requirement("DPDP-9-01")
async def test_who_redeems_a_code_is_forwarded(tmp_path: Path) -> None:
    """A guest with nothing but a code: the portal gives it a certificate, which opens the way."""

    def vppn(*words: object, typed: str = "") -> str:
        told = [sys.executable, "-m", "powertcp", "vppn", *map(str, words)]
        done = subprocess.run(told, input=typed, capture_output=True, text=True, check=True)
        return done.stdout

    ca, ours, theirs = (tmp_path / name for name in ("ca.key", "point.key", "member.key"))
    issuer = vppn("keygen", "--ca", "--out", ca).split()[1]
    public = vppn("keygen", "--out", ours).split()[1]
    member = vppn("keygen", "--out", theirs).split()[1]
    codes = ("--ca", ca, "--codes", tmp_path / "codes")
    code = vppn("codes", *codes, "--name", "guest", "--limits", "max-power=24W")
    certificate = tmp_path / "member.cert"
    certificate.write_text(vppn("redeem", *codes, "--subject", member, typed=code))
    watts = tmp_path / "authorized_watts"
    watts.write_text(f"guest max-power=2W\nissuer {issuer} max-power=24W\n")
    with hall() as where:
        async with hotspot(
            tmp_path, where, "--hotspot", "ticket", "--seal", "req", "--key", str(ours),
            "--authorized", str(watts),
        ):  # fmt: skip
            async with guest(
                tmp_path, where, "10.8.0.1:3251", "--seal", "--peer", public, "--key", str(theirs),
                "--cert", str(certificate),
            ):  # fmt: skip
                await until_listed(where, ["10.8.0.2"])


@pytest.mark.requirement("DPDP-9-01")
async def test_a_hot_spot_is_found_by_an_address_that_is_forwarded(tmp_path: Path) -> None:
    with hall() as where:
        async with running(
            tmp_path, "provider", "--listen", "[::]:3251", "--supply", "12V/5A",
            "--hotspot", "guest", "--inside", "inside", before=inside(where.point),
        ) as source:  # fmt: skip
            await source.until_logged("announced as")
            async with running(tmp_path, "discover", "--one", before=inside(where.guest)) as look:
                assert await look.end() == 0
                await look.until_closed()
                (advert,) = look.events
                assert advert["hot"] == "guest"
                assert "10.8.0.1:3251" in advert["addresses"]
                assert not [each for each in advert["addresses"] if each.startswith("[fe80")]
            async with running(tmp_path, "consumer", *GUEST, before=inside(where.guest)) as lamp:
                await lamp.until("ready")
                status = await asked(tmp_path, f"provider-{source.pid}.sock", op="status")
                spot: Any = status["hotspot"]
                assert spot["addresses"] == 1


@pytest.mark.requirement("DPDP-9-04")
async def test_without_the_privilege_there_is_power_only(tmp_path: Path) -> None:
    need({"setpriv": "util-linux"})
    less = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    with hall() as where:
        async with running(
            tmp_path, "provider", "--listen", "[::]:3251", "--supply", "12V/5A", "--no-ledger",
            "--no-mdns", "--hotspot", "guest", "--inside", "inside",
            before=(*inside(where.point), *less),
        ) as source:  # fmt: skip
            facts = await source.until("listening")
            assert facts["hotspot"]["forwarding"] is False
            assert "Operation not permitted" in facts["hotspot"]["fault"]
            await source.until_logged("power only: ")
            async with guest(tmp_path, where) as lamp:
                lamp.signal(signal.SIGTERM)
                assert await lamp.end() == 0
            source.signal(signal.SIGTERM)
            assert await source.end() == 0
        assert "powertcp" not in _nft(where.point, "list", "ruleset")


@pytest.mark.requirement("DPDP-9-02")
async def test_a_table_that_somebody_takes_away_comes_back_with_its_leases(tmp_path: Path) -> None:
    with hall() as where:
        async with hotspot(tmp_path, where) as source, guest(tmp_path, where):
            await until_listed(where, ["10.8.0.2"])
            _nft(where.point, "flush", "ruleset")
            await source.until_logged("forwarding is to be set up again")
            await source.until_logged("forwards again")
            assert listed(where) == ["10.8.0.2"]


@pytest.mark.requirement("DPDP-9-04")
async def test_a_host_without_nft_has_power_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(spots, "_PLACES", "/nowhere")
    config = HotSpotConfig(kind="guest", inside="lo")
    async with open_hotspot(config) as spot:
        assert (spot.is_forwarding, spot.line()) == (False, "power only")
        assert spot.facts()["fault"] == "cannot forward: nft: No such file or directory"
        await spot.run()
    # nobody is left who has the lock
    async with open_hotspot(config):
        with pytest.raises(ConfigError, match="another provider is the hot spot"):
            async with open_hotspot(config):
                pass


@pytest.mark.requirement("DPDP-9-04")
async def test_an_nft_that_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "nft"
    tool.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(spots, "NFT_S", 0.2)
    async with open_hotspot(HotSpotConfig(kind="guest", inside="lo")) as spot:
        assert spot.facts()["fault"] == f"cannot forward: {tool}: Connection timed out"


@pytest.mark.requirement("DPDP-9-04")
async def test_a_hot_spot_without_its_inside_does_not_begin(tmp_path: Path) -> None:
    with hall() as where:
        async with running(
            tmp_path, "provider", "--listen", "127.0.0.1:0", "--supply", "12V/5A", "--no-ledger",
            "--no-mdns", "--hotspot", "guest", "--inside", "wlan9", before=inside(where.point),
        ) as source:  # fmt: skip
            assert await source.end() == 2
            await source.until_logged("inside: no interface wlan9")
        assert "powertcp" not in _nft(where.point, "list", "ruleset")


@pytest.mark.requirement("DPDP-9-04")
async def test_an_inside_that_goes_is_told_and_its_rules_hold_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    def rename(was: str, name: str) -> None:
        for words in (("down",), ("name", name)):
            ip("-n", where.point, "link", "set", was, *words)
        ip("-n", where.point, "link", "set", name, "up")

    async def fault() -> str:
        status: Any = await asked(tmp_path, f"provider-{source.pid}.sock", op="status")
        return str(status["hotspot"]["fault"])

    with hall() as where, echo(tmp_path, where):
        async with hotspot(tmp_path, where, "--outside", "outside") as source:
            assert await fault() == ""
            rename("inside", "other")
            said = "no interface inside: guests on another one are not held back"
            await source.until_logged(said)
            assert await fault() == said
            rename("other", "inside")
            await source.until_logged("inside: there again")
            assert await fault() == ""
            with talk(tmp_path, where, within="1") as shut:
                await trio.to_thread.run_sync(shut.until, lambda text: "refused" in text)
            async with guest(tmp_path, where):
                await until_listed(where, ["10.8.0.2"])
            ip("-n", where.point, "link", "set", "outside", "name", "beyond")
            await source.until_logged("no interface outside: nobody is forwarded")
            assert source.log.count(said) == 1


async def test_a_host_has_one_hot_spot(tmp_path: Path) -> None:
    with hall() as where:
        async with hotspot(tmp_path, where):
            async with running(
                tmp_path, "provider", "--listen", "127.0.0.1:0", "--supply", "12V/5A", "--no-ledger",
                "--no-mdns", "--hotspot", "guest", "--inside", "inside", before=inside(where.point),
            ) as second:  # fmt: skip
                assert await second.end() == 2
                await second.until_logged("another provider is the hot spot of this host")
            assert "chain forward" in _nft(where.point, "list", "ruleset")


def test_an_address_that_no_router_forwards_is_none() -> None:
    assert address_of("10.8.0.2") == ip_address("10.8.0.2")
    assert address_of("::ffff:10.8.0.2") == ip_address("10.8.0.2")
    assert address_of("fd00::2") == ip_address("fd00::2")
    for host in ("127.0.0.1", "::1", "fe80::1%e0", "169.254.1.1", "::", "224.0.0.1", "a-name"):
        assert address_of(host) is None


@pytest.mark.requirement("DPDP-9-03")
def test_this_host_is_no_way_out() -> None:
    assert way_out(ip_address("127.0.0.1")) == ""
    assert way_out(ip_address("::1")) == ""
