"""Whether the kernel takes its clock for synchronised: what a receipt says of its times."""

import ctypes
from collections.abc import Callable

# struct timex is 208 octets on 64 bit and less on 32; a larger one does no harm
_TIMEX_OCTETS = 256
_TIME_ERROR = 5

Timex = ctypes.Array[ctypes.c_char]


def _adjtimex(timex: Timex) -> int:
    """Call adjtimex(2). Raises AttributeError in a library without it."""
    return int(ctypes.CDLL(None).adjtimex(timex))


def is_synchronised(adjtimex: Callable[[Timex], int] = _adjtimex) -> bool:
    """Return whether the kernel calls its clock synchronised; False where nobody can say."""
    # modes = 0: read only, no privilege is needed
    timex = ctypes.create_string_buffer(_TIMEX_OCTETS)
    try:
        state = adjtimex(timex)
    except (AttributeError, OSError):
        return False
    return 0 <= state < _TIME_ERROR
