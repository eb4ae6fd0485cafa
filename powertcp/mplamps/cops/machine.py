"""Both ends of COPS: Pep in an edge LSR, over many connections, and Pdp, one for each connection.

What the objects of RSVP in a request say is the caller's: it reads the PATH, asks `market.decide`,
and answers. MPLampS section 6; RFC 2748 sections 2.5, 3 and 4. A driver feeds octets and time,
sends what `data_to_send` returns and closes the connection after ConnectionLost.
"""

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from ipaddress import IPv4Address
from typing import Final

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.machine import Buffer, Entropy
from powertcp.mplamps.cops.events import (
    CircuitDecided,
    CircuitDeleted,
    CircuitReported,
    CircuitRequested,
    ConnectionLost,
    MeterWanted,
    PdpEvent,
    PepEvent,
    PepOpened,
    PriceChanged,
    StateSynchronized,
)
from powertcp.mplamps.cops.messages import (
    ClientAccept,
    ClientClose,
    ClientOpen,
    Code,
    Command,
    Decision,
    DecisionError,
    DeleteReason,
    DeleteRequest,
    ErrorCode,
    Interface,
    KeepAlive,
    Message,
    Report,
    ReportKind,
    Request,
    ServerAddress,
    SynchronizeComplete,
    SynchronizeRequest,
)
from powertcp.mplamps.cops.stream import Stream
from powertcp.mplamps.cops.untold import LastMeter, Untold
from powertcp.mplamps.cops.wire import inner_objects
from powertcp.mplamps.power import MeterObject, TariffKind, TariffObject
from powertcp.registry import Reason
from powertcp.units import NS_PER_S, Instant

KEEP_ALIVE_S: Final = 30
ACCOUNTING_S: Final = 60
SILENCE_NS: Final = NS_PER_S
# how long the last quote of a supplier is good without a policeman
QUOTE_NS: Final = 300 * NS_PER_S
RECONNECT_S: Final = (1, 2, 4, 8, 16, 30)
# MPLampS section 4.10: the circuits of an LSR
MAX_CIRCUITS: Final = 100_000
# and its suppliers; the quote of the one that was heard of longest ago is forgotten
MAX_QUOTES: Final = 64


@dataclass(slots=True)
class _Asked:
    """A circuit of an edge LSR."""

    interface: Interface
    info: bytes
    supplier: int
    waits_until: Instant | None = None
    quote: TariffObject | None = None
    meter_at: Instant | None = None


