"""Sealed power between real daemons, with a relay on the path that holds no key."""

import json
import signal
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from powertcp.registry import Reason, SegmentType
from powertcp.vppn.certificate import Certificate, issue_certificate
from powertcp.vppn.faults import tokens
from powertcp.vppn.identity import Algorithm, PublicKey, SecretKey
from powertcp.vppn.limits import parse_words
from powertcp.vppn.revocation import issue_revocations
from tests.drivers.processes import Running, asked, provider, running
from tests.drivers.relay import DOWN, UP, Relay, relaying

SITE = SecretKey(Algorithm.X25519, bytes([0x21]) * 32)
ALICE = SecretKey(Algorithm.X25519, bytes([0x22]) * 32)
BOSS = SecretKey(Algorithm.ED25519, bytes([0x23]) * 32)
PATTERNS = ["ik", "xk", "nk", "ik-classic", "xk-classic", "nk-classic"]
NOW = datetime.now(UTC)


def write_key(path: Path, key: SecretKey) -> str:
    path.touch(0o600)
    path.write_text(key.format())
    return str(path)


class Site(NamedTuple):
    """A sealed provider, and the words by which a consumer reaches it through the relay."""

    provider: Running
    relay: Relay
    words: tuple[str, ...]
    folder: Path


@asynccontextmanager
async def site(
    folder: Path,
    *words: str,
    authorized: str = "guest max-power=200W\n",
    seal: str = "req",
    supply: str = "12V/20A",
) -> AsyncIterator[Site]:
    keys = write_key(folder / "site", SITE), write_key(folder / "alice", ALICE)
    watts = folder / "authorized_watts"
    watts.write_text(authorized)
    given = ("--supply", supply, "--seal", seal, "--key", keys[0], "--authorized", str(watts))
    async with (
        provider(folder, *given, *words) as (one, address),
        relaying(address) as relay,
    ):
        seals = ("--connect", relay.address, "--seal", "--peer", str(SITE.public))
        yield Site(one, relay, (*seals, "--key", keys[1]), folder)


def device(where: Site, *words: str, power: str = "12V/2A", time: str = "2s") -> tuple[str, ...]:
    return ("consumer", *where.words, "--request", power, "--for", time, *words)


@pytest.mark.requirement("VPPN-2.2-08", "VPPN-3-04")
@pytest.mark.parametrize("pattern", PATTERNS)
async def test_a_relay_without_a_key_sees_how_much_and_nothing_else(
    tmp_path: Path, pattern: str
) -> None:
    classic = ("--allow-classic",) if pattern.endswith("classic") else ()
    async with site(tmp_path, *classic) as where:
        words = device(where, "--pattern", pattern, *classic)
        async with running(tmp_path, *words) as sink:
            sealed = await sink.until("sealed")
            assert sealed["pattern"] == pattern
            assert await sink.end() == 0
        (done,) = sink.all("done")
        status = await asked(tmp_path, f"provider-{where.provider.pid}.sock", op="status")
    assert status["energy_uj"] == done["energy_uj"] == 48_000_000
    relay = where.relay
    # the ESN is clear on purpose: of the last block the relay sees where it began
    assert 40_000_000 <= relay.claimed_uj <= 48_000_000
    assert {kind for _, kind, _ in relay.raws} == {SegmentType.SEALED}
    heard = relay.octets[UP] + relay.octets[DOWN]
    sample = struct.pack(">ii", 12_000, 2_000_000)
    for secret in (sample, ALICE.public.octets, b"alice", struct.pack(">ii", 12_000, 0)):
        assert secret not in heard


@pytest.mark.requirement("VPPN-3-05")
async def test_private_power_shows_neither_flow_nor_energy(tmp_path: Path) -> None:
    async with (
        site(tmp_path, "--privacy", "private") as where,
        running(tmp_path, *device(where, "--privacy", "private")) as sink,
    ):
        assert await sink.end() == 0
    assert where.relay.claimed_uj == 0
    assert {(kind, flow) for _, kind, flow in where.relay.raws} == {(SegmentType.SEALED, 0)}


@pytest.mark.requirement("VPPN-3-05")
async def test_both_ends_say_that_the_other_one_seals_in_the_other_mode(tmp_path: Path) -> None:
    async with site(tmp_path, "--privacy", "private") as where:
        async with running(tmp_path, *device(where, "--give-up", "1s")) as sink:
            broken = await sink.until("seal broken")
            said = (
                "the other end seals in private mode, we in police: --privacy is the same at both"
            )
            assert broken["code"] == Reason.DECRYPT
            assert said in broken["sentence"]
            assert await sink.end() == 3
        await where.provider.until_logged("seals in police mode, we in private: --privacy")


