"""The maintain-power signature: probes each interval, answered at once, silence is STALE."""

import pytest

from powertcp.machine import Event
from powertcp.potcp.events import (
    ConnectionFresh,
    ConnectionStale,
    LeaseRenewed,
)
from powertcp.potcp.liveness import PROBES_MAX, Liveness
from powertcp.units import NS_PER_S
from powertcp.wire.frames import encode_segment
from powertcp.wire.options import Maintain
from powertcp.wire.segments import MaintainProbe
from tests.conversation import SINK, SOURCE, Pair, counting_entropy, segments


class Notes:
    """A line that keeps what it is told."""

    def __init__(self, *nonces: int) -> None:
        given = iter(nonces)
        self.entropy = counting_entropy()
        self.unix_offset_ns = 0
        if nonces:
            self.entropy = lambda count: next(given).to_bytes(count, "big")
        self.sent: list[MaintainProbe] = []
        self.events: list[Event] = []

    def send_control(self, octets: bytes) -> None:
        self.sent += [one for one in segments(octets) if isinstance(one, MaintainProbe)]

    def emit(self, event: Event) -> None:
        self.events.append(event)


@pytest.mark.requirement("PTCP-5-01")
def test_both_ends_probe_each_interval_and_answer_at_once() -> None:
    pair = Pair()
    pair.energise()
    pair.advance(10)
    for side in (SINK, SOURCE):
        said = [one for one in pair.said(side, MaintainProbe) if isinstance(one, MaintainProbe)]
        probes = [one for one in said if one.nonce]
        answers = [one for one in said if one.echo]
        assert len(probes) == len(answers) == 10
        assert all(one.nonce == 0 for one in answers)
        assert len({one.nonce for one in probes}) == 10


@pytest.mark.requirement("PTCP-5-01")
@pytest.mark.parametrize(("sink_ms", "agreed_ms"), [(500, 1000), (1000, 1000), (2500, 2500)])
def test_the_larger_wish_of_the_first_flow_holds(sink_ms: int, agreed_ms: int) -> None:
    pair = Pair()
    pair.energise(maintain=Maintain(sink_ms, 2))
    pair.energise("5V/1A", maintain=Maintain(20_000, 2))
    for end in pair.ends:
        assert (end.interval_ms, end.misses) == (agreed_ms, 2)


@pytest.mark.requirement("PTCP-5-01")
def test_an_answer_names_the_nonce_of_the_probe_and_is_queued_in_the_same_call() -> None:
    pair = Pair()
    pair.energise()
    for end in pair.ends:
        end.receive_data(encode_segment(MaintainProbe(77, 0, 123)), pair.now)
        (answer,) = segments(end.data_to_send())
        assert answer == MaintainProbe(0, 77, 123)


@pytest.mark.requirement("PTCP-5-03")
def test_three_missed_answers_are_stale_once_and_one_answer_is_fresh() -> None:
    line = Notes()
    live = Liveness(1000, 3, 0)
    for second in range(1, 6):
        assert live.probe_at == second * NS_PER_S
        live.probe(line, live.probe_at)
        assert live.is_stale == (second >= 4)
    assert [type(one) for one in line.events] == [ConnectionStale]
    assert live.missed == 4
    # the answer to the third probe also settles the two before it
    assert live.echoed(line, line.sent[2].nonce) == 3 * NS_PER_S
    assert line.events[1:] == [ConnectionFresh(), LeaseRenewed(sent_ns=3 * NS_PER_S)]
    assert live.echoed(line, line.sent[0].nonce) is None
    assert live.echoed(line, line.sent[4].nonce) == 5 * NS_PER_S
    assert live.echoed(line, 12_345) is None
    assert not live.is_stale


def test_a_late_timer_does_not_burst_and_a_nonce_is_never_nought() -> None:
    line = Notes(0, 9)
    live = Liveness(1000, 3, 0)
    live.probe(line, 10 * NS_PER_S)
    assert live.probe_at == 10 * NS_PER_S + NS_PER_S // 2
    live.probe(line, live.probe_at)
    assert [one.nonce for one in line.sent] == [1, 9]


@pytest.mark.requirement("PTCP-14-01")
def test_at_most_64_unanswered_probes_are_remembered() -> None:
    line = Notes(*range(1, PROBES_MAX + 2))
    live = Liveness(1000, 3, 0)
    for _ in range(PROBES_MAX + 1):
        live.probe(line, live.probe_at)
    assert live.echoed(line, 1) is None
    assert live.echoed(line, 2) is not None


def test_an_idle_connection_forgets_its_probes() -> None:
    line = Notes()
    live = Liveness(1000, 3, 0)
    assert live.echoed(line, 1) is None
    live.probe(line, NS_PER_S)
    live.idle(2 * NS_PER_S)
    assert live.echoed(line, line.sent[0].nonce) is None
    assert (live.missed, live.probe_at) == (0, 3 * NS_PER_S)


def test_without_flows_nothing_is_probed() -> None:
    pair = Pair()
    flow = pair.energise()
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    pair.said(SINK, MaintainProbe)
    pair.advance(5)
    assert pair.said(SINK, MaintainProbe) == []


@pytest.mark.requirement("PTCP-5-01")
def test_a_probe_says_unix_time_and_its_answer_repeats_it() -> None:
    pair = Pair()
    pair.energise()
    pair.sink.unix_offset_ns = 1_700_000_000 * NS_PER_S
    pair.now += NS_PER_S
    pair.sink.handle_timer(pair.now)
    octets = pair.sink.data_to_send()
    (probe,) = segments(octets)
    assert isinstance(probe, MaintainProbe)
    assert probe.time_ns == pair.now + 1_700_000_000 * NS_PER_S
    pair.source.receive_data(octets, pair.now)
    assert MaintainProbe(0, probe.nonce, probe.time_ns) in segments(pair.source.data_to_send())
