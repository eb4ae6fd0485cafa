"""A connection that tells what it does: segments, events and changes of state, for `--trace`.

It watches the border of `PowerConnection` only, so that a connection without a trace pays nothing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields

from powertcp.machine import Buffer, Entropy, Event, Trace
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    Ask,
    CreditReceived,
    FlowRefused,
    FlowTripped,
    HeatCounted,
    LeaseLapsed,
    Offer,
    PowerAccepted,
    SamplesReceived,
    ShedEnforced,
    ShedReceived,
)
from powertcp.potcp.tickets import TicketOffice
from powertcp.profile import PowerProfile
from powertcp.registry import Refusal
from powertcp.units import Instant
from powertcp.wire.frames import Splitter
from powertcp.wire.trace import refusal_data, segment_data

_NAMES: dict[type[Event], str] = {
    CreditReceived: "credit_updated",
    FlowRefused: "power_refused",
    FlowTripped: "tripped",
    HeatCounted: "heat",
    LeaseLapsed: "lease_over",
    PowerAccepted: "power_granted",
    SamplesReceived: "samples_banked",
    ShedEnforced: "shed",
    ShedReceived: "shed",
}
_WORD = re.compile(r"(?<!^)(?=[A-Z])")
_MSP_MAX = 65535
_SECRET = frozenset({"ticket", "samples"})


class TracedConnection(PowerConnection):
    """A PowerConnection that tells `trace`; the same verbs, events and octets."""

    __slots__ = ("_from_peer", "_states", "_to_peer", "is_sealed")

    def __init__(
        self,
        *,
        client: bool,
        config: ConnectionConfig,
        entropy: Entropy,
        office: TicketOffice | None = None,
        peer: bytes = b"",
        trace: Trace | None = None,
    ) -> None:
        super().__init__(
            client=client, config=config, entropy=entropy, office=office, peer=peer, trace=trace
        )
        self._from_peer, self._to_peer = Splitter(_MSP_MAX), Splitter(_MSP_MAX)
        self._states: dict[int, str] = {}
        # segments of sealed power are for no file
        self.is_sealed: Callable[[], bool] = lambda: False

    def _tell(self, name: str, data: Mapping[str, object]) -> None:
        if self._trace is not None:
            self._trace(f"potcp:{name}", data)

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Take octets of the peer and tell their segments."""
        if not self.is_terminated and not self.is_sealed():
            for raw in self._from_peer.receive(bytes(data)):
                self._tell("segment_received", segment_data(raw))
        super().receive_data(data, now)
        self._tell_states()

    def handle_timer(self, now: Instant) -> None:
        """Do what is due."""
        super().handle_timer(now)
        self._tell_states()

    def data_to_send(self) -> bytes:
        """Drain whole segments and tell them."""
        self._tell_states()
        octets = super().data_to_send()
        for raw in () if self.is_sealed() else self._to_peer.receive(octets):
            self._tell("segment_sent", segment_data(raw))
        return octets

    def next_event(self) -> Event | None:
        """Drain one event and tell it."""
        event = super().next_event()
        if event is not None:
            self._tell(event_name(event), event_data(event))
        return event

    def take_events(self) -> list[Event]:
        """Drain all events and tell them."""
        events = super().take_events()
        for event in events:
            self._tell(event_name(event), event_data(event))
        return events

    def _tell_states(self) -> None:
        """Tell which flows are in another state than at the last look."""
        before = self._states
        after = {flow: self.status(flow).state for flow in self.flows}
        if before == after:
            return
        for flow in before.keys() | after.keys():
            old, new = before.get(flow, ""), after.get(flow, "")
            if old != new:
                self._tell("state_changed", {"flow": flow, "old": old, "new": new})
        self._states = after


def event_name(event: Event) -> str:
    """Return the name of an event in a trace: past tense, lower case."""
    kind = type(event)
    name = _NAMES.get(kind) or _WORD.sub("_", kind.__name__).lower()
    return name.removeprefix("connection_")


def event_data(event: Event) -> Mapping[str, object]:
    """Return the fields of an event as JSON takes them; no ticket and no samples."""
    data: dict[str, object] = {}
    for field in fields(event):  # type: ignore[arg-type]  # every event is a dataclass
        value = getattr(event, field.name)
        if value is None or field.name in _SECRET:
            continue
        if isinstance(value, Refusal):
            data |= refusal_data(value)
        else:
            data[field.name] = _plain(value)
    return data


def _plain(value: object) -> object:
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, PowerProfile):
        return f"{value.type.name} {value.format()}"
    if isinstance(value, Ask | Offer):
        return [_plain(one) for one in value if one is not None]
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return _numbers(value)


def _numbers(value: object) -> dict[str, object]:
    """Return what of an option is a number or a text: sampling, maintain, tariff, entity."""
    found = {one.name: getattr(value, one.name) for one in fields(value)}  # type: ignore[arg-type]
    return {name: one for name, one in found.items() if isinstance(one, int | str)}