@pytest.mark.requirement("VPPN-3-08", "PTCP-10-04")
@pytest.mark.parametrize(("direction", "after"), [(UP, 1_800), (DOWN, 6_000)])
async def test_a_bit_that_is_turned_on_the_path_costs_the_path_and_no_energy(
    tmp_path: Path, direction: int, after: int
) -> None:
    async with site(tmp_path) as where:
        turned: list[int] = []

        def turn(way: int, at: int, octets: bytes) -> bytes:
            # well after the handshake, once
            if way != direction or turned or at < after:
                return octets
            turned.append(at)
            middle = len(octets) // 2
            return octets[:middle] + bytes([octets[middle] ^ 0x10]) + octets[middle + 1 :]

        where.relay.alter = turn
        async with running(tmp_path, *device(where, time="6s")) as sink:
            assert await sink.end() == 0
        (done,) = sink.all("done")
        status = await asked(tmp_path, f"provider-{where.provider.pid}.sock", op="status")
    assert turned
    assert where.relay.connections == 2
    broken = [one["code"] for one in sink.all("seal broken")]
    if direction == DOWN:
        assert broken == [Reason.DECRYPT]
    assert done["energy_uj"] == status["energy_uj"] == 144_000_000


@pytest.mark.requirement("VPPN-2.2-04")
async def test_clear_power_is_refused_where_a_seal_is_required(tmp_path: Path) -> None:
    async with site(tmp_path) as where:
        words = ("consumer", "--connect", where.relay.address, "--request", "12V/1A")
        async with running(tmp_path, *words) as sink:
            assert await sink.end() == 1
        assert sink.all("refused")[0]["code"] == Reason.SEAL_REQUIRED


@pytest.mark.requirement("VPPN-2.2-08")
async def test_where_a_seal_is_optional_both_are_powered(tmp_path: Path) -> None:
    watts = "guest max-power=100W\nclear max-power=10W\n"
    async with site(tmp_path, seal="opt", authorized=watts) as where:
        clear = ("consumer", "--connect", where.relay.address, "--for", "1s", "--request")
        async with running(tmp_path, *clear, "12V/0.5A") as sink:
            assert await sink.end() == 0
        async with running(tmp_path, *clear, "12V/2A") as sink:
            assert await sink.end() == 1
        assert sink.all("refused")[0]["code"] == Reason.WATT_LIMIT
        async with running(tmp_path, *device(where, time="1s")) as sink:
            assert await sink.end() == 0


@pytest.mark.requirement("VPPN-2.2-04", "VPPN-2.1-03")
async def test_who_expects_another_key_is_told_at_once(tmp_path: Path) -> None:
    async with site(tmp_path) as where:
        words = list(device(where))
        words[words.index(str(SITE.public))] = str(ALICE.public)
        async with running(tmp_path, *words) as sink:
            assert await sink.end() == 1
        (broken,) = sink.all("seal broken")
        assert broken["code"] == Reason.SEAL_REQUIRED
        assert "509" in broken["sentence"]


@pytest.mark.requirement("VPPN-2.2-03")
async def test_a_stealthy_provider_says_nothing_to_strangers(tmp_path: Path) -> None:
    async with site(tmp_path, "--stealth") as where:
        host, _, port = where.relay.address.rpartition(":")
        began = trio.current_time()
        for words in (b"GET / HTTP/1.0\r\n\r\n", b"PO\x01\x05\x10" + bytes(60)):
            async with await trio.open_tcp_stream(host, int(port)) as stranger:
                await stranger.send_all(words)
                assert await stranger.receive_some(1) == b""
        assert trio.current_time() - began >= 9
        async with running(tmp_path, *device(where, time="1s")) as sink:
            assert await sink.end() == 0


@pytest.mark.requirement("VPPN-2.2-09")
async def test_classic_handshakes_need_the_consent_of_both(tmp_path: Path) -> None:
    async with site(tmp_path) as where:
        words = device(where, "--pattern", "ik-classic", "--allow-classic")
        async with running(tmp_path, *words) as sink:
            assert await sink.end() == 1
        async with running(tmp_path, *device(where, "--pattern", "ik-classic")) as sink:
            assert await sink.end() == 2
            await sink.until_logged("--allow-classic")