class Pep:
    """The edge LSR: asks for each circuit, tells its meter, and goes on without a policeman."""

    def __init__(self, address: IPv4Address, entropy: Entropy) -> None:
        """Begin without a connection."""
        self._address = address
        self._entropy = entropy
        self._circuits: dict[bytes, _Asked] = {}
        # ended by the policeman: they have a last meter to report
        self._ended: dict[bytes, _Asked] = {}
        # ended without him: what he is told when he is back
        self._untold = Untold()
        self._quotes: dict[int, TariffObject] = {}
        self._lost_at: Instant | None = None
        self._events: deque[PepEvent] = deque()
        self._stream: Stream | None = None
        self._last: bytes = b""
        self._server: ServerAddress | None = None
        self._last_pdp: ServerAddress | None = None
        self._accept: ClientAccept | None = None
        self._alive_at: Instant | None = None
        self._tries = 0
        # a connection was made, or could not be
        self._has_tried = False
        self._next = 0
        # deadlines of circuits; those that are theirs no more stay until they are due
        self._deadlines: list[tuple[Instant, bytes]] = []

    def __len__(self) -> int:
        return len(self._circuits)

    @property
    def is_full(self) -> bool:
        """Whether no circuit can be asked for until another one has ended."""
        return len(self._circuits) + len(self._ended) >= MAX_CIRCUITS

    @property
    def untold(self) -> int:
        """How many circuits have ended whose last meter the policeman has not been told."""
        return len(self._ended) + len(self._untold)

    @property
    def untold_dropped(self) -> int:
        """How many last meters nobody will be told: too many waited for a policeman."""
        return self._untold.dropped

    # ---- the connection -----------------------------------------------------------------------

    def connect(self, server: ServerAddress, now: Instant) -> None:
        """Begin on a new connection: send OPN. The PDP must accept within a second."""
        self._stream = Stream(now)
        self._last = b""
        self._has_tried = True
        self._server, self._accept, self._alive_at = server, None, now + SILENCE_NS
        # MPLA-6-03
        self._stream.send(ClientOpen(pep_id=str(self._address), last_pdp=self._last_pdp))

    def lose(self, now: Instant, error: Code | None = None) -> None:
        """Go on without a connection: circuits stay, those that wait are decided here.

        Also for a connection that cannot be made. error: what the PDP is told.
        """
        if self._stream is not None:
            if error is not None:
                self._stream.send(ClientClose(error=error))
            self._last = self._stream.drain()
        if self._accept is not None:
            self._lost_at = now
        self._stream = self._accept = self._alive_at = None
        self._has_tried = True
        # MPLA-6-02
        delay = RECONNECT_S[min(self._tries, len(RECONNECT_S) - 1)]
        self._tries += 1
        self._events.append(ConnectionLost(retry_at=now + delay * NS_PER_S))
        for handle, asked in list(self._circuits.items()):
            if asked.waits_until is not None:
                asked.waits_until = None
                if asked.quote is None:
                    self._decide(handle, asked, now)

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Take octets of the PDP; never raises on their content."""
        stream = self._stream
        if stream is None:
            return
        error = stream.receive(data, now, lambda message: self._take(message, now))
        if error is not None and self._stream is not None:
            self.lose(now, error)

    def receive_eof(self, now: Instant) -> None:
        """Take the end of the connection."""
        if self._stream is not None:
            self.lose(now)

    def data_to_send(self) -> bytes:
        """Drain octets for the PDP."""
        last, self._last = self._last, b""
        return last + (self._stream.drain() if self._stream else b"")

    def next_event(self) -> PepEvent | None:
        """Drain one event."""
        return self._events.popleft() if self._events else None

    # ---- circuits -----------------------------------------------------------------------------

    def ask(self, interface: Interface, info: bytes, supplier: int, now: Instant) -> bytes:
        """Ask for a circuit and return its handle; CircuitDecided follows within a second.

        info: the objects of its PATH. supplier: that of its TARIFF, 0 any. Raises
        LocalProtocolError if `is_full`.
        """
        if self.is_full:
            raise LocalProtocolError(f"{MAX_CIRCUITS:,} circuits are asked for already")
        self._next += 1
        handle = self._next.to_bytes(4, "big")
        asked = self._circuits[handle] = _Asked(interface, info, supplier)
        if self._stream is None and self._has_tried:
            self._decide(handle, asked, now)
        elif self._accept is None:
            # MPLA-6-02: a policeman to whom nobody has spoken yet is not silent
            self._wait(handle, asked, now + SILENCE_NS)
        else:
            self._request(handle, asked, now)
        return handle

    def report(
        self, handle: bytes, kind: ReportKind, now: Instant, meter: MeterObject | None = None,
        *, is_answer: bool = False,
    ) -> None:  # fmt: skip
        """Tell that RESV has closed a circuit or has not, or its meter.

        is_answer: to CircuitDecided or PriceChanged. Raises LocalProtocolError for an unknown
        handle.
        """
        asked = self._known(handle)
        # MPLA-6-04
        if kind is ReportKind.SUCCESS and self._accept and self._accept.accounting_s:
            self._meter_at(handle, asked, now + self._accept.accounting_s * NS_PER_S)
        if self._accept is not None and self._stream is not None:
            info = meter.to_wire() if meter else b""
            self._stream.send(Report(handle=handle, kind=kind, info=info, is_solicited=is_answer))

    def delete(self, handle: bytes, reason: DeleteReason, meter: MeterObject | None) -> None:
        """End a circuit. meter: the last, final one, None if it was never closed."""
        asked = self._ended.pop(handle, None) or self._known(handle)
        self._circuits.pop(handle, None)
        if self._accept is not None and self._stream is not None:
            self._tell_end(self._stream, handle, reason, meter)
        elif meter is not None and self._last_pdp is not None:
            self._untold.add(LastMeter(handle, asked.interface, asked.info, reason, meter))

    @staticmethod
    def _tell_end(
        stream: Stream, handle: bytes, reason: DeleteReason, meter: MeterObject | None
    ) -> None:
        # MPLA-6-04
        if meter is not None:
            kind = ReportKind.ACCOUNTING
            stream.send(Report(handle=handle, kind=kind, info=meter.to_wire()))
        stream.send(DeleteRequest(handle=handle, reason=Code(reason)))

    # ---- time ---------------------------------------------------------------------------------

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline in ns, or None."""
        if self._stream is None and self._has_tried:
            return None
        deadlines = self._deadlines
        while deadlines and not self._is_due(*deadlines[0]):
            heappop(deadlines)
        first = deadlines[0][0] if deadlines else None
        times = (self._alive_at, self._silent_at(), first)
        return min((at for at in times if at is not None), default=None)

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`."""
        at = self.get_timer()
        if at is None or now < at:
            return
        due = self._take_due(now)
        if self._stream is None:
            for handle, asked in due:
                asked.waits_until = None
                self._decide(handle, asked, now)
            return
        silent_at = self._silent_at()
        is_alive_due = self._alive_at is not None and now >= self._alive_at
        if (
            (silent_at is not None and now >= silent_at)
            or any(asked.waits_until is not None and now >= asked.waits_until for _, asked in due)
            or (self._accept is None and is_alive_due)
        ):
            self.lose(now, Code(ErrorCode.COMMUNICATION_FAILURE))
            return
        if is_alive_due:
            self._stream.send(KeepAlive())
            self._alive_at = self._next_alive(now)
        for handle, asked in due:
            accounting_s = self._accept.accounting_s if self._accept is not None else None
            self._meter_at(handle, asked, now + (accounting_s or ACCOUNTING_S) * NS_PER_S)
            self._events.append(MeterWanted(handle=handle))

    def _take_due(self, now: Instant) -> list[tuple[bytes, _Asked]]:
        """Return the circuits with a deadline that has come, each once."""
        due: dict[bytes, _Asked] = {}
        while self._deadlines and self._deadlines[0][0] <= now:
            at, handle = heappop(self._deadlines)
            if self._is_due(at, handle):
                due[handle] = self._circuits[handle]
        return list(due.items())

    def _is_due(self, at: Instant, handle: bytes) -> bool:
        """Whether a deadline is still that of its circuit."""
        asked = self._circuits.get(handle)
        return asked is not None and at in (asked.waits_until, asked.meter_at)

    def _wait(self, handle: bytes, asked: _Asked, until: Instant) -> None:
        asked.waits_until = until
        heappush(self._deadlines, (until, handle))

    def _meter_at(self, handle: bytes, asked: _Asked, at: Instant) -> None:
        asked.meter_at = at
        heappush(self._deadlines, (at, handle))

    # ---- inside -------------------------------------------------------------------------------

    def _silent_at(self) -> Instant | None:
        if self._stream is None or self._accept is None or not self._accept.keep_alive_s:
            return None
        return self._stream.heard_at + self._accept.keep_alive_s * NS_PER_S

    def _next_alive(self, now: Instant) -> Instant | None:
        """Return a time between 1/4 and 3/4 of the timer from now (RFC 2748 section 3.9)."""
        if self._accept is None or not self._accept.keep_alive_s:
            return None
        quarter = self._accept.keep_alive_s * NS_PER_S // 4
        share = int.from_bytes(self._entropy(2), "big")
        return now + quarter + 2 * quarter * share // 0xFFFF

    def _known(self, handle: bytes) -> _Asked:
        asked = self._circuits.get(handle)
        if asked is None:
            raise LocalProtocolError(f"no circuit has the handle {handle.hex()}")
        return asked

    def _request(self, handle: bytes, asked: _Asked, now: Instant) -> None:
        if self._stream is not None:
            # MPLA-6-04
            self._stream.send(Request(handle=handle, interface=asked.interface, info=asked.info))
            self._wait(handle, asked, now + SILENCE_NS)

    def _decide(self, handle: bytes, asked: _Asked, now: Instant) -> None:
        """Decide without a policeman: at the last quote of the supplier, for 300 s."""
        # MPLA-6-02
        is_good = self._lost_at is not None and now - self._lost_at < QUOTE_NS
        rows = [
            quote
            for number, quote in self._quotes.items()
            if is_good and asked.supplier in (0, number)
        ]
        asked.quote = min(rows, key=lambda quote: (quote.price, quote.supplier), default=None)
        self._events.append(CircuitDecided(handle=handle, quote=asked.quote, is_local=True))
        if asked.quote is None:
            del self._circuits[handle]

    def _take(self, message: Message, now: Instant) -> None:
        if self._stream is None:
            return
        match message:
            case ClientAccept() if self._accept is None:
                self._accept, self._tries = message, 0
                self._last_pdp = self._server
                self._alive_at = self._next_alive(now)
                for handle, asked in self._circuits.items():
                    if asked.waits_until is not None:
                        self._request(handle, asked, now)
            case Decision() if self._accept is not None:
                self._install(message, now)
            case DecisionError(handle=handle) if handle in self._circuits:
                self._refuse(handle, b"")
            case SynchronizeRequest() if self._accept is not None:
                self._synchronize(self._stream, message.handle, now)
            case ClientClose():
                self.lose(now)
            case _:
                # keep-alives, and what is of no use here
                return

    def _synchronize(self, stream: Stream, handle: bytes | None, now: Instant) -> None:
        """Request one circuit again, or with None all; those that wait have just been sent."""
        # MPLA-6-04
        if handle is not None and handle not in self._circuits:
            reason = Code(DeleteReason.UNKNOWN_HANDLE)
            stream.send(DeleteRequest(handle=handle, reason=reason))
            return
        for number in list(self._circuits) if handle is None else [handle]:
            if self._circuits[number].waits_until is None:
                self._request(number, self._circuits[number], now)
        if handle is None:
            for last in self._untold.drain():
                request = Request(handle=last.handle, interface=last.interface, info=last.info)
                stream.send(request)
                self._tell_end(stream, last.handle, last.reason, last.meter)
        stream.send(SynchronizeComplete(handle=handle))

    def _refuse(self, handle: bytes, data: bytes) -> None:
        """Take a no; a circuit that had a quote has a last meter to report."""
        asked = self._circuits.pop(handle)
        if asked.quote is not None:
            self._ended[handle] = asked
        self._events.append(CircuitDecided(handle=handle, quote=None, data=data))

    def _install(self, decision: Decision, now: Instant) -> None:
        handle = decision.handle
        asked = self._circuits.get(handle)
        if asked is None:
            return
        if decision.is_solicited:
            asked.waits_until = None
        if decision.command is not Command.INSTALL:
            self._refuse(handle, decision.data)
            return
        private = [one.private for one in inner_objects(decision.data)]
        quotes = [
            one for one in private
            if isinstance(one, TariffObject) and one.kind is TariffKind.QUOTE
        ]  # fmt: skip
        if not quotes:
            raise DecodeError(0, "QUOTE", Reason.STATE)
        quote, old = quotes[0], asked.quote
        self._quotes.pop(quote.supplier, None)
        self._quotes[quote.supplier] = quote
        if len(self._quotes) > MAX_QUOTES:
            del self._quotes[next(iter(self._quotes))]
        asked.quote = quote
        if old is None:
            self._events.append(CircuitDecided(handle=handle, quote=quote))
        elif old.price != quote.price:
            self._events.append(PriceChanged(handle=handle, quote=quote))


class Pdp:
    """The policeman's end of one connection."""

    def __init__(self, now: Instant) -> None:
        """Wait for OPN, as long as for any message."""
        self._stream = Stream(now)
        self._events: deque[PdpEvent] = deque()
        self._is_open = True
        # whether each has been installed: such a one is there until it is deleted
        self._handles: dict[bytes, bool] = {}
        self.pep_id = ""

    def __len__(self) -> int:
        return len(self._handles)

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Take octets of the PEP; never raises on their content."""
        if self._is_open:
            error = self._stream.receive(data, now, self._take)
            if error is not None:
                self.close(error)

    def receive_eof(self, now: Instant) -> None:
        """Take the end of the connection."""
        self._end()

    def data_to_send(self) -> bytes:
        """Drain octets for the PEP."""
        return self._stream.drain()

    def next_event(self) -> PdpEvent | None:
        """Drain one event."""
        return self._events.popleft() if self._events else None

    def get_timer(self) -> Instant | None:
        """Return when a silent PEP is given up."""
        return self._stream.heard_at + KEEP_ALIVE_S * NS_PER_S if self._is_open else None

    def handle_timer(self, now: Instant) -> None:
        """Give up a PEP that has been silent for the keep-alive time."""
        at = self.get_timer()
        if at is not None and now >= at:
            self.close(Code(ErrorCode.COMMUNICATION_FAILURE))

    def install(self, handle: bytes, quote: TariffObject, *, is_answer: bool = True) -> None:
        """Admit a circuit at a quote, or with is_answer=False tell its new quote. MPLA-6-01.

        Nothing is said of one that was deleted since, as an event says that waits.
        """
        if self._is_deleted(handle):
            return
        self._decide(
            Decision(
                handle=handle,
                command=Command.INSTALL,
                data=quote.to_wire(),
                is_solicited=is_answer,
            )
        )
        self._handles[handle] = True

    def remove(self, handle: bytes, data: bytes, *, is_answer: bool = True) -> None:
        """Refuse a circuit with ERROR_SPEC and OFFERs; one that was installed is deleted next.

        Nothing is said of one that was deleted since, as an event says that waits.
        """
        if self._is_deleted(handle):
            return
        # MPLA-6-04
        self._decide(
            Decision(
                handle=handle,
                command=Command.REMOVE,
                data=data,
                is_error_triggered=True,
                is_solicited=is_answer,
            )
        )
        if not self._handles[handle]:
            del self._handles[handle]

    def close(self, error: Code) -> None:
        """Tell the PEP why, and end the connection."""
        if self._is_open:
            self._stream.send(ClientClose(error=error))
            self._end()

    def _end(self) -> None:
        if self._is_open:
            self._is_open = False
            self._events.append(ConnectionLost())

    def _is_deleted(self, handle: bytes) -> bool:
        return handle not in self._handles and any(
            isinstance(event, CircuitDeleted) and event.handle == handle for event in self._events
        )

    def _decide(self, decision: Decision) -> None:
        if decision.handle not in self._handles:
            raise LocalProtocolError(f"no circuit has the handle {decision.handle.hex()}")
        if self._is_open:
            self._stream.send(decision)

    def _take(self, message: Message) -> None:
        if not self._is_open:
            return
        match message:
            case KeepAlive():
                self._stream.send(message)
            case ClientClose():
                self._end()
            case ClientOpen():
                self._open(message)
            case _ if not self.pep_id:
                self.close(Code(ErrorCode.UNSUPPORTED_CLIENT))
            case Request(handle=handle):
                self._request(message)
            case Report(handle=handle) if handle in self._handles:
                self._events.append(self._reported(message))
            case DeleteRequest(handle=handle, reason=reason):
                self._handles.pop(handle, None)
                self._events.append(CircuitDeleted(handle=handle, reason=reason))
            case SynchronizeComplete():
                self._events.append(StateSynchronized())
            case _:
                # what only a PDP sends, and reports of circuits that are not known
                return

    def _open(self, message: ClientOpen) -> None:
        self.pep_id = message.pep_id
        # MPLA-6-03
        self._stream.send(ClientAccept(keep_alive_s=KEEP_ALIVE_S, accounting_s=ACCOUNTING_S))
        has_state = message.last_pdp is not None
        if has_state:
            self._stream.send(SynchronizeRequest())
        self._events.append(PepOpened(pep_id=message.pep_id, has_state=has_state))

    def _request(self, message: Request) -> None:
        handle = message.handle
        if handle not in self._handles and len(self._handles) >= MAX_CIRCUITS:
            self._stream.send(DecisionError(handle=handle, error=Code(ErrorCode.UNABLE)))
        elif not message.info:
            self._stream.send(DecisionError(handle=handle, error=Code(ErrorCode.INFO_MISSING)))
        else:
            self._handles.setdefault(handle, False)
            self._events.append(
                CircuitRequested(handle=handle, interface=message.interface, info=message.info)
            )

    def _reported(self, message: Report) -> CircuitReported:
        meters = [one.private for one in inner_objects(message.info)]
        return CircuitReported(
            handle=message.handle,
            kind=message.kind,
            meter=next((one for one in meters if isinstance(one, MeterObject)), None),
            is_answer=message.is_solicited,
        )
