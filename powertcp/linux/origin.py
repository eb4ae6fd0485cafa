"""Where a connection was going before this host diverted it, and sockets with foreign addresses.

nftables `redirect` leaves the destination in the table of connections, from which SO_ORIGINAL_DST
reads it; `tproxy` leaves it in the socket itself. FWRL-2-04.
"""

import socket
import struct
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

# linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h
SO_ORIGINAL_DST: Final = 80
IP6T_SO_ORIGINAL_DST: Final = 80
# linux/in.h, linux/in6.h
IP_TRANSPARENT: Final = 19
IPV6_TRANSPARENT: Final = 75
_MAPPED: Final = "::ffff:"
# struct sockaddr_in, sockaddr_in6: family in the order of the host, then port, .., address
_IPV4: Final = struct.Struct("!2xH4s8x")
_IPV6: Final = struct.Struct("!2xHI16s4x")


def original_destination(sock: socket.socket) -> tuple[str, int] | None:
    """Return where a connection that `redirect` diverted was going; None: it was not diverted."""
    here = sock.getsockname()
    is_plain = sock.family == socket.AF_INET or here[0].startswith(_MAPPED)
    with suppress(OSError):
        if is_plain:
            octets = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, _IPV4.size)
            found = parse_ipv4(octets)
        else:
            octets = sock.getsockopt(socket.IPPROTO_IPV6, IP6T_SO_ORIGINAL_DST, _IPV6.size)
            found = parse_ipv6(octets)
        return None if found == (here[0].removeprefix(_MAPPED), here[1]) else found
    return None


def parse_ipv4(octets: bytes) -> tuple[str, int]:
    """Return address and port of a struct sockaddr_in. Raises OSError for less than that."""
    if len(octets) < _IPV4.size:
        raise OSError(f"{len(octets)} octets are no address")
    port, address = _IPV4.unpack_from(octets)
    return socket.inet_ntop(socket.AF_INET, address), port


def parse_ipv6(octets: bytes) -> tuple[str, int]:
    """Return address and port of a struct sockaddr_in6. Raises OSError for less than that."""
    if len(octets) < _IPV6.size:
        raise OSError(f"{len(octets)} octets are no address")
    port, _, address = _IPV6.unpack_from(octets)
    return socket.inet_ntop(socket.AF_INET6, address), port


def make_transparent(sock: socket.socket) -> None:
    """Let `sock` have addresses that are not of this host.

    Raises PermissionError without CAP_NET_ADMIN.
    """
    # one that is of IPv6 takes connections of IPv4, too
    sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)


def is_own(host: str) -> bool:
    """Return whether an address is one of this host: packets to it never leave."""
    address = ip_address(host.partition("%")[0])
    plain = getattr(address, "ipv4_mapped", None) or address
    # what is unspecified is this host, and all of 127.0.0.0/8
    if plain.is_unspecified or plain.is_loopback:
        return True
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as end:
        # of a datagram socket this sends nothing
        end.connect((host, 9))
        return bool(end.getsockname()[0] == host.partition("%")[0])
    return False
