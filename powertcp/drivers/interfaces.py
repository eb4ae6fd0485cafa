"""Which interfaces mDNS speaks on, with which addresses, and what is news: rtnetlink (rtnetlink(7)).

A dump is two questions to the kernel. Where it tells no news of itself, it is asked every 5 s.
"""

import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from powertcp.errors import ConfigError, HostError

DEBOUNCE_S: Final = 1.0  # an address comes with a link, a route and another address
POLL_S: Final = 5.0
LOOPBACK: Final = "127.0.0.1"
_DUMP_OCTETS: Final = 1 << 16
_DUMP_S: Final = 1.0
_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_FLAGS: Final = struct.Struct("=I")
_DONE, _ERROR = 3, 2
_NEW_LINK, _GET_LINK, _NEW_ADDRESS, _GET_ADDRESS = 16, 18, 20, 22
_REQUEST_DUMP: Final = 0x301
_GROUPS: Final = 0x001 | 0x010 | 0x100  # links, IPv4 and IPv6 addresses
_LINK_NAME, _ADDRESS_PEER, _ADDRESS_LOCAL, _ADDRESS_FLAGS = 3, 1, 2, 8
_IS_UP, _IS_LOOPBACK, _IS_RUNNING, _IS_MULTICAST = 0x1, 0x8, 0x40, 0x1000
# of IPv6: another host may have it, or has it
_UNUSABLE: Final = 0x40 | 0x08
_ANY: Final = {4: ipaddress.ip_address(0), 6: ipaddress.IPv6Address(0)}
_log = logging.getLogger("dpdp")

