"""Volts as labels and back, stacks of any octets, and flow labels that rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import DecodeError, LocalProtocolError, PowerRefused
from powertcp.mplamps.label import (
    FIRST_FLOW_LABEL,
    MAX_DEPTH,
    MAX_LABEL,
    MAX_VOLTAGE_MV,
    NEUTRAL,
    REST_NS,
    LabelSpace,
    StackEntry,
    is_voltage,
    label_of,
    parse_stack,
    stack_octets,
    traffic_class,
    voltage_of,
)
from powertcp.units import NS_PER_S

LABELS = st.one_of(st.just(NEUTRAL), st.integers(16, MAX_LABEL))


@pytest.mark.requirement("MPLA-2.1-01")
@pytest.mark.parametrize(
    ("voltage_mv", "label"),
    [
        (0, 0),
        (1, 1_000_001),
        (12_000, 1_012_000),
        (15_999, 1_015_999),
        (16_000, 16),
        (16_499, 16),
        (16_500, 17),
        (230_000, 230),
        (400_000, 400),
        (20_000_000, 20_000),
        (110_000_000, 110_000),
        (380_000_000, 380_000),
        (MAX_VOLTAGE_MV, 1_000_000),
    ],
)
def test_a_voltage_is_equated_to_a_label(voltage_mv: int, label: int) -> None:
    assert label_of(voltage_mv) == label


@pytest.mark.requirement("MPLA-2.1-01")
def test_a_million_volts_is_the_most() -> None:
    with pytest.raises(PowerRefused, match="asked 1,000,000,001 mV") as caught:
        label_of(MAX_VOLTAGE_MV + 1)
    assert caught.value.refusal.code == 101
    with pytest.raises(LocalProtocolError):
        label_of(-1)


@pytest.mark.requirement("MPLA-2.1-02", "MPLA-2.1-03")
def test_special_and_unused_labels_are_no_voltage() -> None:
    assert is_voltage(0)
    assert not any(is_voltage(label) for label in range(1, 16))
    assert all(is_voltage(label) for label in (16, 1_000_000, 1_000_001, 1_015_999))
    assert not any(is_voltage(label) for label in (1_016_000, MAX_LABEL))
    for label in (1, 15, 1_016_000, MAX_LABEL):
        with pytest.raises(DecodeError) as caught:
            voltage_of(label)
        assert (caught.value.code, caught.value.value) == (503, label)


@pytest.mark.requirement("MPLA-2.1-01")
@given(st.integers(0, MAX_LABEL).filter(is_voltage))
def test_each_voltage_label_has_the_voltage_whose_label_it_is(label: int) -> None:
    assert label_of(voltage_of(label)) == label


@pytest.mark.requirement("MPLA-2.1-01")
@given(st.integers(0, MAX_VOLTAGE_MV))
def test_a_label_is_within_half_a_volt_of_its_voltage(voltage_mv: int) -> None:
    away = voltage_of(label_of(voltage_mv)) - voltage_mv
    assert -500 < away <= 500 if voltage_mv >= 16_000 else away == 0


def test_the_stack_of_the_document() -> None:
    toward_the_lamp = bytes.fromhex("000e664000010740")
    assert stack_octets((label_of(230_000), 16), traffic_class(4)) == toward_the_lamp
    toward_the_source = bytes.fromhex("0000064000010740")
    assert stack_octets((NEUTRAL, 16), traffic_class(4)) == toward_the_source
    entries, end = parse_stack(toward_the_lamp + b"\x45", 0)
    assert entries == (StackEntry(230, 3, 64, is_last=False), StackEntry(16, 3, 64, is_last=True))
    assert end == 8


@pytest.mark.requirement("MPLA-2.2-03")
def test_the_most_important_circuit_has_the_highest_class() -> None:
    assert [traffic_class(priority) for priority in range(8)] == [7, 6, 5, 4, 3, 2, 1, 0]
    for priority in (-1, 8):
        with pytest.raises(LocalProtocolError):
            traffic_class(priority)


@pytest.mark.requirement("MPLA-2.2-04", "MPLA-2.2-05")
@given(
    st.lists(LABELS, min_size=1, max_size=MAX_DEPTH),
    st.integers(0, 7),
    st.integers(0, 255),
    st.binary(max_size=9),
    st.integers(0, 5),
)
def test_a_stack_is_read_as_it_was_written(
    labels: list[int], tc: int, ttl: int, rest: bytes, offset: int
) -> None:
    octets = bytes(offset) + stack_octets(labels, tc, ttl)
    entries, end = parse_stack(octets + rest, offset)
    assert end == len(octets)
    assert [entry.label for entry in entries] == labels
    assert {(entry.tc, entry.ttl) for entry in entries} == {(tc, ttl)}
    assert [entry.is_last for entry in entries] == [False] * (len(labels) - 1) + [True]
    assert b"".join(entry.to_wire() for entry in entries) == octets[offset:]


@pytest.mark.requirement("MPLA-2.2-05")
@given(st.binary(max_size=64), st.integers(0, 70))
def test_any_octets_are_a_stack_or_one_error(packet: bytes, offset: int) -> None:
    code = 0
    try:
        entries, end = parse_stack(packet, offset)
    except DecodeError as error:
        code = error.code
    else:
        assert 1 <= len(entries) <= MAX_DEPTH
        assert end == offset + 4 * len(entries) <= len(packet)
    assert code in (0, 502, 508)


@pytest.mark.requirement("MPLA-2.2-05")
def test_eight_entries_are_read_and_nine_are_not() -> None:
    deep = stack_octets([16] * MAX_DEPTH, 0)
    assert len(parse_stack(deep)[0]) == 8
    with pytest.raises(DecodeError) as caught:
        parse_stack(deep[:4] + deep)
    assert caught.value.code == 508
    for labels in ([], [16] * 9):
        with pytest.raises(LocalProtocolError):
            stack_octets(labels, 0)


@pytest.mark.requirement("MPLA-2.1-02")
@pytest.mark.parametrize("label", [1, 13, 15, -1, MAX_LABEL + 1])
def test_special_labels_are_never_sent(label: int) -> None:
    with pytest.raises(LocalProtocolError, match="never sent"):
        stack_octets([label], 0)


@pytest.mark.parametrize(("tc", "ttl"), [(8, 64), (-1, 64), (0, 256), (0, -1)])
def test_fields_that_do_not_fit_are_ours_to_mend(tc: int, ttl: int) -> None:
    with pytest.raises(LocalProtocolError):
        stack_octets([230, 16], tc, ttl)


@pytest.mark.requirement("MPLA-2.2-01")
def test_the_lowest_free_label_is_given_out_and_a_freed_one_rests() -> None:
    space = LabelSpace()
    assert [space.allocate(0) for _ in range(3)] == [16, 17, 18]
    space.free(17, 0)
    space.free(16, NS_PER_S)
    assert (16 in space, 18 in space, len(space)) == (False, True, 1)
    assert space.allocate(REST_NS - 1) == 19
    assert space.allocate(REST_NS) == 17
    assert space.allocate(REST_NS) == 20
    assert space.allocate(REST_NS + NS_PER_S) == 16


@pytest.mark.requirement("MPLA-2.2-01")
def test_labels_run_out_and_one_that_has_rested_comes_again() -> None:
    space = LabelSpace(FIRST_FLOW_LABEL + 1)
    assert [space.allocate(5), space.allocate(5)] == [16, 17]
    with pytest.raises(PowerRefused) as caught:
        space.allocate(5)
    assert caught.value.refusal.sentence() == "508 LIMIT: 3 is over the limit of 2"
    space.free(17, 5)
    with pytest.raises(PowerRefused, match="retry in 10 s"):
        space.allocate(6)
    assert space.allocate(5 + REST_NS) == 17


def test_only_what_was_given_out_is_taken_back() -> None:
    space = LabelSpace()
    label = space.allocate(0)
    space.free(label, 0)
    for never in (label, 17):
        with pytest.raises(LocalProtocolError):
            space.free(never, 0)


@pytest.mark.requirement("MPLA-2.2-01")
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4 * NS_PER_S)), max_size=60))
def test_no_label_is_given_out_twice_or_before_its_rest(acts: list[tuple[bool, int]]) -> None:
    space = LabelSpace()
    now = 0
    given_out: list[int] = []
    freed: dict[int, int] = {}
    for is_allocated, later in acts:
        now += later
        if is_allocated:
            label = space.allocate(now)
            assert label not in given_out
            assert now >= freed.pop(label, now - REST_NS) + REST_NS
            free = {old for old, at in freed.items() if now >= at + REST_NS}
            assert label < min(free, default=MAX_LABEL)
            given_out.append(label)
        elif given_out:
            label = given_out.pop(len(given_out) // 2)
            space.free(label, now)
            freed[label] = now
        assert len(space) == len(given_out)
