"""What a provider keeps for each connection and each flow."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING, Any, Final, Protocol

from powertcp.drivers.dial import format_address
from powertcp.drivers.wire import Wire
from powertcp.ledger.memo import who_memo
from powertcp.machine import Event
from powertcp.potcp.connection import PowerConnection
from powertcp.profile import PowerProfile
from powertcp.registry import Refusal
from powertcp.units import Duration, Instant
from powertcp.vppn.authorized import Kind
from powertcp.vppn.identity import PublicKey
from powertcp.wire.options import Sampling, Tariff

if TYPE_CHECKING:
    from powertcp.potcp.events import FlowResumed
    from powertcp.vppn.access import Rights
    from powertcp.vppn.tunnel import Tunnel

__all__ = [
    "CLEAR", "AddressLimit", "FlowRecord", "Identity", "Keeper", "Session", "party_of", "peer_of",
]  # fmt: skip


_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address within IPv6


def peer_of(host: str) -> bytes:
    """Return the octets by which limits count a peer: an IPv4 address, or an IPv6 /64."""
    try:
        return inet_pton(AF_INET, host)
    except OSError:
        pass
    try:
        packed = inet_pton(AF_INET6, host.partition("%")[0])
    except OSError:
        return host.encode()
    return packed[12:] if packed.startswith(_MAPPED) else packed[:8]


def party_of(host: str) -> str:
    """Return the name of `peer_of` in accounts: "10.0.0.9", "2001:db8::/64", "::1"."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address) if address.is_loopback else f"{IPv6Address(int(address) >> 64 << 64)}/64"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is at the other end. key: the static key that the handshake proved, None: none.

    is_sealed: whether there is a VPPN at all. certificate: its text as it came, b"" for none.
    """

    is_sealed: bool = False
    key: PublicKey | None = None
    certificate: bytes = b""


CLEAR: Final = Identity()


class AddressLimit:
    """Connections per address, counted before any object exists for them (P7)."""

    def __init__(self, most: int) -> None:
        """Allow `most` connections of one peer at a time."""
        self._most = most
        self._open: dict[bytes, int] = {}

    def enter(self, peer: bytes) -> bool:
        """Count one more connection of `peer`; False when it has too many."""
        # PTCP-14-01
        count = self._open.get(peer, 0)
        if count >= self._most:
            return False
        self._open[peer] = count + 1
        return True

    def leave(self, peer: bytes) -> None:
        """Count one connection less."""
        count = self._open[peer] - 1
        if count:
            self._open[peer] = count
        else:
            del self._open[peer]


class Keeper(Protocol):
    """Whoever keeps sessions: a provider."""

    def heed(self, session: "Session", events: list[Event]) -> None:
        """Answer what a wake-up of `session` brought."""

    def leave(self, session: "Session") -> None:
        """Take note that the wire of `session` is being closed."""


class Session:
    """One accepted connection: its machine, its wire, its flows."""

    __slots__ = (
        "_flows", "_keeper", "host", "identity", "lapsed", "machine", "meter", "peer", "port",
        "stale", "tunnel", "wire",
    )  # fmt: skip

    wire: Wire[Event]
    tunnel: "Tunnel | None"

    def __init__(
        self, keeper: Keeper, machine: PowerConnection, host: str, port: int, peer: bytes
    ) -> None:
        """Begin without flows; the wire is set before the first octet."""
        self._keeper = keeper
        self.machine = machine
        self.host = host
        self.port = port
        self.peer = peer
        self.tunnel = None
        self.identity = CLEAR  # until a handshake proved another
        self.stale = False
        self.meter = b""  # of the receiver of a feed whose pages came
        self.lapsed = False  # a lease ran out and no probe was answered since
        self._flows: dict[int, FlowRecord] | None = None

    def heed(self, events: list[Event]) -> None:
        """Hand over the events of a wake-up."""
        self._keeper.heed(self, events)

    def give_up(self, refusal: Refusal, now: Instant) -> None:
        """End every flow with 507: the peer reads nothing, so nothing is held for it. T_WRITE."""
        self.machine.abort(refusal, now=now)

    def write_limit_ns(self) -> Duration:
        """Return T_WRITE by the leases of the flows as they stand."""
        return self.machine.write_limit_ns

    def leave(self) -> None:
        """Report that the wire is being closed."""
        self._keeper.leave(self)

    @property
    def party(self) -> str:
        """Who it is for the books: as limits count peers, an IPv4 address or an IPv6 /64."""
        return party_of(self.host)

    @property
    def flows(self) -> "dict[int, FlowRecord]":
        """Flows by identifier; made on first use (P20)."""
        if self._flows is None:
            self._flows = {}
        return self._flows

    def has_flows(self) -> bool:
        """Say whether any flow is left."""
        return bool(self._flows)


class FlowRecord:
    """One flow of a session; its identity is the key by which the breaker holds power.

    counter: samples made, not reduced modulo 2^32. wanted_mw: what the next block carries.
    blocked: credit is short until the next CREDIT, or a page is not back yet. relieved_until: no
    ECE until then. book: what the ledger knows of it, None without a ledger. offered:
    a price that the sink has not answered to. allowed_uj: ESN up to which the ledger has reserved
    energy, None: no limit. rights: what whoever draws may have, None where nobody asks. host: from
    where it was asked for; another path does not change by which address it is counted. metered:
    receipts were asked for. origin: how it came from another provider of the realm, None if it began
    here.
    """

    __slots__ = (
        "allowed_uj",
        "blocked",
        "book",
        "cohort",
        "counter",
        "demand_mw",
        "flow",
        "host",
        "key",
        "metered",
        "offered",
        "origin",
        "profile",
        "ready_at",
        "relieved_until",
        "rights",
        "sampling",
        "session",
        "state",
        "supply",
        "wanted_mw",
    )

    profile: PowerProfile | None
    sampling: Sampling | None
    relieved_until: Instant
    ready_at: Instant | None

    def __init__(self, session: Session, flow: int) -> None:
        """Begin as a request."""
        self.session = session
        self.host = session.host
        self.flow = flow
        self.metered = False
        self.key = 0
        self.state = "requested"
        self.profile = None
        self.sampling = None
        self.supply = -1
        self.demand_mw = 0
        self.wanted_mw = 0
        self.counter = 0
        self.blocked = False
        self.relieved_until = 0
        self.ready_at = None
        self.cohort: Any = None
        self.book: Any = None
        self.allowed_uj: int | None = None
        self.offered: Tariff | None = None
        self.origin: FlowResumed | None = None
        self.rights: Rights | None = None

    @property
    def name(self) -> str:
        """The flow as people see it: ADDRESS:PORT/FLOW."""
        return f"{format_address(self.session.host, self.session.port)}/{self.flow}"

    @property
    def party(self) -> str:
        """Whom limits and books count it for: the key that a line names, else the address."""
        return self.party_by(self.rights)

    # VPPN-5-12
    def party_by(self, rights: "Rights | None") -> str:
        """Return whom it would count for by `rights`; a guest has what clear power has not."""
        key, address = self.session.identity.key, party_of(self.host)
        if rights is None or rights.kind is Kind.CLEAR:
            return address
        if rights.kind is Kind.GUEST or key is None:
            return f"guest:{address}"
        return str(key)

    # VPPN-5-10
    @property
    def who(self) -> str:
        """By what name it draws, for the memo of what is posted; "" where nobody asks."""
        rights = self.rights
        return who_memo(rights.name, rights.serial) if rights is not None else ""
