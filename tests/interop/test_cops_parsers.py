"""What tshark says of our messages of COPS in a TCP connection."""

import csv
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from powertcp.mplamps.cops import PORT, encode_message
from powertcp.mplamps.packet import Packet as TcpPacket
from powertcp.wire.capture import CaptureWriter, Packet
from tests.cops_messages import MESSAGES
from tests.drivers.spaces import need

pytestmark = pytest.mark.interop
EDGE, POLICEMAN = IPv4Address("10.0.0.4"), IPv4Address("10.0.0.9")
DUSK_NS = 1_017_619_200_000_000_000
OCTETS = [encode_message(message) for message in MESSAGES.values()]


@pytest.fixture(scope="module", autouse=True)
def _tshark() -> None:
    need({"tshark": "tshark"})


@pytest.fixture(scope="module", name="path")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write every message as one segment of a connection."""
    path = tmp_path_factory.mktemp("cops") / "cops.pcapng"
    writer = CaptureWriter(["h1--pdp"])
    blocks = [writer.header()]
    seq = 1000
    for number, octets in enumerate(OCTETS):
        packet = TcpPacket(
            source=EDGE, destination=POLICEMAN, source_port=40_000, destination_port=PORT,
            seq=seq, ack=1, flags=0x18, window=65_535, payload=octets,
        )  # fmt: skip
        seq += len(octets)
        blocks.append(writer.packet(Packet(DUSK_NS + number, "h1--pdp", packet.to_wire())))
    path.write_bytes(b"".join(blocks))
    return path


def tshark(path: Path, *words: str) -> str:
    command = ["tshark", "-n", "-r", str(path), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fields(path: Path, *names: str) -> list[list[list[str]]]:
    words = [word for name in names for word in ("-e", name)]
    rows = csv.reader(tshark(path, "-T", "fields", *words).splitlines(), delimiter="\t")
    return [[[value for value in cell.split(",") if value] for cell in row] for row in rows]


@pytest.mark.requirement("MPLA-6-03", "MPLA-6-04")
def test_tshark_reads_every_message_and_finds_nothing_malformed(path: Path) -> None:
    assert tshark(path, "-Y", "_ws.malformed or _ws.expert.severity >= 0x800000") == ""
    rows = fields(path, "cops.op_code", "cops.client_type", "cops.msg_len", "cops.flags")
    assert len(rows) == len(OCTETS)
    for (operation, client, length, flags), octets in zip(rows, OCTETS, strict=True):
        assert operation == [str(octets[1])]
        assert client == [str(octets[3])]
        assert length == [str(len(octets))]
        assert [int(flag, 0) for flag in flags] == [octets[0] & 0xF]


@pytest.mark.requirement("MPLA-6-03", "MPLA-6-04")
def test_tshark_reads_what_the_objects_say(path: Path) -> None:
    rows = fields(
        path, "cops.pepid.id", "cops.lastpdpaddr.ipv4", "cops.katimer.value",
        "cops.accttimer.value", "cops.in-int.ipv4", "cops.decision.cmd", "cops.decision.flags",
        "cops.report_type", "cops.reason", "cops.error", "cops.pdp.tcp_port",
    )  # fmt: skip
    said = dict(zip(MESSAGES, rows, strict=True))
    again = said["open again"]
    assert (again[0], again[1], again[10]) == (["10.0.0.14"], ["10.0.0.9"], ["3288"])
    assert said["accept"][2:4] == [["30"], ["60"]]
    assert said["request"][4] == ["10.0.0.5"]
    assert said["install"][5] == ["1"]
    assert said["remove"][5] == ["2"]
    assert [int(flag, 0) for flag in said["remove"][6]] == [1]
    assert [said[name][7] for name in ("closed", "failed", "meter")] == [["1"], ["2"], ["3"]]
    assert said["delete"][8] == ["4"]
    assert [said[name][9] for name in ("close", "not understood")] == [["11"], ["13"]]
