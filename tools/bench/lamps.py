"""MPLampS: a city whose lamps are switched on at once, and datagrams as a router reads them.

The engine, its nodes and all their machines are the product's. What is asked of them is how much
they cost beside a heap of events in which nothing happens.
"""

import gc
import itertools
import time
from collections.abc import Awaitable, Callable
from heapq import heapify, heappop, heappush
from unittest.mock import patch

import trio

from powertcp.drivers.lsr_port import BURST, MAX_DATAGRAM, MessageQueue, Port, open_port
from powertcp.mplamps.engine import Engine, EngineSettings
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.node import NodeSettings
from powertcp.mplamps.rsvp import Kind, Style, decode_message, encode_message, neighbour, outbox
from powertcp.mplamps.rsvp.messages import Message, Path, Received
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.scenario import dusk, outcome_of
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.units import NS_PER_S
from tools.bench.harness import Options, Pair, Sample, Side, WrongResultError, bench
from tools.bench.mplamps import lamp_messages

UNIT = "lamps/CPU s"
CITY, SMALL_CITY = "tree:10,10,10,2,5", "tree:2,2,2,2,5"
# five links lead from each lamp to the source: a PATH and a RESV over each
MESSAGES = 10
# of each message: it arrives, and it is served; by a lamp at once
EVENTS = 2 * MESSAGES - 1
UNTIL_NS = 60 * NS_PER_S
SEED = 3251


class Carried(bytes):
    """The head of a message of RSVP, and the message itself instead of its objects."""

    message: Message


def carry(message: Message, ttl: int) -> Carried:
    """Take the place of `encode_message`: a link carries the message as it is."""
    kind = Kind.PATH if type(message) is Path else Kind.RESV
    carried = Carried((0x11, kind, 0, 0, ttl, 0, 0, 8))
    carried.message = message
    return carried


def carried_over(data: Carried, keys: None) -> Received:
    """Take the place of `decode_message`."""
    return Received(data.message, data[4])


def settled(topology: Topology) -> tuple[Engine, float]:
    """Return the city with all lamps signalled, and the CPU s of that alone."""
    signalling = Settings(is_reliable=False)
    settings = EngineSettings(node=NodeSettings(signalling=signalling), style=Style.FF)
    engine = Engine(topology, SEED, settings)
    engine.play(dusk(topology, SEED, 0))
    gc.collect()
    gc.freeze()
    gc.disable()
    began = time.thread_time_ns()
    engine.run_settled(UNTIL_NS)
    spent = time.thread_time_ns() - began
    gc.enable()
    return engine, spent / 1e9


def check_lit(engine: Engine) -> None:
    """Raise WrongResultError unless each lamp has its circuit, by the least number of messages."""
    outcome = outcome_of(engine, is_powered=False)
    if outcome.signalled != outcome.lamps or outcome.residual_mw:
        raise WrongResultError(f"{outcome.signalled:,} of {outcome.lamps:,} lamps have a circuit")
    messages = engine.recorder.messages()
    each = MESSAGES // 2 * outcome.lamps
    if messages != {"PATH": each, "RESV": each}:
        raise WrongResultError(f"{outcome.lamps:,} lamps take {MESSAGES} messages each: {messages}")
    # one more event: all lamps are switched on
    if engine.events != EVENTS * outcome.lamps + 1:
        raise WrongResultError(f"{engine.events:,} events for {outcome.lamps:,} lamps")


def by_wire(topology: Topology) -> Sample:
    """Return the lamps set up per CPU s, each message in its octets."""
    engine, spent_s = settled(topology)
    check_lit(engine)
    rate = len(engine.lamps) / spent_s
    return Sample(rate, {"lamps": rate})


def by_objects(topology: Topology) -> Sample:
    """Return the lamps set up per CPU s without octets.

    There is no such seam in the machines: for this bench alone the two functions between them and
    the octets are others. The label tables are those of a city with octets.
    """
    with (
        patch.object(outbox, "encode_message", carry),
        patch.object(neighbour, "decode_message", carried_over),
    ):
        engine, spent_s = settled(topology)
    check_lit(engine)
    rate = len(engine.lamps) / spent_s
    if engine.labels_hash() != settled(topology)[0].labels_hash():
        raise WrongResultError("without octets the lamps have other labels")
    return Sample(rate, {"lamps": rate})


def nothing(who: object, what: object) -> None:
    """Be called, as each event is."""


