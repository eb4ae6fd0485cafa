"""Multicast groups: sockets that send to them and sockets that hear them, IPv4 and IPv6."""

import errno
import ipaddress
import logging
import socket
import struct
from collections.abc import Iterable, Sequence

from powertcp.drivers.dial import format_address, parse_address
from powertcp.errors import ConfigError

# PTCP-12-04: the groups of all feeds
FEED_GROUPS = (("239.255.80.84", 3251), ("ff15::5054", 3251))
TTL = 1
RECEIVE_OCTETS = 1 << 20  # 0.9 s of the fastest feed
_IP_MULTICAST_ALL = 49
_ABSENT = frozenset(
    (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
)
Group = tuple[str, int]
_log = logging.getLogger("feed")


def is_group(host: str) -> bool:
    """Say whether `host` is the address of a multicast group."""
    try:
        return ipaddress.ip_address(host).is_multicast
    except ValueError:
        return False


def parse_group(text: str) -> Group:
    """Parse GROUP[:PORT]. Raises ConfigError with a sentence."""
    host, port = parse_address(text)
    if not port:
        raise ConfigError("command line", text, "a feed is sent to a port of 1..65535, got 0")
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise ConfigError("command line", text, "a group is an IPv4 or IPv6 address") from error
    return host, port


def find_interface(name: str) -> int:
    """Return the index of an interface, 0 for "". Raises ConfigError with a sentence."""
    try:
        return socket.if_nametoindex(name) if name else 0
    except OSError as error:
        known = ", ".join(known for _, known in socket.if_nameindex())
        raise ConfigError("command line", name, f"no such interface, there are {known}") from error


class GroupSender:
    """Sends each datagram to every group that a route leads to.

    Groups without a route are left out and said so once; an address that is no group is sent to
    as it is.
    """

    def __init__(self, groups: Sequence[Group], *, interface: str = "", ttl: int = TTL) -> None:
        """Open a socket for each group. Raises OSError when none can be sent to."""
        self.dropped = 0
        self._sockets: list[tuple[socket.socket, Group]] = []
        failed: OSError | None = None
        index = find_interface(interface)
        for group in groups:
            try:
                self._sockets.append((_open_sender(group, index, ttl), group))
            except OSError as error:
                failed = error
                _log.info("feed to %s: %s", format_address(*group), error.strerror)
        if not self._sockets and failed is not None:
            raise failed

    @property
    def groups(self) -> list[str]:
        """The groups that are sent to, as people write them."""
        return [format_address(*group) for _, group in self._sockets]

    def send(self, datagrams: Iterable[bytes]) -> None:
        """Send datagrams; what the kernel does not take now is dropped and counted."""
        for octets in datagrams:
            for sock, _ in self._sockets:
                try:
                    sock.send(octets)
                except OSError:
                    self.dropped += 1

    def close(self) -> None:
        """Close all sockets."""
        for sock, _ in self._sockets:
            sock.close()
        self._sockets.clear()


def _open_sender(group: Group, index: int, ttl: int) -> socket.socket:
    host, _ = group
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.settimeout(0)
        if is_group(host):
            _aim(sock, family, index, ttl)
        try:
            sock.connect(_scoped(group, index))
        except OSError as error:
            # a host without routes still hears itself
            if index or error.errno not in _ABSENT or not is_group(host):
                raise
            _aim(sock, family, socket.if_nametoindex("lo"), ttl)
            sock.connect(group)
    except BaseException:
        sock.close()
        raise
    return sock


def _scoped(group: Group, index: int) -> Group | tuple[str, int, int, int]:
    """Return an address with its interface, without which a group of a link says nothing."""
    return (*group, 0, index) if index and ":" in group[0] else group


def _aim(sock: socket.socket, family: int, index: int, ttl: int) -> None:
    """Set where and how far multicast goes; receivers on this host hear it too."""
    if family == socket.AF_INET6:
        for option, value in (
            (socket.IPV6_MULTICAST_IF, index),
            (socket.IPV6_MULTICAST_HOPS, ttl),
            (socket.IPV6_MULTICAST_LOOP, 1),
        ):
            sock.setsockopt(socket.IPPROTO_IPV6, option, value)
        return
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=8xi", index))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)


def hear_groups(groups: Sequence[Group], *, interface: str = "") -> list[socket.socket]:
    """Open a socket for each group, joined on `interface` or on every one there is.

    Raises OSError when no group can be joined. An address that is no group is bound as it is.
    """
    sockets: list[socket.socket] = []
    failed: OSError | None = None
    index = find_interface(interface)
    for group in groups:
        try:
            sockets.append(_open_receiver(group, index))
        except OSError as error:
            failed = error
            _log.info("group %s: %s", format_address(*group), error.strerror)
    if not sockets and failed is not None:
        raise failed
    return sockets


def _open_receiver(group: Group, index: int) -> socket.socket:
    host, _ = group
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.settimeout(0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_OCTETS)
        if is_group(host):
            # several receivers of one host hear the same group
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(_scoped(group, index))
        if is_group(host):
            _join(sock, family, host, [index] if index else None)
    except BaseException:
        sock.close()
        raise
    return sock


def _join(sock: socket.socket, family: int, host: str, indices: list[int] | None) -> None:
    """Join a group on the named interfaces, or on each that lets us. Raises OSError if none does."""
    packed = socket.inet_pton(family, host)
    joined, failed = 0, OSError(errno.ENODEV, "no interface")
    for index in indices or [number for number, _ in socket.if_nameindex()]:
        try:
            if family == socket.AF_INET6:
                request = packed + struct.pack("=i", index)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
            else:
                request = packed + struct.pack("=4xi", index)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        except OSError as error:
            failed = error
        else:
            joined += 1
    if not joined:
        raise failed
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
