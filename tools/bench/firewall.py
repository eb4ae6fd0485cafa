"""The firewall: DATA relayed under a policy, and verdicts of long policies."""

import contextlib
import itertools
import os
import random
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from powertcp.drivers.daemon import now_ns, settle_memory
from powertcp.drivers.firewall import FirewallConfig, FirewallServer
from powertcp.dve import SIM
from powertcp.profile import PowerProfile, ProfileType
from powertcp.reclaim.firewall import Firewall
from powertcp.reclaim.policy import Facts
from powertcp.reclaim.policy_text import parse_policy
from powertcp.registry import Flag
from powertcp.wire import HEADER, HEADER_OCTETS, Control, Ready, Sampling, encode_segment
from powertcp.wire import Options as WireOptions
from powertcp.wire.frames import MAGIC, VERSION, credit_segment
from tools.bench.harness import (
    WARM_UP_S,
    Child,
    MissingError,
    Options,
    Pair,
    Sample,
    Side,
    WrongResultError,
    bench,
    cpu_ns,
    loop,
)
from tools.bench.streams import RECV, accepted, connected, listener

# 12 V, 0.5 A at 1 mV, 1 uA and 1000 Hz: 6 mJ a sample, so that every ESN is a whole number
VOLTAGE, CURRENT, SAMPLE_UJ = 12_000, 500_000, 6_000
RATE_HZ = 1000
# whole windows of 20 samples, as every source of DC sends them
BLOCK_16K, BLOCK_1K = 2040, 120
BATCH = 256 * 1024
NO_END = (1 << 64) - 1
DATA = 2
POLICY = b"""set inside net 127.0.0.0/8
policy drop
rule state invalid -> reject 506 log
rule sealed yes -> drop
rule direction in state new power > 500W -> reject 204
rule tariff > 0.40EUR -> reject 104
rule direction out voltage = 12V -> accept
"""
OPAQUE = "opaque trio relay: receive_some(), send_all"
FLOW_RATE = "octets/CPU s"
PING_S, PINGS = 0.004, 250
FIGURE_S = 0.7
SPLICE_PIPE = 1 << 20


