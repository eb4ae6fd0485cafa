"""What the kernel says of its clock, asked without a change to it."""

import pytest

from powertcp.linux import is_synchronised
from powertcp.linux.clock import Timex


@pytest.mark.parametrize(("state", "is_good"), [(0, True), (4, True), (5, False), (-1, False)])
def test_only_a_disciplined_clock_is_synchronised(state: int, is_good: bool) -> None:
    modes: list[bytes] = []

    def adjtimex(timex: Timex) -> int:
        modes.append(timex.raw[:4])
        return state

    assert is_synchronised(adjtimex) is is_good
    assert modes == [bytes(4)]


@pytest.mark.parametrize("error", [AttributeError, OSError])
def test_a_system_without_the_call_is_not_synchronised(error: type[Exception]) -> None:
    def adjtimex(_: Timex) -> int:
        raise error

    assert not is_synchronised(adjtimex)


def test_this_kernel_answers() -> None:
    assert is_synchronised() in (True, False)
