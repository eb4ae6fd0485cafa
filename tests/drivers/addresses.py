"""Addresses of nodes on the loopback, of each test its own: tests in parallel do not meet."""

import itertools
import os
from ipaddress import IPv4Address

_COUNT = itertools.count()
NODES = 64


def base_address() -> IPv4Address:
    """Return a base in 127.64.0.0/10 that no other test of this run or another one has."""
    number = (os.getpid() * 61 + next(_COUNT)) % ((1 << 22) // NODES)
    return IPv4Address(int(IPv4Address("127.64.0.0")) + number * NODES)
