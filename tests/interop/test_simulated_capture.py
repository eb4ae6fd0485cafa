"""What tshark, with the shipped dissector, and scapy say of the captures of a simulation."""

import csv
import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from powertcp.cli.lamp_simulation import run
from powertcp.cli.mplamps_sim import build_parser
from powertcp.mplamps.cops import PORT as COPS_PORT
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.plans import format_topology
from powertcp.mplamps.recorder import DUSK_NS, MPLS_PORT
from powertcp.mplamps.rsvp import PORT as RSVP_PORT
from powertcp.mplamps.rsvp import Kind
from powertcp.mplamps.topology import Topology
from powertcp.wire.capture import read_capture
from tests.drivers.spaces import need

pytestmark = pytest.mark.interop
DISSECTOR = Path(__file__).resolve().parent.parent.parent / "tools" / "dissector" / "powertcp.lua"
WRONG = "_ws.malformed or _ws.expert.severity >= 0x800000"
MARKET = """currency = "EUR"
default = "any"
supplier = [
  {id = 7, name = "Watt", sources = ["es1"], capacity = "2MW", prices = [
    {at = "00:00", price = "0.2841/kWh"},
  ]},
]
"""
SCRIPT = """0s on *
1s set lamp-2 230V/500mA@50Hz
2s pdp-down
3s pdp-up
4s off lamp-3
5s cut s1--c1
7s derate c1--h1 30W
"""


class Made(NamedTuple):
    """A capture, and what the simulation says of itself."""

    path: Path
    values: dict[str, Any]
    topology: Topology


@pytest.fixture(scope="module", autouse=True)
def _tshark() -> None:
    need({"tshark": "tshark"})


def simulated(folder: Path, capsys: pytest.CaptureFixture[str], verb: str, *words: object) -> Made:
    path = folder / f"{verb}.pcapng"
    argv = [*map(str, words), "--capture", str(path), "--json"]
    run(verb, build_parser(verb).parse_args(argv))
    topology = generate_topology("street:3", has_pdp=True)
    return Made(path, json.loads(capsys.readouterr().out), topology)


