"""Links in simulated time: delay, rate, loss, cuts, and dice that follow from a seed."""

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.topology import Draft, NodeKind, Topology
from powertcp.mplamps.wires import HEADERS, Dice, Wire
from powertcp.units import NS_PER_MS, NS_PER_S


def wire(rate_bps: int | None = None, loss_ppm: int = 0, seed: int = 1) -> Wire:
    draft = Draft("line")
    draft.node("es1", NodeKind.ES)
    draft.node("s1", NodeKind.SWITCH)
    draft.link("es1", "s1", 230_000, rate_bps=rate_bps, loss_ppm=loss_ppm)
    topology: Topology = draft.finish()
    return Wire(topology, topology.links[0], "s1", 7, seed)


def test_dice_follow_from_seed_purpose_and_count() -> None:
    assert Dice(1, "a")(100) == Dice(1, "a")(100)
    assert len(Dice(1, "a")(100)) == 100
    draws = {Dice(seed, purpose)(8) for seed in (1, 2) for purpose in ("a", "b")}
    one = Dice(1, "a")
    draws |= {one(8), one(8)}
    assert len(draws) == 5
    assert one(0) == b""


def test_dice_hit_as_often_as_they_should() -> None:
    dice = Dice(3251, "loss")
    assert 4_700 < sum(dice.is_below(50_000) for _ in range(100_000)) < 5_300
    assert not any(dice.is_below(0) for _ in range(100))
    assert all(dice.is_below(1_000_000) for _ in range(100))


def test_a_wire_knows_its_ends() -> None:
    one = wire()
    assert (one.source, one.target, one.name, one.number) == ("s1", "es1", "es1--s1", 1)
    assert [str(one.source_address), str(one.target_address)] == ["10.0.0.2", "10.0.0.1"]


def test_a_plain_link_takes_its_delay() -> None:
    one = wire()
    assert one.is_plain
    assert one.plain_ns == NS_PER_MS
    assert one.control(200, 5) == one.packet(200, 5) == 5 + NS_PER_MS
    assert one.packet(200, 5) == 5 + NS_PER_MS


def test_octets_take_time_on_a_limited_link() -> None:
    one = wire(rate_bps=64_000)
    assert not one.is_plain
    assert one.is_limited
    sending_ns = (172 + HEADERS) * 8 * NS_PER_S // 64_000
    assert one.packet(172, 0) == sending_ns + NS_PER_MS
    assert not one.is_free(sending_ns - 1)
    with pytest.raises(LocalProtocolError):
        one.packet(172, sending_ns - 1)
    assert one.free_at == sending_ns
    assert one.is_free(sending_ns)
    # messages wait for each other, not for packets
    assert one.control(172, 0) == sending_ns + NS_PER_MS
    assert one.control(172, 0) == 2 * sending_ns + NS_PER_MS


def test_a_lossy_link_loses_the_same_messages_for_the_same_seed() -> None:
    one, again, other = wire(loss_ppm=50_000), wire(loss_ppm=50_000), wire(None, 50_000, seed=2)
    came = [one.control(100, at) for at in range(1_000)]
    assert came == [again.control(100, at) for at in range(1_000)]
    assert came != [other.control(100, at) for at in range(1_000)]
    assert one.lost == came.count(None)
    assert 25 < one.lost < 75


def test_nothing_comes_out_of_a_wire_that_is_cut() -> None:
    one = wire()
    one.queue.push(bytes(8))
    one.cut(is_cut=True)
    assert not one.is_plain
    assert one.control(100, 0) is None
    assert one.packet(100, 0) is None
    assert (one.lost, len(one.queue)) == (3, 0)
    one.cut(is_cut=False)
    assert one.is_plain
    assert one.packet(100, 0) == NS_PER_MS
