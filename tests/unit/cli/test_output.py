"""Output that cannot be written: lost with one warning, never an error."""

import errno
import io
import logging

import pytest

from powertcp.cli.output import Output, finish


class Full(io.StringIO):
    """A file on a disk that is full until it is not."""

    is_full = True

    def flush(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_what_cannot_be_written_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    stream = Full()
    out = Output(stream)
    with caplog.at_level(logging.WARNING):
        for text in "abc":
            out.write(text)
        assert [record.getMessage() for record in caplog.records] == [
            "what is said is lost: [Errno 28] No space left on device"
        ]
        stream.is_full = False
        out.write("d")
        stream.is_full = True
        out.write("e")
    assert len(caplog.records) == 2
    out.finish()


def test_a_closed_stream_takes_nothing_and_harms_nothing() -> None:
    stream = io.StringIO()
    stream.close()
    Output(stream).write("a")
    finish(stream)
