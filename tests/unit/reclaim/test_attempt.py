"""Upstreams that are asked one after the other: what the next one hears, and who is the one."""

import pytest

from powertcp.machine import Event
from powertcp.reclaim.attempt import HEARD_MAX, Attempt, UpstreamAnswered, UpstreamFailed
from powertcp.reclaim.leg import Hung
from powertcp.reclaim.track import End
from powertcp.registry import Flag, Reason, Refusal
from powertcp.wire.frames import encode_segment, maintain_segment
from powertcp.wire.options import Options
from powertcp.wire.segments import Alert, Control
from tests.conversation import ask, segments
from tests.middle import MiddlePair

PROBE = maintain_segment(0, 0, 0)
LATE = Refusal(Reason.TIMEOUT, 2_000, 2_000)


def asked(pair: MiddlePair) -> bytes:
    """Let a device ask for power; return its SYN, which nobody upstream has heard."""
    pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    octets = pair.sink.data_to_send()
    pair.relay.device.receive_data(octets, pair.now)
    return octets


def told(attempt: Attempt) -> list[Event]:
    found = []
    while (event := attempt.next_event()) is not None:
        found.append(event)
    return found


@pytest.mark.requirement("VPPN-6-04")
def test_the_next_upstream_hears_all_that_the_one_before_did() -> None:
    pair = MiddlePair()
    syn = asked(pair)
    first = Attempt(pair.relay.provider)
    assert first.queued == len(syn)
    assert first.data_to_send() == syn
    goodbye = encode_segment(Control(1, Flag.RST, 0, Options(reason=LATE)))
    pair.relay.device.receive_data(goodbye, pair.now)
    assert first.data_to_send() == goodbye
    assert first.queued == 0
    first.leave()
    assert (first.queued, first.data_to_send(), first.is_terminated) == (0, b"", True)
    second = Attempt(pair.relay.provider)
    assert second.queued == len(syn + goodbye)
    assert second.data_to_send() == syn + goodbye
    second.leave()
    assert pair.relay.provider.data_to_send() == syn + goodbye
    assert not pair.relay.is_over


@pytest.mark.requirement("VPPN-6-04")
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_who_says_something_of_a_flow_is_the_one(size: int) -> None:
    pair = MiddlePair()
    attempt = Attempt(pair.relay.provider)
    pair.source.receive_data(asked(pair), pair.now)
    attempt.data_to_send()
    reset = encode_segment(Control(1, Flag.RST, 0, Options(reason=LATE)))
    said = PROBE + reset + PROBE
    for at in range(0, len(said), size):
        attempt.receive_data(said[at : at + size], pair.now)
    assert told(attempt)[0] == UpstreamAnswered()
    # all of it is heard, what came before the answer too
    assert pair.relay.device.data_to_send() == said
    attempt.leave()
    assert pair.relay.provider.queued == 0


def test_who_has_answered_is_a_side_of_the_relay() -> None:
    pair = MiddlePair()
    attempt = Attempt(pair.relay.provider)
    asked(pair)
    attempt.data_to_send()
    attempt.receive_data(encode_segment(Control(1, Flag.RST, 0, Options())), pair.now)
    asked(pair)
    (syn,) = segments(attempt.data_to_send())
    assert isinstance(syn, Control)
    assert syn.flow == 3
    pair.relay.provider.peer_msp = 2048
    assert attempt.peer_msp == 2048
    assert (attempt.get_timer(), attempt.is_terminated) == (None, False)
    attempt.handle_timer(pair.now)
    attempt.receive_eof(pair.now)
    assert Hung(end=End.SERVER, refusal=None) in told(attempt)
    assert attempt.is_terminated


@pytest.mark.requirement("VPPN-6-04")
@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (encode_segment(Control(0, Flag.RST, 0, Options(reason=LATE))), LATE),
        (encode_segment(Control(0, Flag.RST, 0, Options())), Refusal(Reason.NORMAL)),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", None),
        (PROBE * (HEARD_MAX // len(PROBE) + 1), None),
    ],
    ids=["reset", "mute", "stranger", "flood"],
)
def test_who_ends_the_connection_before_an_answer_is_none(
    octets: bytes, why: Refusal | None
) -> None:
    pair = MiddlePair()
    attempt = Attempt(pair.relay.provider)
    syn = asked(pair)
    attempt.data_to_send()
    attempt.receive_data(octets, pair.now)
    (failed,) = told(attempt)
    assert isinstance(failed, UpstreamFailed)
    assert failed.refusal is not None
    assert why is None or failed.refusal == why
    # what comes after that is nobody's
    attempt.receive_data(encode_segment(Control(1, Flag.RST, 0, Options())), pair.now)
    attempt.receive_eof(pair.now)
    assert (told(attempt), attempt.queued, attempt.data_to_send()) == ([], 0, b"")
    assert pair.relay.device.queued == 0
    assert not pair.relay.is_over
    attempt.leave()
    assert Attempt(pair.relay.provider).data_to_send() == syn


@pytest.mark.parametrize("refusal", [None, LATE])
def test_a_path_that_is_lost_before_an_answer_is_no_cut(refusal: Refusal | None) -> None:
    pair = MiddlePair()
    attempt = Attempt(pair.relay.provider)
    asked(pair)
    attempt.receive_data(PROBE + encode_segment(Alert(0, 0, 1, Options(reason=LATE))), pair.now)
    assert told(attempt) == []
    attempt.cut(refusal, pair.now)
    assert told(attempt) == [UpstreamFailed(refusal=refusal)]
    assert not pair.relay.is_over
