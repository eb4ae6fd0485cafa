"""Feeds mutated segments to the splitter, the decoders and both roles of a connection.

Only DecodeError may leave a decoder, nothing may leave a connection, memory stays bounded.
`python -m tools.fuzz --segments N --seed S --json` prints segments, uncaught, slowest_ms.
"""

import argparse
import contextlib
import json
import random
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from powertcp.dve.block import block_header
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import PowerAccepted, PowerRequested
from powertcp.potcp.negotiate import Ask
from powertcp.profile import PowerProfile
from powertcp.wire import DEFAULT_MSP, Data, Splitter, decode_segment

VECTORS = Path(__file__).resolve().parent.parent / "rfc" / "vectors" / "protocol"
# octets that are lengths, kinds and counts somewhere
LIKELY = (0, 1, 2, 3, 5, 17, 18, 19, 24, 127, 128, 131, 133, 134, 252, 253, 255)
# a header and its options, and one payload: what a splitter may keep
MAX_PENDING = 532 + DEFAULT_MSP
# what a connection may queue in answer to one input
MAX_ANSWER = 1 << 20
# how often a whole conversation is begun anew
PER_CONNECTION = 40


def corpus() -> list[bytes]:
    """Return the octets of every vector of a segment, good and bad."""
    found = []
    for path in sorted(VECTORS.rglob("*.hex")):
        about = json.loads(path.with_suffix(".json").read_text())
        if about["layout"] == "segment":
            lines = path.read_text().splitlines()
            found.append(bytes.fromhex("".join(line.partition(";")[0] for line in lines)))
    return found


def mutate(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Return a segment with a few octets changed, cut, doubled or exchanged with another's."""
    octets = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(octets))
        match rng.randrange(8):
            case 0 | 1 | 2:
                octets[at] = rng.choice(LIKELY)
            case 3:
                octets[at] ^= 1 << rng.randrange(8)
            case 4:
                octets[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
            case 5:
                octets[at:at] = octets[at : at + rng.randrange(1, 33)]
            case 6:
                other = rng.choice(seeds)
                octets[at:] = other[rng.randrange(len(other)) :]
            case _:
                del octets[at:]
        octets = octets or bytearray(b"P")
    if rng.random() < 0.8 and len(octets) >= 20:
        _repair(octets)
    return bytes(octets)


def _repair(octets: bytearray) -> None:
    """Make the header sound, so that the fault lies deeper."""
    octets[:3] = b"PO\x01"
    if not 5 <= octets[3] <= 133 or octets[3] * 4 > len(octets):
        octets[3] = 5
    octets[6:8] = min(len(octets) - octets[3] * 4, 65535).to_bytes(2, "big")


def through_decoder(splitter: Splitter, octets: bytes) -> None:
    """Split and decode; raises what is not a DecodeError."""
    for raw in splitter.receive(octets):
        try:
            segment = decode_segment(raw)
            if isinstance(segment, Data):
                block_header(segment.payload)
        except DecodeError:
            continue
    if splitter.pending > MAX_PENDING:
        raise MemoryError(f"{splitter.pending} octets are kept")


class Conversation:
    """Both roles of a connection, mostly energised, each fed with the same mutated segments."""

    def __init__(self, rng: random.Random) -> None:
        """Draw everything from `rng`."""
        self._rng = rng
        self._now = 0
        self._left = 0
        self._pair: list[PowerConnection] = []

    def _begin(self) -> None:
        """Make a fresh pair; three of four carry power on flow 1."""
        self._left = PER_CONNECTION
        entropy = self._rng.randbytes
        self._pair = [
            PowerConnection(client=client, config=ConnectionConfig(), entropy=entropy)
            for client in (True, False)
        ]
        sink, source = self._pair
        sink.open_flow([Ask(PowerProfile.parse("12V/1.5A"))], now=self._now)
        for _ in range(self._rng.choice((0, 1, 3, 3))):
            source.receive_data(sink.data_to_send(), self._now)
            self._act(source)
            sink.receive_data(source.data_to_send(), self._now)
            self._act(sink)

    def _act(self, machine: PowerConnection) -> None:
        """Do what a provider does on the events of a machine."""
        while (event := machine.next_event()) is not None:
            if isinstance(event, PowerRequested):
                machine.grant(event.flow, event.asks[0].desired, now=self._now)
            elif isinstance(event, PowerAccepted):
                machine.ready(event.flow, now=self._now)

    def feed(self, octets: bytes) -> None:
        """Give octets to both roles; raises what leaves them."""
        if not self._left:
            self._begin()
        self._left -= 1
        self._now += self._rng.choice((0, 1, 10_000_000, 1_000_000_000))
        for machine in self._pair:
            machine.receive_data(octets, self._now)
            machine.handle_timer(self._now)
            with contextlib.suppress(LocalProtocolError):
                # what asks for power and breaks the connection in one input cannot be granted
                self._act(machine)
            answered = 0
            while part := machine.data_to_send():
                answered += len(part)
                if answered > MAX_ANSWER:
                    raise MemoryError(f"{answered} octets in answer to {len(octets)}")


class Result:
    """Counts of a run."""

    def __init__(self) -> None:
        """Start at zero."""
        self.segments = 0
        self.uncaught = 0
        self.slowest_ns = 0

    def run(self, step: Callable[[bytes], None], octets: bytes, where: str) -> None:
        """Run one step, timed in CPU time; what it raises is counted and printed."""
        begun = time.thread_time_ns()
        try:
            step(octets)
        except Exception:  # noqa: BLE001 - that is what is looked for
            self.uncaught += 1
            if self.uncaught <= 5:
                print(f"{where}: {octets.hex()}", file=sys.stderr)
                traceback.print_exc(limit=-3)
        self.slowest_ns = max(self.slowest_ns, time.thread_time_ns() - begun)


def main(argv: list[str]) -> int:
    """Run the fuzzer. Returns 0, or 1 when something was not caught."""
    parser = argparse.ArgumentParser(prog="tools.fuzz", description=__doc__)
    parser.add_argument("--segments", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--decoder-only", action="store_true", help="leave the connections out")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(argv)
    rng = random.Random(options.seed)
    seeds = corpus()
    result = Result()
    splitter = Splitter()
    connections = not options.decoder_only
    conversation = Conversation(random.Random(options.seed + 1))
    for number in range(options.segments):
        octets = mutate(rng, seeds)
        if splitter.error is not None or number % 64 == 0:
            splitter = Splitter()
        result.run(lambda it, to=splitter: through_decoder(to, it), octets, "decoder")
        if connections:
            result.run(conversation.feed, octets, "connection")
    slowest_ms = round(result.slowest_ns / 1e6, 3)
    said = {"segments": options.segments, "uncaught": result.uncaught, "slowest_ms": slowest_ms}
    said |= {"seed": options.seed, "connections": connections}
    print(json.dumps(said) if options.json else " ".join(f"{k} {v}" for k, v in said.items()))
    return 1 if result.uncaught else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
