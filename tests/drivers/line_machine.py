"""A machine of real segments without flow states: what the driver tests run over sockets."""

import socket

from powertcp.machine import Buffer
from powertcp.wire.frames import Splitter, data_header

FLOW = 1
END = b""  # the event of the end of the stream
Pair = tuple[socket.socket, socket.socket]


class Lines:
    """Sends and receives DATA segments; every received payload is one event."""

    def __init__(self) -> None:
        self.splitter = Splitter()
        self.out: list[bytes] = []
        self.events: list[bytes] = []
        self.timer: int | None = None
        self.fired: list[int] = []

    @property
    def queued(self) -> int:
        return sum(map(len, self.out))

    def send(self, payload: bytes) -> None:
        self.out.append(data_header(FLOW, 0, len(payload)) + payload)

    def receive_data(self, data: Buffer, now: int) -> None:
        self.events += [bytes(raw[5]) for raw in self.splitter.receive(data)]

    def receive_eof(self, now: int) -> None:
        self.events.append(END)

    def data_to_send(self) -> bytes:
        out, self.out = b"".join(self.out), []
        return out

    def next_event(self) -> bytes | None:
        return self.events.pop(0) if self.events else None

    def get_timer(self) -> int | None:
        return self.timer

    def handle_timer(self, now: int) -> None:
        if self.timer is not None and now >= self.timer:
            self.fired.append(now)
            self.timer = None
