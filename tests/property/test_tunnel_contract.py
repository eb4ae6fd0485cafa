"""Tunnels keep the machine contract, sealed and in clear, whatever they carry."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import ConnectionTerminated
from powertcp.vppn.config import SealConfig
from powertcp.vppn.noise import PatternId
from powertcp.vppn.office import SealOffice
from powertcp.vppn.record import Privacy
from powertcp.vppn.session import Session
from powertcp.vppn.tunnel import Tunnel, TunnelBroken, TunnelOpened, TunnelRekeyed
from tests.contract import (
    Subject,
    check_chunkings,
    check_clock,
    check_deterministic,
    check_end,
    check_garbage,
    check_misuse,
    check_timers,
    drain,
    drain_octets,
    last,
    play,
)
from tests.conversation import START, counting_entropy
from tests.sealed import OFTEN, UNIX_OFFSET, device_config, provider_config
from tests.talks import (
    MISUSE,
    SCENARIOS,
    TURN_NS,
    TURNS,
    Scenario,
    make_sink,
    make_source,
    merged,
    reactions,
)

ROLES = ("sink", "source")


class Carried(Tunnel):
    """A tunnel with the connection in it: whose verbs an owner calls."""

    end: PowerConnection


# how the two go: the device's config, None for a connection in clear
KINDS: dict[str, SealConfig | None] = {
    "clear": None,
    "sealed": device_config(PatternId.IK_CLASSIC),
    "message 3": device_config(PatternId.XK_CLASSIC),
    "private, rekeyed": device_config(PatternId.NK_CLASSIC, limits=OFTEN, privacy=Privacy.PRIVATE),
}
TALKS = ("no flow", "half open", "two flows", "delivering", "resumed", "tripped by the sink",
         "after FIN, unanswered", "receipts, closed by the source")  # fmt: skip


def make(kind: str, role: str, scenario: Scenario) -> Carried:
    config = KINDS[kind]
    is_sink = role == "sink"
    end = (make_sink if is_sink else make_source)(scenario)
    if config is None and is_sink:
        raise LookupError("a sink in clear has no tunnel")
    privacy = config.privacy if config else Privacy.POLICE
    there = provider_config(privacy=privacy)
    session = Session(
        config if is_sink and config else there,
        is_initiator=is_sink,
        entropy=counting_entropy(100 if is_sink else 200),
        office=None if is_sink else SealOffice(end.office, START + UNIX_OFFSET - 1),
        peer=b"peer",
        unix_offset_ns=UNIX_OFFSET,
    )
    tunnel = Carried(end, session, START, is_initiator=is_sink, may_be_clear=config is None)
    tunnel.end = end
    tunnel.start(START)
    return tunnel


def on_end(call: Callable[[PowerConnection, int], object]) -> Callable[[Carried, int], object]:
    return lambda tunnel, now: call(tunnel.end, now)


def subject(kind: str, role: str, name: str, turns: list[tuple[int, bytes]]) -> Subject[Carried]:
    scenario = SCENARIOS[name]
    verbs = scenario.sink if role == "sink" else scenario.source
    react = reactions(scenario)
    return Subject(
        lambda: make(kind, role, scenario),
        lambda tunnel, event, now: react(tunnel.end, event, now),
        {label: on_end(call) for label, call in MISUSE.items()},
        ConnectionTerminated,
        START,
        turns,
        {turn: on_end(call) for turn, call in verbs.items()},
        merged,
    )


def subjects(kind: str, name: str) -> dict[str, Subject[Carried]]:
    """Let two tunnels talk, or a connection in clear and one; keep what each was told."""
    scenario = SCENARIOS[name]
    ends: dict[str, Any] = {"source": make(kind, "source", scenario)}
    ends["sink"] = make_sink(scenario) if kind == "clear" else make(kind, "sink", scenario)
    react = reactions(scenario)
    verbs: Mapping[str, Any] = {"sink": scenario.sink, "source": scenario.source}
    turns: dict[str, list[tuple[int, bytes]]] = {"sink": [], "source": []}
    now = START
    for turn in range(TURNS):
        now += TURN_NS
        said = {role: drain_octets(ends[role]) for role in ROLES}
        for role, other in zip(ROLES, ROLES[::-1], strict=True):
            turns[role].append((now, said[other]))
            ends[role].handle_timer(now)
            ends[role].receive_data(said[other], now)
        for role in ROLES:
            end = getattr(ends[role], "end", ends[role])
            for event in drain(ends[role]):
                react(end, event, now)
            if turn in verbs[role]:
                verbs[role][turn](end, now)
    roles = ROLES[1:] if kind == "clear" else ROLES
    return {role: subject(kind, role, name, turns[role]) for role in roles}


SUBJECTS = {
    f"{role}, {kind}, {name}": found
    for kind in KINDS
    for name in TALKS
    for role, found in subjects(kind, name).items()
}
each = pytest.mark.parametrize("tunnel", SUBJECTS.values(), ids=SUBJECTS)


def test_the_talks_are_what_their_names_say() -> None:
    assert len(SUBJECTS) == 7 * len(TALKS)
    for name, one in SUBJECTS.items():
        machine, heard = play(one)
        opened = [event for event in heard.events if isinstance(event, TunnelOpened)]
        rekeyed = [event for event in heard.events if isinstance(event, TunnelRekeyed)]
        is_quiet = "no flow" in name
        assert len(opened) == (not ("clear" in name or is_quiet)), name
        assert (len(rekeyed) >= 1) is ("rekeyed" in name and not is_quiet), name
        assert machine.is_sealed is (bool(opened) or name.startswith("sink")), name
        if "delivering" in name:
            assert machine.end.status(1).esn_uj == 12 * 180_000


@each
def test_misuse_changes_nothing(tunnel: Subject[Carried]) -> None:
    check_misuse(tunnel)


@each
@pytest.mark.parametrize("garbage", [b"\0" * 40, b"GET / HTTP/1.1\r\n\r\n" * 3], ids=["0", "HTTP"])
@pytest.mark.requirement("VPPN-3-08")
def test_garbage_ends_in_one_event(tunnel: Subject[Carried], garbage: bytes) -> None:
    machine, _ = play(tunnel)
    now = last(tunnel)
    machine.receive_data(garbage, now)
    events = drain(machine)
    if not events:
        # who must be sealed does not listen to a stranger at all
        assert drain_octets(machine) == b""
        assert not any(octets for _, octets in tunnel.turns)
    elif machine.get_timer() is None:
        check_garbage(tunnel, garbage)
    else:
        # a cut: flows of a source are held for T_GRACE, and then it is over
        assert isinstance(events[-1], ConnectionTerminated)
        assert [isinstance(event, TunnelBroken) for event in events].count(True) == 1
        for _ in range(10):
            if (due := machine.get_timer()) is None:
                break
            machine.handle_timer(due)
        assert machine.get_timer() is None
        assert machine.end.flows == ()
        for call in tunnel.misuse.values():
            with pytest.raises(LocalProtocolError):
                call(machine, due or now)


@each
def test_the_end_of_the_stream_is_the_last_event(tunnel: Subject[Carried]) -> None:
    check_end(tunnel)


@each
def test_time_runs_forwards(tunnel: Subject[Carried]) -> None:
    check_clock(tunnel)
    check_timers(tunnel, spans=(1, 1_000_000_000))


SPOKEN_TO = {name: one for name, one in SUBJECTS.items() if any(octets for _, octets in one.turns)}


@pytest.mark.parametrize("tunnel", SPOKEN_TO.values(), ids=SPOKEN_TO)
def test_three_chunkings(tunnel: Subject[Carried]) -> None:
    check_chunkings(tunnel, seeds=range(2))


@each
def test_same_inputs_same_outputs(tunnel: Subject[Carried]) -> None:
    check_deterministic(tunnel)
