"""The source of a feed on a disk that is full: nothing is broadcast that cannot be written down."""

import resource
import signal
from pathlib import Path

import pytest

from powertcp.cli import main as command
from powertcp.registry import Reason
from powertcp.store import LedgerStore
from tests.drivers.feeding import free_port
from tests.drivers.processes import asked, provider, running


@pytest.mark.requirement("LEDG-7-07", "LEDG-8-02")
async def test_on_a_full_disk_a_feed_ends_with_602_and_its_books_are_right_after_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    books, sink = tmp_path / "source", tmp_path / "sink"
    to = f"127.0.0.1:{free_port()}"
    on_air = ("--feed", "12V/0.5A", "--feed-to", to, "--state-dir", str(books))
    async with provider(tmp_path, *on_air) as (source, address):
        hear = ("consumer", "--feed", address, "--state-dir", str(sink))
        async with running(tmp_path, *hear) as heard:
            await heard.until("ready")
            # no file of it grows any more
            resource.prlimit(source.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            lost = await heard.until("disconnected")
            assert lost["code"] == Reason.MAINTENANCE
            # the next one is refused as well, and it is not final: there may be room again
            assert (await heard.until("disconnected", 2))["code"] == Reason.MAINTENANCE
            heard.signal(signal.SIGINT)
            assert await heard.end() == 0
            assert len(heard.all("receipt")) == 1
        status = await asked(tmp_path, f"provider-{source.pid}.sock", op="status")
        ledger = status["ledger"]
        assert isinstance(ledger, dict)
        assert ledger["is_read_only"]
        source.signal(signal.SIGTERM)
        assert await source.end() == 0
        assert source.log.count("an emission is not in the ledger, the feed ends: 602 ") == 1
    # the disk has room again
    async with provider(tmp_path, *on_air) as (source, address):
        again = ("consumer", "--feed", address, "--for", "1s", "--state-dir", str(sink))
        async with running(tmp_path, *again) as heard:
            assert await heard.end() == 0
        source.signal(signal.SIGTERM)
        assert await source.end() == 0
    with LedgerStore(books / "ledger.db", read_only=True) as store:
        assert store.verify(full=True) == []
    assert command.run("ledger", ["audit", str(books), str(sink)]) == 0
    said = capsys.readouterr().out
    assert "First law: obeyed to 0 uJ on 0 unicast flows; obeyed (chi = 0." in said
