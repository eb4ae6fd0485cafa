"""The meters of an edge LSR, and what it says to the policeman: who may, who has had how much.

A meter belongs to a lamp in a session, shared or its own: a circuit that takes the place of another one goes on with it, and the
energy is that of the circuit which was closed last, so that the shares of all are the register.
MPLampS sections 3, 6 and 4.9.
"""

from collections import deque
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from powertcp.errors import DecodeError
from powertcp.machine import Buffer, Event
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
    inner_objects,
)
from powertcp.mplamps.meter import Meter
from powertcp.mplamps.power import MeterObject, TariffKind, TariffObject
from powertcp.mplamps.rsvp.codec import error_at
from powertcp.mplamps.rsvp.errors import Case, fault_of
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.messages import MAX_OFFERS, Fault, Path
from powertcp.mplamps.rsvp.objects import Class, Session
from powertcp.mplamps.rsvp.sending import objects_of
from powertcp.units import NS_PER_S, Duration, Instant

CHECK_NS: Final[Duration] = NS_PER_S
_OBJECT_HEADER: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicemanWanted(Event):
    """Close the connection to the policeman if there is one, and open one at this time."""

    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Permitted(Event):
    """A circuit may be, at this quote."""

    circuit: CircuitId
    quote: TariffObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Forbidden(Event):
    """A circuit may not be, or no more."""

    circuit: CircuitId
    fault: Fault
    offers: tuple[TariffObject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repriced(Event):
    """A circuit costs something else from here on; its meter has been told."""

    circuit: CircuitId
    quote: TariffObject


Ruling: TypeAlias = Permitted | Forbidden | Repriced


class _Total:
    """What has passed: uJ, packets, octets."""

    __slots__ = ("energy_uj", "octets", "packets")

    def __init__(self) -> None:
        self.energy_uj = self.packets = self.octets = 0


class _Register:
    """The meter of a lamp in a session, and whose share grows: that of the circuit closed last."""

    __slots__ = ("circuits", "is_estimated", "mark", "meter", "seen")

    def __init__(self, grant_mw: int, now: Instant) -> None:
        self.meter = Meter(grant_mw, now)
        self.mark = _Total()
        self.is_estimated = False
        # packets at the last check
        self.seen = 0
        # closed ones, the newest last
        self.circuits: dict[CircuitId, Account] = {}

    def read(self, now: Instant) -> None:
        """Add what has passed since the last time to the share of the newest circuit."""
        reading = self.meter.read(now)
        mark, self.is_estimated = self.mark, reading.is_estimated
        # a register that becomes an estimate may fall: nothing is taken back
        used_uj = max(reading.energy_uj - mark.energy_uj, 0)
        if self.circuits:
            share = self.circuits[next(reversed(self.circuits))].share
            share.energy_uj += used_uj
            share.packets += reading.packets - mark.packets
            share.octets += reading.octets - mark.octets
        mark.energy_uj += used_uj
        mark.packets, mark.octets = reading.packets, reading.octets


class Account:
    """What an edge LSR keeps of a circuit of one of its lamps.

    handle: of COPS, None without a policeman. quote: what it costs, as far as is known.
    """

    __slots__ = (
        "circuit",
        "closed_at",
        "grant_mw",
        "handle",
        "is_permitted",
        "quote",
        "register",
        "share",
    )

    def __init__(self, circuit: CircuitId) -> None:
        """Begin with a circuit that is not closed."""
        self.circuit = circuit
        self.handle: bytes | None = None
        self.is_permitted = False
        self.quote: TariffObject | None = None
        self.register: _Register | None = None
        self.closed_at: Instant | None = None
        self.grant_mw = 0
        self.share = _Total()


class Metering:
    """The meters and the policeman of one edge LSR. After each call take `next_ruling`.

    pep: None where the topology has no policeman.
    """

    def __init__(self, pep: Pep | None, now: Instant) -> None:
        """Begin without circuits; a policeman is wanted at once."""
        self.pep = pep
        # the lamps of a shared session are of several customers
        self._registers: dict[tuple[Session, IPv4Address], _Register] = {}
        self._by_handle: dict[bytes, Account] = {}
        self._rulings: deque[Ruling] = deque()
        self._events: deque[PolicemanWanted] = deque()
        self._check_at: Instant | None = None
        if pep is not None:
            self._events.append(PolicemanWanted(at=now))

    # ---- circuits ---------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether the policeman can be asked for no more circuits."""
        return self.pep is not None and self.pep.is_full

    def ask(
        self, circuit: CircuitId, path: Path, lamp: IPv4Address, link: int, now: Instant
    ) -> Account:
        """Ask whether a circuit may be; Permitted or Forbidden follows, if it is not yet permitted.

        lamp, link: what hangs at the meter point, and where that is. Raises LocalProtocolError if
        `is_full`.
        """
        account = Account(circuit)
        # MPLA-4.5-06
        if self.pep is None:
            account.is_permitted = True
            return account
        # MPLA-6-04
        _, info = objects_of(replace(path, message_id=None, acks=()))
        supplier = path.tariff.supplier if path.tariff is not None else 0
        account.handle = self.pep.ask(Interface(lamp, link), info, supplier, now)
        self._by_handle[account.handle] = account
        self._listen(now)
        return account

    def close(self, account: Account, grant_mw: int, now: Instant) -> Meter:
        """Note that a circuit is closed at a grant; return the meter that its packets go through."""
        key = _key_of(account.circuit)
        register = self._registers.get(key)
        if register is None:
            register = self._registers[key] = _Register(grant_mw, now)
        if account.register is None or account.grant_mw != grant_mw:
            register.read(now)
            register.meter.grant(grant_mw, now)
        account.grant_mw = grant_mw
        if account.register is None:
            account.register, account.closed_at = register, now
            register.circuits[account.circuit] = account
            if self.pep is not None and account.handle is not None:
                # MPLA-6-04
                self.pep.report(account.handle, ReportKind.SUCCESS, now, is_answer=True)
        return register.meter

    def end(self, account: Account, reason: DeleteReason, now: Instant) -> None:
        """Forget a circuit: report the meter a last time, or that it never was closed."""
        register = account.register
        meter = self.read(account, now, is_final=True) if register is not None else None
        if register is not None:
            del register.circuits[account.circuit]
            if not register.circuits:
                del self._registers[_key_of(account.circuit)]
            else:
                newest = register.circuits[next(reversed(register.circuits))]
                register.meter.grant(newest.grant_mw, now)
        if self.pep is None or account.handle is None:
            return
        if self._by_handle.pop(account.handle, None) is None:
            return
        # MPLA-6-04
        if meter is None and account.is_permitted and reason is not DeleteReason.DIRECTIVE:
            self.pep.report(account.handle, ReportKind.FAILURE, now, is_answer=True)
        self.pep.delete(account.handle, reason, meter)

    def read(self, account: Account, now: Instant, *, is_final: bool = False) -> MeterObject:
        """Return the register of a circuit since it was closed; zero for one that never was."""
        register, share = account.register, account.share
        if register is not None:
            register.read(now)
        closed_at = account.closed_at
        return MeterObject(
            seconds=(now - closed_at) // NS_PER_S if closed_at is not None else 0,
            energy_uj=share.energy_uj,
            packets=share.packets,
            octets=share.octets,
            is_estimated=register is not None and register.is_estimated,
            is_final=is_final,
        )

    def next_ruling(self) -> Ruling | None:
        """Drain what was ruled of a circuit."""
        return self._rulings.popleft() if self._rulings else None

    # ---- the policeman ----------------------------------------------------------------------

    def connect(self, server: ServerAddress, now: Instant) -> None:
        """Begin on a new connection."""
        if self.pep is not None:
            self.pep.connect(server, now)

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Take octets of the policeman."""
        if self.pep is not None:
            self.pep.receive_data(data, now)
            self._listen(now)

    def receive_eof(self, now: Instant) -> None:
        """Take the end of the connection, or that there is none to be had."""
        if self.pep is not None:
            self.pep.lose(now)
            self._listen(now)

    def data_to_send(self) -> bytes:
        """Drain octets for the policeman."""
        return self.pep.data_to_send() if self.pep is not None else b""

    def next_event(self) -> PolicemanWanted | None:
        """Drain one event."""
        return self._events.popleft() if self._events else None

    def _listen(self, now: Instant) -> None:
        """Take what the policeman has said."""
        while self.pep is not None and (event := self.pep.next_event()) is not None:
            match event:
                case ConnectionLost(retry_at=retry_at):
                    self._events.append(PolicemanWanted(at=now if retry_at is None else retry_at))
                case CircuitDecided(handle=handle) if account := self._by_handle.get(handle):
                    self._rule(account, event)
                case PriceChanged(handle=handle) if account := self._by_handle.get(handle):
                    # MPLA-6-01
                    self._report(account, now, is_answer=True)
                    account.quote = event.quote
                    self._rulings.append(Repriced(circuit=account.circuit, quote=event.quote))
                case MeterWanted(handle=handle) if account := self._by_handle.get(handle):
                    self._report(account, now)
                case _:
                    # of a circuit that is no more
                    continue

    def _report(self, account: Account, now: Instant, *, is_answer: bool = False) -> None:
        if self.pep is not None and account.handle is not None:
            meter = self.read(account, now)
            kind = ReportKind.ACCOUNTING
            self.pep.report(account.handle, kind, now, meter, is_answer=is_answer)

    def _rule(self, account: Account, decided: CircuitDecided) -> None:
        circuit = account.circuit
        if decided.quote is not None:
            account.quote, account.is_permitted = decided.quote, True
            self._rulings.append(Permitted(circuit=circuit, quote=decided.quote))
            return
        if not account.is_permitted:
            self._by_handle.pop(decided.handle)
        fault, offers = _read_refusal(decided.data)
        self._rulings.append(Forbidden(circuit=circuit, fault=fault, offers=offers))

    # ---- time -------------------------------------------------------------------------------

    def watch(self, now: Instant) -> None:
        """Note that packets pass: from now on meters are looked at each second."""
        if self._check_at is None and self._registers:
            for register in self._registers.values():
                register.meter.is_over(now)
            self._check_at = now + CHECK_NS

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline in ns, or None."""
        pep_at = self.pep.get_timer() if self.pep is not None else None
        if pep_at is None or self._check_at is None:
            return self._check_at if pep_at is None else pep_at
        return min(pep_at, self._check_at)

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`."""
        if self.pep is not None:
            self.pep.handle_timer(now)
            self._listen(now)
        if self._check_at is not None and now >= self._check_at:
            self._check(now)

    def _check(self, now: Instant) -> None:
        """End circuits that have more than 125 % of their grant; rest when nothing passes."""
        self._check_at = None
        for register in self._registers.values():
            if register.meter.packets != register.seen:
                register.seen = register.meter.packets
                self._check_at = now + CHECK_NS
            # MPLA-3-03
            if register.meter.is_over(now) and register.circuits:
                circuit = next(reversed(register.circuits))
                fault = fault_of(Case.OVER_CURRENT)
                self._rulings.append(Forbidden(circuit=circuit, fault=fault, offers=()))


def _key_of(circuit: CircuitId) -> tuple[Session, IPv4Address]:
    """Return whose register it is."""
    return circuit.session, circuit.sender.lamp


def _read_refusal(data: bytes) -> tuple[Fault, tuple[TariffObject, ...]]:
    """Return why the policeman refuses, and what could be had; 2, 0 where there is none to ask."""
    # MPLA-6-02
    fault, offers = fault_of(Case.POLICEMAN), []
    try:
        for one in inner_objects(data):
            if one.number == Class.ERROR_SPEC:
                error = error_at(one.octets, _OBJECT_HEADER, len(one.octets) - _OBJECT_HEADER)
                fault = Fault(error.code, error.value)
            elif isinstance(one.private, TariffObject) and one.private.kind is TariffKind.OFFER:
                offers.append(one.private)
    except DecodeError:
        return fault, ()
    return fault, tuple(offers[:MAX_OFFERS])
