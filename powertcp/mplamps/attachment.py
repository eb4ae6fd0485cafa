"""A protocol inside a circuit: octets of an endpoint to its machine and back, cut where they should be.

MPLampS sections 8 and 9. Whoever has made the machine is told its events.
"""

from collections.abc import Callable

from powertcp.machine import Event, StreamMachine
from powertcp.mplamps.cutter import Cutter
from powertcp.mplamps.tcp import Ended, Endpoint, PeerFinished
from powertcp.units import Instant

Take = Callable[[Event, Instant], None]


class Attachment:
    """A stream machine on an end of an inner connection. is_over: nothing more comes or goes.

    timer_at: when it is called again, None if it is not known; for its carrier.
    """

    __slots__ = ("_cutter", "_has_finished", "_machine", "_pieces", "_take", "end", "is_over",
                 "timer_at")  # fmt: skip

    def __init__(self, end: Endpoint, machine: StreamMachine[Event], take: Take) -> None:
        """take: is called with each event of the machine, and of the end.

        PeerFinished is told when all octets before it are read.
        """
        self.end = end
        self._machine = machine
        self._take = take
        self._cutter = Cutter()
        self._pieces: list[tuple[bytes, bool]] = []
        self._has_finished = False
        self.is_over = False
        self.timer_at: Instant | None = None

    def pump(self, now: Instant) -> bool:
        """Move octets both ways until nothing moves; return whether the end has something to send."""
        has_moved = False
        while self._pump_once(now):
            has_moved = True
        return has_moved

    def _pump_once(self, now: Instant) -> bool:
        end, machine = self.end, self._machine
        has_moved = False
        while (said := end.next_event()) is not None:
            match said:
                case PeerFinished():
                    self._has_finished = True
                case Ended():
                    self.is_over = True
                    machine.receive_eof(now)
                    self._take(said, now)
                case _:
                    self._take(said, now)
        if octets := end.read():
            machine.receive_data(octets, now)
            has_moved = True
        if self._has_finished and not end.unread:
            self._has_finished = False
            machine.receive_eof(now)
            self._take(PeerFinished(), now)
        while (event := machine.next_event()) is not None:
            self._take(event, now)
            has_moved = True
        return self._send(now) or has_moved

    def _send(self, now: Instant) -> bool:
        """Queue what the machine says, as far as the end has room."""
        if octets := self._machine.data_to_send():
            self._pieces += self._cutter.cut(octets)
        has_sent = False
        while self._pieces and self.end.may_send:
            octets, begins = self._pieces[0]
            room = self.end.room
            if not room:
                break
            self.end.send(octets[:room], now, starts_packet=begins)
            has_sent = True
            if len(octets) > room:
                self._pieces[0] = octets[room:], False
            else:
                del self._pieces[0]
        return has_sent

    def close(self, now: Instant) -> None:
        """Send FIN after what is queued."""
        self.end.close(now)

    def get_timer(self) -> Instant | None:
        """Return when the machine has something to do."""
        return None if self.is_over else self._machine.get_timer()

    def handle_timer(self, now: Instant) -> None:
        """Let the machine do what is due; pump afterwards."""
        if not self.is_over:
            self._machine.handle_timer(now)
