"""The splice of a lamp: consumers that come over plain TCP get a circuit each, or are told why not.

MPLampS section 9.
"""

import logging
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import trio

from powertcp.drivers.bugs import BUGS
from powertcp.drivers.dial import accept, format_address
from powertcp.drivers.lsr_lamp import LiveLamp, why
from powertcp.drivers.splice import CHUNK_OCTETS
from powertcp.errors import DecodeError
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.wire.frames import Control, Splitter, decode_segment, encode_segment
from powertcp.wire.options import Options

# T_SYN: who has said nothing of use until then is closed without a word
SYN_S: Final = 5
# octets of a first segment: options and nothing else
MAX_FIRST: Final = 4096
# connections at a time: each has a circuit
MAX_SPLICES: Final = 64
# in which what is under way comes, and consumers leave, once the lamp is switched off
DRAIN_S: Final = 2
ACCEPT_PAUSE_S: Final = 0.1
# codes whose value and limit are of the voltage, and of the power, that was asked for
_OF_VOLTAGE: Final = (Reason.VOLTAGE_RANGE, Reason.WAVEFORM)
_OF_POWER: Final = (Reason.NO_CAPACITY, Reason.NOT_OFFERED)
_log = logging.getLogger("lamp")


class First(NamedTuple):
    """What a consumer says first. octets: all that was read; asks: flow and REQUEST of each SYN."""

    octets: bytes
    asks: tuple[tuple[int, PowerProfile], ...]


