"""A network of real nodes on a virtual clock: links with delay and loss, no service time."""

from collections.abc import Callable
from hashlib import blake2s
from heapq import heappop, heappush
from ipaddress import IPv4Address
from typing import TypeVar

from powertcp.mplamps.cops import ServerAddress
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.market import Market
from powertcp.mplamps.node import LampChanged, Node, NodeEvent, NodeSettings
from powertcp.mplamps.plans import parse_topology
from powertcp.mplamps.policeman import Policeman
from powertcp.mplamps.rsvp import decode_message
from powertcp.mplamps.rsvp.messages import Message
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.ted import Metric, Ted
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant

MessageT = TypeVar("MessageT")
POLICEMAN = ServerAddress(IPv4Address("10.9.9.9"), 3288)
SECOND = NS_PER_S


def dice(seed: str) -> Callable[[int], bytes]:
    """Return entropy that is the same in each run."""
    count = 0

    def entropy(octets: int) -> bytes:
        nonlocal count
        count += 1
        return blake2s(f"{seed}/{count}".encode(), digest_size=octets).digest()

    return entropy


class Network:
    """Nodes, what is on its way between them, and what they have told."""

    def __init__(
        self,
        topology: Topology | str,
        *,
        settings: NodeSettings | None = None,
        of: dict[str, NodeSettings] | None = None,
        metric: Metric = Metric.IGP,
        market: Market | None = None,
        has_own_teds: bool = False,
    ) -> None:
        has_pdp = market is not None
        self.topology = (
            generate_topology(topology, has_pdp=has_pdp) if isinstance(topology, str) else topology
        )
        self.ted = Ted(self.topology, metric)
        self.has_own_teds = has_own_teds
        self.police = Policeman(self.topology, market, 0) if market is not None else None
        self.lines: dict[str, int] = {}
        self.now: Instant = 0
        self.settings = settings or NodeSettings(signalling=Settings())
        self.of = of or {}
        self.lives: dict[str, int] = {}
        self.nodes: dict[str, Node] = {}
        self.events: dict[str, list[NodeEvent]] = {}
        self.said: list[tuple[Instant, str, str, Message]] = []
        self.traced: list[tuple[str, dict[str, object]]] = []
        self.cut: set[int] = set()
        self.loss_percent = 0
        self.check: Callable[[], None] = lambda: None
        self._chance = dice("loss")
        self._queue: list[tuple[Instant, int, str, int, bytes, bool, int]] = []
        self._count = 0
        self._timers: list[tuple[Instant, str]] = []
        for node in self.topology.nodes:
            if node.kind is not NodeKind.PDP:
                self.start(node.name)

    def start(self, name: str) -> None:
        """Begin a node, or begin it again after it has crashed."""
        life = self.lives[name] = self.lives.get(name, 0) + 1
        line = self.lines.pop(name, None)
        if self.police is not None and line is not None:
            self.police.receive_eof(line, self.now)
        self.nodes[name] = Node(
            self.topology,
            name,
            Ted(self.topology) if self.has_own_teds else self.ted,
            self.of.get(name, self.settings),
            dice(f"{name}/{life}"),
            self.now,
            lambda what, said: self.traced.append((what, dict(said))),
        )
        self.events.setdefault(name, [])
        if line is not None:
            self.call(name)
        self.settle(name)

    def settle(self, name: str) -> None:
        """Take what a node has to send and to tell."""
        node = self.nodes[name]
        for octets, link in node.rsvp_to_send():
            self.said.append((self.now, name, self._other(name, link), _read(octets)))
            self._send(name, link, octets, is_rsvp=True)
        for link, octets in node.packets_to_send():
            self._send(name, link, octets, is_rsvp=False)
        while (event := node.next_event()) is not None:
            self.events[name].append(event)
        if self.police is not None and name in self.lines:
            self.police.receive_data(self.lines[name], node.cops_to_send(), self.now)
            self.hear_police()
        at = node.get_timer()
        if at is not None:
            heappush(self._timers, (at, name))
        self.check()

    def call_police(self) -> None:
        """Connect every edge LSR with the policeman; what they say takes no time."""
        for name, node in self.nodes.items():
            if node.pep is not None and name not in self.lines:
                self.call(name)

    def call(self, name: str) -> None:
        """Connect one edge LSR with the policeman."""
        assert self.police is not None
        self.lines[name] = self.police.connect(self.now)
        self.nodes[name].cops_connect(POLICEMAN, self.now)
        self.settle(name)

    def lose_police(self) -> None:
        """Cut all connections to the policeman."""
        for name in tuple(self.lines):
            line = self.lines.pop(name)
            if self.police is not None:
                self.police.receive_eof(line, self.now)
            self.nodes[name].cops_eof(self.now)
            self.settle(name)

    def hear_police(self) -> None:
        """Take what the policeman says."""
        assert self.police is not None
        while ready := self.police.ready():
            for number in ready:
                octets = self.police.data_to_send(number)
                for name, line in tuple(self.lines.items()):
                    if line == number and octets:
                        self.nodes[name].receive_cops(octets, self.now)
                        self.settle(name)

    def _other(self, name: str, link: int) -> str:
        return self.topology.link(link).other(name)

    def _send(self, name: str, link: int, octets: bytes, *, is_rsvp: bool) -> None:
        row = self.topology.link(link)
        lost = self.loss_percent and self._chance(1)[0] * 100 < self.loss_percent * 256
        if link in self.cut or lost:
            return
        other = row.other(name)
        at = self.now + row.delay_ns
        self._count += 1
        heappush(
            self._queue, (at, self._count, other, link, octets, is_rsvp, self.lives.get(other, 1))
        )

    def run(self, for_ns: Duration = 100 * NS_PER_MS) -> None:
        """Let time pass."""
        end = self.now + for_ns
        while True:
            arrival = self._queue[0][0] if self._queue else None
            while self._timers and self._is_old(*self._timers[0]):
                heappop(self._timers)
            timer = self._timers[0][0] if self._timers else None
            police = self.police.get_timer() if self.police is not None else None
            times = [at for at in (arrival, timer, police) if at is not None]
            if not times or min(times) > end:
                break
            self.now = max(self.now, min(times))
            if arrival is not None and arrival <= self.now:
                self._arrive()
            elif self.police is not None and police is not None and police <= self.now:
                self.police.handle_timer(self.now)
                self.hear_police()
            else:
                _, name = heappop(self._timers)
                self.nodes[name].handle_timer(self.now)
                self.settle(name)
        self.now = end

    def _is_old(self, at: Instant, name: str) -> bool:
        return self.nodes[name].get_timer() != at

    def _arrive(self) -> None:
        _, _, name, link, octets, is_rsvp, life = heappop(self._queue)
        if life != self.lives[name] or link in self.cut:
            return
        if is_rsvp:
            self.nodes[name].receive_rsvp(link, octets, self.now)
        else:
            self.nodes[name].receive_packet(link, octets, self.now)
        self.settle(name)

    def link(self, a: str, b: str) -> int:
        """Return the number of a link."""
        found = self.topology.between(a, b)
        assert found is not None
        return found.number

    def sever(self, a: str, b: str, *, is_known: bool = True) -> None:
        """Cut a link; both ends know unless `is_known` is False."""
        number = self.link(a, b)
        self.cut.add(number)
        if is_known:
            for name in (a, b):
                self.nodes[name].set_link(number, False, self.now)
                self.settle(name)

    def mend(self, a: str, b: str) -> None:
        """Join a link that was cut."""
        number = self.link(a, b)
        self.cut.discard(number)
        for name in (a, b):
            self.nodes[name].set_link(number, True, self.now)
            self.settle(name)

    def on(self, lamp: str, request: str = "230V/260mA@50Hz", **wish: object) -> int:
        """Switch a lamp on; its PATH is on its way."""
        profile = PowerProfile.parse(request)
        tunnel = self.nodes[lamp].switch_on(profile, self.now, **wish)  # type: ignore[arg-type]
        self.settle(lamp)
        return tunnel

    def changes(self, lamp: str) -> list[LampChanged]:
        """Return what a lamp has told of its states since the last time."""
        return [event for event in self.drain(lamp) if isinstance(event, LampChanged)]

    def assert_empty(self) -> None:
        """Check that no node has anything of any circuit."""
        for node in self.nodes.values():
            assert set(node.holds().values()) == {0}, node.name
            assert len(node.lfib) == 0, node.label_table()
            assert (len(node.rsvp), node.circuits(self.now)) == (0, []), node.name
            assert node.pep is None or len(node.pep) == 0, node.name

    def heard(self, kind: type[MessageT]) -> list[MessageT]:
        """Return the messages of a type that were sent."""
        return [message for _, _, _, message in self.said if isinstance(message, kind)]

    def drain(self, name: str) -> list[NodeEvent]:
        """Return what a node has told since the last time."""
        found, self.events[name] = self.events[name], []
        return found


def _read(octets: bytes) -> Message:
    return decode_message(octets).message


def topology_of(text: str) -> Topology:
    """Return the topology of a TOML document."""
    return parse_topology(text, "test.toml")
