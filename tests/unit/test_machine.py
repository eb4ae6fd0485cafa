"""The machine contract's names: what every protocol machine offers, and that ours does."""

from typing import TYPE_CHECKING

from powertcp import machine
from powertcp.machine import DatagramMachine, StreamMachine
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from tests.conversation import START, counting_entropy

if TYPE_CHECKING:
    from powertcp.machine import Event

COMMON = {"next_event", "get_timer", "handle_timer"}


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_a_stream_and_a_datagram_machine_share_events_and_timers() -> None:
    assert public(StreamMachine) == COMMON | {"receive_data", "receive_eof", "data_to_send"}
    assert public(DatagramMachine) == COMMON | {"receive_datagram", "datagrams_to_send"}
    assert machine.Buffer == bytes | bytearray | memoryview


def test_a_connection_is_a_stream_machine() -> None:
    # the annotation is what mypy checks; the calls are what a driver does
    end: StreamMachine[Event] = PowerConnection(
        client=True, config=ConnectionConfig(), entropy=counting_entropy()
    )
    assert (end.data_to_send(), end.next_event(), end.get_timer()) == (b"", None, None)
    end.receive_data(b"", START)
    end.handle_timer(START)
    end.receive_eof(START)
    assert end.next_event() is not None
    assert end.next_event() is None
