import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.loads.keeper import Caps, Limit, parse_limit, shares_uw

LIMITS = [Limit(5_000_000, 60_000_000, "a"), Limit(5_000_000, 30_000_000, "b")]


def test_a_cap_is_shared_as_the_originals_are() -> None:
    assert shares_uw(45_000_000, LIMITS) == [30_000_000, 15_000_000]
    assert shares_uw(0, LIMITS) == [5_000_000, 5_000_000]
    assert shares_uw(10**12, LIMITS) == [60_000_000, 30_000_000]
    assert shares_uw(7, [Limit(9, 0, "off")]) == [0]


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**9), min_size=1, max_size=8))
def test_no_limit_is_raised_above_its_original(cap_uw: int, originals: list[int]) -> None:
    limits = [Limit(1_000_000, original, "x") for original in originals]
    assert all(
        share <= limit.original_uw
        for share, limit in zip(shares_uw(cap_uw, limits), limits, strict=True)
    )


def test_a_limit_is_read_with_colons_in_its_path() -> None:
    assert parse_limit("1:2:/sys/intel-rapl:0/x") == Limit(1, 2, "/sys/intel-rapl:0/x")


@pytest.mark.requirement("PTCP-5-06")
def test_a_lapsed_lease_leaves_the_fallback() -> None:
    caps = Caps()
    for line in ("cap 900", "fallback 100", "lease 50"):
        caps.obey(line)
    assert caps.effective_uw(49) == 900
    assert caps.effective_uw(50) == 100
    caps.obey("lease 60")
    assert caps.effective_uw(50) == 900


@pytest.mark.parametrize("line", ["", "cap", "melt 1"])
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int() and we word it differently
        Caps().obey(line)
