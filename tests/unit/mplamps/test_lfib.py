"""What comes under a voltage leaves under another, and why it sometimes does not."""

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from powertcp.errors import LocalProtocolError, PowerRefused
from powertcp.mplamps.label import REST_NS, parse_stack, stack_octets
from powertcp.mplamps.lfib import Delivery, Drop, Lfib, Out, Verdict, label_table
from powertcp.mplamps.meter import Meter
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Sender, Session
from powertcp.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

ES = IPv4Address("10.0.0.1")
LAMPS = [IPv4Address("10.0.0.5"), IPv4Address("10.0.0.6")]
# 20 kV toward the source, two feeders of 400 V toward the lamps
LINKS = {1: 20_000, 2: 400, 3: 400}
BODY = b"\x45 an IPv4 packet, nobody looks"


def owner(lamp: int = 0, lsp: int = 1) -> CircuitId:
    return CircuitId(Session(ES, 1, LAMPS[lamp]), Sender(LAMPS[lamp], lsp))


def packet(label: int, flow: int, tc: int = 3, ttl: int = 64) -> bytes:
    return stack_octets((label, flow), tc, ttl) + BODY


def swapped(verdict: Verdict) -> tuple[int, bytes]:
    assert isinstance(verdict, list)
    (only,) = verdict
    return only


def substation() -> tuple[Lfib, int, int]:
    """A transformer with one circuit, both of its entries closed; their flow labels."""
    lfib = Lfib(LINKS, is_transformer=True)
    phase = lfib.allocate(owner(), 20_000, 0)
    neutral = lfib.allocate(owner(), 0, 0)
    lfib.close_entry(20_000, phase, [Out(2, 400, 77)])
    lfib.close_entry(0, neutral, [Out(1, 0, 88)])
    return lfib, phase, neutral


@pytest.mark.requirement("MPLA-2.1-02", "MPLA-2.2-03", "MPLA-2.2-04", "MPLA-2.3-01")
def test_a_transformer_is_a_swap_of_labels() -> None:
    lfib, phase, neutral = substation()
    link, out = swapped(lfib.forward(1, packet(20_000, phase)))
    entries, end = parse_stack(out)
    assert link == 2
    assert [(one.label, one.tc, one.ttl, one.is_last) for one in entries] == [
        (400, 3, 63, False),
        (77, 3, 63, True),
    ]
    assert out[end:] == BODY
    assert swapped(lfib.forward(2, packet(0, neutral, 7, 2))) == (1, packet(0, 88, 7, 1))
    entry = lfib.entry(20_000, phase)
    assert (entry.packets, entry.octets) == (1, len(packet(20_000, phase)))
    assert (entry.outs, entry.owner, entry.is_closed) == ((Out(2, 400, 77),), owner(), True)
    assert not any(lfib.drops.values())


@pytest.mark.requirement("MPLA-3-01", "MPLA-3-04")
def test_an_entry_is_open_until_it_is_closed_and_when_it_is_opened() -> None:
    lfib = Lfib({1: 230})
    flow = lfib.allocate(owner(), 230, 0)
    assert lfib.forward(1, packet(230, flow)) is Drop.OPEN
    lfib.close_entry(230, flow, [Out(1, 230, 20)])
    assert lfib.forward(1, packet(230, flow)) == [(1, packet(230, 20, ttl=63))]
    lfib.open_entry(230, flow)
    assert not lfib.entry(230, flow).is_closed
    assert lfib.forward(1, packet(230, flow)) is Drop.OPEN
    assert lfib.drops[Drop.OPEN] == 2


def test_the_own_end_gets_packets_without_their_stack() -> None:
    lfib = Lfib({1: 230})
    flow = lfib.allocate(owner(), 230, 0)
    lfib.deliver(230, flow)
    # it is not forwarded: its TTL has nothing to say
    for ttl in (64, 1, 0):
        assert lfib.forward(1, packet(230, flow, ttl=ttl)) == Delivery(owner(), BODY)
    assert lfib.entry(230, flow)[3:7] == ((), True, True, 3)


