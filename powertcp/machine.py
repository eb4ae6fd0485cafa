"""The contract of every protocol machine: octets and `now` in, octets, events and deadlines out.

Rules M1 to M7 of the architecture; `tests/contract.py` checks them for each machine.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from powertcp.units import Instant

Buffer = bytes | bytearray | memoryview
Address = tuple[str, int]
EventT_co = TypeVar("EventT_co", covariant=True)

# name is "room:past_tense"; data maps keys with units to integers and short texts
Trace = Callable[[str, Mapping[str, object]], None]
# entropy(n) returns n octets; deterministic in tests, from the kernel in a daemon
Entropy = Callable[[int], bytes]


class Event:
    """Root of what machines report; no dataclass, so that hot events need not be frozen."""

    __slots__ = ()


class StreamMachine(Protocol[EventT_co]):
    """A protocol over an ordered octet stream."""

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Take octets of the peer; never raises on their content (M2)."""

    def receive_eof(self, now: Instant) -> None:
        """Take the end of the stream."""

    def data_to_send(self) -> bytes:
        """Drain octets for the peer, whole segments; b"" when there are none."""

    def next_event(self) -> EventT_co | None:
        """Drain one event; None when there are no more."""

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline in ns, or None."""

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`; early calls do nothing (M3)."""


class DatagramMachine(Protocol[EventT_co]):
    """A protocol over datagrams."""

    def receive_datagram(self, data: Buffer, peer: Address, now: Instant) -> None:
        """Take one datagram; never raises on its content (M2)."""

    def datagrams_to_send(self) -> list[tuple[bytes, Address]]:
        """Drain datagrams for peers."""

    def next_event(self) -> EventT_co | None:
        """Drain one event; None when there are no more."""

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline in ns, or None."""

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`; early calls do nothing (M3)."""
