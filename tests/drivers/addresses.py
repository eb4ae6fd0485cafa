"""Addresses of nodes on the loopback, of each test its own: tests in parallel do not meet."""

import itertools
import os
from ipaddress import IPv4Address

_COUNT = itertools.count()
NODES = 64
SPACE = (1 << 22) // NODES


def base_address(nodes: int = NODES - 1) -> IPv4Address:
    """Return a base in 127.64.0.0/10 that no other test of this run or another one has."""
    blocks = (nodes + NODES) // NODES
    numbers = [next(_COUNT) for _ in range(blocks)]
    number = (os.getpid() * 61 + numbers[0]) % SPACE
    if number + blocks > SPACE:
        # they would end outside
        number = 0
    return IPv4Address(int(IPv4Address("127.64.0.0")) + number * NODES)
