"""The machine contract M1 to M7 as functions: any stream machine passes them or is none.

A `Subject` says how to make a machine, what its peer says turn by turn, and what its owner does
with its events. Imported by tests, not collected.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from random import Random
from typing import Any, Generic, TypeVar

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.machine import StreamMachine

MachineT = TypeVar("MachineT", bound=StreamMachine[Any])
Chunking = Callable[[bytes], Iterable[bytes]]
SECOND = 1_000_000_000
FAR = 10_000_000 * SECOND


@dataclass(frozen=True, slots=True)
class Subject(Generic[MachineT]):
    """A machine under the contract.

    make: a fresh machine, its opening verbs called at `start`. turns: (now, octets of the peer).
    react: the owner's verbs on an event. misuse: calls that are wrong at any time, by their name.
    ended: the type of the last event. verbs: what the owner does by itself at the end of a turn.
    merge: makes one event of those that depend on how octets came.
    """

    make: Callable[[], MachineT]
    react: Callable[[MachineT, Any, int], None]
    misuse: Mapping[str, Callable[[MachineT, int], object]]
    ended: type
    start: int
    turns: list[tuple[int, bytes]] = field(default_factory=list)
    verbs: Mapping[int, Callable[[MachineT, int], object]] = field(default_factory=dict)
    merge: Callable[[list[Any]], list[Any]] = list


@dataclass(slots=True)
class Heard:
    """All that came out of a machine: events, and octets per turn."""

    events: list[Any] = field(default_factory=list)
    octets: list[bytes] = field(default_factory=list)


def whole(octets: bytes) -> list[bytes]:
    """Hand over all octets at once."""
    return [octets] if octets else []


def octet_by_octet(octets: bytes) -> list[bytes]:
    """Hand over one octet at a time."""
    return [octets[place : place + 1] for place in range(len(octets))]


def at_random(seed: int) -> Chunking:
    """Hand over pieces of 1 to 40 octets."""
    random = Random(seed)

    def cut(octets: bytes) -> Iterable[bytes]:
        while octets:
            size = random.randrange(1, 41)
            yield octets[:size]
            octets = octets[size:]

    return cut


def drain(machine: StreamMachine[Any]) -> list[Any]:
    """Take every event."""
    events = []
    while (event := machine.next_event()) is not None:
        events.append(event)
    return events


def drain_octets(machine: StreamMachine[Any]) -> bytes:
    """Take every octet."""
    found = b""
    while octets := machine.data_to_send():
        found += octets
    return found


def play(subject: Subject[MachineT], chunking: Chunking = whole) -> tuple[MachineT, Heard]:
    """Hold the conversation; each piece comes in a buffer that is written over afterwards."""
    machine, heard = subject.make(), Heard()
    heard.octets.append(drain_octets(machine))
    for turn, (now, octets) in enumerate(subject.turns):
        machine.handle_timer(now)
        for piece in chunking(octets):
            buffer = bytearray(piece)
            machine.receive_data(buffer, now)
            buffer += b"\xff"  # a view held across the call would be a BufferError
            buffer[:] = b"\xff" * len(buffer)
        for event in drain(machine):
            heard.events.append(event)
            subject.react(machine, event, now)
        if turn in subject.verbs:
            subject.verbs[turn](machine, now)
        heard.octets.append(drain_octets(machine))
    heard.events.extend(drain(machine))
    return machine, heard


def last(subject: Subject[MachineT]) -> int:
    """Return the instant of the last turn."""
    return subject.turns[-1][0] if subject.turns else subject.start


def check_misuse(subject: Subject[MachineT]) -> None:
    """M1: misuse raises LocalProtocolError and changes nothing, at any point of the talk."""
    assert subject.misuse
    for count in range(len(subject.turns) + 1):
        shorter = replace(subject, turns=subject.turns[:count])
        machine, _ = play(shorter)
        timer = machine.get_timer()
        for name, call in subject.misuse.items():
            with pytest.raises(LocalProtocolError):
                call(machine, last(shorter))
            assert machine.data_to_send() == b"", name
            assert machine.next_event() is None, name
            assert machine.get_timer() == timer, name


def check_garbage(subject: Subject[MachineT], garbage: bytes) -> None:
    """M2: no octets of the peer raise; broken framing ends in one last event, then verbs refuse."""
    for chunking in (whole, octet_by_octet):
        machine, heard = play(subject)
        assert not any(isinstance(event, subject.ended) for event in heard.events)
        now = last(subject)
        for piece in chunking(garbage):
            machine.receive_data(piece, now)
        events = drain(machine)
        assert [isinstance(event, subject.ended) for event in events].count(True) == 1
        assert isinstance(events[-1], subject.ended)
        drain_octets(machine)
        machine.receive_data(garbage, now)
        machine.receive_eof(now)
        machine.handle_timer(now + SECOND)
        assert drain(machine) == []
        assert drain_octets(machine) == b""
        assert machine.get_timer() is None
        for call in subject.misuse.values():
            with pytest.raises(LocalProtocolError):
                call(machine, now + SECOND)


def check_clock(subject: Subject[MachineT]) -> None:
    """M3: time never runs backwards, early timers do nothing, late ones do all that is due."""
    machine, _ = play(subject)
    now = last(subject)
    with pytest.raises(LocalProtocolError):
        machine.receive_data(b"", now - 1)
    with pytest.raises(LocalProtocolError):
        machine.handle_timer(now - 1)
    with pytest.raises(LocalProtocolError):
        machine.receive_eof(now - 1)
    due = machine.get_timer()
    if due is not None and due > now:
        machine.handle_timer(due - 1)
        assert drain(machine) == []
        assert machine.get_timer() == due
    machine.handle_timer(FAR)
    left = machine.get_timer()
    assert left is None or left > FAR


def check_timers(
    subject: Subject[MachineT], spans: Iterable[int] = (1, SECOND, 3_600 * SECOND)
) -> None:
    """M3: a machine left alone comes to rest or keeps ticking, and each tick moves its deadline."""
    for span in spans:
        machine, _ = play(subject)
        now = last(subject)
        for _ in range(40):
            due = machine.get_timer()
            if due is None:
                break
            assert due >= now
            now = due + span - 1
            machine.handle_timer(now)
            drain(machine)
            drain_octets(machine)
            after = machine.get_timer()
            assert after is None or after > now


def check_end(subject: Subject[MachineT]) -> None:
    """M2: the end of the stream is one event, the last; afterwards verbs refuse."""
    machine, _ = play(subject)
    now = last(subject)
    machine.receive_eof(now)
    events = drain(machine)
    assert [isinstance(event, subject.ended) for event in events].count(True) == 1
    assert isinstance(events[-1], subject.ended)
    drain_octets(machine)
    machine.receive_eof(now)
    machine.receive_data(b"too late", now)
    assert (drain(machine), drain_octets(machine)) == ([], b"")
    for call in subject.misuse.values():
        with pytest.raises(LocalProtocolError):
            call(machine, now)


def check_chunkings(subject: Subject[MachineT], seeds: Iterable[int] = range(5)) -> None:
    """M4: every chunking of the same octets gives equal events and equal answers."""
    _, expected = play(subject, whole)
    assert expected.events
    for chunking in (octet_by_octet, *(at_random(seed) for seed in seeds)):
        _, heard = play(subject, chunking)
        assert heard.octets == expected.octets
        assert subject.merge(heard.events) == subject.merge(expected.events)


def check_deterministic(subject: Subject[MachineT]) -> None:
    """M5: same inputs and entropy, same output."""
    assert play(subject)[1] == play(subject)[1]


def check_limit(subject: Subject[MachineT], at: bytes, above: bytes) -> None:
    """M6: what is at the limit is taken, what is one above ends the connection."""
    for octets, ends in ((at, False), (above, True)):
        machine, _ = play(subject)
        machine.receive_data(octets, last(subject))
        assert any(isinstance(event, subject.ended) for event in drain(machine)) is ends


def check_table(table: Mapping[tuple[Any, Any], tuple[str, Any]], resting: set[Enum]) -> None:
    """M7: the table is closed: every state is reached, left, and can come to rest."""
    states = {state for state, _ in table}
    after = {state: {end for (begin, _), (_, end) in table.items() if begin is state}
             for state in states}  # fmt: skip
    kinds: set[type[Enum]] = {type(state) for state in resting}
    assert {state for kind in kinds for state in kind} == states
    assert set().union(*after.values()) == states
    for state in states:
        reached, fresh = {state}, {state}
        while fresh := set().union(*(after[one] for one in fresh)) - reached:
            reached |= fresh
        assert reached & resting, state
