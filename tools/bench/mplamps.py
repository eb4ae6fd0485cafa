"""MPLampS: labels in batches against packet by packet, RSVP against construct, one tree for all."""

import pathlib
from heapq import heappop, heappush
from ipaddress import IPv4Address
from itertools import cycle
from random import Random

import numpy as np

from powertcp.mplamps.batch import forward_batch
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.label import stack_octets
from powertcp.mplamps.lfib import STACK_OCTETS, Lfib, Out
from powertcp.mplamps.rsvp import Bundle, Message, Rejected, decode_message, encode_message
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Sender, Session
from powertcp.mplamps.ted import Reservations, Ted
from powertcp.mplamps.topology import Draft, NodeKind, Topology
from powertcp.wire.rsvp_values import build_message, parse_message
from tools.bench.harness import Options, Pair, Side, WrongResultError, bench, loop

UNIT = "packets/CPU s"
PACKETS = 4096
CIRCUITS = 10_000
# a block of 160 samples with its headers
BODY_OCTETS = 20 + 20 + 20 + 8 + 1280
LINK, LABEL = 1, 20_000
ES = IPv4Address("10.0.0.1")


def substation(circuits: int) -> Lfib:
    """Return a transformer with both entries of each circuit closed."""
    lfib = Lfib({LINK: LABEL, 2: 400, 3: 400}, is_transformer=True)
    for number in range(circuits):
        lamp = IPv4Address((10 << 24) + number + 2)
        owner = CircuitId(Session(ES, 1, lamp), Sender(lamp, 1))
        out = 2 + number % 2
        phase = lfib.allocate(owner, LABEL, 0, LINK)
        neutral = lfib.allocate(owner, 0, 0, out)
        lfib.close_entry(LABEL, phase, [Out(out, 400, 16 + number)])
        lfib.close_entry(0, neutral, [Out(LINK, 0, 16 + number)])
    return lfib


def arrivals(circuits: int) -> list[bytes]:
    """Return a batch of packets toward the lamps, of circuits at random."""
    random = Random(3251)
    body = random.randbytes(BODY_OCTETS)
    flows = [16 + random.randrange(circuits) for _ in range(PACKETS)]
    return [stack_octets((LABEL, flow), 3) + body for flow in flows]


