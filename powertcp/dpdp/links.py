"""The links that are browsed: which addresses lie on them, and which is tried first."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from powertcp.dpdp.entry import Address

# addresses of one advert that are looked at: a host with more of them is none of ours
MAX_ADDRESSES: Final = 8
# addresses whose numbers are remembered
_PARSED: Final = 4096
_LINK_LOCAL, _SAME_SUBNET, _OTHER_6, _OTHER_4, _NOWHERE = range(5)


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet of an interface that is browsed."""

    interface: str
    network: IPv4Network | IPv6Network


class Links:
    """What is known of our own interfaces; before `subnets` is set nobody is off-link."""

    __slots__ = ("_has_loopback", "_interfaces", "_networks")

    def __init__(self, subnets: Iterable[Subnet] | None = None) -> None:
        self._networks = None if subnets is None else tuple(subnets)
        self._interfaces = {subnet.interface for subnet in self._networks or ()}
        self._has_loopback = self._networks is None or any(
            subnet.network.is_loopback for subnet in self._networks
        )

    # DPDP-5-04
    def ordered(self, addresses: Iterable[Address]) -> tuple[Address, ...]:
        """Return the addresses in the order in which they are tried, at most MAX_ADDRESSES.

        Those at which no peer can be are last.
        """
        ranked = sorted(set(addresses), key=lambda one: (self._rank(one), str(one)))
        return tuple(ranked[:MAX_ADDRESSES])

    def usable(self, addresses: Iterable[Address]) -> tuple[Address, ...]:
        """Return those of `ordered` at which a peer can be."""
        return tuple(one for one in self.ordered(addresses) if self._rank(one) != _NOWHERE)

    # DPDP-7-01
    def is_off_link(self, addresses: Iterable[Address]) -> bool:
        """Return whether none of them lies in a subnet that is browsed."""
        return self._networks is not None and not any(map(self._is_here, addresses))

    def _rank(self, address: Address) -> int:
        number = _number(address.host)
        if number is None or not 0 < address.port <= 0xFFFF or not self._is_a_peer(address, number):
            return _NOWHERE
        if number.version == 4:
            return _SAME_SUBNET if self._is_here(address) else _OTHER_4
        is_near = number.is_link_local and self._is_here(address)
        return _LINK_LOCAL if is_near else _OTHER_6

    def _is_a_peer(self, address: Address, number: IPv4Address | IPv6Address) -> bool:
        """Return whether a connection would leave for one peer, not for all or for ourselves."""
        if number.is_unspecified or number.is_multicast:
            return False
        if number.is_loopback:
            return self._has_loopback
        # without its scope nobody knows which link is meant
        return number.version == 4 or not number.is_link_local or bool(address.scope)

    def _is_here(self, address: Address) -> bool:
        number = _number(address.host)
        if number is None:
            return False
        if number.version == 6 and number.is_link_local:
            return self._networks is None or address.scope in self._interfaces
        return any(number in subnet.network for subnet in self._networks or ())


@lru_cache(maxsize=_PARSED)
def _number(host: str) -> IPv4Address | IPv6Address | None:
    try:
        # a scope has a field of its own
        number = None if "%" in host else ip_address(host)
    except ValueError:
        return None
    # an IPv4 address in the clothes of an IPv6 one
    return getattr(number, "ipv4_mapped", None) or number
