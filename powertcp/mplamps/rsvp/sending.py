"""The objects of each message, in the order in which they are sent."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.power import flow_label_octets
from powertcp.mplamps.rsvp import codec
from powertcp.mplamps.rsvp.messages import (
    MAX_OFFERS,
    MAX_SENDERS,
    Ack,
    Circuit,
    ErrorAnswer,
    Hello,
    Kind,
    Path,
    PathErr,
    PathTear,
    Resv,
    ResvConf,
    ResvErr,
    ResvTear,
    Sendable,
    Srefresh,
)

ValueT = TypeVar("ValueT")


# MPLA-4.2-01
def objects_of(message: Sendable) -> tuple[Kind, bytes]:
    """Return the type of a message and its objects; acknowledgements and its number come first."""
    if isinstance(message, Ack):
        return Kind.ACK, b"".join(map(codec.ack_object, message.acks))
    if isinstance(message, ErrorAnswer):
        kind, body = message.kind, _answer(message)
    else:
        kind, objects = _OBJECTS[type(message)]
        body = objects(message)
    if message.message_id is None and not (message.acks or message.others):
        return kind, b"".join(body)
    first = [codec.ack_object(ack) for ack in message.acks]
    first += _if_any(codec.message_id_object, message.message_id)
    # MPLA-4.3-01: what nobody examined comes last
    last = map(codec.foreign_object, message.others)
    return kind, b"".join((*first, *body, *last))


def _if_any(encode: Callable[[ValueT], bytes], value: ValueT | None) -> list[bytes]:
    return [] if value is None else [encode(value)]


def _path(message: Path) -> list[bytes]:
    return [
        codec.session_object(message.session),
        codec.hop_object(message.hop),
        codec.time_object(message.refresh_ms),
        codec.route_object(message.route) if message.route else b"",
        codec.label_request_object(message.l3pid),
        codec.attribute_object(message.attribute),
        codec.template_object(message.sender),
        codec.tspec_object(message.tspec),
        codec.record_object(message.record) if message.record else b"",
        codec.upstream_label_object(message.upstream_label),
        flow_label_octets(message.flow_label),
        message.power.to_wire(),
        message.tariff.to_wire() if message.tariff else b"",
    ]


def _resv(message: Resv) -> list[bytes]:
    if not 1 <= len(message.circuits) <= MAX_SENDERS:
        text = f"{len(message.circuits)} circuits, a RESV has 1 to {MAX_SENDERS}"
        raise LocalProtocolError(text)
    return [
        codec.session_object(message.session),
        codec.hop_object(message.hop),
        codec.time_object(message.refresh_ms),
        *_if_any(codec.confirm_object, message.confirm),
        codec.style_object(message.style),
        codec.flowspec_object(message.flowspec),
        *map(_circuit, message.circuits),
    ]


def _circuit(circuit: Circuit) -> bytes:
    return b"".join(
        (
            b"" if circuit.sender is None else codec.filter_object(circuit.sender),
            codec.label_object(circuit.label),
            codec.record_object(circuit.record) if circuit.record else b"",
            flow_label_octets(circuit.flow_label),
            circuit.power.to_wire(),
            circuit.tariff.to_wire() if circuit.tariff else b"",
        )
    )


def _path_err(message: PathErr) -> list[bytes]:
    if len(message.offers) > MAX_OFFERS:
        raise LocalProtocolError(f"{len(message.offers)} offers, limit {MAX_OFFERS}")
    return [
        codec.session_object(message.session),
        codec.error_object(message.error),
        codec.template_object(message.sender),
        codec.tspec_object(message.tspec),
        *([message.power.to_wire()] if message.power else ()),
        *(offer.to_wire() for offer in message.offers),
    ]


def _resv_err(message: ResvErr) -> list[bytes]:
    return [
        codec.session_object(message.session),
        codec.hop_object(message.hop),
        codec.error_object(message.error),
        codec.style_object(message.style),
        codec.flowspec_object(message.flowspec),
        *_if_any(codec.filter_object, message.sender),
        *([message.power.to_wire()] if message.power else ()),
    ]


def _path_tear(message: PathTear) -> list[bytes]:
    return [
        codec.session_object(message.session),
        codec.hop_object(message.hop),
        codec.template_object(message.sender),
        codec.tspec_object(message.tspec),
    ]


def _resv_tear(message: ResvTear) -> list[bytes]:
    return [
        codec.session_object(message.session),
        codec.hop_object(message.hop),
        codec.style_object(message.style),
        *_if_any(codec.filter_object, message.sender),
    ]


def _resv_conf(message: ResvConf) -> list[bytes]:
    return [
        codec.session_object(message.session),
        codec.error_object(message.error),
        codec.confirm_object(message.confirm),
        codec.style_object(message.style),
        codec.flowspec_object(message.flowspec),
        *_if_any(codec.filter_object, message.sender),
    ]


def _answer(message: ErrorAnswer) -> list[bytes]:
    session, *rest = message.echoed
    hop = [codec.hop_object(message.hop)] if message.kind is Kind.RESV_ERR else []
    return [session, *hop, codec.error_object(message.error), *rest]


def _srefresh(message: Srefresh) -> list[bytes]:
    return [codec.id_list_object(message.epoch, message.numbers)]


def _hello(message: Hello) -> list[bytes]:
    return [codec.hello_object(message.source, message.destination, is_ack=message.is_ack)]


_OBJECTS: Final[dict[type, tuple[Kind, Callable[[Any], list[bytes]]]]] = {
    Path: (Kind.PATH, _path),
    Resv: (Kind.RESV, _resv),
    PathErr: (Kind.PATH_ERR, _path_err),
    ResvErr: (Kind.RESV_ERR, _resv_err),
    PathTear: (Kind.PATH_TEAR, _path_tear),
    ResvTear: (Kind.RESV_TEAR, _resv_tear),
    ResvConf: (Kind.RESV_CONF, _resv_conf),
    Srefresh: (Kind.SREFRESH, _srefresh),
    Hello: (Kind.HELLO, _hello),
}
