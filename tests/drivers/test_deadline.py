"""A deadline for foreign code: it is kept, and it leaves the signals as they were."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from textwrap import indent
from types import FrameType
from typing import Final

import pytest

from powertcp.drivers.deadline import BUG, Deadline, Expired

SHORT_S: Final = 0.01
LONG_S: Final = 30.0


@pytest.fixture
def deadline() -> Iterator[Deadline]:
    made = Deadline()
    yield made
    made.restore()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def loop(_: object) -> None:
    while True:
        pass


def ignore(number: int, frame: FrameType | None) -> None:
    """An alarm of somebody else."""


def test_what_returns_in_time_returns(deadline: Deadline) -> None:
    assert deadline.call(LONG_S, len, "four") == 4
    with pytest.raises(ZeroDivisionError):
        deadline.call(LONG_S, lambda x: 1 // x, 0)


@pytest.mark.requirement("FWRL-3-09")
def test_what_does_not_return_is_left(deadline: Deadline) -> None:
    for _ in range(3):
        with pytest.raises(Expired):
            deadline.call(SHORT_S, loop, None)
    with pytest.raises(Expired):
        deadline.call(SHORT_S, time.sleep, 3600)


def test_what_swallows_its_end_is_late_all_the_same(deadline: Deadline) -> None:
    def swallow(_: object) -> int:
        with contextlib.suppress(Expired):
            time.sleep(3600)
        return 5

    with pytest.raises(Expired):
        deadline.call(SHORT_S, swallow, None)


def test_what_is_not_torn_apart_ends_at_its_check(deadline: Deadline) -> None:
    def whole(_: object) -> None:
        try:
            loop(None)
        except Expired:
            deadline.check()

    deadline.check()
    with pytest.raises(Expired):
        deadline.call(SHORT_S, whole, None)
    deadline.check()


def test_a_deadline_within_a_deadline_keeps_both(deadline: Deadline) -> None:
    inner: list[str] = []

    def outer(_: object) -> None:
        try:
            deadline.call(SHORT_S, loop, None)
        except Expired:
            inner.append("expired")
        assert deadline.call(LONG_S, len, "four") == 4
        loop(None)

    with pytest.raises(Expired):
        deadline.call(10 * SHORT_S, outer, None)
    assert inner == ["expired"]


def test_an_inner_deadline_that_is_longer_delays_the_outer_one_only(deadline: Deadline) -> None:
    def sleep(_: object) -> None:
        time.sleep(3 * SHORT_S)

    def outer(_: object) -> None:
        deadline.call(LONG_S, sleep, None)
        loop(None)

    with pytest.raises(Expired):
        deadline.call(SHORT_S, outer, None)


@pytest.mark.requirement("FWRL-3-09")
def test_who_takes_the_alarm_is_late_and_has_it_no_longer(deadline: Deadline) -> None:
    def steal(_: object) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        time.sleep(3 * SHORT_S)

    for taken in (steal, loop):
        with pytest.raises(Expired):
            deadline.call(SHORT_S, taken, None)


def test_signals_are_given_back(deadline: Deadline) -> None:
    before = signal.signal(signal.SIGALRM, ignore)
    try:
        deadline.call(LONG_S, len, "")
        assert signal.getsignal(signal.SIGALRM) is not ignore

        def restore(_: object) -> None:
            deadline.restore()

        deadline.call(LONG_S, restore, None)
        assert signal.getsignal(signal.SIGALRM) is not ignore
        deadline.restore()
        assert signal.getsignal(signal.SIGALRM) is ignore
        deadline.call(LONG_S, len, "")
    finally:
        deadline.restore()
        signal.signal(signal.SIGALRM, before)


def test_an_alarm_of_somebody_else_reaches_them(deadline: Deadline) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
    try:
        deadline.call(LONG_S, len, "")
        signal.raise_signal(signal.SIGALRM)
        assert heard == [signal.SIGALRM]
    finally:
        deadline.restore()
        signal.signal(signal.SIGALRM, before)


def test_an_alarm_of_nobody_is_nothing(deadline: Deadline) -> None:
    deadline.call(LONG_S, len, "")
    signal.raise_signal(signal.SIGALRM)


# ---- code that cannot be left -------------------------------------------------------------------

RUN: Final = """
from powertcp.drivers.deadline import DEADLINE
def script(_):
{body}
try:
    DEADLINE.call(0.02, script, None)
except BaseException as error:
    print(type(error).__name__)
"""


def run(body: str) -> subprocess.CompletedProcess[str]:
    text = RUN.format(body=indent(body, "    "))
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.requirement("FWRL-1-01", "FWRL-3-09")
@pytest.mark.parametrize("wait", ["spin()", "time.sleep(9)"])
def test_what_swallows_every_end_ends_the_process(wait: str) -> None:
    # thrice: what comes between two of the innermost loop is swallowed by the next one
    body = f"while True: {wait}"
    for _ in range(3):
        body = "while True:\n try:\n" + indent(body, "  ") + "\n except: pass"
    done = run(f"import time\ndef spin():\n while True: pass\n{body}")
    assert (done.returncode, done.stdout) == (BUG, "")
    assert "a script holds everything up for 1." in done.stderr
    assert "at <string>:" in done.stderr


@pytest.mark.requirement("FWRL-1-01", "FWRL-3-09")
def test_a_library_that_does_not_come_back_ends_the_process_and_says_where() -> None:
    done = run("sum(iter(int, 1))")
    assert (done.returncode, done.stdout) == (-signal.SIGPROF, "")
    assert 'File "<string>", line 4 in script' in done.stderr
