"""Who lies in adverts: copies, forged signatures, a key left out, free power, capacity, names."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from powertcp.crypto import SigningKey
from powertcp.dpdp.advert import FREE, TYPE_TCP, Advert, decode_txt, encode_txt
from powertcp.dpdp.signing import sign, signing_input
from powertcp.dpdp.txt import join_txt, split_txt
from tests.drivers.processes import Running, running
from tests.drivers.responders import OFFER
from tests.drivers.spaces import check_spaces, inside, peer, spaces
from tests.drivers.test_finder import identity, offering

pytestmark = [pytest.mark.kernel, pytest.mark.interop]
WISH = ("--request", "12V/1A", "--minimum", "12V/0.1A")
PROVIDER = ("provider", "--listen", "127.0.0.1:0", "--supply", "12V/5A")
HOUR_S = 3600


@pytest.fixture(scope="module", autouse=True)
def _allowed() -> None:
    """Skip with the reason: an async test would lose it."""
    check_spaces({})


async def saw(folder: Path, words: Sequence[str]) -> None:
    with peer(folder, words) as rogue:
        await trio.to_thread.run_sync(rogue.until, lambda text: "said" in text)


def deed(what: str, space: str, name: str, host: str, port: int, txt: bytes) -> list[str]:
    """Return the words that announce a provider as somebody else."""
    words = [*inside(space), sys.executable, "-m", "tests.drivers.rogue"]
    return [*words, what, name, host, f"{port}", txt.hex()]


@asynccontextmanager
async def watching(folder: Path, space: str) -> AsyncIterator[Running]:
    async with running(folder, "discover", "--watch", "--all", before=inside(space)) as watch:
        yield watch


@asynccontextmanager
async def silent(folder: Path, space: str, state: str, *words: str) -> AsyncIterator[Running]:
    """Run a provider that somebody else announces."""
    state = str(folder / f"state-{state}")
    words = (*PROVIDER, "--no-mdns", "--state-dir", state, *words)
    async with running(folder, *words, before=inside(space)) as one:
        yield one


async def changed(watch: Running, txt: bytes) -> Mapping[str, Any]:
    """Wait until it says this."""
    return await watch.until("changed", when=lambda one: one["txt"] == txt.hex())


async def why(folder: Path, space: str, *words: str) -> list[Mapping[str, Any]]:
    """Return what is said of each advert, the one to take first."""
    words = ("discover", "--all", "--why", *WISH, *words)
    async with running(folder, *words, before=inside(space)) as one:
        assert await one.end() == 0
        await one.until_closed()
        return one.events


# ---- signed adverts -----------------------------------------------------------------------------


def forged(txt: bytes, name: str, port: int, key: SigningKey) -> dict[str, bytes]:
    """Return records that the provider of `txt` did not sign, by what is wrong with each."""
    said = decode_txt(txt)
    now_s = time.time_ns() // 1_000_000_000
    ended = sign(said, name, TYPE_TCP, port, key, now_s - 5)
    signature = SigningKey(bytes(32)).sign(signing_input(name, TYPE_TCP, port, txt))
    return {
        "one octet changed": txt.replace(b"cap=60000", b"cap=70000"),
        "expired": encode_txt(ended),
        "another key": encode_txt(replace(said, signature=signature)),
        "removed": join_txt([pair for pair in split_txt(txt) if pair[0] not in ("exp", "sig")]),
    }


@pytest.mark.requirement("DPDP-7-03", "DPDP-7-04")
async def test_what_a_provider_that_is_known_did_not_sign_is_suspect_and_comes_last(
    tmp_path: Path,
) -> None:
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Half", "12V/0.5A"):
            async with offering(tmp_path, space, "Full", "12V/5A") as source:
                # it is met, and known from then on
                async with running(
                    tmp_path, "consumer", *WISH, "--run", "true", before=inside(space)
                ) as sink:
                    assert await sink.end() == 0
                async with watching(tmp_path, space) as watch:
                    full = await watch.until("new", when=lambda one: one["name"] == "Full")
                    assert (full["signed"], full["standing"]) == ("good", "good")
                    first, *_ = await why(tmp_path, space)
                    assert (first["name"], first["verdict"]) == ("Full", "chosen")
                    source.process.kill()
                    host = str(full["host"])
                    txt, port = bytes.fromhex(full["txt"]), int(full["port"])
                    (path,) = (tmp_path / "Full").glob("**/meter.key")
                    key = SigningKey(path.read_bytes())
                    for what, record in forged(txt, "Full", port, key).items():
                        await saw(tmp_path, deed("tell", space, "Full", host, port, record))
                        said = await changed(watch, record)
                        assert (said["standing"], said["why"]) == ("suspect", "downgrade"), what
                        warned = watch.all("downgrade")[-1]
                        assert warned["txt"] == record.hex(), what
                        # what it signs itself is believed again, and another record each time
                        hours = HOUR_S + len(watch.all("downgrade"))
                        now_s = time.time_ns() // 1_000_000_000
                        good = encode_txt(
                            sign(decode_txt(txt), "Full", TYPE_TCP, port, key, now_s + hours)
                        )
                        await saw(tmp_path, deed("tell", space, "Full", host, port, good))
                        said = await changed(watch, good)
                        assert (said["standing"], said["signed"]) == ("good", "good"), what
                    assert len(watch.all("downgrade")) == 4
                with peer(tmp_path, deed("insist", space, "Full", host, port, record)):
                    first, last = await why(tmp_path, space)
                    assert (first["name"], last["name"]) == ("Half", "Full")
                    assert "suspect: downgrade" in last["sentence"]


# a wall clock that is wrong by so many seconds as a file says, until the file says otherwise
WRONG = """
import os, time
right = time.time_ns
def time_ns():
    with open(os.environ["WRONG_BY"]) as file:
        return right() + int(file.read()) * 1_000_000_000
