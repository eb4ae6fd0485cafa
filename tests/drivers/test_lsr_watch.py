"""The light of a lamp seen from its splice, where a seal hides the samples: headers are believed."""

import pytest
import trio.testing

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.lsr_watch import BLOCK_NS, MAX_BLOCK_NS, LightWatch
from powertcp.reclaim.track import End
from powertcp.registry import SegmentType
from powertcp.units import NS_PER_MS, NS_PER_S, Instant
from powertcp.wire.frames import pack_segment


def sealed(esn_uj: int) -> bytes:
    return pack_segment(SegmentType.SEALED, 0, 1, esn_uj, b"", bytes(40))


class Watched:
    """A watch and what it has said, at which ms."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []
        self.woken: list[Instant] = []
        self.watch = LightWatch(self._banked, self._missed, lambda _, at: self.woken.append(at))

    def _banked(self, now: Instant) -> None:
        self.said.append(("lit", now // NS_PER_MS))

    def _missed(self, now: Instant) -> None:
        self.said.append(("flicker", now // NS_PER_MS))


@pytest.mark.requirement("MPLA-1-01")
async def test_lit_flickering_and_lit_again(mock_clock: trio.testing.MockClock) -> None:
    one = Watched()
    start_ms = now_ns() // NS_PER_MS

    def wait(ms: int) -> None:
        mock_clock.jump(ms / 1000)

    # a handshake and a block before which nothing was delivered light nothing
    one.watch.look(End.CLIENT, sealed(0))
    one.watch.look(End.SERVER, sealed(0))
    assert one.said == []
    assert one.watch.get_timer() is None
    wait(20)
    one.watch.look(End.SERVER, sealed(1_196_000))
    assert one.said == [("lit", start_ms + 20)]
    # how long a block is shows when the second one comes
    assert one.woken == [now_ns() + 2 * MAX_BLOCK_NS]
    wait(20)
    one.watch.look(End.SERVER, sealed(2_392_000))
    assert one.woken[1:] == [now_ns() + 2 * BLOCK_NS]
    wait(39)
    one.watch.handle_timer(now_ns())
    assert len(one.said) == 1
    wait(1)
    one.watch.handle_timer(now_ns())
    assert one.said[1:] == [("flicker", start_ms + 80)]
    assert one.watch.get_timer() is None
    # what the consumer says lights nothing, the next block does
    one.watch.look(End.CLIENT, sealed(1_196_000))
    assert len(one.said) == 2
    wait(5)
    one.watch.look(End.SERVER, sealed(3_588_000))
    assert one.said[2:] == [("lit", start_ms + 85)]
    assert one.watch.flush()


async def test_longer_blocks_are_waited_for_longer(mock_clock: trio.testing.MockClock) -> None:
    one = Watched()
    for number in range(1, 4):
        one.watch.look(End.SERVER, sealed(number))
        mock_clock.jump(0.035)
    assert one.woken[-1] - one.woken[-2] == 35 * NS_PER_MS
    timer = one.watch.get_timer()
    assert timer is not None
    assert abs(timer - now_ns() - 35 * NS_PER_MS) < NS_PER_MS
    # but never longer than a second each
    mock_clock.jump(1.9)
    one.watch.look(End.SERVER, sealed(9))
    timer = one.watch.get_timer()
    assert timer is not None
    assert timer - now_ns() == 2 * NS_PER_S


@pytest.mark.requirement("MPLA-1-01")
async def test_blocks_of_direct_current_do_not_flicker(mock_clock: trio.testing.MockClock) -> None:
    one = Watched()
    for number in range(1, 21):
        one.watch.look(End.SERVER, sealed(number))
        for _ in range(10):
            mock_clock.jump(0.01)
            one.watch.handle_timer(now_ns())
    assert [what for what, _ in one.said] == ["lit"]
