"""A peer that lies, repeats, reorders and cuts: nothing raises, nothing grows, no joule appears."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import ConnectionTerminated, FlowClosed, HeatCounted, SamplesReceived
from powertcp.potcp.intake import CONTROL_QUEUE_MAX
from powertcp.units import NS_PER_S
from powertcp.wire.frames import HEADER, HEADER_OCTETS
from tests.contract import Subject, drain, play
from tests.full import size
from tests.talks import SUBJECTS

TALKS = size(40, 1_000)
# of these two the peer says nothing that could be changed
ROLES = [name for name, subject in SUBJECTS.items() if any(said for _, said in subject.turns)]
STALE = re.compile("in state|nothing to answer|outside of what was asked|is unanswered|is next")
# types that exist, and two that do not
KINDS = [*range(1, 15), 16, 17, 0x40, 0x90]


def cut(octets: bytes) -> list[bytes]:
    """Return the segments of a peer that is well."""
    found = []
    while octets:
        _, _, words, _, _, payload, _, _ = HEADER.unpack_from(octets)
        length = 4 * words + payload
        found.append(octets[:length])
        octets = octets[length:]
    return found


def lie(random: Random, segment: bytes) -> bytes:
    """Change one thing of a segment, most often so that it can still be framed."""
    octets = bytearray(segment)
    match random.randrange(8):
        case 0:  # any octet, the framing included
            octets[random.randrange(len(octets))] = random.randrange(256)
        case 1:
            octets[4] = random.choice(KINDS)
        case 2:
            octets[5] = random.choice((0, 1, 2, 4, 16, 17, 18, 32, 64, 128, 255))
        case 3:
            octets[8:12] = random.choice((0, 1, 2, 3, 5, 2**32 - 1)).to_bytes(4, "big")
        case 4:
            octets[12:20] = random.choice((0, 1, 120_000, 2**63, 2**64 - 1)).to_bytes(8, "big")
        case 5 if len(octets) > HEADER_OCTETS:  # options or payload
            at = random.randrange(HEADER_OCTETS, len(octets))
            octets[at] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
        case 6 if len(octets) > HEADER_OCTETS + 8:  # a field of its own: four octets
            at = random.randrange(HEADER_OCTETS, len(octets) - 4) & ~3
            octets[at : at + 4] = random.choice((0, 1, 2**31, 2**32 - 1)).to_bytes(4, "big")
        case _:
            octets += bytes(octets)
    return bytes(octets)


@contextmanager
def maybe_stale() -> Iterator[None]:
    """Let a verb be refused: what it is about may be over by now, and opened again."""
    try:
        yield
    except LocalProtocolError as error:
        if not STALE.search(str(error)):
            raise


def changed(random: Random, segments: list[bytes], earlier: list[bytes]) -> list[bytes]:
    """Return the segments of a turn with lies, repetitions, omissions and another order."""
    found: list[bytes] = []
    for segment in segments:
        match random.randrange(12):
            case 0:
                found.append(lie(random, segment))
            case 1:
                found += [segment, segment]
            case 2:
                pass
            case 3 if earlier:
                found += [random.choice(earlier), segment]
            case _:
                found.append(segment)
    if random.randrange(6) == 0:
        random.shuffle(found)
    if earlier and random.randrange(10) == 0:
        found += random.choices(earlier, k=random.randrange(30))
    return found


def talk(subject: Subject[PowerConnection], random: Random) -> tuple[PowerConnection, list[object]]:
    """Hold a conversation with a peer that is not well."""
    machine, now = subject.make(), subject.start
    events: list[object] = []
    earlier: list[bytes] = []
    for turn, (now, octets) in enumerate(subject.turns):
        machine.handle_timer(now)
        segments = cut(octets)
        said = b"".join(changed(random, segments, earlier))
        earlier += segments
        at = random.randrange(len(said) + 1)
        for piece in (said[:at], said[at:]):
            machine.receive_data(bytearray(piece), now)
        for event in drain(machine):
            events.append(event)
            if machine.is_terminated or getattr(event, "flow", 0) not in machine.flows:
                continue
            with maybe_stale():
                subject.react(machine, event, now)
        if turn in subject.verbs and 1 in machine.flows and machine.may_propose(1):
            with maybe_stale():
                subject.verbs[turn](machine, now)
        # a peer that reads nothing may not make us grow
        assert machine.queued < 2 * CONTROL_QUEUE_MAX
        if random.randrange(3):
            machine.data_to_send()
    machine.handle_timer(now + 4_000 * NS_PER_S)
    return machine, events + drain(machine)


@pytest.mark.requirement("PTCP-2.1-03", "PTCP-2.2-01", "PTCP-9-04", "PTCP-9-08", "PTCP-13-02")
@pytest.mark.parametrize("role", ROLES)
def test_a_lying_peer_breaks_nothing_of_ours(role: str) -> None:
    subject = SUBJECTS[role]
    well = [type(one) for one in play(subject)[1].events]
    disturbed = banked = 0
    for seed in range(TALKS):
        machine, events = talk(subject, Random(f"{role} {seed}"))
        closings = [one.flow for one in events if isinstance(one, FlowClosed)]
        over = [at for at, one in enumerate(events) if isinstance(one, ConnectionTerminated)]
        assert len(over) <= 1
        assert machine.is_terminated or not over
        disturbed += [type(one) for one in events] != well
        # a flow that is over is over once for each time it was opened
        assert not set(closings) & set(machine.flows) or not machine.client
        energy = sum(one.energy_uj for one in events if isinstance(one, SamplesReceived))
        heat = sum(one.energy_uj for one in events if isinstance(one, HeatCounted))
        assert energy >= 0
        assert heat >= 0
        # two flows of 12 W have at most two seconds of credit beyond what was delivered
        assert energy <= 2 * 24_000_000
        banked += energy > 0
    if "delivering" in role and role.startswith("sink"):
        assert banked > TALKS // 8
    assert disturbed > TALKS // 10
