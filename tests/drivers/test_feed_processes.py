"""Feeds of real processes: heard on this host, killed, heard again, audited."""

import signal
from pathlib import Path

import pytest

from powertcp.cli import main as command
from powertcp.ledger import Code, Page
from powertcp.store import LedgerStore
from powertcp.wire.feeds import feed_transcript
from tests.drivers.feeding import free_port
from tests.drivers.processes import asked, provider, running


def on_air(folder: Path, port: int) -> list[str]:
    """Return the words of a provider that broadcasts on this host only."""
    group = f"239.255.80.84:{port}"
    state = str(folder / "source")
    words = ["--feed", "12V/0.5A", "--feed-to", group, "--feed-interface", "lo"]
    return [*words, "--state-dir", state]


def booked_uj(state: Path, epoch: object) -> int:
    """Return what the ledger of a source says it emitted in an epoch."""
    with LedgerStore(state / "ledger.db", read_only=True) as store:
        entries = [entry for entry in store.entries() if f"/{epoch}/" in entry.memo]
    return sum(entry.amount if entry.code == Code.EMIT else -entry.amount for entry in entries)


@pytest.mark.requirement("PTCP-12-04")
@pytest.mark.requirement("PTCP-12-01")
@pytest.mark.requirement("LEDG-8-02")
async def test_a_killed_source_comes_back_as_another_epoch_and_the_books_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    sinks = [tmp_path / "group", tmp_path / "subscriber"]
    group = ["consumer", "--feed", f"239.255.80.84:{port}", "--feed-interface", "lo"]
    async with running(tmp_path, *group, "--state-dir", str(sinks[0])) as heard:
        await heard.until("listening")
        async with provider(tmp_path, *on_air(tmp_path, port)) as (first, _):
            await heard.until("readings", when=lambda facts: facts["energy_uj"] >= 6_000_000)
            first.signal(signal.SIGKILL)
            await first.end()
        async with provider(tmp_path, *on_air(tmp_path, port)) as (second, address):
            # what the kill cut off is signed as the first page
            await heard.until("receipt")
            host = ["consumer", "--feed", address, "--for", "2s", "--state-dir", str(sinks[1])]
            async with running(tmp_path, *host) as subscriber:
                assert await subscriber.end() == 0
            status = await asked(tmp_path, f"provider-{second.pid}.sock", op="status")
            heard.signal(signal.SIGINT)
            assert await heard.end() == 0
            second.signal(signal.SIGTERM)
            assert await second.end() == 0
        assert first.all("listening")[0]["feed"] == second.all("listening")[0]["feed"]
        epochs = [facts["epoch"] for facts in heard.all("joined")]
        assert len(epochs) == 2
        assert epochs[1] > epochs[0]
    feed = status["feed"]
    assert isinstance(feed, dict)
    assert feed["receivers"] == 1
    assert feed["signed_uj"] == subscriber.all("receipt")[0]["energy_uj"]
    with LedgerStore(sinks[0] / "ledger.db", read_only=True) as store:
        pages = [Page.from_wire(row.body) for row in store.pages()]
    assert len({page.transcript for page in pages}) == 2
    cut_off = feed_transcript(bytes.fromhex(first.all("listening")[0]["feed"]), epochs[0])
    cut_uj = sum(page.energy_uj for page in pages if page.transcript == cut_off)
    assert cut_uj >= 6_000_000
    # what was told ahead, and a second that was on its way
    assert cut_uj <= booked_uj(tmp_path / "source", epochs[0]) <= cut_uj + 7 * 6_120_000
    paths = [str(folder) for folder in (tmp_path / "source", *sinks)]
    assert command.run("ledger", ["audit", *paths]) == 0
    said = capsys.readouterr().out
    assert "First law: obeyed to 0 uJ on 0 unicast flows" in said
    assert "2 receivers" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["provider", "--feed", "12V"], "feed"),
        (["provider", "--feed", "12V/0A"], "above 0"),
        (["provider", "--feed", "12V/1A", "--rating", "10W"], "a feed of 12 W is above the rating"),
        (["provider", "--feed", "12V/1A", "--ttl", "0"], "multicast passes 1..255 routers, got 0"),
        (["provider", "--feed", "12V/1A", "--feed-to", "hall"], "a group is an IPv4 or IPv6"),
        (["provider", "--feed", "12V/1A", "--feed-to", "127.0.0.1:0"], "port of 1..65535, got 0"),
        (
            ["provider", "--feed", "12V/1A", "--feed-to", "[ff15::5054]:0"],
            "port of 1..65535, got 0",
        ),
        (["provider", "--feed", "12V/1A", "--feed-interface", "no0"], "no such interface"),
        (["provider", "--feed", "12V/1A", "--no-ledger"], "feeds need one"),
        (["consumer", "--feed", "x@y"], "32 hex digits"),
        (["consumer", "--feed", "239.255.80.84:0"], "port of 1..65535, got 0"),
        (["consumer", "--feed", "127.0.0.1:0"], "port of 1..65535, got 0"),
        (["consumer", "--feed", "multicast", "--request", "5V/1A"], "nothing is asked for"),
        (["consumer", "--feed", "multicast", "--feed-interface", "no0"], "no such interface"),
    ],
)
async def test_wrong_words_are_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    async with running(tmp_path, *words) as one:
        assert await one.end() == 2
        await one.until_logged(said)
        assert len(one.log.splitlines()) == 1, one.log


async def test_a_feed_leaves_what_a_given_rating_leaves(tmp_path: Path) -> None:
    words = ["--feed", "12V/0.5A", "--feed-to", f"127.0.0.1:{free_port()}", "--supply", "12V/1A"]
    async with provider(tmp_path, *words, "--rating", "10W") as (source, address):
        assert source.all("listening")[0]["rating_mw"] == 4_000
        ask = ["consumer", "--connect", address, "--request", "12V/0.5A"]
        async with running(tmp_path, *ask) as refused:
            assert await refused.end() == 1
            assert refused.all("refused")[0]["code"] == 100
