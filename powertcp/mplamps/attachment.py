"""A protocol inside a circuit: octets of an endpoint to its machine and back, cut where they should be.

MPLampS sections 8 and 9. Whoever has made the machine is told its events.
"""

from collections.abc import Callable
from heapq import heappop, heappush

from powertcp.machine import Event, StreamMachine
from powertcp.mplamps.cutter import Cutter
from powertcp.mplamps.node import Node
from powertcp.mplamps.tcp import Ended, Endpoint, PeerFinished
from powertcp.units import Instant

Take = Callable[[Event, Instant], None]


class Attachment:
    """A stream machine on an end of an inner connection. is_over: nothing more comes or goes."""

    __slots__ = (
        "_cutter", "_ended", "_has_finished", "_is_closing", "_is_told", "_machine", "_pieces",
        "_take", "end", "is_over",
    )  # fmt: skip

    def __init__(self, end: Endpoint, machine: StreamMachine[Event], take: Take) -> None:
        """take: is called with each event of the machine, and of the end.

        PeerFinished is told when all octets before it are read.
        """
        self.end = end
        self._machine = machine
        self._take = take
        self._cutter = Cutter()
        self._pieces: list[tuple[bytes, bool]] = []
        self._has_finished = self._is_told = self._is_closing = False
        self._ended: Ended | None = None
        self.is_over = False

    def pump(self, now: Instant) -> bool:
        """Move octets both ways until nothing moves; return whether the end has something to send."""
        has_moved = False
        while self._pump_once(now):
            has_moved = True
        return has_moved

    def _pump_once(self, now: Instant) -> bool:
        end, machine = self.end, self._machine
        while (said := end.next_event()) is not None:
            match said:
                case PeerFinished():
                    self._has_finished = True
                case Ended():
                    self._ended = said
                case _:
                    self._take(said, now)
        octets = end.read()
        if octets:
            machine.receive_data(octets, now)
        # all octets before it have been read: an end keeps no more than one read returns
        if self._has_finished:
            self._has_finished, self._is_told = False, True
            machine.receive_eof(now)
            self._take(PeerFinished(), now)
        has_moved = self._tell(now) or bool(octets)
        if self._ended is not None:
            self._end(self._ended, now)
        return self._send(now) or has_moved

    def _tell(self, now: Instant) -> bool:
        """Tell what the machine has to tell; return whether it had."""
        has_told = False
        while (event := self._machine.next_event()) is not None:
            self._take(event, now)
            has_told = True
        return has_told

    def _end(self, ended: Ended, now: Instant) -> None:
        """Nothing more comes or goes."""
        self._ended, self.is_over = None, True
        if not self._is_told:
            self._machine.receive_eof(now)
            self._tell(now)
        self._take(ended, now)

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
        if self._is_closing and not self._pieces:
            self._is_closing = False
            self.end.close(now)
            has_sent = True
        return has_sent

    def close(self) -> None:
        """Send FIN after all that the machine has to say; pump afterwards."""
        self._is_closing = True

    def get_timer(self) -> Instant | None:
        """Return when the machine has something to do."""
        return None if self.is_over else self._machine.get_timer()

    def handle_timer(self, now: Instant) -> None:
        """Let the machine do what is due; pump afterwards."""
        if not self.is_over:
            self._machine.handle_timer(now)


class Attachments:
    """All attachments of a node: those that were touched are pumped, those that are due are woken.

    A source has thousands, of which a packet concerns one.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._all: dict[Endpoint, Attachment] = {}
        # in the order in which they were touched
        self._touched: dict[Endpoint, None] = {}
        self._timers: list[tuple[Instant, int, Endpoint]] = []
        # what counts of those timers: the newest of each
        self._due: dict[Endpoint, Instant] = {}
        self._number = 0

    def add(self, attachment: Attachment) -> None:
        """Take one more."""
        self._all[attachment.end] = attachment
        self.touch(attachment.end)

    def remove(self, end: Endpoint) -> None:
        """Forget the one on an end, if there is one."""
        self._all.pop(end, None)
        self._touched.pop(end, None)
        self._due.pop(end, None)

    def touch(self, end: Endpoint) -> None:
        """Note that something has happened to an end, or to the machine on it."""
        if end in self._all:
            self._touched[end] = None

    def touch_all(self) -> None:
        """Note that something may have happened to any of them."""
        self._touched.update(dict.fromkeys(self._all))

    def pump(self, node: Node, now: Instant) -> bool:
        """Pump those that were touched, and have `node` take the packets of their ends.

        Returns whether any has moved: then call again when the events of the node are taken.
        """
        touched, self._touched = self._touched, {}
        has_moved = False
        for end in touched:
            one = self._all.get(end)
            if one is None:
                continue
            if one.pump(now):
                node.flush_ends(now, end)
                has_moved = True
            if one.is_over:
                self.remove(end)
            elif end in self._all:
                self._wind(end, one.get_timer())
        return has_moved or bool(self._touched)

    def _wind(self, end: Endpoint, at: Instant | None) -> None:
        if at is None:
            self._due.pop(end, None)
        elif self._due.get(end) != at:
            self._due[end] = at
            self._number += 1
            heappush(self._timers, (at, self._number, end))

    def get_timer(self) -> Instant | None:
        """Return when the first machine has something to do, or None."""
        timers = self._timers
        while timers and self._due.get(timers[0][2]) != timers[0][0]:
            heappop(timers)
        return timers[0][0] if timers else None

    def handle_timer(self, now: Instant) -> None:
        """Let machines do what is due; pump afterwards."""
        while (at := self.get_timer()) is not None and at <= now:
            end = heappop(self._timers)[2]
            del self._due[end]
            self._all[end].handle_timer(now)
            self.touch(end)