def certificate(path: Path, subject: PublicKey, hours: tuple[float, float], serial: int) -> str:
    start, end = (NOW + timedelta(hours=each) for each in hours)
    signed = Certificate(
        serial=serial, subject=subject, name="alice@lamp", groups=("staff",),
        limits=parse_words(tokens("max-power=65W"))[0],
        not_before_s=int(start.timestamp()), not_after_s=int(end.timestamp()),
        issuer=BOSS.public, limits_line=6,
    )  # fmt: skip
    path.write_bytes(issue_certificate(signed, BOSS))
    return str(path)


def renew(path: str, serial: int) -> None:
    part = certificate(Path(path).with_suffix(".part"), ALICE.public, (-1, 7), serial)
    Path(part).rename(path)


def revoke(path: Path, *serials: int) -> str:
    start = int((NOW - timedelta(hours=1)).timestamp())
    path.write_bytes(issue_revocations(BOSS, start, start + 86_000, serials, ()))
    return str(path)


@pytest.mark.requirement("VPPN-2.2-01", "VPPN-5-04", "VPPN-5-05", "VPPN-5-10", "VPPN-5-11")
async def test_an_employee_has_what_the_certificate_allows_until_it_is_revoked(
    tmp_path: Path,
) -> None:
    watts = f"# staff\nissuer {BOSS.public} groups=staff max-power=200W\n"
    krl = revoke(tmp_path / "krl")
    async with site(tmp_path, "--krl", krl, authorized=watts, supply="13V/20A") as where:
        cert = certificate(tmp_path / "cert", ALICE.public, (-1, 7), 4711)
        async with running(tmp_path, *device(where, "--cert", cert, power="13V/5.077A")) as sink:
            assert await sink.end() == 1
        (refused,) = sink.all("refused")
        assert (refused["code"], refused["limit"]) == (Reason.WATT_LIMIT, 65_000)
        await where.provider.until_logged("authorized_watts:2 issuer, certificate 4711:6")
        words = device(where, "--cert", cert, power="13V/5A", time="60s")
        async with running(tmp_path, *words) as sink:
            await sink.until("ready")
            await where.provider.until_logged("alice@lamp")
            # nobody tells the provider: it looks each 10 s
            revoke(Path(krl), 4711)
            assert await sink.end() == 1
        # the new SYN after the end of the flow
        assert sink.all("refused")[-1]["code"] == Reason.CERT_REVOKED
        for hours, serial, code in (
            ((-9, -1), 4712, Reason.CERT_EXPIRED),
            ((1, 2), 4713, Reason.CERT_EXPIRED),
        ):
            late = certificate(tmp_path / f"{serial}", ALICE.public, hours, serial)
            async with running(tmp_path, *device(where, "--cert", late, power="13V/1A")) as sink:
                refused = await sink.until("refused")
            assert refused["code"] == code
        stolen = certificate(tmp_path / "stolen", SITE.public, (-1, 7), 4714)
        async with running(tmp_path, *device(where, "--cert", stolen)) as sink:
            assert await sink.end() == 2
            await sink.until_logged("it speaks for")


