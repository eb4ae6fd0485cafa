"""A lamp that draws power itself: a consumer whose provider is at the far end of a circuit.

MPLampS section 9. The consumer is that of `powertcp consumer`, and knows nothing of circuits: it is
joined with the tunnel within this process.
"""

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from powertcp.dpdp.select import Current
from powertcp.dpdp.trust import Shown
from powertcp.drivers.consumer import Consumer
from powertcp.drivers.dial import accept, listen
from powertcp.drivers.guide import Guide, Heed, Place, Sign
from powertcp.drivers.interfaces import Interface
from powertcp.drivers.lsr_lamp import LiveLamp, Say
from powertcp.errors import known
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal

NO: Final = 1
# a provider answers a proposal within a second or two
LOOK_S: Final = 0.05
LESS_LOOKS: Final = 100
_log = logging.getLogger("lamp")

# makes a consumer that asks for this, of the provider that a guide names
Make = Callable[[Guide, Ask], Consumer]


class TunnelGuide:
    """Names the near end of the tunnel in use, and of the one that takes its place."""

    may_roam = True

    def __init__(self, place: Place) -> None:
        """Begin with one tunnel."""
        self._place = place
        self._next: Place | None = None
        self._heeds: list[Heed] = []

    # MPLA-4.9-03
    def move(self, place: Place) -> None:
        """Let the consumer open a connection there before it closes the one it has."""
        self._next = place
        for heed in self._heeds:
            heed(self._place.key, Sign.GONE)

    async def place(self, asks: Sequence[Ask], current: Current | None = None) -> Place:
        """Return the end of the tunnel in use."""
        await trio.lowlevel.cancel_shielded_checkpoint()
        return self._next or self._place

    def other(
        self,
        place: Place,
        asks: Sequence[Ask],
        keys: Sequence[str] = (),
        without: Interface | None = None,
    ) -> Place | None:
        """Return the end of the tunnel to move to, None unless another supplier is there."""
        return self._next if self._next != place else None

    def is_wanted(self, place: Place) -> bool:
        """Whether the consumer is there, or is to move there."""
        return place in (self._place, self._next)

    def powered(self, place: Place, shown: Shown) -> None:
        """Power comes from there: the tunnel before is left."""
        if place == self._next:
            self._place, self._next = place, None

    def failed(self, place: Place) -> bool:
        """Nobody else may be asked."""
        return False

    def better(self, place: Place, asks: Sequence[Ask], held_mw: int) -> Sequence[str]:
        """The lamp decides that by itself."""
        return ()

    def listen(self, heed: Heed) -> None:
        """Tell `heed` when another tunnel takes the place of this one."""
        self._heeds.append(heed)

    def refused(self, place: Place, refusal: Refusal) -> bool:
        """A no is a no; where one was to be moved to, that comes to nothing."""
        if place == self._next:
            self._next = None
        return False


