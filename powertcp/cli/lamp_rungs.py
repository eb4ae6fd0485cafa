"""What each message of a network of lamps says: its circuits, power, prices and errors."""

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from powertcp.cli.lamp_sightings import Names, Sighting
from powertcp.errors import DecodeError
from powertcp.mplamps import cops, rsvp
from powertcp.mplamps.label import is_voltage, voltage_of
from powertcp.mplamps.power import (
    FlowLabelObject,
    MeterObject,
    PowerObject,
    TariffObject,
)
from powertcp.mplamps.rsvp.codec import error_at
from powertcp.mplamps.rsvp.errors import reason_of, sentence_of
from powertcp.mplamps.topology import Topology
from powertcp.registry import REASONS, Reason
from powertcp.units import format_voltage

# refusals on their way to a lamp, and circuits that a policeman knows; of more the oldest are lost
MAX_REFUSALS: Final = 4096
MAX_HANDLES: Final = 1 << 18
_RSVP: Final = {
    rsvp.Path: "PATH", rsvp.Resv: "RESV", rsvp.PathErr: "PathErr", rsvp.ResvErr: "ResvErr",
    rsvp.PathTear: "PathTear", rsvp.ResvTear: "ResvTear", rsvp.ResvConf: "ResvConf",
    rsvp.Ack: "Ack", rsvp.Srefresh: "Srefresh", rsvp.Hello: "Hello", rsvp.Rejected: "rejected",
}  # fmt: skip
_COPS: Final = {
    cops.ClientOpen: "OPN", cops.ClientAccept: "CAT", cops.Request: "REQ", cops.Decision: "DEC",
    cops.DecisionError: "DEC", cops.Report: "RPT", cops.DeleteRequest: "DRQ",
    cops.SynchronizeRequest: "SSQ", cops.SynchronizeComplete: "SSC", cops.ClientClose: "CC",
    cops.KeepAlive: "KA",
}  # fmt: skip
FROM_PEP: Final = (
    cops.ClientOpen, cops.Request, cops.Report, cops.DeleteRequest, cops.SynchronizeComplete
)  # fmt: skip
# the common header of a PATH without a checksum, its length left out
_PATH_HEAD: Final = b"\x11\x01\0\0\x40\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitSaid:
    """What a message says of one circuit. lamp: its name, "" for all lamps of a session."""

    lamp: str
    lsp: int | None = None
    label: int | None = None
    flow_label: int | None = None
    power: PowerObject | None = None
    tariffs: tuple[TariffObject, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One line: a message with its circuits, its error and what else there is to say.

    refuser: name of the node that the error is of.
    """

    seen: Sighting
    kind: str
    circuits: tuple[CircuitSaid, ...] = ()
    error: rsvp.ErrorSpec | None = None
    sentence: str = ""
    refuser: str = ""
    more: str = ""
    meter: MeterObject | None = None

    def is_of(self, lamp: str) -> bool:
        """Whether it is about a lamp, by its name, or about all lamps of a session."""
        return any(one.lamp in (lamp, "") for one in self.circuits)


class Rungs:
    """Makes rungs of what is seen."""

    def __init__(self, names: Names, topology: Topology | None = None) -> None:
        """Name nodes by `names`; a topology knows the voltages of links that said nothing yet."""
        self._names = names
        self._topology = topology
        self._labels = {one.name: one.label for one in topology.links} if topology else {}
        self._refusals: OrderedDict[tuple[object, ...], str] = OrderedDict()
        self._handles: OrderedDict[tuple[str, bytes], tuple[str, int]] = OrderedDict()

    def of(self, seen: Sighting) -> Rung:
        """Return the rung of one message, or of octets that are none."""
        said = seen.said
        if isinstance(said, DecodeError):
            row = REASONS.get(said.code)
            name = row.name if row else f"REASON_{said.code}"
            kind = "COPS" if seen.is_cops else "RSVP"
            more = f"not read: {said.code} {name}, {said.field} at octet {said.offset}"
            return Rung(seen=seen, kind=kind, more=more)
        return self._cops(seen) if seen.is_cops else self._rsvp(seen)

    # ---- RSVP -----------------------------------------------------------------------------------

    def _rsvp(self, seen: Sighting) -> Rung:
        said = seen.said
        kind = _RSVP[type(said)]
        match said:
            case rsvp.Path():
                link = self._link(seen)
                if link:
                    self._labels[link] = said.upstream_label
                one = CircuitSaid(
                    lamp=self._names.of(said.sender.lamp), lsp=said.sender.lsp,
                    label=said.upstream_label, flow_label=said.flow_label, power=said.power,
                    tariffs=(said.tariff,) if said.tariff else (),
                )  # fmt: skip
                return Rung(seen=seen, kind=kind, circuits=(one,))
            case rsvp.Resv():
                return Rung(seen=seen, kind=kind, circuits=tuple(map(self._granted, said.circuits)))
            case rsvp.PathErr() | rsvp.ResvErr() | rsvp.ResvConf():
                return self._answered(seen, said, kind)
            case rsvp.PathTear() | rsvp.ResvTear():
                return Rung(seen=seen, kind=kind, circuits=(self._circuit(said.sender),))
            case rsvp.Rejected():
                error = rsvp.ErrorSpec.refusal(IPv4Address(0), *said.fault)
                reason = reason_of(error)
                text = (
                    f"{said.kind.name} that is answered with {said.fault.code}/{said.fault.value}"
                )
                return Rung(seen=seen, kind=kind, more=f"{text}: {reason} {_reason_name(reason)}")
            case _:
                return Rung(seen=seen, kind=kind, more=_said_of_upkeep(said))

    def _circuit(self, sender: rsvp.Sender | None) -> CircuitSaid:
        if sender is None:
            return CircuitSaid(lamp="")
        return CircuitSaid(lamp=self._names.of(sender.lamp), lsp=sender.lsp)

    def _granted(self, one: rsvp.Circuit) -> CircuitSaid:
        return CircuitSaid(
            lamp=self._names.of(one.sender.lamp) if one.sender else "",
            lsp=one.sender.lsp if one.sender else None,
            label=one.label,
            flow_label=one.flow_label,
            power=one.power,
            tariffs=(one.tariff,) if one.tariff else (),
        )

    def _answered(
        self,
        seen: Sighting,
        said: rsvp.PathErr | rsvp.ResvErr | rsvp.ResvConf,
        kind: str,
    ) -> Rung:
        circuit = self._circuit(said.sender)
        if isinstance(said, rsvp.ResvConf):
            return Rung(seen=seen, kind=kind, circuits=(circuit,))
        offers = said.offers if isinstance(said, rsvp.PathErr) else ()
        link = self._refusing(seen, said) if isinstance(said, rsvp.PathErr) else ""
        sentence = sentence_of(said.error, said.power, offers, self._names.known, link=link)
        whole = CircuitSaid(lamp=circuit.lamp, lsp=circuit.lsp, power=said.power, tariffs=offers)
        refuser = self._names.of(said.error.node)
        return Rung(
            seen=seen, kind=kind, circuits=(whole,), error=said.error, sentence=sentence,
            refuser=refuser,
        )  # fmt: skip

    def _link(self, seen: Sighting) -> str:
        """Return the name of the link of a message, "" where it is not known."""
        if seen.link or self._topology is None:
            return seen.link
        ends = seen.source in self._topology, seen.target in self._topology
        link = self._topology.between(seen.source, seen.target) if all(ends) else None
        return link.name if link else ""

    def _refusing(self, seen: Sighting, said: rsvp.PathErr) -> str:
        """Return the link that an error is about: that by which the node that made it sent it.

        "" for a source, which may be short of power itself, and where that was not seen.
        """
        if said.error.node == said.session.es:
            return ""
        key = said.error.node, said.session, said.sender
        if self._names.of(said.error.node) == seen.source:
            self._refusals[key] = self._link(seen)
            self._refusals.move_to_end(key)
            if len(self._refusals) > MAX_REFUSALS:
                self._refusals.popitem(last=False)
        link = self._refusals.get(key, "")
        volts = self._voltage(link)
        return f"link {link}{f' ({volts})' if volts else ''}" if link else ""

    def _voltage(self, link: str) -> str:
        label = self._labels.get(link)
        if label is None or not is_voltage(label):
            return ""
        return format_voltage(voltage_of(label))

    # ---- COPS -----------------------------------------------------------------------------------

    def _cops(self, seen: Sighting) -> Rung:
        said = seen.said
        kind = _COPS[type(said)]
        handle = getattr(said, "handle", None)
        if handle is None:
            return Rung(seen=seen, kind=kind, more=_said_of_connection(said))
        pep = seen.source if isinstance(said, FROM_PEP) else seen.target
        if isinstance(said, cops.Request):
            self._learn(pep, said)
        lamp, lsp = self._handles.get((pep, handle), (f"handle {handle.hex()}", None))
        if isinstance(said, cops.DeleteRequest):
            self._handles.pop((pep, handle), None)
        inner = _inside(said)
        powers = [one for one in inner if isinstance(one, PowerObject)]
        tariffs = tuple(one for one in inner if isinstance(one, TariffObject))
        flows = [one.label for one in inner if isinstance(one, FlowLabelObject)]
        meter = next((one for one in inner if isinstance(one, MeterObject)), None)
        error = next((one for one in inner if isinstance(one, rsvp.ErrorSpec)), None)
        sentence = sentence_of(error, None, tariffs, self._names.known) if error else ""
        one = CircuitSaid(
            lamp=lamp, lsp=lsp, flow_label=flows[0] if flows else None,
            power=powers[0] if powers else None, tariffs=tariffs,
        )  # fmt: skip
        return Rung(
            seen=seen, kind=kind, circuits=(one,), error=error, sentence=sentence,
            refuser=self._names.of(error.node) if error else "", more=_said_of_policing(said),
            meter=meter,
        )  # fmt: skip

    def _learn(self, pep: str, said: cops.Request) -> None:
        """Note whose circuit a handle is."""
        octets = _PATH_HEAD + (8 + len(said.info)).to_bytes(2, "big") + said.info
        try:
            path = rsvp.decode_message(octets).message
        except (DecodeError, OverflowError):
            return
        if isinstance(path, rsvp.Path):
            self._names.call(path.sender.lamp, path.attribute.name)
            key = pep, said.handle
            self._handles[key] = self._names.of(path.sender.lamp), path.sender.lsp
            self._handles.move_to_end(key)
            if len(self._handles) > MAX_HANDLES:
                self._handles.popitem(last=False)


_Inner = PowerObject | TariffObject | FlowLabelObject | MeterObject | rsvp.ErrorSpec


def _inside(said: object) -> list[_Inner]:
    """Return the objects that say something about power, prices and errors."""
    data = getattr(said, "info", b"") or getattr(said, "data", b"")
    found: list[_Inner] = []
    try:
        for one in cops.inner_objects(data):
            if one.private is not None:
                found.append(one.private)
            elif (one.number, one.c_type) == (6, 1):
                found.append(error_at(one.octets, 4, len(one.octets) - 4))
    except DecodeError:
        return found
    return found


def _said_of_policing(said: object) -> str:
    match said:
        case cops.Decision(command=command, is_solicited=is_solicited):
            return command.name.lower() + ("" if is_solicited else ", unasked")
        case cops.DecisionError(error=error):
            return f"not understood: error {error.code}, {error.sub_code}"
        case cops.Report(kind=kind):
            return kind.name.lower()
        case cops.DeleteRequest(reason=reason):
            return f"reason {reason.code}"
        case _:
            return ""


def _said_of_connection(said: object) -> str:
    match said:
        case cops.ClientOpen(pep_id=pep_id, last_pdp=last):
            return f"PEP {pep_id}" + (f", last PDP {last.address}:{last.port}" if last else "")
        case cops.ClientAccept(keep_alive_s=keep_alive_s, accounting_s=accounting_s):
            meters = f", meters each {accounting_s} s" if accounting_s else ""
            return f"keep-alive {keep_alive_s} s{meters}"
        case cops.ClientClose(error=error, redirect=redirect):
            to = f", ask {redirect.address}:{redirect.port}" if redirect else ""
            return f"error {error.code}{to}"
        case _:
            return ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _said_of_upkeep(said: object) -> str:
    match said:
        case rsvp.Ack(acks=acks):
            nacks = sum(one.is_nack for one in acks)
            return _count(len(acks), "number") + (f", {nacks} not known" if nacks else "")
        case rsvp.Srefresh(numbers=numbers):
            return _count(len(numbers), "state")
        case rsvp.Hello(source=source, destination=destination, is_ack=is_ack):
            return (
                f"{'answer' if is_ack else 'request'}, instance {source:08x} to {destination:08x}"
            )
        case _:
            return ""


def _reason_name(reason: int) -> str:
    return Reason(reason).name if reason in REASONS else f"REASON_{reason}"