time.time_ns = time_ns
"""


@pytest.mark.requirement("DPDP-7-03")
async def test_a_provider_whose_clock_was_wrong_when_it_began_is_believed_once_it_is_right(
    tmp_path: Path,
) -> None:
    wrong_by, folder = tmp_path / "wrong-by", tmp_path / "python"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WRONG, encoding="utf-8")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    clock = {"PYTHONPATH": path, "WRONG_BY": str(wrong_by)}
    words = (*PROVIDER, "--name", "Lamp", "--state-dir", str(tmp_path / "one"))
    with spaces(1) as (space,):
        for is_right in (True, False):
            wrong_by.write_text("0" if is_right else "-200000")
            async with running(tmp_path, *words, before=inside(space), **clock) as source:
                await source.until_logged("announced as")
                if is_right:
                    async with running(
                        tmp_path, "consumer", *WISH, "--run", "true", before=inside(space)
                    ) as sink:
                        assert await sink.end() == 0
                        continue
                async with watching(tmp_path, space) as watch:
                    said = await watch.until("new")
                    assert (said["signed"], said["why"]) == ("bad", "downgrade")
                    wrong_by.write_text("0")
                    said = await watch.until("changed")
                    assert (said["signed"], said["standing"]) == ("good", "good")


@pytest.mark.requirement("DPDP-4-06", "DPDP-5-03")
async def test_of_a_copied_advert_the_address_is_dead_and_the_true_one_is_used(
    tmp_path: Path,
) -> None:
    own, other, device = tmp_path / "own.key", tmp_path / "other.key", tmp_path / "device.key"
    for path in (own, other, device):
        identity(path)
    rogue = ("--seal", "req", "--key", str(other))
    with spaces(1) as (space,):
        async with (
            offering(tmp_path, space, "True", "12V/5A", "--seal", "req", "--key", str(own)),
            silent(tmp_path, space, "r", *rogue) as false,
            watching(tmp_path, space) as watch,
        ):
            port = int((await false.until("listening"))["addresses"][0].rpartition(":")[2])
            txt = bytes.fromhex((await watch.until("new"))["txt"])
            with peer(tmp_path, deed("insist", space, "A copy", "copy.local.", port, txt)):
                copy = await watch.until("new", 2)
                assert (copy["standing"], copy["signed"]) == ("good", "unknown")
                sealed = ("--seal", "--key", str(device), "--run", "sleep 0.5")
                async with running(
                    tmp_path, "consumer", *WISH, *sealed, before=inside(space)
                ) as sink:
                    assert await sink.end() == 0
                    found = [one["provider"] for one in sink.all("found")]
                    assert found == ["A copy", "True"]
                    assert len(sink.all("ready")) == 1


@pytest.mark.requirement("DPDP-7-09")
async def test_an_advert_without_the_key_that_is_pinned_is_a_downgrade_and_not_taken(
    tmp_path: Path,
) -> None:
    own, device = tmp_path / "own.key", tmp_path / "device.key"
    identity(device)
    pin = identity(own)
    with spaces(1) as (space,):
        async with (
            offering(
                tmp_path, space, "True", "12V/5A", "--seal", "opt", "--key", str(own)
            ) as source,
            watching(tmp_path, space) as watch,
        ):
            new = await watch.until("new")
            async with running(
                tmp_path, "discover", "--pin", new["id"], before=inside(space)
            ) as pinning:
                assert await pinning.end() == 0
            source.process.kill()
            txt, host, port = bytes.fromhex(new["txt"]), str(new["host"]), int(new["port"])
        less = join_txt([one for one in split_txt(txt) if one[0] not in ("vk", "seal")])
        with peer(tmp_path, deed("insist", space, "True", host, port, less)):
            async with watching(tmp_path, space) as watch:
                assert "no VPPN key, one is pinned" in (await watch.until("downgrade"))["more"]
            for words in ((), ("--seal", "--key", str(device), "--pin", pin)):
                async with running(
                    tmp_path, "consumer", *WISH, *words, "--give-up", "2s", before=inside(space)
                ) as sink:
                    assert await sink.end() == 3
                    assert not {"found", "ready"} & set(sink.names())
                    assert "no VPPN key" in sink.all("suspect")[0]["sentence"]


async def test_a_stranger_that_does_not_sign_is_unverified_and_not_for_who_wants_sealed_power(
    tmp_path: Path,
) -> None:
    own, device = tmp_path / "own.key", tmp_path / "device.key"
    identity(own)
    identity(device)
    keyed = ("--seal", "opt", "--key", str(own))
    with spaces(1) as (space,):
        async with offering(tmp_path, space, "Nameless", "12V/5A", *keyed, "--no-ledger"):
            look = [*inside(space), sys.executable, "-m", "powertcp", "discover"]
            done = await trio.run_process(look, capture_stdout=True)
            assert done.stdout.decode().splitlines()[1].endswith("seal  unverified")
            words = ("--seal", "--key", str(device))
            (advert,) = await why(tmp_path, space)
            assert (advert["signed"], advert["verdict"]) == ("none", "chosen")
            async with running(
                tmp_path, "consumer", *WISH, *words, "--give-up", "2s", before=inside(space)
            ) as sink:
                assert await sink.end() == 3
                assert not {"found", "ready"} & set(sink.names())


# ---- promises -----------------------------------------------------------------------------------


def claim(number: int, **said: Any) -> bytes:
    """Return the record of a stranger that promises much."""
    made = Advert(id=number.to_bytes(16), offers=(OFFER,), cap_mw=10**9, source="grid")
    return encode_txt(replace(made, **said))


@pytest.mark.requirement("DPDP-6-02")
async def test_who_claims_free_power_or_more_than_it_has_is_left_for_an_honest_one(
    tmp_path: Path,
) -> None:
    for name, micro in (("dear", 250_000), ("fair", 150_000)):
        (tmp_path / name).write_text(f'{{"currency": "EUR", "price_micro_per_kwh": {micro}}}')
    dear, small = ("--tariff", str(tmp_path / "dear")), ("--rating", "1W")
    with spaces(1) as (space,), ExitStack() as stack:
        async with (
            offering(tmp_path, space, "Honest", "12V/5A", "--tariff", str(tmp_path / "fair")),
            silent(tmp_path, space, "free", *dear) as free,
            silent(tmp_path, space, "much", *small) as full,
        ):
            for number, (name, source) in enumerate((("Free", free), ("Much", full))):
                port = int((await source.until("listening"))["addresses"][0].rpartition(":")[2])
                txt = claim(number, tariff=FREE)
                stack.enter_context(
                    peer(tmp_path, deed("insist", space, name, f"{name}.local.", port, txt))
                )
            wish = (*WISH, "--max-price", "0.20EUR", "--run", "sleep 0.5")
            async with running(tmp_path, "consumer", *wish, before=inside(space)) as sink:
                assert await sink.end() == 0
                *lied, last = [one["provider"] for one in sink.all("found")]
                assert (sorted(lied), last) == (["Free", "Much"], "Honest")
                assert len(sink.all("ready")) == 1


@pytest.mark.requirement("DPDP-7-02")
async def test_names_with_control_characters_move_no_cursor(tmp_path: Path) -> None:
    names = (
        "\x1b[2J\x1b]0;owned\x07",
        "two\r\nlines",
        "\u202eesrever",
        "\x9b31m",
        "dots. and\tthe",
    )
    with spaces(1) as (space,), ExitStack() as stack:
        for number, name in enumerate(names):
            txt = claim(number, loc="hall B")
            if number == 1:
                txt = txt.replace(b"src=grid", b"src=gr\x1bd")
            stack.enter_context(
                peer(tmp_path, deed("insist", space, name, "evil.local.", 3251, txt))
            )
        words = [*inside(space), sys.executable, "-m", "powertcp", "discover", "--all"]
        for more in ([], ["--why", *WISH], ["--watch", "--timeout", "2s"]):
            done = await trio.run_process([*words, *more], capture_stdout=True, capture_stderr=True)
            lines = (done.stdout + done.stderr).decode().split("\n")
            assert len(lines) >= 2, lines
            assert all(line.isprintable() for line in lines), lines
