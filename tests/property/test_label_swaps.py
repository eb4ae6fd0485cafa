"""A batch does what its packets do one by one: same octets, links, reasons and counters."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from powertcp.mplamps.batch import forward_batch
from powertcp.mplamps.label import parse_stack
from powertcp.mplamps.lfib import Drop, Entry, Lfib, Out, Verdict
from powertcp.mplamps.meter import Meter
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Sender, Session
from tests.full import size

ES = IPv4Address("10.0.0.1")
LINKS = {1: 20_000, 2: 400, 3: 400, 7: 230}
LABELS = (0, 20_000, 400, 230)


def owner(number: int) -> CircuitId:
    lamp = IPv4Address((10 << 24) + number)
    return CircuitId(Session(ES, 1, lamp), Sender(lamp, 1))


@dataclass
class Fate:
    """One circuit: its space, what its entry does, and the link it comes on, 0 for any."""

    label: int
    kind: str
    outs: list[int]
    origin: int


FATES = st.builds(
    Fate,
    st.sampled_from(LABELS),
    st.sampled_from(["open", "swap", "swap", "swap", "several", "own", "metered", "gone"]),
    st.lists(st.sampled_from(sorted(LINKS)), min_size=1, max_size=3),
    st.sampled_from([0, 0, *sorted(LINKS)]),
)


def table(fates: list[Fate]) -> Lfib:
    """Make the same table each time."""
    lfib = Lfib(LINKS, is_transformer=True)
    for number, fate in enumerate(fates):
        flow = lfib.allocate(owner(number), fate.label, 0, fate.origin)
        outs = [
            Out(link, LINKS[link] if fate.label else 0, 16 + number * 31 + link)
            for link in fate.outs
        ]
        if fate.kind in ("swap", "metered"):
            meter = Meter(1000, 0) if fate.kind == "metered" else None
            lfib.close_entry(fate.label, flow, outs[:1], meter)
        elif fate.kind == "several":
            lfib.close_entry(fate.label, flow, outs)
        elif fate.kind == "own":
            lfib.deliver(fate.label, flow)
        elif fate.kind == "gone":
            lfib.release(owner(number), 0)
    return lfib


RARE = st.sampled_from([0, 1, 15, 231, 400, 1_016_000, 1_048_575])


def packets(link: int) -> st.SearchStrategy[bytes]:
    """Packets that come in on a link: most of them lawful, under labels that may well be there."""
    good = st.builds(
        lambda top, flow, tc, ttls, body: packet([(top, ttls[0]), (flow, ttls[1])], tc, body),
        st.sampled_from([0, LINKS[link]]),
        st.integers(16, 19),
        st.integers(0, 7),
        st.tuples(st.integers(2, 255), st.integers(2, 255)),
        st.binary(max_size=20),
    )
    entries = st.tuples(
        st.one_of(st.sampled_from(LABELS), st.integers(14, 18), RARE), st.integers(0, 3)
    )
    other = st.builds(
        lambda stack, tc, body, cut: packet(stack, tc, body)[:cut],
        st.lists(entries, max_size=9),
        st.integers(0, 7),
        st.binary(max_size=8),
        st.sampled_from([200, 200, 7, 3]),
    )
    return st.one_of(good, good, good, other)


def packet(stack: list[tuple[int, int]], tc: int, body: bytes) -> bytes:
    words = [
        label << 12 | tc << 9 | (at == len(stack) - 1) << 8 | ttl
        for at, (label, ttl) in enumerate(stack)
    ]
    return b"".join(word.to_bytes(4, "big") for word in words) + body


ARRIVALS = st.sampled_from(sorted(LINKS)).flatmap(
    lambda link: st.tuples(st.just(link), st.lists(packets(link), max_size=40))
)


def state(lfib: Lfib) -> tuple[list[Entry], dict[Drop, int]]:
    return list(lfib.entries()), lfib.drops


def compare(fates: list[Fate], link: int, arrived: list[bytes], seed: int) -> int:
    """Forward packets singly and as a batch; return how many were swapped."""
    single, batched = table(fates), table(fates)
    expected = [single.forward(link, packet) for packet in arrived]
    # the packets lie in any order with anything between them
    random = Random(seed)
    octets = bytearray(random.randbytes(random.randrange(4)))
    starts = [0] * len(arrived)
    for index in random.sample(range(len(arrived)), len(arrived)):
        starts[index] = len(octets)
        octets += arrived[index] + random.randbytes(random.randrange(4))
    before = bytes(octets)
    sizes = [len(packet) for packet in arrived]
    batch = forward_batch(
        batched, link, octets, np.array(starts, np.int64), np.array(sizes, np.int64)
    )
    got: list[Verdict] = []
    swaps = 0
    for index, (start, length) in enumerate(zip(starts, sizes, strict=True)):
        out = int(batch.links[index])
        if out:
            swaps += 1
            got.append([(out, bytes(octets[start : start + length]))])
            octets[start : start + length] = arrived[index]
        else:
            got.append(batch.others[index])
    assert got == expected
    assert len(batch.others) + swaps == len(arrived)
    # nothing but the stacks of what was swapped was touched
    assert octets == before
    assert state(batched) == state(single)
    return swaps


@pytest.mark.requirement("MPLA-2.2-02", "MPLA-2.2-03", "MPLA-2.2-04", "MPLA-2.3-01", "MPLA-3-04")
@settings(max_examples=size(150, 1000), deadline=None)
@given(st.lists(FATES, min_size=4, max_size=16), ARRIVALS, st.integers(0, 2**32))
def test_a_batch_equals_its_packets(
    fates: list[Fate], arrival: tuple[int, list[bytes]], seed: int
) -> None:
    link, arrived = arrival
    swaps = compare(fates, link, arrived, seed)
    event(f"swapped: {min(swaps, 5)}")


@pytest.mark.requirement("MPLA-2.2-02", "MPLA-2.2-03", "MPLA-2.2-04", "MPLA-2.3-01", "MPLA-3-04")
@pytest.mark.parametrize("link", sorted(LINKS))
def test_thousands_at_once_are_as_one_by_one(link: int) -> None:
    random = Random(link)
    kinds = ["open", "swap", "swap", "swap", "several", "own", "metered", "gone"]
    outs = sorted(LINKS)
    fates = [
        Fate(
            random.choice(LABELS),
            random.choice(kinds),
            random.choices(outs, k=2),
            random.choice((0, link, link, *outs)),
        )
        for _ in range(400)
    ]
    arrived = [
        packet(
            [(random.choice((0, LINKS[link])), random.randrange(1, 256)),
             (random.randrange(14, 130), 64)],
            random.randrange(8),
            random.randbytes(random.randrange(60)),
        )
        for _ in range(4096)
    ]  # fmt: skip
    assert compare(fates, link, arrived, link) > 500


@pytest.mark.requirement("MPLA-2.2-03", "MPLA-2.2-04", "MPLA-2.3-01", "MPLA-3-04")
@settings(max_examples=size(150, 1000), deadline=None)
@given(
    st.lists(FATES, min_size=4, max_size=16),
    st.sampled_from(sorted(LINKS)).flatmap(lambda link: st.tuples(st.just(link), packets(link))),
)
def test_what_leaves_is_what_came_but_for_its_labels(
    fates: list[Fate], arrival: tuple[int, bytes]
) -> None:
    lfib = table(fates)
    link, arrived = arrival
    verdict = lfib.forward(link, arrived)
    dropped = sum(lfib.drops.values())
    counted = sum(entry.packets for entry in lfib.entries())
    assert dropped + counted == 1
    if not isinstance(verdict, list):
        assert isinstance(verdict, Drop) == bool(dropped)
        return
    event("forwarded")
    came, end = parse_stack(arrived)
    for out, packet in verdict:
        left, behind = parse_stack(packet)
        assert packet[behind:] == arrived[end:]
        assert [entry.tc for entry in left] == [came[0].tc, came[-1].tc]
        assert [entry.ttl for entry in left] == [came[0].ttl - 1, came[-1].ttl - 1]
        assert left[0].label == (LINKS[out] if came[0].label else 0)


@settings(max_examples=size(100, 3000), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["allocate", "release", "close"]),
                          st.integers(0, 4), st.sampled_from(LABELS)), max_size=40))  # fmt: skip
def test_a_table_is_what_its_entries_say(acts: list[tuple[str, int, int]]) -> None:
    """Labels, slots and spaces agree after any history; released by all, nothing is left."""
    lfib = Lfib(LINKS, is_transformer=True)
    model: dict[tuple[int, int], tuple[int, bool]] = {}
    now = 0
    for act, number, label in acts:
        now += 3_000_000_000
        if act == "allocate":
            flow = lfib.allocate(owner(number), label, now)
            assert (label, flow) not in model
            model[label, flow] = number, False
        elif act == "release":
            lfib.release(owner(number), now)
            model = {key: value for key, value in model.items() if value[0] != number}
        else:
            for key in [key for key, value in model.items() if value[0] == number]:
                lfib.deliver(*key)
                model[key] = number, True
        assert {
            (entry.label, entry.flow): (int(entry.owner.sender[0]) - (10 << 24), entry.is_closed)
            for entry in lfib.entries()
        } == model
        assert len(lfib) == len(model)
    for number in range(5):
        lfib.release(owner(number), now)
    assert (len(lfib), lfib.circuits, list(lfib.entries())) == (0, 0, [])
