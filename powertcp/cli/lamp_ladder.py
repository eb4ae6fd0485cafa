"""What people see of a small simulation: each message as a line, then the label tables."""

from collections.abc import Callable, Iterator

from powertcp.cli.lamp_lines import line_of
from powertcp.cli.lamp_rungs import Rungs
from powertcp.cli.lamp_sightings import Names, Sighting
from powertcp.errors import DecodeError
from powertcp.mplamps.engine import Engine
from powertcp.mplamps.rsvp import Ack, Hello, Message, Srefresh, decode_message
from powertcp.mplamps.topology import Topology
from powertcp.mplamps.wires import Wire
from powertcp.units import Instant

MAX_LINES = 400


class Ladder:
    """Says what is signalled, as it is sent. left_out: messages beyond the first 400 lines."""

    def __init__(self, topology: Topology, say: Callable[[str], None]) -> None:
        """Call `say` with each line."""
        self._say = say
        self._rungs = Rungs(Names(topology), topology)
        self._lines = 0
        self.left_out = 0

    def message(self, wire: Wire, octets: bytes, now: Instant) -> None:
        """Say one message; acknowledgements, refreshes and HELLO are nobody's business."""
        try:
            said: Message | DecodeError = decode_message(octets).message
        except DecodeError as error:
            said = error
        if isinstance(said, Ack | Hello | Srefresh):
            return
        if self._lines == MAX_LINES:
            self.left_out += 1
            return
        self._lines += 1
        seen = Sighting(now, wire.source, wire.target, wire.name, said)
        self._say(line_of(self._rungs.of(seen), 0))


def label_lines(engine: Engine) -> Iterator[str]:
    """Yield the canonical label table of each node that has entries."""
    for node in engine.nodes():
        table = node.label_table()
        if table:
            yield f"{node.name} ({node.kind})"
            yield from (f"  {line}" for line in table)
