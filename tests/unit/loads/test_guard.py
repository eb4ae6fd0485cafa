import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.loads.guard import MAX_PERIOD_NS, PERIOD_NS, PPM, Duty, Supply, period_ns, read_words

MS = 1_000_000


@given(st.integers(1, PPM - 1))
def test_a_period_leaves_room_for_both_slices(share: int) -> None:
    assert PERIOD_NS <= period_ns(share) <= MAX_PERIOD_NS


@given(
    share=st.integers(20_000, 980_000),
    late=st.lists(st.integers(0, 20 * MS), min_size=200, max_size=200),
)
def test_a_share_holds_however_late_the_guard_wakes(share: int, late: list[int]) -> None:
    duty = Duty()
    ran = total = 0
    is_running = True
    for delay in late:
        elapsed = duty.next_slice(share, is_running) + delay
        duty.account(share, elapsed, is_running)
        total += elapsed
        ran += elapsed if is_running else 0
        is_running = not is_running
    slack = period_ns(share) + 25 * MS * (PPM // min(share, PPM - share))
    assert abs(ran - share * total // PPM) <= slack


@given(share=st.integers(100_000, 900_000))
def test_a_guard_that_came_late_by_three_periods_takes_back_what_it_gave(share: int) -> None:
    duty = Duty()
    period = period_ns(share)
    ran = total = duty.next_slice(share, True) + 3 * period
    duty.account(share, total, is_running=True)
    off = duty.next_slice(share, is_running=False)
    duty.account(share, off, is_running=False)
    assert abs(ran - share * (total + off) // PPM) <= 10
    duty.account(share, 1000 * period, is_running=True)
    assert duty.next_slice(share, is_running=False) <= 4 * period * PPM // share


def test_a_supply_obeys_its_lines() -> None:
    supply = Supply()
    for line in ("lease 100", "fallback 200000", "share 700000", "start 0"):
        supply.obey(line)
    supply.check_lease(50)
    assert supply.wants_start
    assert supply.effective_share() == 700_000
    supply.obey("end 5000")
    assert supply.grace_ms == 5000


def test_shares_are_bounded() -> None:
    supply = Supply()
    supply.obey("lease 100")
    supply.check_lease(0)
    supply.obey("share 2000000")
    assert supply.effective_share() == PPM
    supply.obey("share -5")
    assert supply.effective_share() == 0


@pytest.mark.parametrize("line", ["", "lease", "lease x", "boil 3"])
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int() and we word it differently
        Supply().obey(line)


@pytest.mark.requirement("PTCP-5-06")
def test_a_lease_that_is_over_caps_at_the_fallback_until_it_is_renewed() -> None:
    supply = Supply()
    supply.obey("fallback 100000")
    assert supply.check_lease(0)
    assert supply.effective_share() == 100_000
    supply.obey("lease 1000")
    assert supply.check_lease(10)
    assert not supply.check_lease(999)
    assert supply.effective_share() == PPM
    assert supply.check_lease(1000)
    assert supply.effective_share() == 100_000


@pytest.mark.requirement("PTCP-5-06")
def test_without_a_fallback_a_lapsed_lease_pauses() -> None:
    supply = Supply()
    supply.check_lease(0)
    assert supply.effective_share() == 0


def test_words_are_read_as_they_were_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["-", "sh", "-c", "echo 'a b'\n", "", "\udcff"]
    said = b"".join(os.fsencode(word) + b"\0" for word in words)
    monkeypatch.setattr(os, "fdopen", lambda _number, _mode: io.BytesIO(said))
    assert read_words(3) == words
