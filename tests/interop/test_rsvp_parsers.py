"""What tshark, with the shipped dissector, and scapy say of our messages of RSVP and our labels."""

import csv
import subprocess
from collections import Counter
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from powertcp.mplamps.label import label_of, stack_octets, voltage_of
from powertcp.mplamps.rsvp import PORT, Key, PathErr, Resv, decode_message, encode_message
from powertcp.mplamps.rsvp import Path as PathMessage
from powertcp.wire.capture import CaptureWriter, Packet, ipv4_packet, udp_packet
from tests.drivers.spaces import need
from tests.rsvp_messages import GOLDEN_PATH, GOLDEN_RESV, MESSAGES, objects
from tools.mplamps_vectors import others, paths, tolerated

pytestmark = pytest.mark.interop
DISSECTOR = Path(__file__).resolve().parent.parent.parent / "tools" / "dissector" / "powertcp.lua"
LAMP, HOUSE = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.4")
# 2002-04-01T00:00:00Z
DUSK_NS = 1_017_619_200_000_000_000
MPLS_PORT = 6635
OCTETS = [
    *(vector.octets for vector in (*paths(), *others(), *tolerated())),
    *(encode_message(message) for message in MESSAGES.values()),
    *(encode_message(message, key=Key(7, bytes(32))) for message in MESSAGES.values()),
]
VOLTAGES_MV = (0, 1, 12_000, 15_999, 230_000, 400_000, 20_000_000, 380_000_000, 1_000_000_000)


@pytest.fixture(scope="module", autouse=True)
def _tshark() -> None:
    need({"tshark": "tshark"})


def capture(path: Path) -> Path:
    """Write every message, then a packet of each voltage, on two links."""
    writer = CaptureWriter(["lamp-1--h1", "h1--c1"])
    inner = udp_packet(LAMP, HOUSE, 3251, bytes(8))
    stacks = [stack_octets((label_of(mv), 16), tc=3) + inner for mv in VOLTAGES_MV]
    packets = [udp_packet(LAMP, HOUSE, PORT, octets) for octets in OCTETS]
    packets += [udp_packet(LAMP, HOUSE, MPLS_PORT, octets) for octets in stacks]
    made = [writer.packet(Packet(DUSK_NS + number, ("lamp-1--h1", "h1--c1")[number % 2], octets))
            for number, octets in enumerate(packets)]  # fmt: skip
    path.write_bytes(writer.header() + b"".join(made))
    return path


