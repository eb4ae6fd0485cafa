"""Async tests of this folder run under trio."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_trio.enable_trio_mode import *  # noqa: F403


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of this test with a short name: the path of a socket has 107 octets."""
    return tmp_path_factory.mktemp("d")


@pytest.fixture(autouse=True)
def bugs() -> Iterator[list[logging.LogRecord]]:
    """Fail a test in which a bug of ours was logged; one that means it empties this list."""
    met: list[logging.LogRecord] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            met.append(record)

    log, listener = logging.getLogger("bug"), Listener()
    log.addHandler(listener)
    yield met
    log.removeHandler(listener)
    assert not met, [record.getMessage() for record in met]


@pytest.fixture
def small_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets whose buffers hold about 4 KiB."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        end.settimeout(0)
    with ours, theirs:
        yield ours, theirs
