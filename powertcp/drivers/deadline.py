"""A deadline for calls of foreign code in the main thread, kept by signals. FWRL-3-09.

SIGALRM raises Expired in the code, again and again, as one `except:` may swallow it. Code that is
still there PATIENCE_S later, or that spends that time within one call of a library, ends the
process: nothing passes either way.
"""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final, TypeVar

from powertcp.units import NS_PER_S

# after a deadline: how long code may go on without an end
PATIENCE_S: Final = 1.0
# how often it is told, and how many times at least: a host that stood still is nobody's fault
AGAIN_S: Final = 0.002
TOLD_LEAST: Final = 100
# exit code of a bug
BUG: Final = 70
# what is not to be torn apart: it serves others too, and is soon done
_WHOLE: Final = ("trio", "logging")

ArgumentT = TypeVar("ArgumentT")
AnswerT = TypeVar("AnswerT")


class Expired(BaseException):
    """A deadline passed. No Exception, so that `except Exception` lets it through."""


class Deadline:
    """The deadline of this process: SIGALRM is its from the first call until `restore`."""

    def __init__(self) -> None:
        self._is_installed = self._is_expired = False
        self._before: object = None
        # when the innermost call began, ns; 0: there is none
        self._began = 0
        self._limit_s = 0.0
        self._told = 0

    def restore(self) -> None:
        """Give SIGALRM back to whoever had it."""
        if self._is_installed and not self._began:
            self._is_installed = False
            before = self._before
            signal.signal(signal.SIGALRM, before if callable(before) else signal.SIG_DFL)

    def _install(self) -> None:
        self._before = signal.signal(signal.SIGALRM, self._alarm)
        # a library that does not return runs no handler of ours: say where, and end
        faulthandler.register(signal.SIGPROF, 2, all_threads=False, chain=True)
        self._is_installed = True

    def call(
        self, limit_s: float, function: Callable[[ArgumentT], AnswerT], argument: ArgumentT
    ) -> AnswerT:
        """Return what `function` returns within `limit_s`. Raises Expired, and what it raises.

        In the main thread only, else ValueError. Calls may be nested; the outer deadline waits for
        the inner one.
        """
        if threading.get_ident() != threading.main_thread().ident:
            raise ValueError("a deadline is kept in the main thread only")
        if not self._is_installed:
            self._install()
        outer = self._began, self._limit_s, self._is_expired
        self._began, self._limit_s, self._is_expired = time.monotonic_ns(), limit_s, False
        self._told = 0
        left_s, again_s = signal.setitimer(signal.ITIMER_REAL, limit_s, AGAIN_S)
        spent_s, _ = signal.setitimer(signal.ITIMER_PROF, limit_s + PATIENCE_S)
        try:
            answer = _foreign(function, argument)
        finally:
            # an alarm within this function only takes a note
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.setitimer(signal.ITIMER_PROF, spent_s)
            passed_s = (time.monotonic_ns() - self._began) / NS_PER_S
            is_expired = self._is_expired or passed_s > limit_s
            if is_expired and not self._told:
                # no alarm came: somebody took it
                signal.signal(signal.SIGALRM, self._alarm)
            self._began, self._limit_s, self._is_expired = outer
            if left_s:
                signal.setitimer(signal.ITIMER_REAL, max(left_s - passed_s, AGAIN_S), again_s)
            # whatever it returned or raised, it was late
            if is_expired:
                raise Expired
        return answer

    def check(self) -> None:
        """Raise Expired if the deadline has passed: after what is not to be torn apart."""
        if self._is_expired:
            raise Expired

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        """Raise Expired in the foreign code, unless that is somewhere else."""
        if not self._began:
            if callable(self._before):
                self._before(number, frame)
            return
        self._is_expired = True
        self._told += 1
        passed_s = (time.monotonic_ns() - self._began) / NS_PER_S
        if passed_s > self._limit_s + PATIENCE_S and self._told > TOLD_LEAST:
            _end(frame, passed_s)
        while frame is not None and frame.f_code is not Deadline.call.__code__:
            if frame.f_code is _foreign.__code__:
                raise Expired
            if str(frame.f_globals.get("__name__")).partition(".")[0] in _WHOLE:
                return
            frame = frame.f_back


def _foreign(function: Callable[[ArgumentT], AnswerT], argument: ArgumentT) -> AnswerT:
    """Be where foreign code begins: from here on it may be left at any time."""
    return function(argument)


def _end(frame: FrameType | None, passed_s: float) -> None:
    """End this process at once: it has no way to get its thread back."""
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"
    said = f"a script holds everything up for {passed_s:.1f} s, at {place}: powertcp ends\n"
    os.write(2, said.encode(errors="backslashreplace"))
    os._exit(BUG)


DEADLINE: Final = Deadline()
