"""The octets of one connection of COPS, both ways."""

from collections.abc import Callable

from powertcp.errors import DecodeError
from powertcp.machine import Buffer
from powertcp.mplamps.cops.messages import Code, ErrorCode, Message
from powertcp.mplamps.cops.wire import Splitter, decode_message, encode_message
from powertcp.registry import Reason
from powertcp.units import Instant


class Stream:
    """The octets of one connection both ways. heard_at: when any came last, in ns."""

    def __init__(self, now: Instant) -> None:
        """Begin with none."""
        self.heard_at = now
        self._out = bytearray()
        self._splitter = Splitter()

    def send(self, message: Message) -> None:
        """Append a message to what is to be sent."""
        self._out += encode_message(message)

    def drain(self) -> bytes:
        """Return what is to be sent."""
        octets = bytes(self._out)
        self._out.clear()
        return octets

    def receive(self, data: Buffer, now: Instant, take: Callable[[Message], None]) -> Code | None:
        """Give each message to `take`; return the error for a peer that sends none."""
        self.heard_at = now
        try:
            for octets in self._splitter.receive(data):
                take(decode_message(octets))
        except DecodeError as error:
            if error.code == Reason.UNSUPPORTED_OPTION:
                return Code(ErrorCode.UNKNOWN_OBJECT, error.value & 0xFFFF)
            return Code(ErrorCode.BAD_FORMAT)
        return None
