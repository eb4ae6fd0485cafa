"""By which interface packets to an address leave this host: one question to rtnetlink(7)."""

import errno
import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from powertcp.errors import HostError

_HEADER: Final = struct.Struct("=IHHII")
_ROUTE: Final = struct.Struct("=8BI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_INDEX: Final = struct.Struct("=i")
_GET_ROUTE, _NEW_ROUTE, _ERROR = 26, 24, 2
_REQUEST: Final = 1
_DESTINATION, _LEAVES_BY = 1, 4
_UNICAST: Final = 1
_ANSWER_OCTETS: Final = 4096
_ANSWER_S: Final = 1.0
_NO_WAY: Final = frozenset((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL))


def ask_route(address: IPv4Address | IPv6Address) -> bytes:
    """Return the octets that ask for the route to `address`."""
    packed = address.packed
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    route = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0)
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(packed), _DESTINATION) + packed
    size = _HEADER.size + len(route) + len(attribute)
    return _HEADER.pack(size, _GET_ROUTE, _REQUEST, 1, 0) + route + attribute


def parse_route(octets: bytes) -> int:
    """Return the index of the interface in an answer; 0: the host itself, or no way at all.

    Raises OSError for what the kernel refuses, struct.error for what is no answer.
    """
    length, kind, _, _, _ = _HEADER.unpack_from(octets)
    if kind == _ERROR:
        (code,) = _INDEX.unpack_from(octets, _HEADER.size)
        if -code in _NO_WAY:
            return 0
        raise OSError(-code, os.strerror(-code))
    fields = _ROUTE.unpack_from(octets, _HEADER.size)
    if kind != _NEW_ROUTE or fields[7] != _UNICAST:
        return 0
    at, end = _HEADER.size + _ROUTE.size, min(length, len(octets))
    while at + _ATTRIBUTE.size <= end:
        size, name = _ATTRIBUTE.unpack_from(octets, at)
        if name == _LEAVES_BY:
            found: int = _INDEX.unpack_from(octets, at + _ATTRIBUTE.size)[0]
            return found
        at += max(_ATTRIBUTE.size, (size + 3) & ~3)
    return 0


def way_out(address: IPv4Address | IPv6Address) -> str:
    """Return the interface by which packets to `address` leave; "": it is the host's, or no way.

    Raises HostError.
    """
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    try:
        with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as end:
            end.settimeout(_ANSWER_S)
            end.send(ask_route(address))
            index = parse_route(end.recv(_ANSWER_OCTETS))
            return socket.if_indextoname(index) if index else ""
    except (OSError, struct.error) as error:
        number = error.errno if isinstance(error, OSError) else None
        raise HostError(number or errno.EIO, "rtnetlink", f"find the way to {address}") from error
