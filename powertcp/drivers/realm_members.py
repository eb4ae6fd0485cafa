"""What a provider knows of another one of its realm. DPDP section 10."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import trio

from powertcp.drivers.dial import format_address
from powertcp.drivers.realm_wire import RealmWire
from powertcp.potcp.realm import Replica, Share
from powertcp.potcp.tickets import MEMBER_SHIFT, Tenure

BEAT_S: Final = 1.0
SILENT_S: Final = 3.0  # three beats
MAX_REPLICAS: Final = 16_384  # of one other provider
MAX_MOVED: Final = 4096  # that one other provider has not heard of


class Told(NamedTuple):
    """What a member knows of what goes on by itself in a flow of ours. sim: samples are synthesised."""

    acked_uj: int
    sent_uj: int
    sim: bool

    @classmethod
    def of(cls, tenure: Tenure) -> "Told":
        """Return it as it is now."""
        pages = tenure.pages
        return cls(tenure.acked_uj, tenure.sent_uj, pages is not None and pages.sim)


@dataclass(eq=False)
class Member:
    """Another provider of the realm. number: its place in the file. host, port: where it listens.

    changed, gone: flows that it is to be told of. told: registers of ours as it knows them. moved:
    flows of its own that go on here, from which ESN, and as it had told them, until it has heard
    that; unsaid: those of them that this connection has not said. theirs: its flows.
    """

    number: int
    host: str
    port: int
    changed: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    told: dict[int, Told] = field(default_factory=dict)
    moved: dict[int, tuple[int, Replica]] = field(default_factory=dict)
    unsaid: set[int] = field(default_factory=set)
    theirs: dict[int, Replica] = field(default_factory=dict)
    news: trio.Event = field(default_factory=trio.Event)
    is_dialed: bool = False  # a connection of ours stands
    is_told: bool = False  # and it has been told all
    wire: RealmWire | None = None  # by which it tells us
    silent_at: float = 0.0
    has_warned: bool = False

    def __str__(self) -> str:
        return format_address(self.host, self.port)

    def change(self, key: int) -> None:
        """Have it told of the terms and receipts of a flow of ours."""
        self.changed.add(key)
        self.news.set()

    def end(self, key: int) -> None:
        """Have it told that a flow is over; who is not there is told of none that is."""
        self.changed.discard(key)
        self.told.pop(key, None)
        if self.is_dialed:
            self.gone.add(key)
            self.news.set()

    # DPDP-10-06
    def take(self, key: int, esn_uj: int) -> bool:
        """Have it told that a flow of its own goes on here. False: it has no such flow."""
        replica = self.theirs.pop(key, None)
        if replica is None:
            return False
        while len(self.moved) >= MAX_MOVED:
            self.moved.pop(next(iter(self.moved)))
        self.moved[key] = esn_uj, replica
        self.unsaid.add(key)
        self.news.set()
        return True

    def give_back(self, key: int) -> Replica | None:
        """A flow that was taken goes on there after all, and it has not been told otherwise."""
        _, replica = self.moved.pop(key, (0, None))
        self.unsaid.discard(key)
        if replica is not None:
            self.theirs[key] = replica
        return replica


def owner_of(key: int, members: list[Member]) -> Member | None:
    """Return the other provider that a flow is of, None: it is ours, or of nobody."""
    return next((each for each in members if each.number == key >> MEMBER_SHIFT), None)


class Flows(Protocol):
    """The flows of this provider, as those who tell and hear see them."""

    def live(self) -> Mapping[int, object]:
        """Return those that tickets may move, by key."""

    def tenure(self, key: int) -> Tenure | None:
        """Return the contract of one, None when it cannot be moved any more."""

    def share(self, key: int) -> Share | None:
        """Return what is told of one, None when it is over."""

    def replica(self, share: Share) -> Replica:
        """Return what honours tickets of another provider's flow."""

    @property
    def adopt(self) -> Callable[[int, Replica], None]:
        """Honour tickets of another provider's flow."""

    @property
    def leave(self) -> Callable[[int], None]:
        """Honour them no longer."""

    def move_away(self, key: int, esn_uj: int) -> None:
        """End one of ours: it goes on with another provider."""