@pytest.mark.requirement("VPPN-4-02", "VPPN-4-01")
async def test_a_certificate_that_is_renewed_in_time_keeps_the_power_on(tmp_path: Path) -> None:
    watts = f"issuer {BOSS.public} max-power=200W\n"
    async with site(tmp_path, authorized=watts, supply="13V/20A") as where:
        # of a shift that ends in some seconds
        soon = (datetime.now(UTC) - NOW).total_seconds() / 3600 + 6 / 3600
        cert = certificate(tmp_path / "cert", ALICE.public, (-1, soon), 4711)
        words = device(where, "--cert", cert, "--rekey", "1s", power="13V/1A", time="10s")
        async with running(tmp_path, *words) as sink:
            await sink.until("ready")
            renew(cert, 4712)
            assert await sink.end() == 0
        assert sink.all("done")[0]["energy_uj"] == 130_000_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--key", "k"), "it is about --seal"),
        (("--privacy", "private"), "it is about --seal"),
        (("--pattern", "xk"), "it is about --seal"),
        (("--rekey", "5s"), "it is about --seal"),
        (("--allow-classic",), "it is about --seal"),
        (("--seal", "--peer", "x25519:" + "A" * 43 + "="), "nobody's key"),
        (("--seal", "--peer", "x25519:AQ" + "A" * 41 + "="), "nobody's key"),
        (("--seal",), "whose power?"),
    ],
)
async def test_wrong_words_about_seals_are_one_sentence(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    given = ("consumer", "--connect", "127.0.0.1:1", "--request", "12V/1A", *words)
    async with running(tmp_path, *given) as sink:
        assert await sink.end() == 2
        await sink.until_logged(said)


def rewrite(path: Path, text: str) -> None:
    path.write_text(text)


async def test_how_power_is_sealed_is_settled_at_the_start(tmp_path: Path) -> None:
    config = tmp_path / "provider.toml"
    text = f'supply = ["12V/5A"]\nlisten = ["127.0.0.1:0"]\nkey = "{write_key(tmp_path / "site", SITE)}"\n'
    rewrite(config, text + 'seal = "opt"\n')
    async with running(tmp_path, "provider", "--config", str(config)) as source:
        await source.until("listening")
        await source.until_logged("there is no --authorized")
        rewrite(config, text + 'seal = "req"\n')
        source.signal(signal.SIGHUP)
        await source.until_logged("how power is sealed is settled at the start")


@pytest.mark.requirement("VPPN-2.2-04")
async def test_a_feed_is_for_nobody_where_power_must_be_sealed(tmp_path: Path) -> None:
    async with site(tmp_path, "--feed", "12V/1A", "--feed-to", "127.0.0.1") as where:
        words = ("consumer", "--feed", where.relay.address, "--for", "2s", "--give-up", "2s")
        async with running(tmp_path, *words) as sink:
            assert await sink.end() != 0
        assert all(one["energy_uj"] == 0 for one in sink.all("done"))


async def decoded(folder: Path, octets: bytes, keys: Path) -> tuple[int, Running]:
    """Return the exit status of `powertcp decode --keys` on what was captured, and its objects."""
    captured = folder / "captured"
    captured.write_bytes(octets)
    async with running(folder, "decode", "--keys", str(keys), str(captured)) as one:
        await one.until_closed()
        return await one.end(), one


@pytest.mark.requirement("VPPN-3-01", "VPPN-3-02", "VPPN-3-03")
async def test_who_has_the_key_log_reads_what_the_relay_heard_and_nobody_else(
    tmp_path: Path,
) -> None:
    log, traces = tmp_path / "keys.log", tmp_path / "traces"
    async with site(tmp_path, "--keylog", str(log), "--trace", str(traces)) as where:
        # the first SYN goes with the handshake, the second one with a segment of its own
        words = device(where, "--request", "12V/1A", "--mux", "--rekey", "1s", time="3s")
        async with running(tmp_path, *words) as sink:
            assert await sink.end() == 0
        energy_uj = sum(one["energy_uj"] for one in sink.all("done"))
        await where.provider.until_logged("KEY LOG")
    up, down = where.relay.octets
    status, said = await decoded(tmp_path, up, log)
    assert status == 0
    first = said.events[0]["handshake"]
    assert (first["message"], first["pattern"], first["epoch"]) == (1, "ik", 0)
    inside = [one for one in said.events if "sealed_in" in one]
    (syn,) = [one for one in inside if one["flags"] == ["SYN"]]
    asked_for = [one for one in syn["options"] if one["option"] == "PROFILE"]
    assert [(one["type"], one["voltage_mv"], one["current_ma"]) for one in asked_for] == [
        ("REQUEST", 12_000, 1_000)
    ]
    status, said = await decoded(tmp_path, down, log)
    assert status == 0
    opened = [one["opened"] for one in said.events if "opened" in one]
    assert {one["sender"] for one in opened} == {"responder"}
    assert {one["epoch"] for one in opened} >= {0, 1, 2}
    blocks = [one for one in said.events if one["type"] == "DATA" and "sealed_in" in one]
    assert {one["flow"] for one in blocks} == {1, 3}
    assert {tuple(one["payload"]["samples"][:2]) for one in blocks} == {
        (12_000, 2_000_000), (12_000, 1_000_000)
    }  # fmt: skip
    # samples of mV and uA, 1000 each second: to the microjoule
    samples = [one["payload"]["samples"] for one in blocks]
    power = sum(v * i for block in samples for v, i in zip(block[::2], block[1::2], strict=True))
    assert power // 1_000_000 == energy_uj == 108_000_000
    # keys of another connection
    wrong = tmp_path / "wrong.log"
    lines = log.read_text().splitlines()
    wrong.write_text("".join(f"{line[:-64]}{line[:-65:-1]}\n" for line in lines))
    status, said = await decoded(tmp_path, down, wrong)
    assert status == 1
    assert not [one for one in said.events if "sealed_in" in one or "opened" in one]
    assert {one["name"] for one in said.events if "error" in one} == {"DECRYPT"}
    told = json.dumps(said.events)
    traced = "".join(one.read_text() for one in traces.iterdir())
    assert "REQUEST 12V" not in told
    for secret in (*(line[-64:] for line in lines), '"samples"', "segment_sent"):
        assert secret not in told + traced