def test_an_entry_may_lead_to_several_links() -> None:
    lfib, phase, _ = substation()
    lfib.close_entry(20_000, phase, [Out(2, 400, 77), Out(3, 400, 78)])
    assert lfib.forward(1, packet(20_000, phase)) == [
        (2, packet(400, 77, ttl=63)),
        (3, packet(400, 78, ttl=63)),
    ]
    for ttl in (0, 1):
        assert lfib.forward(1, packet(20_000, phase, ttl=ttl)) is Drop.TTL


@pytest.mark.requirement(
    "MPLA-2.1-02", "MPLA-2.1-03", "MPLA-2.2-02", "MPLA-2.2-04", "MPLA-2.2-05", "MPLA-3-04"
)
@pytest.mark.parametrize(
    ("link", "words", "drop"),
    [
        # 20 kV on a 400 V feeder, and what no link has
        (2, "04e20640 00010740", Drop.WRONG_VOLTAGE),
        (1, "61a80640 00010740", Drop.WRONG_VOLTAGE),
        (1, "61a80640 00010640 00010740", Drop.WRONG_VOLTAGE),
        # special-purpose labels, and labels above all voltages
        (1, "00001640 00010740", Drop.RESERVED),
        (1, "0000f640 00010740", Drop.RESERVED),
        (1, "f80c0640 00010740", Drop.RESERVED),
        (1, "fffff640 00010740", Drop.RESERVED),
        (1, "0000f740", Drop.RESERVED),
        (1, "04e20640 0000f740", Drop.RESERVED),
        (1, "00000640 00000640 0000f740", Drop.RESERVED),
        # no entry: another flow, of another space, one label, three labels, neutrals alone
        (1, "04e20640 00011740", Drop.UNKNOWN_LABEL),
        (1, "04e20640 fffff740", Drop.UNKNOWN_LABEL),
        (2, "00190640 00010740", Drop.UNKNOWN_LABEL),
        (1, "04e20740", Drop.UNKNOWN_LABEL),
        (1, "04e20640 00010640 00010740", Drop.UNKNOWN_LABEL),
        (1, "04e20640 00000740", Drop.UNKNOWN_LABEL),
        (1, "00000640 00000740", Drop.UNKNOWN_LABEL),
        (1, "00000740", Drop.UNKNOWN_LABEL),
        # hops
        (1, "04e20640 00010701", Drop.TTL),
        (1, "04e20600 00010740", Drop.TTL),
        (1, "04e20640 00000601 00010740", Drop.TTL),
        # not a stack
        (1, "", Drop.MALFORMED),
        (1, "04e20640 000107", Drop.MALFORMED),
        (1, "04e20640 00010640", Drop.MALFORMED),
        (1, "00000640" * 8 + "00010740", Drop.MALFORMED),
    ],
)
def test_each_packet_that_is_dropped_is_counted(link: int, words: str, drop: Drop) -> None:
    lfib, phase, neutral = substation()
    assert phase == neutral == 16
    assert lfib.forward(link, bytes.fromhex(words)) is drop
    assert lfib.drops == {one: one is drop for one in Drop}


@pytest.mark.requirement("MPLA-2.2-05", "MPLA-3-04")
def test_a_packet_of_another_link_is_of_no_circuit() -> None:
    lfib = Lfib(LINKS, is_transformer=True)
    phase, neutral = lfib.allocate(owner(), 400, 0, 2), lfib.allocate(owner(), 0, 0, 3)
    meter = Meter(60_000, 0)
    acts: list[Callable[[], None]] = [
        lambda: lfib.open_entry(400, phase),
        lambda: lfib.close_entry(400, phase, [Out(3, 400, 77)]),
        lambda: lfib.close_entry(400, phase, [Out(3, 400, 77)], meter),
        lambda: lfib.deliver(400, phase, meter),
    ]
    for turn, act in enumerate(acts):
        act()
        assert lfib.forward(3, packet(400, phase)) is Drop.UNKNOWN_LABEL
        assert lfib.forward(2, packet(400, phase)) is not Drop.UNKNOWN_LABEL
        assert lfib.entry(400, phase).packets == turn
    assert meter.packets == 2
    lfib.close_entry(0, neutral, [Out(2, 0, 88)])
    deep = stack_octets((0, 0, neutral), 3) + BODY
    for link in (1, 2):
        for sent in (packet(0, neutral), deep):
            assert lfib.forward(link, sent) is Drop.UNKNOWN_LABEL
    assert swapped(lfib.forward(3, deep))[0] == 2


