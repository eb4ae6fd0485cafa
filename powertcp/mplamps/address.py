"""Addresses of nodes that are keys of many tables: their hash is reckoned once."""

from functools import lru_cache
from ipaddress import IPv4Address
from typing import Final

# as many as a large grid has nodes: a table of addresses, not of what peers sent
_KEPT: Final = 1 << 16


class Address(IPv4Address):
    """An IPv4 address, equal to any other of the same number, with the same hash."""

    __slots__ = ("_hash",)

    def __init__(self, number: int) -> None:
        """Take the address as a number of 32 bits."""
        super().__init__(number)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


address_of = lru_cache(maxsize=_KEPT)(Address)
