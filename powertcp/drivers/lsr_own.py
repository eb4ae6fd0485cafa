"""A lamp that draws power itself: a consumer whose provider is at the far end of a circuit.

MPLampS section 9. The consumer is that of `powertcp consumer`, and knows nothing of circuits: it is
joined with the tunnel within this process.
"""

import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from powertcp.drivers.consumer import Consumer
from powertcp.drivers.dial import accept, listen
from powertcp.drivers.lsr_lamp import LiveLamp, Say
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Refusal

NO: Final = 1
_log = logging.getLogger("lamp")

# makes a consumer of one provider, at host and port, that asks for this
Make = Callable[[tuple[str, int], Ask], Consumer]


class OwnPower:
    """Switches a lamp on, and powers its load as long as it is on."""

    def __init__(self, lamp: LiveLamp, request: PowerProfile, make: Make, say: Say) -> None:
        """Be on from the start; `run` runs. request: what the lamp asks for."""
        self.request = request
        self._lamp = lamp
        self._make = make
        self._say = say
        self._consumer: Consumer | None = None
        self._tunnel = 0
        self._is_on = True
        self._changed = trio.Event()
        self._asking = trio.CancelScope()
        lamp.on_supplier = self._move

    @property
    def is_on(self) -> bool:
        """Whether the lamp is to be lit."""
        return self._is_on

    def switch(self, *, is_on: bool) -> None:
        """Switch the lamp on or off: off, its consumer says goodbye first."""
        if is_on == self._is_on:
            return
        self._is_on = is_on
        self._changed.set()
        self._changed = trio.Event()
        if not is_on and self._consumer is None:
            self._asking.cancel()

    def want(self, request: PowerProfile) -> None:
        """Ask the provider for another power, once the circuit for it is there."""
        self.request = request

    async def run(self) -> int:
        """Be lit while on; return the status of the consumer once it has ended by itself."""
        [listener] = listen([("127.0.0.1", 0)])
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._accept_loop, listener, nursery)
                status = await self._run(listener.getsockname()[:2])
                nursery.cancel_scope.cancel()
        finally:
            listener.close()
        return status

    async def _run(self, where: tuple[str, int]) -> int:
        while True:
            while not self._is_on:
                await self._changed.wait()
            status: int | None = None
            with trio.CancelScope() as self._asking:
                status = await self._light(where)
            if self._is_on and status is not None:
                return status

    async def _light(self, where: tuple[str, int]) -> int | None:
        """Ask for a circuit and power the load by it; None when the lamp was switched off."""
        self._tunnel = self._lamp.switch_on(self.request, minimum=self._lamp.terms.minimum)
        try:
            answer = await self._lamp.answer(self._tunnel)
            if isinstance(answer, Refusal):
                said = answer.text or answer.sentence()
                self._say("refused", {"code": answer.code, "sentence": said})
                return NO
            consumer = self._consumer = self._make(where, self._ask(answer))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_when_off, consumer)
                status = await consumer.run()
                nursery.cancel_scope.cancel()
            return status if self._is_on else None
        finally:
            self._consumer = None
            self._lamp.switch_off(self._tunnel)

    def _ask(self, grant: PowerProfile) -> Ask:
        """Return what is asked of the provider: what the circuit was granted, and the minimum."""
        current_ma = min(grant.current_ma, self.request.current_ma)
        desired = self.request.with_type(ProfileType.REQUEST, current_ma=current_ma)
        return Ask(desired, self._lamp.terms.minimum)

    async def _stop_when_off(self, consumer: Consumer) -> None:
        while self._is_on:
            await self._changed.wait()
        await consumer.stop()

    # MPLA-4.9-03
    def _move(self, old: int, new: int) -> None:
        """Another supplier is signalled: the next connection of the consumer goes by its tunnel."""
        self._tunnel = new
        self._say("supplier", {"old": old, "new": new})

    async def _accept_loop(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            for sock, peer in accept(listener):
                if not is_own(peer):
                    sock.close()
                    continue
                plain = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                nursery.start_soon(self._join, plain)

    async def _join(self, plain: trio.SocketStream) -> None:
        """Join a connection of our consumer with the tunnel, as soon as that is signalled."""
        number = self._tunnel
        try:
            answer = await self._lamp.answer(number)
            if not isinstance(answer, Refusal):
                await self._lamp.join(number, plain)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            _log.info("the connection in tunnel %d: %s", number, error)
        finally:
            plain.socket.close()


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