class Source:
    """DATA of one flow without an end: headers and counters made anew.

    Steady power has the same samples in each block, as our provider sends them; otherwise each
    block has another current than the one before.
    """

    def __init__(self, samples: int, *, is_steady: bool = True) -> None:
        """Begin at the first sample."""
        self._samples = samples
        currents = [CURRENT] if is_steady else [CURRENT + 1000 * step for step in range(8)]
        self._bodies = [struct.pack(">ii", VOLTAGE, current) * samples for current in currents]
        self._worth = [SAMPLE_UJ + 12 * step for step in range(8)]
        self.octets = HEADER_OCTETS + 8 + len(self._bodies[0])
        self._count = max(1, BATCH // self.octets)
        self._at = self._esn = self._turn = 0

    def batch(self, count: int | None = None) -> bytes:
        """Return the next segments, about 256 KiB of them."""
        pieces, size = [], self.octets - HEADER_OCTETS
        for _ in range(count or self._count):
            pieces.append(HEADER.pack(MAGIC, VERSION, 5, DATA, 0, size, 1, self._esn))
            pieces.append(struct.pack(">IBBH", self._at % (1 << 32), SIM, 1, self._samples))
            pieces.append(self._bodies[self._turn])
            self._at += self._samples
            self._esn += self._samples * self._worth[self._turn]
            self._turn = (self._turn + 1) % len(self._bodies)
        return b"".join(pieces)


def handshake(samples: int) -> tuple[list[bytes], list[bytes]]:
    """What sink and source say until power flows, in turn."""
    request = PowerProfile.parse("12V/1A", ProfileType.REQUEST)
    grant = request.with_type(ProfileType.GRANT)
    sampling = Sampling(RATE_HZ)
    agreed = WireOptions(contract=1, profiles=(grant,))
    offer = WireOptions(contract=1, profiles=(grant,), sampling=sampling, msp=65535)
    syn_ack = Control(1, int(Flag.SYN | Flag.ACK), 0, offer)
    ack = encode_segment(Control(1, int(Flag.ACK), 0, agreed))
    asked = WireOptions(profiles=(request,), sampling=sampling, msp=65535)
    syn = encode_segment(Control(1, int(Flag.SYN), 0, asked))
    return (
        [syn, ack + credit_segment(1, 0, NO_END)],
        [encode_segment(syn_ack), encode_segment(Ready(1, 0, agreed))],
    )


def with_via(target: tuple[str, int]) -> bytes:
    """The SYN that names where it goes."""
    request = PowerProfile.parse("12V/1A", ProfileType.REQUEST)
    via = f"{target[0]}:{target[1]}"
    options = WireOptions(profiles=(request,), sampling=Sampling(RATE_HZ), msp=65535, via=via)
    return encode_segment(Control(1, int(Flag.SYN), 0, options))


def _exactly(sock: socket.socket, octets: int) -> None:
    while octets:
        octets -= len(sock.recv(octets))


def provide(
    listening: socket.socket, samples: int, pings: int = 0, *, is_steady: bool = True
) -> list[int]:
    """Grant, then send as fast as it is taken; or so many single segments: when each was sent."""
    said, mine = handshake(samples)
    source, sent = Source(samples, is_steady=is_steady), []
    with accepted(listening) as sock:
        _exactly(sock, len(said[0]))
        sock.sendall(mine[0])
        _exactly(sock, len(said[1]))
        sock.sendall(mine[1])
        for _ in range(pings):
            time.sleep(PING_S)
            octets = source.batch(1)
            sent.append(time.monotonic_ns())
            sock.sendall(octets)
        while not pings:
            try:
                sock.sendall(source.batch())
            except OSError:
                break
    return sent


@dataclass
class Received:
    """What a consumer saw: (ns, octets so far), now and then."""

    points: list[tuple[int, int]]

    def octets(self, first: int, last: int) -> float:
        """Octets between two moments, between points by their mean."""
        return self._at(last) - self._at(first)

    def _at(self, when: int) -> float:
        before = self.points[0]
        for point in self.points:
            if point[0] >= when:
                share = (when - before[0]) / max(1, point[0] - before[0])
                return before[1] + share * (point[1] - before[1])
            before = point
        return float(before[1])


def consume(
    address: tuple[str, int], syn: bytes, samples: int, seconds: float, most: int = 1 << 62
) -> dict[str, Any]:
    """Ask for power and take it for so long, at most so many octets."""
    said, mine = handshake(samples)
    buffer = bytearray(RECV)
    with connected(address) as sock:
        sock.sendall(syn)
        _exactly(sock, len(mine[0]))
        sock.sendall(said[1])
        _exactly(sock, len(mine[1]))
        end = time.monotonic() + seconds
        total, points = 0, [(time.monotonic_ns(), 0)]
        while time.monotonic() < end and total < most and (size := sock.recv_into(buffer)):
            total += size
            points.append((time.monotonic_ns(), total))
    return {"points": points}


# ---- relays ---------------------------------------------------------------------------------------


def _window(seconds: float) -> Callable[[], dict[str, int]]:
    """Watch the CPU of this process between warm-up and end, in a thread."""
    marks: dict[str, int] = {}

    def watch() -> None:
        time.sleep(2 * WARM_UP_S)
        marks.update(first=time.monotonic_ns(), cpu=cpu_ns())
        time.sleep(seconds)
        marks.update(last=time.monotonic_ns(), cpu=cpu_ns() - marks["cpu"])

    thread = threading.Thread(target=watch)
    thread.start()

    def answer() -> dict[str, int]:
        thread.join()
        rss_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {**marks, "rss_kib": rss_kib}

    return answer


def firewall_relay(listening: socket.socket, _: tuple[str, int], seconds: float) -> dict[str, int]:
    """The firewall in explicit mode, its policy on."""
    settle_memory()
    listening.settimeout(0)
    policy = parse_policy(POLICY, "bench.policy")
    made: list[Firewall] = []

    async def main() -> None:
        firewall = Firewall(policy, node="bench", now=now_ns())
        made.append(firewall)
        server = FirewallServer(FirewallConfig(), firewall)
        with trio.move_on_after(seconds + 4 * WARM_UP_S):
            await server.serve([listening])

    answer = _window(seconds)
    trio.run(main)
    joules = made[0].joules
    if joules.heat_uj or joules.residual_uj or not joules.authorised_uj:
        raise WrongResultError(f"not every block was verified: {joules.fields()}")
    return answer()


def opaque_relay(
    listening: socket.socket, target: tuple[str, int], seconds: float, read: int | None = None
) -> dict[str, int]:
    """What is there without a firewall: octets from one stream to another.

    read: octets at once, None: as trio reads.
    """
    settle_memory()
    listening.settimeout(0)

    async def carry(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while octets := await source.receive_some(read):
                await sink.send_all(octets)

    async def handle(client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream(*target)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carry, client, server)
            nursery.start_soon(carry, server, client)

    async def main() -> None:
        stream_listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        with trio.move_on_after(seconds + 4 * WARM_UP_S):
            await trio.serve_listeners(handle, [stream_listener])

    answer = _window(seconds)
    trio.run(main)
    return answer()


def splice_relay(
    listening: socket.socket, target: tuple[str, int], seconds: float
) -> dict[str, int]:
    """The limit: octets that never leave the kernel."""
    if not hasattr(os, "splice"):
        raise MissingError("os.splice is missing")
    answer = _window(seconds)
    client, server = accepted(listening), connected(target)
    out, into = os.pipe()

    def ask() -> None:
        with contextlib.suppress(OSError):
            while octets := client.recv(RECV):
                server.sendall(octets)

    threading.Thread(target=ask, daemon=True).start()
    with contextlib.suppress(ConnectionError):
        while size := os.splice(server.fileno(), into, SPLICE_PIPE):
            while size:
                size -= os.splice(out, client.fileno(), size)
    return answer()


Relaying = Callable[[socket.socket, tuple[str, int], float], dict[str, int]]


def _middle(
    relay: Relaying | None, behind: socket.socket, samples: int, seconds: float
) -> tuple[Child | None, tuple[str, int], bytes]:
    """Start a relay in front of a source, None for none: whom to ask, and how."""
    target = behind.getsockname()
    syn = with_via(target) if relay is firewall_relay else handshake(samples)[0][0]
    if relay is None:
        return None, target, syn
    front = listener()
    address = front.getsockname()
    child = Child(lambda: relay(front, target, seconds), 0)
    front.close()
    return child, address, syn


def eager_relay(
    listening: socket.socket, target: tuple[str, int], seconds: float
) -> dict[str, int]:
    """The opaque relay with as great a buffer as ours."""
    return opaque_relay(listening, target, seconds, RECV)


def relay_side(relay: Relaying, samples: int, *, is_steady: bool = True) -> Side:
    """A side whose value is octets per CPU second of the relay."""

    def run(seconds: float) -> Sample:
        behind = listener()
        source = Child(lambda: provide(behind, samples, is_steady=is_steady), 1)
        middle, address, syn = _middle(relay, behind, samples, seconds)
        behind.close()
        wanted_s = seconds + 3 * WARM_UP_S
        sink = Child(lambda: consume(address, syn, samples, wanted_s), 1)
        try:
            seen = middle.result() if middle is not None else {}
            points = [(at, octets) for at, octets in sink.result()["points"]]
        finally:
            source.result()
        octets = Received(points).octets(seen["first"], seen["last"])
        if octets <= 0:
            raise WrongResultError("nothing was relayed")
        wall_s = (seen["last"] - seen["first"]) / 1e9
        return Sample(
            octets * 1e9 / seen["cpu"],
            {
                "ns_per_kib": seen["cpu"] * 1024 / octets,
                "mib_per_s": octets / wall_s / (1 << 20),
                "rss_mib": seen["rss_kib"] / 1024,
            },
        )

    return run


def _latencies(relay: Relaying | None, samples: int) -> list[int]:
    """Time from the sending of a single segment to its receipt, ns, in order of length."""
    behind = listener()
    seconds = PINGS * PING_S + 1
    source = Child(lambda: provide(behind, samples, PINGS), 1)
    middle, address, syn = _middle(relay, behind, samples, seconds)
    behind.close()
    points = consume(address, syn, samples, seconds, PINGS * Source(samples).octets)["points"]
    sent, size = source.result(), Source(samples).octets
    if middle is not None:
        middle.result()
    came, wanted = [], size
    for at, octets in points:
        while octets >= wanted:
            came.append(at)
            wanted += size
    return sorted(after - before for before, after in zip(sent, came, strict=True))


def _quantile(values: list[int], share: float) -> float:
    return float(values[min(len(values) - 1, round(share * len(values)))])


def _relay_figures(samples: int) -> dict[str, float]:
    """The limit, and what the firewall adds to the way of one segment."""
    figures = {}
    eager = relay_side(eager_relay, samples)(FIGURE_S)
    figures["peer_256k_ns_per_kib"] = eager.extra["ns_per_kib"]
    unsteady = relay_side(firewall_relay, samples, is_steady=False)(FIGURE_S)
    figures["unsteady_ns_per_kib"] = unsteady.extra["ns_per_kib"]
    try:
        limit = relay_side(splice_relay, samples)(FIGURE_S)
        figures["splice_ns_per_kib"] = limit.extra["ns_per_kib"]
    except (MissingError, OSError):
        # it is a figure beside the ratio
        figures["splice_ns_per_kib"] = -1.0
    through, direct = _latencies(firewall_relay, samples), _latencies(None, samples)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        figures[f"added_us_{name}"] = (_quantile(through, share) - _quantile(direct, share)) / 1e3
    return figures


def _relay(samples: int, options: Options) -> Pair:
    figures = None if options.smoke else lambda: _relay_figures(samples)
    ours, peer = relay_side(firewall_relay, samples), relay_side(opaque_relay, samples)
    return Pair(ours, peer, figures=figures)


@bench("firewall-relay-16k", unit=FLOW_RATE, peer=OPAQUE, must=0.8, stretch=1.3, seconds=1.5)
def relay_16k(options: Options) -> Pair:
    """Explicit mode, policy on, every block of 2,040 samples verified."""
    return _relay(BLOCK_16K, options)


@bench("firewall-relay-1k", unit=FLOW_RATE, peer=OPAQUE, must=0.2, stretch=0.5, seconds=1.5)
def relay_1k(options: Options) -> Pair:
    """The same with blocks of 120 samples."""
    return _relay(BLOCK_1K, options)


# ---- verdicts -------------------------------------------------------------------------------------

RULES, FEW_RULES, FACTS = 1_000, 10, 2_000
VERDICTS = "verdicts/CPU s"
NAIVE = "naive evaluator of the property test"


def _verdicts(rules: int) -> tuple[Callable[[], int], Callable[[], int], Callable[[], None]]:
    """Both evaluators over the same facts, and the check that they agree."""
    # an independent model of the language, which prints itself as text for our parser
    from tests.policies import load
    from tests.property.test_policy import facts_of, model_of, value_of

    dice = random.Random(rules)
    model = model_of(dice, rules)
    policy = load(model.text)
    raw = [facts_of(dice) for _ in range(FACTS)]
    known = [Facts(**one) for one in raw]

    def ours() -> int:
        for facts in known:
            policy.evaluate(facts)
        return FACTS

    naive = itertools.cycle(raw)

    def theirs() -> int:
        for facts in itertools.islice(naive, FACTS // 20):
            model.judge(facts)
        return FACTS // 20

    def check() -> None:
        for facts, one in zip(known, raw, strict=True):
            decision = policy.evaluate(facts)
            if (decision.line, value_of(decision.verdict)) != model.judge(one):
                raise WrongResultError(f"line {decision.line}, naive {model.judge(one)}")

    return ours, theirs, check


@bench("firewall-verdicts", unit=VERDICTS, peer=NAIVE, must=1.0, stretch=10)
def verdicts(options: Options) -> Pair:
    """1,000 rules of the whole language, random facts near what they ask for."""
    ours, theirs, check = _verdicts(FEW_RULES * 3 if options.smoke else RULES)

    def figures() -> dict[str, float]:
        few = _verdicts(FEW_RULES)
        return {"ours_10_rules": loop(few[0])(0.3).value, "naive_10_rules": loop(few[1])(0.3).value}

    return Pair(loop(ours, check=check), loop(theirs), figures=None if options.smoke else figures)
