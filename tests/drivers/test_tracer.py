"""Trace files: one for each connection, bounded, and nobody waits for the disk."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from powertcp.drivers.tracer import (
    FILE_OCTETS,
    OPEN_FILES,
    QUEUE_EVENTS,
    TraceFile,
    Tracer,
    open_tracer,
)
from powertcp.errors import HostError
from powertcp.wire.trace import opening
from tests.drivers.processes import provider, running


def records(path: Path) -> list[dict[str, Any]]:
    found = path.read_bytes().split(b"\x1e")[1:]
    return [json.loads(record) for record in found]


ticking = itertools.count(0, 1_000_000).__next__


def opened(tracer: Tracer, name: str = "127.0.0.1:3251") -> TraceFile:
    file = tracer.open("sink", name)
    assert file is not None
    return file


def test_each_connection_has_a_file_that_names_it(tmp_path: Path) -> None:
    tracer = Tracer(tmp_path / "new" / "traces", ticking)
    one, two = opened(tracer), opened(tracer, "[::1]:9/../etc")
    one("potcp:shed", {"limit_mw": 7})
    one.close()
    two("potcp:stale", {})
    tracer.close()
    assert {one.path.parent, two.path.parent} == {tmp_path / "new" / "traces"}
    assert "-sink-127.0.0.1_3251-1.sqlog" in one.path.name
    first, event = records(one.path)
    assert "qlog_version" in first
    assert (event["name"], event["data"]) == ("potcp:shed", {"limit_mw": 7})
    assert records(two.path)[1]["name"] == "potcp:stale"


def test_a_disk_that_does_not_keep_up_loses_events_and_the_file_says_how_many(
    tmp_path: Path,
) -> None:
    tracer = Tracer(tmp_path, ticking)
    os.mkfifo(tmp_path / "slow")  # opening it waits for a reader
    file = TraceFile(tracer, tmp_path / "slow", opening("0", "sink", 0), 0)
    for number in range(2 * QUEUE_EVENTS):
        file("potcp:heat", {"energy_uj": number})
    assert QUEUE_EVENTS - 2 <= file.dropped <= QUEUE_EVENTS + 2
    lost = file.dropped
    reader = os.open(tmp_path / "slow", os.O_RDONLY)
    read = b""
    while read.count(b"\x1e") < QUEUE_EVENTS:
        read += os.read(reader, 1 << 20)
    file("potcp:stale", {})
    tracer.close()
    while data := os.read(reader, 1 << 20):
        read += data
    os.close(reader)
    names = [json.loads(record) for record in read.split(b"\x1e")[1:]]
    assert names[-2]["name"] == "sys:trace_dropped"
    assert names[-2]["data"] == {"n": lost}
    assert names[-1]["name"] == "potcp:stale"


def test_files_are_bounded_in_size_and_number(tmp_path: Path) -> None:
    tracer = Tracer(tmp_path, ticking)
    file = opened(tracer)
    file.octets = FILE_OCTETS - 200
    for _ in range(10):
        file("potcp:heat", {"energy_uj": 1})
    assert 0 < file.dropped < 10
    assert file.octets <= FILE_OCTETS
    more = [tracer.open("source", "a:1") for _ in range(OPEN_FILES)]
    assert more[-1] is None
    assert None not in more[:-1]
    file.close()
    assert tracer.open("source", "a:1") is not None
    tracer.close()


def test_a_full_disk_ends_the_trace_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracer = Tracer(tmp_path, ticking)
    file = TraceFile(tracer, Path("/dev/full"), opening("0", "sink", 0), 0)
    other = opened(tracer, "b")
    file("potcp:heat", {"energy_uj": 1})
    other("potcp:heat", {"energy_uj": 1})
    other.close()
    file.close()
    tracer.close()
    assert "No space left" in caplog.text
    assert len(records(other.path)) == 2


def test_a_folder_that_cannot_be_made_is_said_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError):
        open_tracer(str(tmp_path / "file" / "traces"))
    assert open_tracer("") is None


async def test_both_commands_write_what_they_said_and_heard(tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    async with provider(tmp_path, "--supply", "12V/5A", "--trace", str(traces)) as (_, address):
        async with running(
            tmp_path, "consumer", "--connect", address, "--request", "12V/1A", "--for", "1s",
            POWERTCP_TRACEDIR=str(traces),
        ) as sink:  # fmt: skip
            assert await sink.end() == 0
    [ours] = traces.glob("*-sink-*")
    [theirs] = traces.glob("*-source-*")
    heard = [one["data"] for one in records(ours) if one.get("name") == "potcp:segment_received"]
    sent = [one["data"] for one in records(theirs) if one.get("name") == "potcp:segment_sent"]
    assert heard == sent[: len(heard)]
    assert len(heard) > 10
