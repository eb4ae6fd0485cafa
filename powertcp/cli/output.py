"""Standard output of a daemon: what cannot be written is lost, and never stops power."""

import logging
import os
from contextlib import suppress
from typing import TextIO

_log = logging.getLogger("output")


def finish(stream: TextIO) -> None:
    """Flush `stream`; what it cannot take goes nowhere, also when the interpreter ends."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            descriptor = stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


class Output:
    """Lines to a file that may be full, a pipe that nobody reads any more, a closed terminal."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._is_lost = False

    def write(self, text: str) -> None:
        """Write `text` at once, or warn once that it is lost."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError) as error:
            if not self._is_lost:
                _log.warning("what is said is lost: %s", error)
            self._is_lost = True
        else:
            self._is_lost = False

    def isatty(self) -> bool:
        """Whether lines may be written over."""
        return self._stream.isatty()

    def finish(self) -> None:
        """Nothing more is written."""
        finish(self._stream)
