"""A street with policeman, and edge LSRs that ask, meter and answer as a node does."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from powertcp.mplamps.blotter import PolicemanEvent
from powertcp.mplamps.cops import (
    CircuitDecided,
    ConnectionLost,
    DeleteReason,
    Interface,
    MeterWanted,
    Pep,
    PriceChanged,
    ReportKind,
    ServerAddress,
)
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.market import Market
from powertcp.mplamps.plans import format_topology, parse_topology
from powertcp.mplamps.policeman import Policeman
from powertcp.mplamps.power import MeterObject, PowerObject, TariffKind, TariffObject
from powertcp.mplamps.rsvp import Sender, Session
from powertcp.mplamps.rsvp.codec import session_object, template_object
from powertcp.mplamps.tariffs import parse_market
from powertcp.mplamps.topology import Topology
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

LAMP = PowerProfile.parse("230V/260mA@50Hz,prio=9")
MARKET = """
currency = "EUR"
default = "any"
supplier = [
  {id = 7, name = "Watt and Sons", sources = ["es1"], capacity = "2MW", prices = [
    {at = "00:00", price = "0.2100/kWh"}, {at = "18:00", price = "0.3100/kWh"},
  ]},
  {id = 9, name = "Night and Day", sources = ["es2"], capacity = "2MW", prices = [
    {at = "00:00", price = "0.2500/kWh"},
  ]},
]
meter = [
  {at = "h1/lamp-1", customer = "Ada", supplier = 7, best_priority = 8, fee = "0.0800/kWh"},
]
"""
CREDIT = MARKET.replace('fee = "0.0800/kWh"', 'fee = "0.0800/kWh", credit = "1.00"')
NOON_S = 12 * 3600


def path_objects(
    es: IPv4Address, lamp: IPv4Address, *, lsp: int = 1, tunnel: int = 1,
    limit: TariffObject | None = None, power: PowerProfile = LAMP,
) -> bytes:  # fmt: skip
    """Return the objects of a PATH of a lamp to a source."""
    octets = session_object(Session(es, tunnel, lamp)) + template_object(Sender(lamp, lsp))
    octets += PowerObject.make(power).to_wire()
    return octets + (limit.to_wire() if limit else b"")


def street(houses: int = 2, base: str = "10.0.0.0") -> Topology:
    """A street with a second source, and a policeman."""
    return parse_topology(street_text(houses, base), "street")


def street_text(houses: int = 2, base: str = "10.0.0.0") -> str:
    """Return the document of that street."""
    made = generate_topology(f"street:{houses}", base=IPv4Address(base), has_pdp=True)
    text = format_topology(made)
    text = text.replace("node = [", 'node = [\n  {name = "es2", kind = "es", capacity = "1MW"},', 1)
    return text.replace("link = [", 'link = [\n  {a = "es2", b = "s1", voltage = "110kV"},', 1)


class Network:
    """A policeman, its clock, and the edge LSRs that are connected with it."""

    def __init__(self, market: str = MARKET, houses: int = 2, now_s: int = NOON_S) -> None:
        self.topology = street(houses)
        self.text = market
        self.now = now_s * NS_PER_S
        self.police = Policeman(self.topology, self.market, self.now)
        self.edges: list[Edge] = []
        self.events: list[PolicemanEvent] = []

    @property
    def market(self) -> Market:
        return parse_market(self.text, "market", self.topology)

    def edge(self, name: str = "h1", lamp: str = "lamp-1", *, is_meek: bool = True) -> "Edge":
        found = Edge(self, name, lamp, is_meek=is_meek)
        self.edges.append(found)
        return found

    def exchange(self) -> None:
        """Carry octets until there are none."""
        while sum(edge.exchange() for edge in self.edges):
            pass
        while event := self.police.next_event():
            self.events.append(event)

    def of(self, kind: type) -> list[PolicemanEvent]:
        """Take the events of a kind."""
        found = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found

    def wait(self, seconds: float) -> None:
        """Let time pass for all, timer by timer."""
        until = self.now + round(seconds * NS_PER_S)
        while True:
            timers: list[Callable[[], int | None]] = [edge.pep.get_timer for edge in self.edges]
            times = [
                at for timer in (*timers, self.police.get_timer) if (at := timer()) is not None
            ]
            if not times or min(times) > until:
                break
            self.now = max(self.now, min(times))
            for edge in self.edges:
                edge.pep.handle_timer(self.now)
            self.police.handle_timer(self.now)
            self.exchange()
        self.now = until

    def restart(self) -> None:
        """Another policeman begins with what this one has kept; its connections are lost."""
        before = self.police
        totals = [before.state.total(bill.customer, bill.supplier) for bill in before.bills()]
        self.police = Policeman(self.topology, self.market, self.now)
        self.police.restore(before.standings(), totals)
        for edge in self.edges:
            edge.lose()
        self.exchange()


class Edge:
    """An edge LSR with one lamp: its end of COPS, and the register of each circuit.

    is_meek: it answers to a new price at once.
    """

    def __init__(self, network: Network, name: str, lamp: str, *, is_meek: bool = True) -> None:
        self.network, self.is_meek = network, is_meek
        self.node, self.lamp = network.topology.node(name), network.topology.node(lamp)
        link = network.topology.between(name, lamp)
        assert link is not None
        self.interface = Interface(self.lamp.address, link.number)
        self.pep = Pep(self.node.address, bytes)
        self.number = 0
        self.registers: dict[bytes, tuple[int, int]] = {}
        self.decided: list[CircuitDecided] = []
        self.quotes: dict[bytes, list[int]] = {}
        self.changed: list[bytes] = []

    def connect(self) -> None:
        self.pep.connect(ServerAddress(IPv4Address("10.0.0.9"), 3288), self.network.now)
        self.number = self.network.police.connect(self.network.now)
        self.network.exchange()

    def lose(self) -> None:
        """The connection breaks, for both."""
        self.pep.receive_eof(self.network.now)
        self.network.police.receive_eof(self.number, self.network.now)
        self.number = 0

    def path(
        self, *, es: str = "es1", lsp: int = 1, tunnel: int = 1, limit: TariffObject | None = None,
        power: PowerProfile = LAMP,
    ) -> bytes:  # fmt: skip
        """Return the objects of a PATH."""
        source = self.network.topology.node(es).address
        return path_objects(
            source, self.lamp.address, lsp=lsp, tunnel=tunnel, limit=limit, power=power
        )

    def ask(self, path: bytes | None = None, supplier: int = 0) -> bytes:
        handle = self.pep.ask(self.interface, path or self.path(), supplier, self.network.now)
        self.network.exchange()
        return handle

    def light(self, path: bytes | None = None) -> bytes:
        """Have a circuit, closed."""
        handle = self.ask(path)
        assert self.decided[-1].quote is not None
        self.registers[handle] = (0, self.network.now)
        self.pep.report(handle, ReportKind.SUCCESS, self.network.now, is_answer=True)
        self.network.exchange()
        return handle

    def draw(self, handle: bytes, energy_uj: int) -> None:
        energy, since = self.registers[handle]
        self.registers[handle] = (energy + energy_uj, since)

    def meter(self, handle: bytes, *, is_final: bool = False) -> MeterObject:
        energy, since = self.registers[handle]
        seconds = (self.network.now - since) // NS_PER_S
        return MeterObject.make(
            seconds=seconds, energy_uj=energy, packets=1, octets=1, is_final=is_final
        )

    def tell(self, handle: bytes, *, is_answer: bool = False) -> None:
        """Report the meter."""
        kind = ReportKind.ACCOUNTING
        self.pep.report(handle, kind, self.network.now, self.meter(handle), is_answer=is_answer)
        self.network.exchange()

    def end(self, handle: bytes) -> None:
        meter = self.meter(handle, is_final=True)
        del self.registers[handle]
        self.pep.delete(handle, DeleteReason.TEAR, meter)
        self.network.exchange()

    def exchange(self) -> bool:
        """Carry octets once both ways and do what a node does; return whether anything moved."""
        police, now = self.network.police, self.network.now
        up = self.pep.data_to_send()
        down = police.data_to_send(self.number)
        if up:
            police.receive_data(self.number, up, now)
        if down:
            self.pep.receive_data(down, now)
        moved = bool(up or down)
        if self.number and police.is_closed(self.number) and not down:
            self.number, moved = 0, True
            self.pep.receive_eof(now)
        while event := self.pep.next_event():
            moved = True
            match event:
                case CircuitDecided(handle=handle):
                    self.decided.append(event)
                    if event.quote is None and handle in self.registers:
                        meter = self.meter(handle, is_final=True)
                        self.pep.delete(handle, DeleteReason.DIRECTIVE, meter)
                        del self.registers[handle]
                case PriceChanged(handle=handle, quote=quote):
                    self.quotes.setdefault(handle, []).append(quote.price)
                    self.changed.append(handle)
                    if self.is_meek:
                        self.pep.report(
                            handle, ReportKind.ACCOUNTING, now, self.meter(handle), is_answer=True
                        )
                case MeterWanted(handle=handle):
                    self.pep.report(handle, ReportKind.ACCOUNTING, now, self.meter(handle))
                case ConnectionLost():
                    pass
        return moved


def limit(price: int, supplier: int = 0) -> TariffObject:
    return TariffObject.make(TariffKind.LIMIT, price, "EUR", supplier=supplier)


def asking(power: str) -> PowerProfile:
    return replace(LAMP, current_ma=PowerProfile.parse(power).current_ma)
