"""Two ends of an inner connection with a carrier between them, as a circuit would be."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.lsp import LspStream
from powertcp.mplamps.packet import Packet
from powertcp.mplamps.tcp import Endpoint, State
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_S

LAMP, ES = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.1")
REQUEST = PowerProfile.parse("230V/260mA@50Hz")


class Line:
    """Carries packets between a lamp and a source, and their timers; while `is_cut` none arrives.

    carried: packets by direction, as they were sent.
    """

    def __init__(self) -> None:
        self.is_cut = False
        self.carried: dict[str, list[Packet]] = {"lamp": [], "es": []}
        self._news = trio.Event()
        lamp, es = Endpoint(LAMP, 49152, 1000), Endpoint(ES, 3251, 9000)
        es.listen()
        lamp.connect(ES, REQUEST, now_ns())
        self.lamp, self.es = LspStream(lamp, self._tell), LspStream(es, self._tell)
        self.ended: set[LspStream] = set()

    def _tell(self) -> None:
        self._news.set()

    async def run(self) -> None:
        while True:
            self._news = trio.Event()
            self._carry()
            timers = [t for one in (self.lamp, self.es) if (t := one.end.get_timer()) is not None]
            with trio.move_on_at(min(timers) / NS_PER_S if timers else float("inf")):
                await self._news.wait()
            for one in (self.lamp, self.es):
                one.end.handle_timer(now_ns())

    def _carry(self) -> None:
        while True:
            there, back = self.lamp.end.packets_to_send(), self.es.end.packets_to_send()
            if not there and not back:
                break
            for name, packets, to in (("lamp", there, self.es), ("es", back, self.lamp)):
                for octets in packets:
                    self.carried[name].append(Packet.from_wire(octets))
                    if not self.is_cut:
                        to.end.receive_packet(octets, now_ns())
            self._look()
        self._look()

    def _look(self) -> None:
        for one in (self.lamp, self.es):
            if not one.turn():
                self.ended.add(one)


@asynccontextmanager
async def line() -> AsyncIterator[Line]:
    """Yield an open connection."""
    async with trio.open_nursery() as nursery:
        made = Line()
        nursery.start_soon(made.run)
        while made.es.end.state is not State.ESTABLISHED:
            await trio.lowlevel.checkpoint()
        yield made
        nursery.cancel_scope.cancel()