class OwnPower:
    """Switches a lamp on, and powers its load as long as it is on."""

    def __init__(self, lamp: LiveLamp, request: PowerProfile, make: Make, say: Say) -> None:
        """Be on from the start; `run` runs. request: what the lamp asks for."""
        self.request = self._before = request
        self._lamp = lamp
        self._make = make
        self._say = say
        self._consumer: Consumer | None = None
        self._guide: TunnelGuide | None = None
        self._nursery: trio.Nursery | None = None
        self._tunnels: dict[int, tuple[socket.socket, Place]] = {}
        self._is_on = True
        self._changed = trio.Event()
        self._asking = trio.CancelScope()
        lamp.on_supplier, lamp.on_grant = self._move, self._draw

    @property
    def is_on(self) -> bool:
        """Whether the lamp is to be lit."""
        return self._is_on

    @property
    def is_settled(self) -> bool:
        """Whether it is lit or refused after `switch` to on, and dark after off."""
        return self._lamp.is_answered if self._is_on else not self._tunnels

    def switch(self, *, is_on: bool) -> None:
        """Switch the lamp on or off: off, its consumer says goodbye first."""
        if is_on == self._is_on:
            return
        self._is_on = is_on
        self._changed.set()
        self._changed = trio.Event()
        if not is_on and self._consumer is None:
            self._asking.cancel()

    async def want(self, request: PowerProfile) -> Refusal | None:
        """Ask for another power: of the provider first if it is less, else once there is a circuit."""
        self._before, self.request = self.request, request
        consumer = self._consumer
        if consumer is None or request.power_mw >= consumer.granted_mw:
            await trio.lowlevel.checkpoint()
            return None
        consumer.want(self._ask(request))
        for _ in range(LESS_LOOKS):
            if consumer.granted_mw <= request.power_mw:
                return None
            await trio.sleep_until(trio.current_time() + LOOK_S)
        self.request = self._before
        return Refusal(Reason.TIMEOUT, rule="the provider does not answer: the circuit stays")

    def stay(self) -> None:
        """Go on with the power before."""
        self.request = self._before

    def _draw(self, grant: PowerProfile) -> None:
        """The circuit carries another power: draw that."""
        if self._consumer is not None:
            self._consumer.want(self._ask(grant))

    async def run(self) -> int:
        """Be lit while on; return the status of the consumer once it has ended by itself."""
        while True:
            while not self._is_on:
                await self._changed.wait()
            status: int | None = None
            with trio.CancelScope() as self._asking:
                status = await self._light()
            if self._is_on and status is not None:
                return status

    async def _light(self) -> int | None:
        """Ask for a circuit and power the load by it; None when the lamp was switched off."""
        number = self._lamp.switch_on(self.request, minimum=self._lamp.terms.minimum)
        try:
            async with trio.open_nursery() as self._nursery:
                status = await self._power(number, self._nursery)
                self._nursery.cancel_scope.cancel()
            return status if self._is_on else None
        finally:
            self._consumer = self._guide = self._nursery = None
            for tunnel in tuple(self._tunnels):
                self._close(tunnel)

    async def _power(self, number: int, nursery: trio.Nursery) -> int:
        """Wait for the circuit, and run the consumer to its end; return its status."""
        place = self._open(number)
        answer = await self._lamp.answer(number)
        if isinstance(answer, Refusal):
            said = (answer.text or answer.sentence()).removeprefix("refused ")
            self._say("refused", {"code": answer.code, "sentence": said})
            return NO
        self._guide = TunnelGuide(place)
        consumer = self._consumer = self._make(self._guide, self._ask(answer))
        nursery.start_soon(self._stop_when_off, consumer)
        return await consumer.run()

    def _ask(self, grant: PowerProfile) -> Ask:
        """Return what is asked of the provider: what the circuit was granted, and the minimum."""
        current_ma = min(grant.current_ma, self.request.current_ma)
        desired = self.request.with_type(ProfileType.REQUEST, current_ma=current_ma)
        return Ask(desired, self._lamp.terms.minimum)

    async def _stop_when_off(self, consumer: Consumer) -> None:
        while self._is_on:
            await self._changed.wait()
        await consumer.stop()

    # ---- tunnels ----------------------------------------------------------------------------

    def _open(self, number: int) -> Place:
        """Return where the consumer finds the near end of a tunnel."""
        [listener] = listen([("127.0.0.1", 0)])
        host, port = listener.getsockname()[:2]
        place = Place(host=host, port=port)
        self._tunnels[number] = listener, place
        nursery = known(self._nursery, "tunnels are opened while the lamp is on")
        nursery.start_soon(self._accept_loop, number, listener, nursery)
        return place

    def _close(self, number: int) -> None:
        listener, _ = self._tunnels.pop(number, (None, None))
        if listener is not None:
            trio.lowlevel.notify_closing(listener)
            listener.close()
        self._lamp.switch_off(number)

    # MPLA-4.9-03
    def _move(self, old: int, new: int) -> None:
        """Another supplier is signalled: connect by its tunnel, then leave the old one."""
        if self._guide is None or old not in self._tunnels:
            self._lamp.switch_off(new)
            return
        self._say("supplier", {"old": old, "new": new})
        self._guide.move(self._open(new))

    async def _accept_loop(
        self, number: int, listener: socket.socket, nursery: trio.Nursery
    ) -> None:
        while True:
            try:
                await trio.lowlevel.wait_readable(listener)
            except trio.ClosedResourceError:
                return
            for sock, peer in accept(listener):
                if not is_own(peer):
                    sock.close()
                    continue
                plain = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                nursery.start_soon(self._join, number, plain)

    async def _join(self, number: int, plain: trio.SocketStream) -> None:
        """Join a connection of our consumer with a tunnel, as soon as that is signalled."""
        try:
            answer = await self._lamp.answer(number)
            if not isinstance(answer, Refusal):
                await self._lamp.join(number, plain)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            _log.info("the connection in tunnel %d: %s", number, error)
        finally:
            plain.socket.close()
        _, place = self._tunnels.get(number, (None, None))
        if self._guide is not None and place is not None and not self._guide.is_wanted(place):
            self._close(number)


def is_own(peer: tuple[str, int]) -> bool:
    """Whether this process has the socket at an address: nobody else draws from our lamp."""
    host = int.from_bytes(socket.inet_aton(peer[0]), sys.byteorder)
    wanted = f"{host:08X}:{peer[1]:04X}"
    rows = (line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:])
    inodes = {row[9] for row in rows if row[1] == wanted}
    for name in os.listdir("/proc/self/fd"):
        # closed since it was listed
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}")[8:-1] in inodes:
                return True
    return False