@pytest.mark.requirement("MPLA-2.2-05")
def test_a_label_that_is_given_out_again_comes_on_the_new_link() -> None:
    lfib = Lfib({1: 230, 2: 230})
    flow = lfib.allocate(owner(), 230, 0, 1)
    lfib.release(owner(), 0)
    assert lfib.allocate(owner(1), 230, REST_NS, 2) == flow
    assert lfib.forward(1, packet(230, flow)) is Drop.UNKNOWN_LABEL
    assert lfib.forward(2, packet(230, flow)) is Drop.OPEN


@pytest.mark.requirement("MPLA-2.1-02", "MPLA-2.2-05")
def test_neutrals_on_top_of_a_flow_label_are_popped() -> None:
    lfib, phase, neutral = substation()
    deep = stack_octets((20_000, *[0] * 6, phase), 3) + BODY
    assert lfib.forward(1, deep) == [(2, packet(400, 77, ttl=63))]
    deep = stack_octets((0, 0, neutral), 3) + BODY
    assert lfib.forward(2, deep) == [(1, packet(0, 88, ttl=63))]


@pytest.mark.requirement("MPLA-3-04")
def test_what_never_came_to_the_table_is_counted_there_too() -> None:
    lfib = Lfib({1: 230})
    assert lfib.count(Drop.NOT_NEIGHBOUR) is Drop.NOT_NEIGHBOUR
    lfib.count(Drop.QUEUE)
    assert (lfib.drops[Drop.NOT_NEIGHBOUR], lfib.drops[Drop.QUEUE]) == (1, 1)


@pytest.mark.requirement("MPLA-2.3-02")
def test_only_a_transformer_has_links_of_different_labels() -> None:
    with pytest.raises(LocalProtocolError, match="the labels 400, 20000 meet at no transformer"):
        Lfib(LINKS)
    assert Lfib({1: 400, 2: 400}).label_of_link(2) == 400
    lfib, phase, neutral = substation()
    for label, flow, out in (
        # not the voltage of that link, of no link, phase to neutral and back
        (20_000, phase, Out(2, 20_000, 77)),
        (20_000, phase, Out(9, 400, 77)),
        (20_000, phase, Out(2, 0, 77)),
        (0, neutral, Out(1, 20_000, 88)),
        (0, neutral, Out(9, 0, 88)),
        (0, neutral, Out(1, 0, 15)),
        (0, neutral, Out(1, 0, 1 << 20)),
    ):
        before = list(lfib.entries())
        with pytest.raises(LocalProtocolError):
            lfib.close_entry(label, flow, [out])
        assert list(lfib.entries()) == before
    with pytest.raises(LocalProtocolError, match="leads somewhere"):
        lfib.close_entry(0, neutral, [])


def test_misuse() -> None:
    for labels in ({1: 0}, {1: 15}, {1: 1_016_000}):
        with pytest.raises(LocalProtocolError, match="that of a voltage"):
            Lfib(labels)
    lfib, phase, _ = substation()
    for wrong in (
        lambda: lfib.forward(9, packet(400, 16)),
        lambda: lfib.label_of_link(9),
        lambda: lfib.allocate(owner(), 230, 0),
        lambda: lfib.entry(400, 16),
        lambda: lfib.entry(230, 16),
        lambda: lfib.open_entry(20_000, phase + 1),
        lambda: lfib.deliver(20_000, -1),
    ):
        with pytest.raises(LocalProtocolError):
            wrong()


@pytest.mark.requirement("MPLA-2.2-01")
def test_one_space_for_each_voltage_and_one_for_the_neutral() -> None:
    lfib = Lfib(LINKS, is_transformer=True)
    assert [lfib.allocate(owner(), label, 0) for label in (20_000, 400, 0)] == [16, 16, 16]
    assert [lfib.allocate(owner(1), label, 0) for label in (20_000, 400, 0)] == [17, 17, 17]
    assert (len(lfib), lfib.circuits) == (6, 2)
    assert [entry.label for entry in lfib.entries(owner(1))] == [20_000, 400, 0]
    assert list(lfib.entries(owner(0, 9))) == []


