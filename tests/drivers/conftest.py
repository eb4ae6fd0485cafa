"""Async tests of this folder run under trio."""

import socket
from collections.abc import Iterator

import pytest
from pytest_trio.enable_trio_mode import *  # noqa: F403


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