def tshark(path: Path, *words: str) -> str:
    command = ["tshark", "-n", "-X", f"lua_script:{DISSECTOR}", "-r", str(path), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stderr
    return done.stdout


def fields(path: Path, *names: str) -> list[dict[str, list[str]]]:
    """Return the values of these fields in each packet."""
    words = [word for name in names for word in ("-e", name)]
    rows = csv.reader(tshark(path, "-T", "fields", *words).splitlines(), delimiter="\t")
    return [dict(zip(names, ([v for v in cell.split(",") if v] for cell in row), strict=True))
            for row in rows]  # fmt: skip


def received() -> list[Any]:
    return [decode_message(octets).message for octets in OCTETS]


@pytest.mark.requirement("MPLA-4.1-02", "MPLA-4.2-01", "MPLA-10-01")
def test_tshark_finds_nothing_malformed(tmp_path: Path) -> None:
    path = capture(tmp_path / "lamps.pcapng")
    wrong = "_ws.malformed or _ws.expert.severity >= 0x800000"
    assert tshark(path, "-Y", wrong) == ""
    text = tshark(path, "-V", "-Y", "rsvp")
    assert text.count("[correct]") == len(OCTETS) - 1, "but path-no-checksum"
    rows = fields(path, "rsvp.msg", "frame.interface_name", "frame.time_epoch")
    kinds = Counter(row["rsvp.msg"][0] for row in rows if row["rsvp.msg"])
    assert kinds == Counter(str(octets[1]) for octets in OCTETS)
    assert {row["frame.interface_name"][0] for row in rows} == {"lamp-1--h1", "h1--c1"}
    assert rows[1]["frame.time_epoch"] == ["1017619200.000000001"]


def profiles_of(message: Any) -> list[Any]:
    powers: list[Any] = [getattr(message, "power", None)]
    if isinstance(message, Resv):
        powers = [circuit.power for circuit in message.circuits]
    return [one for power in powers if power for one in (power.profile, power.second) if one]


def tariffs_of(message: Any) -> list[Any]:
    if isinstance(message, PathErr):
        return list(message.offers)
    if isinstance(message, Resv):
        return [circuit.tariff for circuit in message.circuits if circuit.tariff]
    tariff = getattr(message, "tariff", None)
    return [tariff] if tariff else []


def flow_labels_of(message: Any) -> list[int]:
    if isinstance(message, Resv):
        return [circuit.flow_label for circuit in message.circuits]
    return [message.flow_label] if isinstance(message, PathMessage) else []


@pytest.mark.requirement("MPLA-4.4-02", "MPLA-4.4-03", "MPLA-4.4-04")
def test_the_dissector_shows_our_objects(tmp_path: Path) -> None:
    names = ("type", "mv", "ma", "mhz", "prio", "lease", "tag")
    tariff_names = ("supplier", "source", "currency", "kind", "price", "id", "valid")
    rows = fields(
        capture(tmp_path / "lamps.pcapng"), "mplamps.flow_label", "mplamps.reason",
        *(f"mplamps.profile.{name}" for name in names),
        *(f"mplamps.tariff.{name}" for name in tariff_names),
    )  # fmt: skip
    seen = Counter[str]()
    for row, message in zip(rows, received(), strict=False):
        own = [[str(int(p.type)), str(p.voltage_mv), str(p.current_ma), str(p.frequency_chz * 10),
                str(p.priority), str(p.lease_s), f"0x{p.tag:04x}"]
               for p in profiles_of(message)]  # fmt: skip
        assert list(map(list, zip(*(row[f"mplamps.profile.{name}"] for name in names),
                                  strict=True))) == own  # fmt: skip
        price = [[str(t.supplier), str(t.source), t.currency, str(int(t.kind)), str(t.price),
                  str(t.tariff_id), str(t.valid_s)] for t in tariffs_of(message)]  # fmt: skip
        assert list(map(list, zip(*(row[f"mplamps.tariff.{name}"] for name in tariff_names),
                                  strict=True))) == price  # fmt: skip
        assert row["mplamps.flow_label"] == [str(label) for label in flow_labels_of(message)]
        error = getattr(message, "error", None)
        reason = [str(error.value)] if error and error.code == 252 else []
        assert row["mplamps.reason"] == reason
        seen.update({"profiles": len(own), "tariffs": len(price), "reasons": len(reason)})
    assert min(seen.values()) >= 5


@pytest.mark.requirement("MPLA-2.1-01", "MPLA-2.2-02")
def test_tshark_reads_the_labels_and_the_dissector_their_volts(tmp_path: Path) -> None:
    rows = fields(capture(tmp_path / "lamps.pcapng"), "mpls.label", "mpls.exp", "mplamps.volts")
    stacks = rows[len(OCTETS) :]
    assert [row["mpls.label"] for row in stacks] == [
        [str(label_of(mv)), "16"] for mv in VOLTAGES_MV
    ]
    assert {tuple(row["mpls.exp"]) for row in stacks} == {("3", "3")}
    assert [round(float(row["mplamps.volts"][0]) * 1000) for row in stacks] == [
        voltage_of(label_of(mv)) for mv in VOLTAGES_MV
    ]


def test_the_dissector_survives_what_is_no_object(tmp_path: Path) -> None:
    writer = CaptureWriter(["a--b"])
    tails = [b"\0\0\xfc\1", b"\0\4\xfc\1", b"\0\x0c\xfc\1\0\0\x7e\xd9\0\0\0\0", b"\0\x07\xfc\1"]
    packets = []
    for tail in tails:
        octets = GOLDEN_PATH[:2] + bytes(2) + GOLDEN_PATH[4:] + tail
        octets = octets[:6] + len(octets).to_bytes(2, "big") + octets[8:]
        packets.append(writer.packet(Packet(0, "a--b", udp_packet(LAMP, HOUSE, PORT, octets))))
    path = tmp_path / "bad.pcapng"
    path.write_bytes(writer.header() + b"".join(packets))
    rows = fields(path, "mplamps.profile.mv")
    assert [row["mplamps.profile.mv"] for row in rows] == [["230000"] * 2] * len(tails)


# scapy takes two octets for the length of a name: what follows a SESSION_ATTRIBUTE is lost to it,
# so that it is given one object after another
@pytest.mark.requirement("MPLA-4.2-01")
def test_scapy_reads_the_same_objects() -> None:
    rsvp = pytest.importorskip("scapy.contrib.rsvp", reason="pip install scapy")
    for golden in (GOLDEN_PATH, GOLDEN_RESV):
        head = rsvp.RSVP(golden)
        assert (head.Version, head.Flags, head.Class) == (1, 1, golden[1])
        assert (head.TTL, head.Length) == (64, len(golden))
        rebuilt = rsvp.RSVP(Version=1, Flags=1, Class=golden[1], TTL=64) / golden[8:]
        assert bytes(rebuilt) == golden, "and so the checksum"
        found = {}
        for part in objects(golden):
            one = rsvp.RSVP_Object(part)
            assert (one.Length, one.Class, one.C_Type) == (len(part), part[2], part[3])
            found[one.Class] = one.payload
        message: Any = decode_message(golden).message
        session = message.session
        assert found[1].dest_addr == str(session.es)
        assert (found[1].tunnel_id, found[1].ext_tunnel_id) == (session.tunnel, str(session.lamp))
        assert (found[3].neighbor, found[3].inface) == (str(message.hop.node), message.hop.link)
        assert found[5].refresh == message.refresh_ms


@pytest.mark.requirement("MPLA-2.2-02")
def test_scapy_reads_the_same_labels() -> None:
    mpls = pytest.importorskip("scapy.contrib.mpls", reason="pip install scapy")
    inner = ipv4_packet(LAMP, HOUSE, 253, b"")
    for voltage_mv in VOLTAGES_MV:
        top = mpls.MPLS(stack_octets((label_of(voltage_mv), 16), tc=3) + inner)
        assert (top.label, top.cos, top.s, top.ttl) == (label_of(voltage_mv), 3, 0, 64)
        flow = top.payload
        assert (flow.label, flow.cos, flow.s, flow.ttl) == (16, 3, 1, 64)
        assert (flow.payload.src, flow.payload.dst) == (str(LAMP), str(HOUSE))