class Ring:
    """Packets as a receiver has them: in one buffer, their stacks as they came before each step."""

    def __init__(self, packets: list[bytes]) -> None:
        self.octets = bytearray().join(packets)
        self.sizes = np.array([len(one) for one in packets], np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes
        shape = (len(self.octets) - STACK_OCTETS + 1,)
        self._words = np.ndarray(shape, np.uint64, self.octets, 0, (1,))
        self._stacks = self._words[self.starts]

    def refill(self) -> None:
        """Put the stacks back as they came."""
        self._words[self.starts] = self._stacks

    def packets(self) -> list[bytes]:
        """Return the packets as they are now."""
        places = zip(self.starts.tolist(), self.sizes.tolist(), strict=True)
        return [bytes(self.octets[start : start + size]) for start, size in places]


@bench("mplamps-swap", unit=UNIT, peer="the same table, packet by packet", must=10)
def swap(options: Options) -> Pair:
    """Batches of 4096 packets of 10,000 circuits; both ways give the same octets and links."""
    circuits = 500 if options.smoke else CIRCUITS
    packets = arrivals(circuits)
    batched, single = substation(circuits), substation(circuits)
    ring = Ring(packets)

    def check() -> None:
        expected = [single.forward(LINK, packet) for packet in packets]
        batch = forward_batch(batched, LINK, ring.octets, ring.starts, ring.sizes)
        found = [[pair] for pair in zip(batch.links.tolist(), ring.packets(), strict=True)]
        ring.refill()
        if found != expected or batch.others:
            raise WrongResultError("a batch and its packets one by one leave differently")
        if list(batched.entries()) != list(single.entries()):
            raise WrongResultError("a batch and its packets one by one are counted differently")

    def ours() -> int:
        ring.refill()
        forward_batch(batched, LINK, ring.octets, ring.starts, ring.sizes)
        return PACKETS

    def theirs() -> int:
        for packet in packets:
            single.forward(LINK, packet)
        return PACKETS

    return Pair(loop(ours, check=check), loop(theirs, check=check))


def lamp_messages() -> list[bytes]:
    """Return a PATH and its RESV, as the draft prints them, and 63 more of other lamps."""
    folder = pathlib.Path(__file__).parent.parent.parent / "rfc" / "vectors" / "mplamps"
    made = []
    for name in ("path", "resv"):
        lines = (folder / f"{name}.hex").read_text().splitlines()
        printed = bytes.fromhex("".join(line.partition(";")[0] for line in lines))
        values = parse_message(printed)
        for number in range(1, 65):
            for one in values["objects"]:
                if one["object"] in ("SENDER_TEMPLATE", "FILTER_SPEC", "SESSION"):
                    one["lamp"] = f"10.0.1.{number}"
                if one["object"] == "MESSAGE_ID":
                    one["number"] = number
            made.append(build_message(values))
    return made


def again(message: Message) -> bytes:
    """Return the octets of a PATH or RESV that was decoded."""
    if isinstance(message, Rejected | Bundle):
        raise WrongResultError("a message of the draft is rejected")
    return encode_message(message)


@bench("mplamps-rsvp", unit="messages/CPU s", peer="the schema in construct", must=10)
def rsvp(options: Options) -> Pair:
    """PATH and RESV of 64 lamps: checksum verified, every object decoded, and encoded again."""
    messages = lamp_messages()
    few = messages[::32]

    def check() -> None:
        for octets in messages:
            if again(decode_message(octets).message) != octets:
                raise WrongResultError("what was decoded is encoded in another way")
            if build_message(parse_message(octets)) != octets:
                raise WrongResultError("the schema encodes in another way")

    def ours() -> int:
        for octets in messages:
            again(decode_message(octets).message)
        return len(messages)

    def theirs() -> int:
        for octets in few:
            build_message(parse_message(octets))
        return len(few)

    return Pair(loop(ours, check=check), loop(theirs, check=check))


LAMP_MW = 59_800
PRIORITY = 4
SAMPLED = 200


def city(rows: int, columns: int) -> Topology:
    """Return cabinets in a mesh with two houses and ten lamps each, the source in the middle."""
    random = Random(3251)
    draft = Draft("city")
    draft.node("es1", NodeKind.ES)
    places = [(row, column) for row in range(rows) for column in range(columns)]
    names = {(row, column): f"c{row}-{column}" for row, column in places}
    for place, name in names.items():
        draft.node(name, NodeKind.TRANSFORMER)
        for row, column in ((place[0] - 1, place[1]), (place[0], place[1] - 1)):
            if (row, column) in names:
                metric = random.randint(1, 30)
                draft.link(names[row, column], name, 20_000_000, metric=metric)
        for house in ("a", "b"):
            draft.link(name, draft.node(f"h{name}{house}", NodeKind.TRANSFORMER), 400_000)
            for number in range(5):
                lamp = draft.node(f"lamp-{name}{house}{number}", NodeKind.LAMP)
                draft.link(f"h{name}{house}", lamp, 230_000)
    draft.link("es1", names[rows // 2, columns // 2], 110_000_000)
    return draft.finish()


class Alone:
    """A constrained Dijkstra of each lamp, from it to the source, which ends when it is there."""

    def __init__(self, topology: Topology) -> None:
        self.links = topology.links
        self.free = [Reservations(link).free(PRIORITY)[0] for link in topology.links]
        at = {node.name: place for place, node in enumerate(topology.nodes)}
        self.at = at
        self.enters = [node.kind is not NodeKind.LAMP for node in topology.nodes]
        self.near: list[list[tuple[int, int, int]]] = [[] for _ in topology.nodes]
        for number, link in enumerate(topology.links):
            self.near[at[link.a]].append((number, at[link.b], link.metric))
            self.near[at[link.b]].append((number, at[link.a], link.metric))

    def cost(self, lamp: str, source: str) -> int:
        """Return the metrics of the least path that has the power left."""
        end, start = self.at[source], self.at[lamp]
        costs = {start: 0}
        heap = [(0, start)]
        while heap:
            cost, place = heappop(heap)
            if place == end:
                return cost
            if cost > costs[place]:
                continue
            for number, other, metric in self.near[place]:
                if not self.enters[other] or self.free[number] < LAMP_MW:
                    continue
                if other not in costs or cost + metric < costs[other]:
                    costs[other] = cost + metric
                    heappush(heap, (cost + metric, other))
        raise WrongResultError(f"{lamp} has no path to {source}")


class Together:
    """One tree for the paths of all lamps, grown anew each time."""

    def __init__(self, topology: Topology) -> None:
        self.ted = Ted(topology)
        self.lamps = [node.name for node in topology.of_kind(NodeKind.LAMP)]
        self.first = Reservations(topology.link(1))

    def paths(self) -> int:
        """Return the number of lamps whose path was read."""
        ted = self.ted
        # a link that comes back: the tree that was without it is forgotten
        ted.update(1, self.first.state(is_up=False))
        ted.update(1, self.first.state())
        grown = ted.trees_grown
        for lamp in self.lamps:
            ted.reverse_tree("es1", LAMP_MW, PRIORITY).path(lamp)
        if ted.trees_grown != grown + 1:
            raise WrongResultError("it is not one tree for all lamps")
        return len(self.lamps)


def compared(topology: Topology) -> tuple[Side, Side]:
    """Return the paths of all lamps by one tree, and of 200 of them one by one."""
    together, alone = Together(topology), Alone(topology)
    sampled = Random(3251).sample(together.lamps, min(SAMPLED, len(together.lamps)))
    turns = cycle(sampled)

    def check() -> None:
        tree = together.ted.reverse_tree("es1", LAMP_MW, PRIORITY)
        for lamp in sampled:
            cost = sum(step.link.metric for step in tree.path(lamp))
            if cost != alone.cost(lamp, "es1"):
                raise WrongResultError(f"the tree has another cost for {lamp}")

    def one() -> int:
        alone.cost(next(turns), "es1")
        return 1

    return loop(together.paths, check=check), loop(one, check=check)


@bench("mplamps-path", unit="lamps/CPU s", peer="a constrained Dijkstra per lamp", must=50)
def path(options: Options) -> Pair:
    """The paths of 10,000 lamps of a meshed city; `tree_ratio` is that of a city without meshes.

    Each Dijkstra of the peer ends when it reaches the source, and there is little to search in a
    tree.
    """

    def figures() -> dict[str, float]:
        spec = "tree:3,3,3,2,5" if options.smoke else "tree:10,10,10,2,5"
        ours, peer = compared(generate_topology(spec))
        return {"tree_ratio": ours(0.5).value / peer(0.5).value}

    ours, peer = compared(city(4, 5) if options.smoke else city(25, 40))
    return Pair(ours, peer, figures=figures)
