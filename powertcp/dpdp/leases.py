"""Which addresses a hot spot forwards, and what nftables is told of them, in its own language.

The kernel ends an address by itself when its lease is over, whatever became of the provider.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from powertcp.units import NS_PER_MS, Instant

GUEST: Final = "guest"
TICKET: Final = "ticket"
MAX_ADDRESSES: Final = 1024  # guests of one access point, with room; DPDP-9-03
# the kernel counts an element that is over until it is swept, and both while one replaces the other
MAX_ELEMENTS: Final = 2 * MAX_ADDRESSES
GATHER_NS: Final = 200 * NS_PER_MS  # renewals of all go in one transaction
SPACING_NS: Final = 100 * NS_PER_MS  # a guest that comes and goes costs ten transactions a second
MAX_NAME: Final = 15  # octets of an interface, IFNAMSIZ - 1
TABLE: Final = "inet powertcp"
_SETS: Final = {4: "leased4", 6: "leased6"}
_FIELDS: Final = {4: "ip", 6: "ip6"}
# what would end a text of nftables, or be a pattern there
_FOREIGN: Final = frozenset('/"*\\')

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class HotSpotConfig:
    """Who is forwarded: whoever has a lease, or with `ticket` only whom a line of authorized_watts
    names, or a certificate. inside, outside: interfaces between which packets are forwarded, any
    outside for "".
    """

    kind: str
    inside: str
    outside: str = ""


def check_name(name: str) -> str:
    """Return `name` if an interface may be called so and rules can name it. Raises ValueError."""
    is_plain = name.isascii() and name.isprintable() and not _FOREIGN & set(name)
    if not 1 <= len(name) <= MAX_NAME or " " in name or not is_plain:
        said = f'an interface has 1..{MAX_NAME} signs of ASCII, none of / " * \\ and no blank'
        raise ValueError(f"{said}: {name!r}")
    return name


class LeasedAddresses:
    """Addresses that hold a lease of power: verbs with `now`, scripts for `nft -f -` out.

    An address is one entry however many flows it has, and ends with the last of their leases. After
    a verb look at `get_timer`; when it is due, write `changes`. refused: how often there was no room.
    """

    def __init__(self, inside: str, outside: str = "") -> None:
        """Forward between `inside` and `outside`, "" for whatever else there is.

        Raises ValueError for what is no name of an interface.
        """
        self._inside = check_name(inside)
        self._outside = check_name(outside) if outside else ""
        self._leases: dict[Address, dict[Hashable, Instant]] = {}
        self._addresses: dict[Hashable, Address] = {}
        self._said: dict[Address, Instant] = {}  # until when, as the kernel was told
        self._news: dict[Address, Instant] = {}  # when it is to be told at the latest
        self._rest_until: Instant | None = None
        self.refused = 0

    def __len__(self) -> int:
        """Return how many addresses are forwarded."""
        return len(self._leases)

    def __contains__(self, flow: object) -> bool:
        """Return whether a lease of this flow is counted."""
        return flow in self._addresses

    # DPDP-9-02
    def hold(self, flow: Hashable, address: Address, until: Instant, now: Instant) -> bool:
        """Forward `address` for as long as `flow` has its lease; False when there is no room.

        A lease that is over is released.
        """
        if until <= now or self._addresses.get(flow, address) != address:
            self.release(flow, now)
        if until <= now:
            return True
        if address not in self._leases and not self._has_room(now):
            self.refused += 1
            return False
        before = self._end(address)
        self._leases.setdefault(address, {})[flow] = until
        self._addresses[flow] = address
        self._note(address, before, now)
        return True

    # DPDP-9-02
    def release(self, flow: Hashable, now: Instant) -> None:
        """A flow has no lease any more: by a close, a TRIP, its lapse."""
        address = self._addresses.pop(flow, None)
        if address is None:
            return
        before, leases = self._end(address), self._leases[address]
        del leases[flow]
        if not leases:
            del self._leases[address]
        self._note(address, before, now)

    # DPDP-9-03
    def _has_room(self, now: Instant) -> bool:
        """Return whether one more address fits; what nobody ended in time makes room."""
        if len(self._leases) >= MAX_ADDRESSES:
            self._sweep(now)
        return len(self._leases) < MAX_ADDRESSES

    def _sweep(self, now: Instant) -> None:
        """Forget leases that are over."""
        over = [
            flow
            for leases in self._leases.values()
            for flow, until in leases.items()
            if until <= now
        ]
        for flow in over:
            self.release(flow, now)

    def _end(self, address: Address) -> Instant:
        """Return until when an address is forwarded, 0 for one that is not."""
        return max(self._leases.get(address, {}).values(), default=0)

    def _note(self, address: Address, before: Instant, now: Instant) -> None:
        """See to it that the kernel is told: a renewal soon, anything else at once."""
        end, said = self._end(address), self._said.get(address, 0)
        if end == before:
            return
        is_renewal = now < said < end
        due = min(now + GATHER_NS, said) if is_renewal else now
        self._news[address] = min(due, self._news.get(address, due))

    def get_timer(self) -> Instant | None:
        """Return when `changes` is to be written, None while the kernel knows all."""
        due = min(self._news.values(), default=None)
        if due is None or self._rest_until is None:
            return due
        return max(due, self._rest_until)

    # -- what nftables reads -----------------------------------------------------------------------

    def changes(self, now: Instant) -> str:
        """Return one transaction that tells all that is news, "" for nothing.

        It counts as written: when it was not, `load` says all of it again.
        """
        self._sweep(now)
        if self._news:
            self._rest_until = now + SPACING_NS
        news, self._news = self._news, {}
        gone = [each for each in news if each not in self._leases and each in self._said]
        kept = {each: self._end(each) for each in news if each in self._leases}
        for address in gone:
            del self._said[address]
        self._said |= kept
        # a plain add keeps the old time-out, a delete of what is over would undo all of it
        lines = [*_lines("add", [*gone, *kept]), *_lines("delete", [*gone, *kept])]
        return _script([*lines, *_lines("add", kept, _time_outs(kept, now))])

    # DPDP-9-02
    def load(self, now: Instant) -> str:
        """Return what makes the table anew, with the rules and whoever has a lease."""
        self._sweep(now)
        self._news = {}
        self._said = {address: self._end(address) for address in self._leases}
        lines = _lines("add", self._said, _time_outs(self._said, now))
        return _script([f"add table {TABLE}", f"delete table {TABLE}", *self._table(), *lines])

    @staticmethod
    def unload() -> str:
        """Return what takes the table away, whether or not there is one."""
        return _script([f"add table {TABLE}", f"delete table {TABLE}"])

    def _table(self) -> list[str]:
        """Return the table: no rule lets pass what is established, or it would outlive its lease."""
        inside = self._inside
        beyond_out = f'oifname "{self._outside}" ' if self._outside else ""
        beyond_in = f'iifname "{self._outside}" ' if self._outside else ""
        rules = [
            rule
            for version, name in _SETS.items()
            for rule in (
                f'iifname "{inside}" {beyond_out}{_FIELDS[version]} saddr @{name} accept',
                f'oifname "{inside}" {beyond_in}{_FIELDS[version]} daddr @{name} accept',
            )
        ]
        sets = [
            f"set {name} {{ type ipv{version}_addr; size {MAX_ELEMENTS}; flags timeout; }}"
            for version, name in _SETS.items()
        ]
        return [
            f"table {TABLE} {{",
            *sets,
            "chain forward {",
            "type filter hook forward priority 0; policy accept;",
            *rules,
            f'iifname "{inside}" drop',
            f'oifname "{inside}" drop',
            "}",
            "}",
        ]


def _time_outs(ends: Mapping[Address, Instant], now: Instant) -> dict[Address, str]:
    return {
        address: f" timeout {max(1, (end - now) // NS_PER_MS)}ms" for address, end in ends.items()
    }


def _lines(
    verb: str, addresses: Iterable[Address], words: Mapping[Address, str] | None = None
) -> list[str]:
    """Return one line for each family; words: what stands behind each address."""
    by_version: dict[int, list[str]] = {version: [] for version in _SETS}
    for address in addresses:
        by_version[address.version].append(f"{address}{words[address] if words else ''}")
    return [
        f"{verb} element {TABLE} {_SETS[version]} {{ {', '.join(elements)} }}"
        for version, elements in by_version.items()
        if elements
    ]


def _script(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
