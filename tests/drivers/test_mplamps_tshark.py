"""tshark reads what a circuit carries: labels, the option of the SYN, checksums, no error."""

import shutil
import struct
import subprocess
from collections import Counter
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest

from powertcp.mplamps.label import stack_octets
from powertcp.mplamps.lfib import Lfib, Out
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Sender, Session
from powertcp.mplamps.tcp import Ended, Endpoint, State
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_MS, NS_PER_S

pytestmark = pytest.mark.interop

LAMP, ES = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.1")
OWNER = CircuitId(Session(ES, 1, LAMP), Sender(LAMP, 1))
REQUEST = PowerProfile.parse("230V/260mA@50Hz")
FRAME = bytes.fromhex("020000000001 020000000002 8847")
SIZE = 200_000


class Circuit:
    """A lamp, a transformer of 400 V and 230 V, a source; both links are recorded."""

    def __init__(self) -> None:
        self.lfib = Lfib({1: 230, 2: 400}, is_transformer=True)
        self.phase = self.lfib.allocate(OWNER, 400, 0)
        self.neutral = self.lfib.allocate(OWNER, 0, 0)
        self.lfib.close_entry(400, self.phase, [Out(1, 230, 77)])
        self.lfib.close_entry(0, self.neutral, [Out(2, 0, 88)])
        self.lamp, self.es = Endpoint(LAMP, 49152, 1), Endpoint(ES, 3251, 2)
        self.frames: list[tuple[int, bytes]] = []
        self.random = Random(3251)
        self.now = 0

    def cross(self, link: int, labels: tuple[int, int], octets: bytes) -> bytes | None:
        """Label a packet, take it through the transformer, record both; None if it is lost."""
        packet = stack_octets(labels, 3) + octets
        self.frames.append((self.now, FRAME + packet))
        if self.random.randrange(100) < 5:
            return None
        verdict = self.lfib.forward(link, packet)
        assert isinstance(verdict, list)
        self.frames.append((self.now, FRAME + verdict[0][1]))
        return verdict[0][1][8:]

    def run(self) -> None:
        """Carry octets both ways until both ends are closed."""
        self.es.listen()
        self.lamp.connect(ES, REQUEST, 0)
        to_send = {self.lamp: b"lamp " * 100, self.es: b"volt " * (SIZE // 5)}
        got = {self.lamp: b"", self.es: b""}
        ends = []
        while not self.lamp.state is self.es.state is State.CLOSED and self.now < 600 * NS_PER_S:
            for end, other, link, labels in (
                (self.lamp, self.es, 1, (0, self.neutral)),
                (self.es, self.lamp, 2, (400, self.phase)),
            ):
                end.handle_timer(self.now)
                if end.may_send:
                    part, to_send[end] = to_send[end][: end.room], to_send[end][end.room :]
                    end.send(part, self.now)
                    if not to_send[end]:
                        end.close(self.now)
                for octets in end.packets_to_send():
                    crossed = self.cross(link, labels, octets)
                    if crossed is not None:
                        other.receive_packet(crossed, self.now)
                got[end] += end.read()
                while (happened := end.next_event()) is not None:
                    ends += [happened] if isinstance(happened, Ended) else []
            self.now += 5 * NS_PER_MS
        assert ends == [Ended(refusal=None)] * 2
        assert (len(got[self.lamp]), len(got[self.es])) == (SIZE, 500)

    def write(self, file: Path) -> None:
        """Write a capture of Ethernet frames with times in ns."""
        head = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
        records = [
            struct.pack("<IIII", *divmod(at, NS_PER_S), len(frame), len(frame)) + frame
            for at, frame in self.frames
        ]
        file.write_bytes(head + b"".join(records))


def tshark(file: Path, *words: str) -> list[str]:
    checks = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
    found = subprocess.run(
        ["tshark", "-n", "-r", str(file), *checks, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return found.stdout.splitlines()


@pytest.mark.requirement(
    "MPLA-2.1-01", "MPLA-2.1-02", "MPLA-2.2-03", "MPLA-2.2-04", "MPLA-9-01", "MPLA-9-02"
)
def test_tshark_reads_a_circuit_without_an_error(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is missing: apt install tshark")
    circuit = Circuit()
    circuit.run()
    file = tmp_path / "circuit.pcap"
    circuit.write(file)
    total = len(circuit.frames)
    assert total > 600
    assert tshark(file, "-Y", "_ws.malformed or _ws.expert.severity >= 0x800000") == []
    wire = (
        "ip.checksum.status == 1 and tcp.checksum.status == 1 and ip.flags.df == 1 and ip.ttl == 64"
        " and ip.dsfield.dscp == 48 and tcp.window_size_value == 65535"
    )
    assert len(tshark(file, "-Y", wire)) == total
    labels = ("mpls.label", "mpls.exp", "mpls.bottom", "mpls.ttl")
    fields = [word for name in labels for word in ("-e", name)]
    seen = Counter(tshark(file, "-T", "fields", *fields))
    assert set(seen) == {
        "0,16\t3,3\t0,1\t64,64",
        "0,88\t3,3\t0,1\t63,63",
        "400,16\t3,3\t0,1\t64,64",
        "230,77\t3,3\t0,1\t63,63",
    }
    options = ("tcp.option_kind", "tcp.options.mss_val", "tcp.options.experimental.exid")
    fields = [word for name in options for word in ("-e", name)]
    syn = tshark(file, "-Y", "tcp.flags.syn == 1 and tcp.flags.ack == 0", "-T", "fields", *fields)
    assert set(syn) == {"2,253\t1400\t0x3251"}
    answer = tshark(
        file, "-Y", "tcp.flags.syn == 1 and tcp.flags.ack == 1", "-T", "fields", *fields
    )
    assert set(answer) == {"2\t1400\t"}
    others = tshark(file, "-Y", "tcp.flags.syn == 0 and tcp.option_kind")
    assert others == []
