"""What tshark, with the shipped dissector, says of our messages of COPS in a TCP connection."""

import csv
import subprocess
from collections import Counter
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from powertcp.mplamps.cops import PORT, decode_message, encode_message, inner_objects
from powertcp.mplamps.packet import Packet as TcpPacket
from powertcp.mplamps.power import FlowLabelObject, MeterObject, PowerObject, TariffObject
from powertcp.wire.capture import CaptureWriter, Packet
from tests.cops_messages import MESSAGES
from tests.drivers.spaces import need
from tools.mplamps_vectors import cops

pytestmark = pytest.mark.interop
EDGE, POLICEMAN = IPv4Address("10.0.0.4"), IPv4Address("10.0.0.9")
DISSECTOR = Path(__file__).resolve().parent.parent.parent / "tools" / "dissector" / "powertcp.lua"
DUSK_NS = 1_017_619_200_000_000_000
OCTETS = [encode_message(message) for message in MESSAGES.values()]
VECTORS = [vector.octets for vector in cops()]
SEGMENT = 100


@pytest.fixture(scope="module", autouse=True)
def _tshark() -> None:
    need({"tshark": "tshark"})


def capture(path: Path, segments: list[bytes]) -> Path:
    """Write segments of one connection."""
    writer = CaptureWriter(["h1--pdp"])
    blocks = [writer.header()]
    seq = 1000
    for number, octets in enumerate(segments):
        packet = TcpPacket(
            source=EDGE, destination=POLICEMAN, source_port=40_000, destination_port=PORT,
            seq=seq, ack=1, flags=0x18, window=65_535, payload=octets,
        )  # fmt: skip
        seq += len(octets)
        blocks.append(writer.packet(Packet(DUSK_NS + number, "h1--pdp", packet.to_wire())))
    path.write_bytes(b"".join(blocks))
    return path


@pytest.fixture(scope="module", name="path")
def _path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write every message as one segment of a connection."""
    return capture(tmp_path_factory.mktemp("cops") / "cops.pcapng", OCTETS)


def tshark(path: Path, *words: str) -> str:
    command = ["tshark", "-n", "-X", f"lua_script:{DISSECTOR}", "-r", str(path), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stderr
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


PROFILE = ("type", "mv", "ma", "tag")
TARIFF = ("supplier", "source", "currency", "kind", "price", "id", "valid")
METER = ("estimated", "final", "seconds", "uj", "packets", "octets")
NAMES = (
    "mplamps.flow_label", "mplamps.reason", *(f"mplamps.profile.{name}" for name in PROFILE),
    *(f"mplamps.tariff.{name}" for name in TARIFF), *(f"mplamps.meter.{name}" for name in METER),
)  # fmt: skip


def inside(octets: bytes) -> list[list[str]]:
    """Return what NAMES are in a message, as tshark tells them, by our own codec."""
    message = decode_message(octets)
    found: dict[str, list[str]] = {name: [] for name in NAMES}
    info = getattr(message, "info", b"") or getattr(message, "data", b"")

    def say(group: str, names: tuple[str, ...], values: tuple[object, ...]) -> None:
        for name, value in zip(names, values, strict=True):
            found[f"mplamps.{group}{name}"].append(str(value))

    for one in inner_objects(info):
        match one.private:
            case PowerObject(profile=first, second=second):
                for p in (one for one in (first, second) if one):
                    say("profile.", PROFILE,
                        (int(p.type), p.voltage_mv, p.current_ma, f"0x{p.tag:04x}"))  # fmt: skip
            case FlowLabelObject(label=label):
                say("", ("flow_label",), (label,))
            case TariffObject() as t:
                say("tariff.", TARIFF, (t.supplier, t.source, t.currency, int(t.kind), t.price,
                                        t.tariff_id, t.valid_s))  # fmt: skip
            case MeterObject() as m:
                say("meter.", METER, (int(m.is_estimated), int(m.is_final), m.seconds,
                                      m.energy_uj, m.packets, m.octets))  # fmt: skip
            case None:
                if one.number == 6 and one.octets[9] == 252:
                    say("", ("reason",), (int.from_bytes(one.octets[10:12], "big"),))
    return list(found.values())


@pytest.mark.requirement("MPLA-4.4-05", "MPLA-6-04")
def test_the_dissector_shows_our_objects_in_every_message(tmp_path: Path) -> None:
    segments = [*OCTETS, *VECTORS]
    rows = fields(capture(tmp_path / "cops.pcapng", segments), *NAMES)
    assert rows == [inside(octets) for octets in segments]
    seen = Counter(name for row in rows for name, values in zip(NAMES, row, strict=True) if values)
    assert seen["mplamps.meter.uj"] >= 3
    assert seen["mplamps.tariff.price"] >= 7
    assert seen["mplamps.reason"] >= 2
    assert seen["mplamps.flow_label"] >= 3


@pytest.mark.requirement("MPLA-4.4-05")
def test_the_dissector_finds_them_however_the_stream_is_cut(tmp_path: Path) -> None:
    stream = b"".join(VECTORS)
    cuts = [stream[at : at + SEGMENT] for at in range(0, len(stream), SEGMENT)]
    rows = fields(capture(tmp_path / "cut.pcapng", cuts), *NAMES)
    told = [[one for row in rows for one in row[at]] for at in range(len(NAMES))]
    wanted = [inside(octets) for octets in VECTORS]
    assert told == [[one for row in wanted for one in row[at]] for at in range(len(NAMES))]


def test_the_dissector_survives_what_is_no_object(tmp_path: Path) -> None:
    head = "1003000100000028000801010000002a00080c0100030000"
    bodies = ["001009010000fc040000000000000000", "001009010040fc0400007ed900000000",
              "00110901000cfc0400007ed900000000", "001009010006fc0400007ed900000000"]  # fmt: skip
    segments = [bytes.fromhex(head + body) for body in bodies]
    rows = fields(capture(tmp_path / "bad.pcapng", segments), "frame.number", "mplamps.meter.uj")
    assert rows == [[[str(number)], []] for number in range(1, len(bodies) + 1)]
