"""A wake-up's blocks verified together and one by one: equal energies, events and refusals."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest

from powertcp.dve import encode_block
from powertcp.errors import LocalProtocolError
from powertcp.machine import Event
from powertcp.potcp.events import (
    FlowTripped,
    HeatCounted,
    SamplesReceived,
)
from powertcp.registry import Reason
from powertcp.wire.frames import data_header
from powertcp.wire.options import Sampling
from powertcp.wire.segments import Data, Segment
from tests.conversation import SINK, SOURCE, Pair, segments
from tests.full import size

BLOCKS = size(12, 64)
SAMPLES = 5
ROW = [5_000, 1_000_000]
ENERGY_UJ = 25_000
# what is wrong about one block, and what it trips
FAULTS = {
    "voltage": Reason.OVER_VOLTAGE,
    "current": Reason.SHORT_CIRCUIT,
    "rms": Reason.OVER_CURRENT,
    "reverse": Reason.REVERSE_POWER,
    "meter": Reason.METER_MISMATCH,
    "gap": Reason.SAMPLE_GAP,
    "pairs": Reason.SAMPLE_GAP,
    "credit": Reason.CREDIT_OVERRUN,
}


def segment(flow: int, at: int, fault: str) -> bytes:
    """Return the DATA segment of block `at`, wrong in one way."""
    counter, esn = SAMPLES * at, ENERGY_UJ * at
    rows = [list(ROW) for _ in range(SAMPLES)]
    match fault:
        case "voltage":
            rows[at % SAMPLES][0] = 10_000_000
        case "current":
            rows[at % SAMPLES][1] = 4_300_000 * 3 + 1
        case "rms":
            rows = [[5_000, 3_750_001]] * 40  # a whole window wherever it begins
        case "reverse":
            rows = [[5_000, -1_000_000]] * SAMPLES
        case "meter":
            esn += 1
        case "gap":
            counter += 1
        case "pairs":
            rows = [row * 2 for row in rows]
        case "credit":
            rows = [[5_000, 3_000_000]] * 2_040
    payload = encode_block(counter, np.array(rows, np.int32))
    return data_header(flow, esn, len(payload)) + payload


def by_flow(events: Iterable[Event]) -> dict[int, list[Event]]:
    """Return the events of each flow, neighbouring SamplesReceived made one."""
    found: dict[int, list[Event]] = {}
    for event in events:
        mine = found.setdefault(getattr(event, "flow", 0), [])
        before = mine[-1] if mine else None
        if isinstance(event, SamplesReceived) and isinstance(before, SamplesReceived):
            mine[-1] = dataclasses.replace(
                event,
                count=before.count + event.count,
                energy_uj=before.energy_uj + event.energy_uj,
            )
        else:
            mine.append(event)
    return found


def outcome(
    pieces: list[bytes], flows: int
) -> tuple[dict[int, list[Event]], list[Segment], list[int]]:
    """Return what a sink with energised flows reports, says and has banked."""
    pair = Pair()
    for _ in range(flows):
        pair.energise("5V/3A", sampling=Sampling(1000))
    pair.sink.take_events()
    for octets in pieces:
        pair.sink.receive_data(octets, pair.now)
    banked = [pair.sink.status(flow).esn_uj for flow in pair.sink.flows]
    return by_flow(pair.sink.take_events()), segments(pair.sink.data_to_send()), banked


@pytest.mark.requirement("PTCP-3.3-03", "PTCP-8-01", "PTCP-11-02")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_every_position_is_found_alike_in_groups_and_alone(fault: str) -> None:
    # nothing goes before the first block of which it could be a gap
    for position in range(fault == "gap", BLOCKS):
        pieces = [
            segment(flow, at, fault if (flow, at) == (1, position) else "")
            for at in range(BLOCKS)
            for flow in (1, 3)
        ]
        together = outcome([b"".join(pieces)], 2)
        assert together == outcome(pieces, 2)
        events, well = together[0][1], together[0][3]
        tripped = [one.refusal.code for one in events if isinstance(one, FlowTripped)]
        assert tripped == [FAULTS[fault]]
        banked = sum(one.energy_uj for one in events if isinstance(one, SamplesReceived))
        # a block beyond credit is banked up to the limit, any other not at all
        assert banked == (30_000_000 if fault == "credit" else position * ENERGY_UJ)
        # the rest of that flow is heat, block by block, and the other flow none the worse
        assert sum(isinstance(one, HeatCounted) for one in events) == BLOCKS - position
        assert [type(one) for one in well] == [SamplesReceived]
        assert together[2] == [banked, BLOCKS * ENERGY_UJ]


@pytest.mark.requirement("PTCP-3.3-03")
def test_without_a_fault_groups_of_any_size_bank_the_same() -> None:
    pieces = [segment(flow, at, "") for at in range(BLOCKS) for flow in (1, 3, 5)]
    alone = outcome(pieces, 3)
    for step in range(2, len(pieces) + 1):
        groups = [b"".join(pieces[at : at + step]) for at in range(0, len(pieces), step)]
        assert outcome(groups, 3)[0] == alone[0]
    assert alone[2] == [BLOCKS * ENERGY_UJ] * 3


def surged(flow: int, at: int, text: str, place: int) -> bytes:
    """Return DATA of one block under `text` with 10 kV at sample `place`."""
    ac = "@" in text
    turns = 2 * np.pi * np.arange(100) / 80
    peaks = np.array([325_000, 14_000_000]) if ac else np.array([5_000, 1_000_000])
    wave = np.sin(turns)[:, None] if ac else np.ones((100, 1))
    rows = np.rint(wave * peaks).astype(np.int32)
    rows[place, 0] = 10_000_000
    payload = encode_block(at, rows)
    return data_header(flow, 0, len(payload)) + payload


@pytest.mark.requirement("PTCP-8-04", "PTCP-8-01", "PTCP-8-02")
@pytest.mark.parametrize("text", ["5V/3A", "230V/16A@50Hz"])
def test_ten_kilovolts_at_every_position_trip_at_once_and_silence_the_source(text: str) -> None:
    for place in range(0, 100, size(7, 1)):
        pair = Pair()
        flow = pair.energise(text)
        pair.sink.receive_data(surged(flow, 0, text, place), pair.now)
        pair.collect()
        refusal = pair.one(SINK, FlowTripped).refusal
        assert (refusal.code, refusal.value) == (Reason.OVER_VOLTAGE, 10_000_000)
        assert pair.take(SINK, SamplesReceived) == []
        assert pair.sink.status(flow).esn_uj == 0
        # what was under way when the TRIP arrives is heat; the source sends nothing more
        block = pair.block(flow, 80)
        pair.source.send_samples(flow, [block], now=pair.now)
        pair.exchange()
        heat = pair.take(SINK, HeatCounted)
        assert [one.energy_uj > 0 for one in heat] == [True, True]
        pair.said(SOURCE, Data)
        for _ in range(10):
            with pytest.raises(LocalProtocolError):
                pair.source.send_samples(flow, [block], now=pair.now)
            pair.advance(0.01, step_ms=10)
        assert pair.said(SOURCE, Data) == []
        assert pair.take(SINK, SamplesReceived) == []
        assert pair.source.flows == pair.sink.flows == ()
