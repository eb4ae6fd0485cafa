"""Whatever a capture or a trace holds, it is shown or refused with the one error."""

import json
import random
from io import BytesIO

import pytest

from powertcp.cli.lamp_lines import line_of, told_line, values_of
from powertcp.cli.lamp_reasons import Reasons
from powertcp.cli.lamp_rungs import Rungs
from powertcp.cli.lamp_sightings import Names, Other, Sighting, read_file
from powertcp.errors import ConfigError
from powertcp.mplamps import rsvp
from powertcp.mplamps.cops import PORT
from powertcp.wire.trace import event, opening
from tests.cops_messages import MESSAGES as POLICED
from tests.full import size
from tests.lamp_captures import ADDRESSES, DUSK_NS, Capture, segment
from tests.rsvp_messages import MESSAGES
from tools.mplamps_vectors import bad, bad_cops, cops, others, paths, tolerated

RSVP = [vector.octets for vector in (*paths(), *others(), *tolerated(), *bad())]
COPS = [vector.octets for vector in (*cops(), *bad_cops())]


def whole_capture() -> bytes:
    capture = Capture()
    capture.switch_on("lamp-1")
    capture.refuse("lamp-2")
    for policed in POLICED.values():
        capture.police("h1", "pdp", policed)
    for message in MESSAGES.values():
        capture.say("h1", "c1", message)
    for octets in RSVP:
        capture.datagram("c1", "h1", rsvp.PORT, octets)
    capture.labelled("lamp-1", "h1")
    return capture.octets()


def whole_trace() -> bytes:
    events = [("rsvp:message_sent", octets) for octets in RSVP]
    events += [("cops:message_sent", octets) for octets in COPS]
    changed = {"node": "lamp-1", "tunnel": 1, "state": "dark", "code": 100}
    return b"".join((
        opening("1", "network", DUSK_NS // 10**6),
        *(event(number, name, {"node": "h1", "to": "c1", "hex": octets.hex()})
          for number, (name, octets) in enumerate(events)),
        event(9, "mplamps:lamp_changed", changed),
    ))  # fmt: skip


FILES = {"capture": whole_capture(), "trace": whole_trace()}


def show(octets: bytes) -> tuple[int, bool]:
    """Return how many lines a file has, and whether it was read to its end."""
    names = Names()
    rungs, reasons = Rungs(names), Reasons()
    lines = 0
    fault = ""
    try:
        for seen in read_file(BytesIO(octets), "F", names, is_named=False):
            if isinstance(seen, Other):
                continue
            lines += 1
            if not isinstance(seen, Sighting):
                reasons.hear(seen)
                assert told_line(seen, 0).isprintable()
                continue
            rung = rungs.of(seen)
            reasons.take(rung)
            assert line_of(rung, 0).isprintable()
            json.dumps(values_of(rung))
    except ConfigError as error:
        fault = str(error)
    assert "\n" not in fault
    for verdict in reasons.verdicts():
        assert verdict.line(0).isprintable()
        json.dumps(verdict.values())
    return lines, not fault


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_read_to_its_end(name: str) -> None:
    lines, is_whole = show(FILES[name])
    assert is_whole
    assert lines >= 60


def mutate(rng: random.Random, octets: bytes) -> bytes:
    """Return a file with some octets changed, inserted, exchanged or cut off."""
    made = bytearray(octets)
    for _ in range(rng.choice((1, 2, 5, 20))):
        made = made or bytearray(1)
        at = rng.randrange(len(made))
        match rng.randrange(8):
            case 0 | 1 | 2:
                made[at] = rng.choice((0, 1, 4, 8, 10, 34, 44, 58, 92, 123, 127, 252, 255))
            case 3 | 4:
                made[at] ^= 1 << rng.randrange(8)
            case 5:
                made[at : at + 4] = rng.randbytes(4)
            case 6:
                other = rng.randrange(len(made))
                made[at : at + 16] = made[other : other + 16]
            case _:
                made[at : at + rng.randrange(8)] = b""
    if made and rng.random() < 0.1:
        del made[rng.randrange(len(made) // 2, len(made)) + 1 :]
    return bytes(made)


@pytest.mark.parametrize("name", FILES)
def test_mutated_files_are_shown_or_refused(name: str, seed: int) -> None:
    rng = random.Random(seed)
    ends = {True: 0, False: 0}
    for _ in range(size(150, 5_000)):
        _, is_whole = show(mutate(rng, FILES[name]))
        ends[is_whole] += 1
    assert min(ends.values()) >= 10


def test_mutated_messages_in_a_whole_file_are_shown(seed: int) -> None:
    rng = random.Random(seed)
    lines = 0
    for _ in range(size(60, 2_000)):
        capture = Capture()
        for octets in rng.sample(RSVP, 10):
            changed = mutate(rng, octets)[:1400] if len(octets) > 8 else octets
            # no checksum: what is inside is looked at
            capture.datagram("c1", "h1", rsvp.PORT, changed[:2] + b"\0\0" + changed[4:])
        for at, octets in enumerate(rng.sample(COPS, 10)):
            ends = ADDRESSES["h1"], ADDRESSES["pdp"], 40_000, PORT
            changed = mutate(rng, octets)[:1400]
            capture.packet("h1--pdp", segment(*ends, 2_000 * at, changed, 0x02 | 0x08))
        found, is_whole = show(capture.octets())
        assert is_whole
        lines += found
    assert lines >= 60 * 15