@pytest.mark.requirement("MPLA-2.2-01")
def test_a_circuit_that_is_released_leaves_nothing_and_its_labels_rest() -> None:
    lfib, phase, neutral = substation()
    lfib.forward(1, packet(20_000, phase))
    lfib.release(owner(), NS_PER_S)
    lfib.release(owner(), NS_PER_S)
    assert (len(lfib), lfib.circuits, list(lfib.entries())) == (0, 0, [])
    assert lfib.forward(1, packet(20_000, phase)) is Drop.UNKNOWN_LABEL
    assert lfib.forward(2, packet(0, neutral)) is Drop.UNKNOWN_LABEL
    assert lfib.allocate(owner(), 20_000, NS_PER_S) == 17
    assert lfib.allocate(owner(), 20_000, NS_PER_S + REST_NS) == 16
    # the counters are those of the new circuit
    assert [entry.packets for entry in lfib.entries()] == [0, 0]
    assert lfib.forward(1, packet(20_000, phase)) is Drop.OPEN


@pytest.mark.requirement("MPLA-4.10-03")
def test_circuits_beyond_the_limit_are_refused() -> None:
    lfib = Lfib({1: 230}, max_circuits=1)
    lfib.allocate(owner(), 230, 0)
    with pytest.raises(PowerRefused, match="2 is over the limit of 1") as caught:
        lfib.allocate(owner(1), 230, 0)
    assert caught.value.refusal.code == 508
    # the circuit that is there gets its other entry
    lfib.allocate(owner(), 0, 0)
    lfib.release(owner(), 0)
    assert lfib.allocate(owner(1), 230, 0) == 17


@pytest.mark.requirement("MPLA-2.2-01")
def test_labels_that_are_exhausted_are_refused() -> None:
    lfib = Lfib({1: 230}, last_label=17)
    assert [lfib.allocate(owner(), 230, 0) for _ in range(2)] == [16, 17]
    with pytest.raises(PowerRefused) as caught:
        lfib.allocate(owner(1), 230, 0)
    assert caught.value.refusal.code == 508
    assert lfib.circuits == 1


@pytest.mark.requirement("MPLA-3-02")
def test_a_meter_notes_what_passes_an_entry() -> None:
    lfib, phase, _ = substation()
    meter = Meter(60_000, 0)
    lfib.close_entry(20_000, phase, [Out(2, 400, 77)], meter)
    assert lfib.forward(1, packet(20_000, phase)) == [(2, packet(400, 77, ttl=63))]
    lfib.deliver(20_000, phase, meter)
    lfib.forward(1, packet(20_000, phase))
    lfib.close_entry(20_000, phase, [Out(2, 400, 77)])
    lfib.forward(1, packet(20_000, phase))
    assert (meter.packets, meter.octets) == (2, 2 * len(BODY))
    assert lfib.entry(20_000, phase).packets == 3


@pytest.mark.requirement("MPLA-8-01")
def test_the_canonical_table_does_not_tell_who_came_first() -> None:
    def table(order: tuple[int, int]) -> list[str]:
        lfib = Lfib(LINKS, is_transformer=True)
        for lamp in order:
            phase = lfib.allocate(owner(lamp), 20_000, 0)
            neutral = lfib.allocate(owner(lamp), 0, 0)
            if lamp:
                lfib.close_entry(20_000, phase, [Out(3, 400, 16), Out(2, 400, 16)])
                lfib.deliver(0, neutral)
        return label_table(lfib, lambda lamp: f"lamp-{LAMPS.index(lamp) + 1}", "g1--c{}".format)

    assert (
        table((0, 1))
        == table((1, 0))
        == [
            "0 lamp-1/1 open",
            "0 lamp-2/1 closed here",
            "20000 lamp-1/1 open",
            "20000 lamp-2/1 closed g1--c2 400 g1--c3 400",
        ]
    )
