"""A traced connection says and does what an untraced one does, and tells it."""

import json
from collections.abc import Mapping

from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    CreditReceived,
    PageFacts,
    PageReceived,
    PowerGranted,
    SamplesReceived,
    ShedReceived,
)
from powertcp.potcp.traced import TracedConnection, event_data, event_name
from powertcp.registry import Reason, Refusal
from tests.conversation import SINK, SOURCE, Pair, ask, counting_entropy, profile

Told = list[tuple[str, Mapping[str, object]]]


def traced(pair: Pair) -> tuple[Told, Told]:
    """Give both ends of a pair that has not spoken yet a trace each."""
    told: tuple[Told, Told] = ([], [])

    def tell(side: int) -> PowerConnection:
        return TracedConnection(
            client=side == SINK,
            config=pair.config,
            entropy=counting_entropy(pair.now + 1 + side),
            office=pair.office if side == SOURCE else None,
            peer=b"peer" if side == SOURCE else b"",
            trace=lambda name, data: told[side].append((name, dict(data))),
        )

    pair.sink, pair.source = tell(SINK), tell(SOURCE)
    pair.source.start(pair.now)
    return told


def play(pair: Pair) -> None:
    flow = pair.energise("12V/1A", "12V/0.2A")
    for _ in range(12):
        pair.deliver(flow)
        pair.advance(0.1)
    pair.sink.set_demand(flow, 9_000, now=pair.now)
    pair.advance(0.2)
    refusal = Refusal(Reason.BUDGET, 12_000, 6_000)
    pair.source.shed(flow, profile("12V/0.5A"), refusal=refusal, now=pair.now)
    pair.exchange()
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()


def test_octets_and_events_are_those_of_an_untraced_connection() -> None:
    plain, watched = Pair(), Pair()
    told = traced(watched)
    for pair in (plain, watched):
        play(pair)
    assert plain.sent == watched.sent
    assert plain.events == watched.events
    assert all(told)


def test_events_that_are_taken_all_at_once_are_told_once_each() -> None:
    pair = Pair()
    told = traced(pair)[SOURCE]
    pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    pair.source.receive_data(pair.sink.data_to_send(), pair.now)
    (event,) = pair.source.take_events()
    assert [data for name, data in told if name == "potcp:power_requested"] == [event_data(event)]
    assert pair.source.take_events() == []


def test_segments_events_and_states_are_told_in_order_with_units() -> None:
    pair = Pair()
    sink, source = traced(pair)
    play(pair)
    for told in (sink, source):
        json.dumps(told)
        assert all(name.startswith("potcp:") for name, _ in told)
    names = [name.removeprefix("potcp:") for name, _ in sink]
    for wanted in ("power_granted", "power_ready", "samples_banked", "shed", "flow_closed"):
        assert wanted in names
    states = [data["new"] for name, data in sink if name == "potcp:state_changed"]
    assert states[0] == "SYN_SENT"
    assert states[-1] == ""
    assert "ENERGISED" in states
    assert "credit_updated" in [name.removeprefix("potcp:") for name, _ in source]
    sent = [(d["type"], d["esn_uj"]) for name, d in source if name == "potcp:segment_sent"]
    taken = [(d["type"], d["esn_uj"]) for name, d in sink if name == "potcp:segment_received"]
    assert sent == taken


def test_next_event_tells_as_take_events_does() -> None:
    pair = Pair()
    sink, _ = traced(pair)
    pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    pair.source.receive_data(pair.sink.data_to_send(), pair.now)
    event = pair.source.next_event()
    assert event is not None
    assert event_name(event) == "power_requested"
    assert pair.source.next_event() is None
    assert sink[-1][0] == "potcp:segment_sent"


def test_no_ticket_and_no_samples_are_told() -> None:
    event = SamplesReceived(flow=1, count=2, energy_uj=3, esn_uj=4, samples=b"secret")
    assert "samples" not in event_data(event)
    pair = Pair()
    sink, source = traced(pair)
    play(pair)
    assert "ticket'" not in str(sink + source)


def test_profiles_ranges_and_samplings_are_texts_and_numbers() -> None:
    pair = Pair()
    sink, source = traced(pair)
    pair.energise("12V/1A", "12V/0.2A")
    granted = next(data for name, data in sink if name == "potcp:power_granted")
    assert granted["profile"] == "GRANT 12V/1A,lease=60s"
    assert isinstance(granted["sampling"], dict)
    assert granted["sampling"]["rate_hz"] == 1000
    asked = next(data for name, data in source if name == "potcp:power_requested")
    assert asked["asks"] == [["REQUEST 12V/1A", "MINIMUM 12V/0.2A"]]
    assert {event_name(one) for one in (_credit(), _shed())} == {"credit_updated", "shed"}
    assert event_name(PowerGranted.__new__(PowerGranted)) == "power_granted"


def test_after_its_end_a_connection_hears_nothing_more() -> None:
    pair = Pair()
    sink, _ = traced(pair)
    pair.energise("12V/1A")
    pair.sink.abort(Refusal(Reason.OPERATOR), now=pair.now)
    octets = pair.sink.data_to_send()
    before = len(sink)
    pair.sink.receive_data(octets, pair.now)
    assert [name for name, _ in sink[before:]] in ([], ["potcp:state_changed"])


def _credit() -> CreditReceived:
    return CreditReceived(flow=1, limit_uj=1, acked_uj=0, demand_mw=1)


def _shed() -> ShedReceived:
    return ShedReceived(
        flow=1, contract=3, ceiling=profile("12V/0.5A"), deadline_ms=1000, restore_s=0,
        refusal=None, urgent=False,
    )  # fmt: skip


def test_without_a_listener_nothing_is_told_and_nothing_differs() -> None:
    pair = Pair()
    traced(pair)
    deaf = TracedConnection(client=True, config=pair.config, entropy=counting_entropy(pair.now + 1))
    for sink in (pair.sink, deaf):
        sink.open_flow([ask("12V/1A")], now=pair.now)
    assert deaf.data_to_send() == pair.sink.data_to_send() != b""


def test_only_a_flow_that_moved_is_told() -> None:
    pair = Pair()
    sink, _ = traced(pair)
    pair.energise("12V/1A")
    del sink[:]
    other = pair.request(ask("5V/1A"))
    moved = {data["flow"] for name, data in sink if name == "potcp:state_changed"}
    assert moved == {other}


def test_a_page_is_told_as_it_was_signed() -> None:
    facts = PageFacts(
        flow=1, page=2, transcript=bytes(32), contract=1, samples=100, start_uj=3, end_uj=4,
        digest=bytes(32), peer_key=bytes(32), tariff=None, previous=b"",
        at_ns=7,
    )  # fmt: skip
    said = event_data(PageReceived(flow=1, octets=b"\x01\xff", facts=facts))
    assert said["octets"] == "01ff"
    assert said["facts"] == {
        "flow": 1, "page": 2, "contract": 1, "samples": 100, "start_uj": 3, "end_uj": 4,
        "at_ns": 7, "final": False, "truncated": False, "resumed": False, "sim": False,
    }  # fmt: skip