@pytest.fixture(name="night")
def night_(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Made:
    """A night in a street in which everything happens, with power and policemen."""
    street, market, script = (tmp_path / name for name in ("street", "market", "script"))
    street.write_text(format_topology(generate_topology("street:3", has_pdp=True)))
    market.write_text(MARKET)
    script.write_text(SCRIPT)
    words = (street, script, "--market", market, "--power", "--until", "10s", "--hello")
    return simulated(tmp_path, capsys, "sim", *words)


def tshark(path: Path, *words: str) -> str:
    command = ["tshark", "-n", "-X", f"lua_script:{DISSECTOR}", "-r", str(path), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stderr
    return done.stdout


def fields(path: Path, display: str, *names: str) -> list[list[list[str]]]:
    words = [word for name in names for word in ("-e", name)]
    said = tshark(path, "-Y", display, "-T", "fields", *words)
    rows = csv.reader(said.splitlines(), delimiter="\t")
    return [[[value for value in cell.split(",") if value] for cell in row] for row in rows]


@pytest.mark.requirement("MPLA-10-01", "MPLA-8-02", "MPLA-4.1-02")
def test_tshark_finds_nothing_wrong_in_a_night(night: Made) -> None:
    assert tshark(night.path, "-Y", WRONG) == ""
    # every checksum: of IP, UDP, TCP inside and outside, and of RSVP
    checks = ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
              "-o", "tcp.check_checksum:TRUE"]  # fmt: skip
    bad = "ip.checksum.status == 0 or udp.checksum.status == 0 or tcp.checksum.status == 0"
    assert tshark(night.path, *checks, "-Y", bad) == ""
    text = tshark(night.path, "-V", "-Y", "rsvp")
    assert text.count("[correct]") == night.values["messages_sum"]
    assert "[incorrect" not in text


@pytest.mark.requirement("MPLA-10-01")
def test_a_capture_begins_at_dusk_with_an_interface_for_each_link(night: Made) -> None:
    packets = list(read_capture(night.path.read_bytes()))
    assert packets[0].at_ns == DUSK_NS
    assert [one.at_ns for one in packets] == sorted(one.at_ns for one in packets)
    links = {link.name for link in night.topology.links}
    edges = {f"h{number}--pdp" for number in (1, 2, 3)}
    assert {one.interface for one in packets} == links | edges
    rows = fields(night.path, "rsvp", "frame.interface_name")
    assert {row[0][0] for row in rows} == links


@pytest.mark.requirement("MPLA-2.1-01", "MPLA-2.2-02")
def test_tshark_reads_volts_in_labels_on_each_link(night: Made) -> None:
    rows = fields(night.path, "mpls", "frame.interface_name", "mpls.label", "mplamps.volts")
    volts = {link.name: link.voltage_mv // 1000 for link in night.topology.links}
    seen: Counter[str] = Counter()
    for (interface,), (top, _), said in rows:
        assert int(top) in (0, volts[interface])
        if said and int(top):
            assert float(said[0]) == volts[interface]
            seen[interface] += 1
    assert min(seen[link.name] for link in night.topology.links if "s2" not in link.name) > 20


@pytest.mark.requirement("MPLA-4.4-02")
def test_the_dissector_sees_a_profile_in_each_path(night: Made) -> None:
    paths = fields(night.path, "rsvp.msg == 1", "mplamps.profile.mv")
    assert len(paths) == night.values["messages"]["PATH"]
    shown = "rsvp.msg == 1 and mplamps.profile.mv == 230000"
    assert len(fields(night.path, shown, "frame.number")) == len(paths)


@pytest.mark.requirement("MPLA-6-03", "MPLA-6-04")
def test_cops_is_a_connection_with_a_beginning_and_an_end(night: Made) -> None:
    rows = fields(night.path, f"tcp.port == {COPS_PORT}", "tcp.stream", "tcp.flags.syn",
                  "tcp.flags.reset", "tcp.flags.fin")  # fmt: skip
    streams = Counter(row[0][0] for row in rows if row[1] == ["1"] or row[1] == ["True"])
    # three edge LSRs, again after the policeman was away, and two tries in between
    assert len(streams) >= 6
    # nothing is sent twice, nothing is missing
    odd = "tcp.analysis.lost_segment or tcp.analysis.retransmission or tcp.analysis.out_of_order"
    assert tshark(night.path, "-Y", f"tcp.port == {COPS_PORT} and ({odd})") == ""
    said = fields(night.path, "cops", "cops.op_code")
    kinds = Counter(number for row in said for number in row[0])
    # REQ, DEC, RPT, DRQ, SSQ, OPN, CAT, KA, SSC
    assert set(kinds) == {"1", "2", "3", "4", "5", "6", "7", "9", "10"}
    assert night.values["bills"]


@pytest.mark.requirement("MPLA-9-01", "MPLA-9-02")
def test_the_inner_connection_is_genuine(night: Made) -> None:
    rows = fields(night.path, "mpls and tcp.flags.syn == 1 and tcp.flags.ack == 0", "tcp.dstport",
                  "tcp.options.mss_val", "ip.src")  # fmt: skip
    assert len(rows) >= 3 * 4
    assert {(row[0][0], row[1][0]) for row in rows} == {("3251", "1400")}


def test_a_storm_is_read_without_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = simulated(tmp_path, capsys, "storm", "tree:3,2,2,2,3", "--style", "ff")
    assert tshark(made.path, "-Y", WRONG) == ""
    rows = fields(made.path, "rsvp", "rsvp.msg")
    kinds = Counter(row[0][0] for row in rows)
    assert kinds == {"1": 360, "2": 360}
    assert made.values["messages"] == {"PATH": 360, "RESV": 360}


# ---- an independent parser ------------------------------------------------------------------------


def rsvp_objects(message: bytes) -> list[bytes]:
    found, at = [], 8
    while at < len(message):
        size = int.from_bytes(message[at : at + 2], "big")
        found.append(message[at : at + size])
        at += size
    return found


@pytest.mark.requirement("MPLA-8-02", "MPLA-2.2-02")
def test_scapy_counts_the_same_messages_and_reads_the_same_labels(night: Made) -> None:
    inet = pytest.importorskip("scapy.layers.inet", reason="pip install scapy")
    rsvp = pytest.importorskip("scapy.contrib.rsvp", reason="pip install scapy")
    mpls = pytest.importorskip("scapy.contrib.mpls", reason="pip install scapy")
    utils = pytest.importorskip("scapy.utils", reason="pip install scapy")
    volts = {link.name: link.voltage_mv // 1000 for link in night.topology.links}
    mine = list(read_capture(night.path.read_bytes()))
    theirs = [bytes(packet) for packet in utils.rdpcap(str(night.path))]
    assert theirs == [one.octets for one in mine]
    kinds: Counter[int] = Counter()
    sessions = upstream = stacks = 0
    for one, octets in zip(mine, theirs, strict=True):
        packet = inet.IP(octets)
        if not packet.haslayer(inet.UDP):
            continue
        body = bytes(packet[inet.UDP].payload)
        if packet[inet.UDP].dport == RSVP_PORT:
            head = rsvp.RSVP(body)
            kinds[head.Class] += 1
            assert (head.Version, head.Length, head.TTL) == (1, len(body), packet.ttl)
            for part in rsvp_objects(body):
                found = rsvp.RSVP_Object(part)
                if (found.Class, found.C_Type) == (1, 7):
                    assert found.payload.dest_addr in ("10.0.0.1", f"10.0.0.{part[7]}")
                    sessions += 1
                if (found.Class, found.C_Type) == (35, 1):
                    # scapy has no layer of it: the label is the rest
                    assert int.from_bytes(part[4:8], "big") == volts[one.interface]
                    upstream += 1
        elif packet[inet.UDP].dport == MPLS_PORT:
            top = mpls.MPLS(body)
            assert top.label in (0, volts[one.interface])
            assert (top.s, top.payload.s) == (0, 1)
            assert top.payload.label >= 16
            assert top.payload.payload.haslayer(inet.TCP)
            stacks += 1
    assert kinds.total() == night.values["messages_sum"]
    assert kinds[Kind.PATH] == night.values["messages"]["PATH"] == upstream
    assert kinds[Kind.RESV] == night.values["messages"]["RESV"]
    assert sessions > 50
    assert stacks >= night.values["packets"] > 1000