Network = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One interface with its addresses, each with the length of its prefix."""

    name: str
    index: int
    is_up: bool
    is_loopback: bool
    is_multicast: bool
    addresses: tuple[Network, ...] = ()


def read_interfaces() -> tuple[Interface, ...]:
    """Return what the kernel has now. Raises HostError."""
    try:
        with _open(0) as end:
            links = list(_dump(end, _GET_LINK))
            addresses = list(_dump(end, _GET_ADDRESS))
    except (OSError, struct.error) as error:
        number = error.errno if isinstance(error, OSError) else None
        raise HostError(number or 5, "rtnetlink", "list interfaces") from error
    return parse_dump([*links, *addresses])


def parse_dump(messages: Sequence[tuple[int, bytes]]) -> tuple[Interface, ...]:
    """Return the interfaces of messages of rtnetlink, each (type, what follows the header)."""
    found: dict[int, list[Network]] = {}
    for kind, octets in messages:
        if kind == _NEW_ADDRESS:
            family, prefix, flags, _, index = _ADDRESS.unpack_from(octets)
            attributes = dict(_attributes(octets, _ADDRESS.size))
            local = attributes.get(_ADDRESS_LOCAL) or attributes.get(_ADDRESS_PEER)
            if long := attributes.get(_ADDRESS_FLAGS):
                (flags,) = _FLAGS.unpack_from(long)
            is_v6 = family == socket.AF_INET6
            if local and family in (socket.AF_INET, socket.AF_INET6) and not (
                is_v6 and flags & _UNUSABLE
            ):  # fmt: skip
                found.setdefault(index, []).append(ipaddress.ip_interface((local, prefix)))
    links: list[Interface] = []
    for kind, octets in messages:
        if kind == _NEW_LINK:
            _, _, index, flags, _ = _LINK.unpack_from(octets)
            name = dict(_attributes(octets, _LINK.size)).get(_LINK_NAME, b"").rstrip(b"\0")
            links.append(
                Interface(
                    name=os.fsdecode(name),
                    index=index,
                    is_up=flags & (_IS_UP | _IS_RUNNING) == _IS_UP | _IS_RUNNING,
                    is_loopback=bool(flags & _IS_LOOPBACK),
                    is_multicast=bool(flags & _IS_MULTICAST),
                    addresses=tuple(sorted(found.get(index, ()), key=_order)),
                )
            )
    return tuple(sorted(links, key=lambda each: each.index))


# DPDP-8-02
def choose(found: Sequence[Interface], names: Sequence[str] = ()) -> tuple[Interface, ...]:
    """Return on which interfaces to speak: those of `names`, else all that are up with multicast.

    The loopback stands in when there is no other, with IPv4 only: multicast of IPv6 does not work
    there.
    """
    usable = [each for each in found if each.is_up and each.addresses]
    if names:
        return tuple(_spoken(each) for each in usable if each.name in names)
    chosen = [each for each in usable if each.is_multicast and not each.is_loopback]
    return tuple(_spoken(each) for each in chosen or usable if chosen or each.is_loopback)


def speakers(chosen: Sequence[Interface]) -> list[str | int]:
    """Return what a resolver calls them: addresses of IPv4, and one of IPv6 or the index for it."""
    once: dict[str, int] = {}
    for each in chosen:
        for address in each.addresses:
            once[str(address.ip)] = once.get(str(address.ip), 0) + 1
    words: list[str | int] = []
    for each in chosen:
        texts = [str(address.ip) for address in each.addresses if address.version == 4]
        words += [text for text in texts if text not in words]
        own = [str(address.ip) for address in each.addresses if address.version == 6]
        # link-local ones come first; two bridges may have the same
        words += [own[0] if once[own[0]] == 1 else each.index] if own else []
    return words


def served(
    chosen: Sequence[Interface], hosts: Sequence[str], *, is_routed: bool = False
) -> list[str]:
    """Return the addresses at which listeners on `hosts` are reached over these interfaces.

    hosts: addresses, `0.0.0.0` for all of IPv4, `::` for all of IPv6. is_routed: only those whose
    peers have addresses that routers forward.
    """
    wanted = {ipaddress.ip_address(host.partition("%")[0]) for host in hosts}
    every = [address.ip for each in chosen for address in each.addresses]
    return list(
        dict.fromkeys(
            str(address)
            for address in every
            if address in wanted or _ANY[address.version] in wanted
            if not (is_routed and address.is_link_local)
        )
    )


class Watch:
    """Interfaces as they are, told again when they have changed: `run` keeps it."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        """Look once. Raises HostError, and ConfigError for a name that no interface has."""
        self._names = tuple(names)
        found = read_interfaces()
        known = [each.name for each in found]
        for name in names:
            if name not in known:
                said = f'no "{name}" here, only {", ".join(known)}'
                raise ConfigError("command line", "--interface", said)
        self.chosen = choose(found, self._names)

    # DPDP-8-04
    async def run(self, heed: Callable[[], None]) -> None:
        """Call `heed` whenever `chosen` is another one, 1 s after the news; until cancelled."""
        await follow(lambda: self._look(heed), DEBOUNCE_S)

    def _look(self, heed: Callable[[], None]) -> None:
        """Read again; what cannot be read stays as it was until the next look."""
        try:
            chosen = choose(read_interfaces(), self._names)
        except HostError as error:
            _log.warning("interfaces: %s", error)
            return
        if chosen != self.chosen:
            self.chosen = chosen
            heed()


async def follow(look: Callable[[], None], debounce_s: float) -> None:
    """Call `look` so long after each news of links and addresses; until cancelled.

    Where the kernel tells no news it is called every 5 s.
    """
    try:
        end = _open(_GROUPS)
    except OSError as error:
        _log.info("interfaces are looked at every %g s: %s", POLL_S, error)
        while True:
            await trio.sleep(POLL_S)
            look()
    with end:
        while True:
            await trio.lowlevel.wait_readable(end)
            await trio.sleep(debounce_s)
            _drain(end)
            look()


def carrier(found: Sequence[Interface], address: str) -> Interface | None:
    """Return the interface that has `address`, None if that cannot be told.

    Several may have one that is link-local: then it names its interface.
    """
    host, _, scope = address.partition("%")
    own = ipaddress.ip_address(host)
    for each in found:
        has = any(
            own == one.ip or (each.is_loopback and own in one.network) for one in each.addresses
        )
        if has and scope in ("", each.name):
            return each
    return None


def is_carried(found: Sequence[Interface], was: Interface, address: str) -> bool:
    """Return whether the interface that had `address` still has it, and a link."""
    now = carrier(found, address)
    return now is not None and now.is_up and now.index == was.index


def _spoken(each: Interface) -> Interface:
    """Return an interface with the addresses that mDNS can use on it."""
    addresses = each.addresses
    if each.is_loopback:
        addresses = tuple(address for address in addresses if address.version == 4)[:1]
    return Interface(
        name=each.name, index=each.index, is_up=each.is_up, is_loopback=each.is_loopback,
        is_multicast=each.is_multicast, addresses=addresses,
    )  # fmt: skip


def _order(address: Network) -> tuple[int, bool, int]:
    """IPv4 first, then IPv6 with the link-local ones first."""
    return address.version, not address.ip.is_link_local, int(address.ip)


def _open(groups: int) -> socket.socket:
    """Return an end of rtnetlink that is told of `groups`. Raises OSError."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    end = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        end.bind((0, groups))
        end.settimeout(0 if groups else _DUMP_S)
    except BaseException:
        end.close()
        raise
    return end


def _drain(end: socket.socket) -> None:
    """Forget what was told: the kernel is asked anew. What did not fit its queue is no error."""
    while True:
        try:
            end.recv(_DUMP_OCTETS)
        except BlockingIOError:
            return
        except OSError:
            continue


def _dump(end: socket.socket, kind: int) -> Iterator[tuple[int, bytes]]:
    """Yield each message of the answer to one question."""
    question = _FLAGS.pack(0)  # of any family
    end.send(_HEADER.pack(_HEADER.size + len(question), kind, _REQUEST_DUMP, kind, 0) + question)
    while True:
        octets = end.recv(_DUMP_OCTETS)
        while octets:
            length, answer, _, _, _ = _HEADER.unpack_from(octets)
            if answer == _DONE:
                return
            if answer == _ERROR:
                (code,) = struct.unpack_from("=i", octets, _HEADER.size)
                raise OSError(-code, os.strerror(-code))
            if length < _HEADER.size:
                raise OSError(5, "a message without a header")
            yield answer, octets[_HEADER.size : length]
            octets = octets[(length + 3) & ~3 :]


def _attributes(octets: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield each attribute from `offset` on."""
    while offset + _ATTRIBUTE.size <= len(octets):
        length, kind = _ATTRIBUTE.unpack_from(octets, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind, octets[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