def bare_heap(lamps: int) -> Sample:
    """Return the lamps per CPU s of a heap with as many events, in which nothing happens.

    Each lamp has one event at a time, as it has one message under way.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    began = time.thread_time_ns()
    heap = [(number % 7, number, 0, nothing, None) for number in range(lamps)]
    heapify(heap)
    numbers = itertools.count(lamps)
    handlers = (nothing,)
    done = 0
    for _ in range(lamps * EVENTS):
        at, _, kind, who, what = heappop(heap)
        handlers[kind](who, what)
        done += 1
        heappush(heap, (at + 7, next(numbers), kind, who, what))
    spent = time.thread_time_ns() - began
    gc.enable()
    if done != lamps * EVENTS or len(heap) != lamps:
        raise WrongResultError(f"{done:,} events, {lamps * EVENTS:,} were to happen")
    return Sample(lamps * 1e9 / spent)


def set_up(options: Options, ours: Callable[[Topology], Sample], least: int) -> Pair:
    """Set all lamps of a city up, once in each round; at least so many per CPU s."""
    topology = generate_topology(SMALL_CITY if options.smoke else CITY)
    lamps = len(topology.of_kind(NodeKind.LAMP))
    return Pair(
        lambda _: ours(topology),
        lambda _: bare_heap(lamps),
        None if options.smoke else lambda extra: extra["lamps"] >= least,
    )


@bench("mplamps-setup-objects", unit=UNIT, peer="a bare heap of as many events",
       must=0.15, stretch=0.45, seconds=10.0)  # fmt: skip
def objects(options: Options) -> Pair:
    """10,000 lamps, ten messages each, that are handed over as they are."""
    return set_up(options, by_objects, 2_000)


@bench("mplamps-setup-wire", unit=UNIT, peer="a bare heap of as many events",
       must=0.06, stretch=0.2, seconds=10.0)  # fmt: skip
def wire(options: Options) -> Pair:
    """10,000 lamps, ten messages each: encoded, summed, verified and decoded."""
    return set_up(options, by_wire, 1_000)


HOST, LINK = "127.0.0.1", 7
Turn = Callable[[], Awaitable[None]]


class Reader:
    """A socket that gets bursts of PATHs and RESVs, and what was taken from it."""

    def __init__(self) -> None:
        """Open both sockets."""
        self.messages = (lamp_messages() * BURST)[:BURST]
        for octets in self.messages:
            if encode_message(decode_message(octets).message) != octets:  # type: ignore[arg-type]
                raise WrongResultError("a message of the draft is read in another way")
        self.sock, self.sender = open_port(HOST, 0), open_port(HOST, 0)
        self.place = self.sender.getsockname()
        self.links = {self.place: LINK}
        self.taken: list[tuple[int, bytes]] = []
        self.bursts = 0

    def take(self, link: int, octets: bytes, now: int) -> None:
        """Take a datagram, as a node would."""
        self.taken.append((link, octets))

    def done(self, now: int) -> None:
        """Be told of the end of a burst."""
        self.bursts += 1

    async def read(self, seconds: float, turn: Turn) -> Sample:
        """Let `turn` take burst after burst; the datagrams per CPU s, sending left out."""
        to = self.sock.getsockname()
        expected = [(LINK, octets) for octets in self.messages]
        end = time.monotonic() + seconds
        spent = total = 0
        while time.monotonic() < end:
            self.taken.clear()
            for octets in self.messages:
                self.sender.sendto(octets, to)
            began = time.thread_time_ns()
            await turn()
            spent += time.thread_time_ns() - began
            if self.taken != expected:
                raise WrongResultError(f"{len(self.taken)} datagrams of {BURST}, or others")
            total += BURST
        self.sender.close()
        return Sample(total * 1e9 / spent)


async def in_bursts(seconds: float) -> Sample:
    """Read as a router does: one wake-up for all that is there."""
    reader = Reader()
    async with trio.open_nursery() as nursery:
        port = Port(
            reader.sock, reader.links, reader.take, reader.done,
            queue=MessageQueue, nursery=nursery, drop=lambda _: None,
        )  # fmt: skip

        async def turn() -> None:
            await trio.lowlevel.wait_readable(port.fileno())
            port.readable(0)

        sample = await reader.read(seconds, turn)
        port.close()
    if not reader.bursts:
        raise WrongResultError("no burst has ended")
    return sample


async def one_by_one(seconds: float) -> Sample:
    """Read each datagram by an await of its own."""
    reader = Reader()
    sock = trio.socket.from_stdlib_socket(reader.sock)

    async def turn() -> None:
        for _ in range(BURST):
            octets, place = await sock.recvfrom(MAX_DATAGRAM + 1)
            link = reader.links.get(place)
            if link is not None:
                reader.take(link, octets, 0)

    with sock:
        return await reader.read(seconds, turn)


@bench("mplamps-drain", unit="datagrams/CPU s", peer="one await per datagram", must=3)
def drain(options: Options) -> Pair:
    """Bursts of 64 PATHs and RESVs over loopback, each taken with the link that it came on."""

    def side(read: Callable[[float], Awaitable[Sample]]) -> Side:
        return lambda seconds: trio.run(read, seconds)

    return Pair(side(in_bursts), side(one_by_one))
