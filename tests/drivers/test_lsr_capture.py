"""Captures of live links: each datagram once, on the interface of its link, with the wall clock."""

import os
import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from powertcp.drivers import lsr_capture
from powertcp.drivers.lsr_capture import QUEUE_PACKETS, CaptureFile
from powertcp.errors import HostError
from powertcp.mplamps.generators import generate_topology
from powertcp.wire.capture import read_capture

TOPOLOGY = generate_topology("street:1", base=IPv4Address("127.80.0.0"))
HERE, THERE = TOPOLOGY.nodes[0].address, TOPOLOGY.nodes[1].address


@pytest.mark.requirement("MPLA-10-01")
def test_each_link_is_an_interface(tmp_path: Path) -> None:
    before = time.time_ns()
    capture = CaptureFile(tmp_path / "x.pcapng", TOPOLOGY, [HERE])
    assert capture.is_here(HERE)
    assert not capture.is_here(THERE)
    capture.take(1, HERE, THERE, 3455, b"one")
    capture.take(2, THERE, HERE, 6635, b"other")
    capture.close()
    one, other = read_capture((tmp_path / "x.pcapng").read_bytes())
    assert (one.interface, other.interface) == (TOPOLOGY.link(1).name, TOPOLOGY.link(2).name)
    assert one.octets[12:20] == HERE.packed + THERE.packed
    assert one.octets[20:24] == (3455).to_bytes(2, "big") * 2
    assert one.octets.endswith(b"one")
    assert other.octets.endswith(b"other")
    assert before <= one.at_ns <= other.at_ns <= time.time_ns()


def test_a_disk_that_is_full_ends_the_capture_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = Path("/dev/full").open("wb")  # noqa: SIM115 - the capture closes it
    monkeypatch.setattr(lsr_capture, "open_capture", lambda _: full)
    capture = CaptureFile(tmp_path / "x.pcapng", TOPOLOGY, [HERE])
    monkeypatch.undo()
    for _ in range(QUEUE_PACKETS + 10):
        capture.take(1, HERE, THERE, 3455, bytes(1000))
    capture.close()
    assert capture.dropped > 0
    assert f"the capture lacks {capture.dropped} packets: [Errno 28] No space" in caplog.text
    with pytest.raises(HostError, match="write a capture"):
        CaptureFile(tmp_path / "no" / "folder", TOPOLOGY, [HERE])


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null")):
        with pytest.raises(HostError, match="no regular file"):
            CaptureFile(path, TOPOLOGY, [HERE])
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(HostError, match="no regular file"):
        CaptureFile(pipe, TOPOLOGY, [HERE])
    os.close(reader)
