"""Bugs that one connection brought to light: counted, told once with a traceback (P12)."""

import logging

from powertcp.errors import LocalProtocolError, PowerError

MAX_TOLD = 256  # places told with their traceback; bugs elsewhere get one line each
_log = logging.getLogger("bug")


class Bugs:
    """What went wrong by our own fault in this process; count: how often."""

    __slots__ = ("_told", "count")

    def __init__(self) -> None:
        """Begin without any."""
        self.count = 0
        self._told: set[tuple[str, str, int]] = set()

    def judge(self, error: Exception) -> bool:
        """Say whether `error` is a bug of ours; then it is counted and logged."""
        if isinstance(error, PowerError | OSError) and not isinstance(error, LocalProtocolError):
            return False
        self.count += 1
        place = _place(error)
        if place in self._told or len(self._told) >= MAX_TOLD:
            _log.error("a bug of powertcp again, at %s:%d: %s", *place[1:], error)
        else:
            self._told.add(place)
            _log.error("a bug of powertcp, its connection is closed: %s", error, exc_info=error)
        return True


def _place(error: Exception) -> tuple[str, str, int]:
    """Return kind, module and line of where `error` was raised."""
    trace, place = error.__traceback__, ("?", 0)
    while trace is not None:
        place = (str(trace.tb_frame.f_globals.get("__name__")), trace.tb_lineno)
        trace = trace.tb_next
    return (type(error).__name__, *place)


BUGS = Bugs()