class SpliceServer:
    """Listens for consumers and gives each a circuit of its own. is_on: whether it does.

    served, refused: connections.
    """

    def __init__(self, lamp: LiveLamp) -> None:
        """Be on; `serve` listens."""
        self.is_on = True
        self.served = self.refused = 0
        self._lamp = lamp
        self._open: dict[trio.CancelScope, trio.Event] = {}

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; started with the addresses of `listeners`."""
        try:
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    nursery.start_soon(self._accept_loop, listener, nursery)
                where = [format_address(*one.getsockname()[:2]) for one in listeners]
                task_status.started(where)
        finally:
            for listener in listeners:
                listener.close()

    @property
    def is_settled(self) -> bool:
        """Whether those that were there when it was switched off are gone."""
        return self.is_on or not self._open

    def switch(self, *, is_on: bool) -> None:
        """Take consumers, or end those that are there and take none.

        Off, what is under way to consumers is delivered first: they, the source and the bill agree.
        """
        self.is_on = is_on
        if not is_on:
            for scope, leave in self._open.items():
                leave.set()
                scope.deadline = trio.current_time() + DRAIN_S

    async def want(self, _: PowerProfile) -> Refusal | None:
        """Say no: each circuit is what its consumer asks for."""
        await trio.lowlevel.checkpoint()
        return Refusal(Reason.POLICY, rule="the consumers of a splice say what they ask for")

    def stay(self) -> None:
        """Do nothing: what consumers ask for is theirs."""

    def __len__(self) -> int:
        return len(self._open)

    async def _accept_loop(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                accepted = accept(listener)
            except OSError as error:
                _log.warning("accept: %s", error)
                await trio.sleep_until(trio.current_time() + ACCEPT_PAUSE_S)
                continue
            for sock, _ in accepted:
                if len(self._open) >= MAX_SPLICES:
                    self.refused += 1
                    _log.warning("a consumer is sent away: %d are served, no more", MAX_SPLICES)
                    sock.close()
                    continue
                plain = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                nursery.start_soon(self._serve_one, plain)

    async def _serve_one(self, plain: trio.SocketStream) -> None:
        """Serve one consumer; whatever goes wrong ends with it (P12)."""
        with trio.CancelScope() as scope:
            leave = self._open[scope] = trio.Event()
            try:
                await self._join(plain, leave)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                _log.info("a consumer is gone: %s", error)
            except Exception as error:  # noqa: BLE001 - ends at its connection
                if not BUGS.judge(error):
                    _log.warning("a consumer: %s", error)
            finally:
                del self._open[scope]
                plain.socket.close()

    # MPLA-9-03
    async def _join(self, plain: trio.SocketStream, leave: trio.Event) -> None:
        first = await read_first(plain)
        if first is None:
            return
        request = first.asks[0][1] if first.asks else self._lamp.terms.request
        if not self.is_on or request is None:
            await self._refuse(plain, first, _why_not(is_on=self.is_on))
            return
        if not request.power_mw:
            await self._refuse(plain, first, _no_power(request))
            return
        number = self._lamp.switch_on(request)
        try:
            answer = await self._lamp.answer(number)
            if leave.is_set():
                answer = _why_not(is_on=False)
            if isinstance(answer, Refusal):
                await self._refuse(plain, first, answer)
                return
            self.served += 1
            await self._lamp.join(number, plain, first.octets, leave)
        finally:
            self._lamp.switch_off(number)

    async def _refuse(self, plain: trio.SocketStream, first: First, refusal: Refusal) -> None:
        self.refused += 1
        await plain.send_all(refusal_octets(first, refusal, self._lamp.voltage_mv))
        await plain.send_eof()


def _why_not(*, is_on: bool) -> Refusal:
    if not is_on:
        return Refusal(Reason.OPERATOR, text="the lamp is switched off")
    text = "the first segment says no REQUEST: the splice must be told one"
    return Refusal(Reason.NOT_OFFERED, text=text)


def _no_power(request: PowerProfile) -> Refusal:
    text = f"{request.format()} is no power"
    if not request.voltage_mv:
        return Refusal(Reason.VOLTAGE_RANGE, text=text)
    return Refusal(Reason.NOT_OFFERED, text=text)


async def read_first(plain: trio.SocketStream) -> First | None:
    """Return what a consumer says first, None if that is nothing of use within T_SYN."""
    splitter, octets = Splitter(), bytearray()
    asks: list[tuple[int, PowerProfile]] = []
    with trio.move_on_after(SYN_S):
        while len(octets) <= MAX_FIRST:
            data = await plain.receive_some(CHUNK_OCTETS)
            if not data:
                return None
            octets += data
            raws = splitter.receive(bytes(data))
            for raw in raws:
                if raw[0] != SegmentType.CTL:
                    continue
                try:
                    segment = decode_segment(raw)
                except DecodeError:
                    # the source answers it
                    continue
                asks += _asks_of(segment)
            if raws or splitter.error is not None:
                return First(bytes(octets), tuple(asks))
    return None


def _asks_of(segment: object) -> list[tuple[int, PowerProfile]]:
    if not isinstance(segment, Control) or segment.flags != Flag.SYN:
        return []
    for profile in segment.options.profiles:
        if profile.type is ProfileType.REQUEST:
            return [(segment.flow, profile)]
    return []


# MPLA-9-03
def refusal_octets(first: First, refusal: Refusal, voltage_mv: int) -> bytes:
    """Return the RST of each SYN that was read: the best the network could do, and why not more.

    voltage_mv: of the link of the lamp.
    """
    reason = replace(refusal, text=why(refusal))
    segments: list[bytes] = []
    for flow, asked in first.asks:
        reason = replace(reason, value=refusal.value, limit=refusal.limit)
        if refusal.code in _OF_VOLTAGE:
            reason = replace(reason, value=asked.voltage_mv, limit=voltage_mv)
        elif refusal.code in _OF_POWER and not refusal.value:
            reason = replace(reason, value=asked.power_mw)
        left_mw = max(0, refusal.limit) if refusal.code == Reason.NO_CAPACITY else 0
        best_ma = asked.current_ma
        if asked.power_mw > left_mw:
            best_ma = asked.current_ma * left_mw // asked.power_mw
        refuse = asked.with_type(ProfileType.REFUSE, current_ma=best_ma)
        options = Options(profiles=(refuse,), reason=reason)
        segments.append(encode_segment(Control(flow, Flag.RST, 0, options)))
    if not segments:
        segments = [encode_segment(Control(0, Flag.RST, 0, Options(reason=reason)))]
    return b"".join(segments)
