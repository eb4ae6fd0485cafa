"""The browser: a bounded table of the adverts on our links, and how far each can be used.

A command machine: what a resolver reports goes in by verbs, events and deadlines come out.
Whatever is in an advert was chosen by a stranger; nothing here raises on it (7.1 of the design).
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final, TypeVar

from powertcp.dpdp.advert import (
    MAX_INSTANCE,
    TYPE_TCP,
    TYPE_UDP,
    Advert,
    UnknownVersion,
    decode_txt,
)
from powertcp.dpdp.crowd import MAX_PER_TARGET, Crowd
from powertcp.dpdp.dead import DeadList
from powertcp.dpdp.doubts import Doubts
from powertcp.dpdp.entry import Address, Entry, Service, Signed, Standing
from powertcp.dpdp.events import (
    AdvertChanged,
    AdvertGone,
    AdvertSeen,
    Downgrade,
    Flooded,
    IdClash,
    VerifyWanted,
)
from powertcp.dpdp.links import Links, Subnet
from powertcp.dpdp.signing import MAX_LIFE_S, MAX_SKEW_S
from powertcp.dpdp.trust import Trust
from powertcp.dpdp.txt import MAX_HEARD_TXT
from powertcp.dpdp.verdicts import Verdicts
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.machine import Event
from powertcp.units import NS_PER_S, Duration, Instant

# a building full of providers, and what 20 MB hold when every advert is as long as can be
MAX_ADVERTS: Final = 2048
# adverts of one id: its names and hosts, and those who copy it
MAX_PER_ID: Final = 16
# unknown pairs that are kept of one advert; the record itself is kept whole
MAX_OTHERS: Final = 16
# links that one advert is heard on
MAX_INTERFACES: Final = 16
# a name of DNS
MAX_HOST: Final = 255
# the TTL of PTR and TXT: what was not heard for so long is asked for
STALE_NS: Final[Duration] = 4500 * NS_PER_S
# ids whose clash was told; the oldest may be told again
MAX_CLASHES: Final = 256
# between two reports of a flood, and between two of the clash of one id
WARN_NS: Final[Duration] = 60 * NS_PER_S
# how far the clock must be set to be news
CLOCK_NS: Final[Duration] = NS_PER_S
DOWNGRADE: Final = "downgrade"
ID_CLASH: Final = "id-clash"
OFF_LINK: Final = "off-link"
_KINDS: Final = (TYPE_TCP, TYPE_UDP)
_Provider = tuple[str, bytes]
_GroupT = TypeVar("_GroupT")


class Browser:
    """The adverts on our links. `ignored` counts records too long to be looked at.

    trust: whom we believe, and whom we have met. own: ids of ours, whose clashes the announcer
    sees to. unix_offset_ns: what makes Unix time of `now`, for the end of signatures.
    """

    def __init__(
        self,
        now: Instant,
        *,
        trust: Trust | None = None,
        own: Collection[bytes] = (),
        unix_offset_ns: Duration = 0,
    ) -> None:
        self.ignored = 0
        self.malformed = 0
        self._clock = now
        self._trust = trust or Trust()
        self._own = frozenset(own)
        self._unix_offset = unix_offset_ns
        self._links = Links()
        self._crowd = Crowd(now)
        self._dead = DeadList()
        self._doubts = Doubts()
        self._verdicts = Verdicts()
        # the one heard longest ago is first
        self._table: OrderedDict[str, Entry] = OrderedDict()
        self._peers: dict[_Provider, dict[str, None]] = {}
        self._targets: dict[str, dict[str, None]] = {}
        # when an entry changes by itself: an address may be tried again, a signature ends
        self._rechecks: dict[str, Instant] = {}
        self._clashes: OrderedDict[_Provider, Instant] = OrderedDict()
        self._lost = 0
        self._warned_at: Instant | None = None
        self._events: deque[Event] = deque()

    # ---- what a resolver says -------------------------------------------------------------------

    def heard(self, service: Service, now: Instant) -> None:
        """Take what the resolver says of one instance, new or not."""
        self._tick(now)
        if service.kind not in _KINDS:
            raise LocalProtocolError(f"{service.kind} is no service type of ours")
        service = self._bounded(service)
        key = service.key
        # DPDP-3-02
        if not _is_bounded(service):
            self.ignored += 1
            return
        self._doubts.settle(key)
        old = self._table.get(key)
        if old is not None and old.service == service:
            self._table[key] = replace(old, last_ns=now)
            self._table.move_to_end(key)
            return
        new = self._read(service)
        self.malformed += new.standing is Standing.MALFORMED
        if old is not None:
            if _provider(old) == _provider(new) and old.service.target == service.target:
                self._change(replace(new, first_ns=old.first_ns))
                return
            # another id or host under this name is another provider
            self._lose(key)
        if new.pinned:
            self._crowd.discard(key)
            self._enter(new)
        else:
            self._flood(self._crowd.put(new))
        self._admit()

    def removed(self, key: str, now: Instant) -> None:
        """Take a removal, which is verified before it counts: see VerifyWanted."""
        self._tick(now)
        self._crowd.discard(key)
        if key in self._table:
            # DPDP-4-05
            self._doubts.doubt(key, now)
            self._ask()

    def verified(self, key: str, service: Service | None, now: Instant) -> None:
        """Take the answer to a VerifyWanted: what was found, None for nothing."""
        if service is not None:
            if service.key != key:
                raise LocalProtocolError(f"asked for {key}, told of {service.key}")
            self.heard(service, now)
        else:
            self._tick(now)
            if key in self._doubts:
                self._lose(key)
        self._ask()

    def overflow(self, keys: Collection[str], now: Instant) -> None:
        """Callbacks were lost, `keys` is all the resolver has: whatever else is here is verified."""
        self._tick(now)
        self._crowd.keep(keys)
        for key in self._table:
            if key not in keys:
                self._doubts.doubt(key, now)
        self._ask()

    def reset(self, now: Instant) -> None:
        """Forget every advert, not who is dead: the resolver was started anew."""
        self._tick(now)
        self._crowd.keep(())
        for key in list(self._table):
            self._drop(key)
        self._doubts.clear()

    # ---- what we know by ourselves --------------------------------------------------------------

    def failed(self, provider: bytes, address: Address, now: Instant) -> None:
        """Note that `provider` did not answer at `address`: by an error or within T_OPEN."""
        self._tick(now)
        # DPDP-4-06
        self._dead.failed(provider, address, now)
        self._judge_provider(provider)

    def succeeded(self, provider: bytes, address: Address, now: Instant) -> None:
        """Note that a flow with `provider` came about at `address`."""
        self._tick(now)
        # DPDP-4-06
        self._dead.succeeded(provider, address)
        self._judge_provider(provider)

    def local_subnets(self, subnets: Iterable[Subnet], now: Instant) -> None:
        """Set the subnets of the interfaces that are browsed."""
        self._tick(now)
        self._links = Links(subnets)
        self._judge(list(self._table))

    def believe(self, trust: Trust, now: Instant) -> None:
        """Set whom we believe and whom we have met from now on."""
        self._tick(now)
        self._trust = trust
        self._judge(list(self._table))

    def set_clock(self, unix_offset_ns: Duration, now: Instant) -> None:
        """Take what makes Unix time of `now`: the clock was set, or the host slept."""
        self._tick(now)
        # DPDP-7-03
        if abs(unix_offset_ns - self._unix_offset) >= CLOCK_NS:
            self._unix_offset = unix_offset_ns
            self._judge(list(self._table))

    # ---- what comes out -------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return how many adverts are in the table."""
        return len(self._table)

    def entries(self) -> list[Entry]:
        """Return every advert, the one heard longest ago first."""
        return list(self._table.values())

    def get(self, key: str) -> Entry | None:
        """Return the entry of one name."""
        return self._table.get(key)

    def next_event(self) -> Event | None:
        """Drain one event; None when there are no more."""
        return self._events.popleft() if self._events else None

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline in ns, or None."""
        times = [
            self._crowd.get_timer(),
            self._doubts.get_timer(),
            min(self._rechecks.values(), default=None),
            self._stale_at(),
        ]
        if self._lost and self._warned_at is not None:
            times.append(self._warned_at + WARN_NS)
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`; early calls do nothing."""
        self._tick(now)
        self._admit()
        for key, entry in self._table.items():
            if entry.last_ns + STALE_NS > now:
                break
            # DPDP-4-04
            self._doubts.doubt(key, now)
        self._ask()
        self._judge([key for key, at in self._rechecks.items() if at <= now])
        self._flood(0)

    # ---- inside ---------------------------------------------------------------------------------

    def _tick(self, now: Instant) -> None:
        if now < self._clock:
            raise LocalProtocolError(f"the clock went back from {self._clock} to {now}")
        self._clock = now

    def _bounded(self, service: Service) -> Service:
        """Return what may be kept of a service, in an order that does not depend on how it came."""
        return replace(
            service,
            addresses=tuple(sorted(self._links.ordered(service.addresses), key=str)),
            interfaces=tuple(sorted(set(service.interfaces))[:MAX_INTERFACES]),
        )

    def _read(self, service: Service) -> Entry:
        """Return the entry of a service that nobody has judged yet."""
        advert, fault, standing = None, "", Standing.GOOD
        try:
            advert = decode_txt(service.txt)
            advert = replace(advert, others=advert.others[:MAX_OTHERS])
        except UnknownVersion:
            # DPDP-3-01
            fault, standing = "an advert of another version", Standing.UNKNOWN_VERSION
        except DecodeError as error:
            # DPDP-3-03
            fault, standing = f"{error.field} is missing or malformed", Standing.MALFORMED
        return Entry(
            key=service.key,
            service=service,
            advert=advert,
            fault=fault,
            standing=standing,
            why="",
            signed=Signed.NONE,
            pinned=advert is not None and self._trust.is_pinned(advert),
            site=False,
            first_ns=self._clock,
            last_ns=self._clock,
            dead_until_ns=0,
            addresses=(),
        )

    def _admit(self) -> None:
        """Let in who waits, as fast as may be."""
        while (entry := self._crowd.take(self._clock)) is not None:
            self._enter(entry)

    def _enter(self, entry: Entry) -> None:
        """Put a new entry into the table, if there is room or can be."""
        provider, target = _provider(entry), entry.service.target
        if not self._make_room(provider, target):
            self._flood(1)
            return
        if provider is not None:
            self._peers.setdefault(provider, {})[entry.key] = None
            # DPDP-4-06
            if self._is_honest(entry):
                self._dead.came(provider[1], entry.service.addresses, self._clock)
        self._targets.setdefault(target, {})[entry.key] = None
        self._table[entry.key] = entry
        entry = self._table[entry.key] = self._judged(entry)
        self._events.append(AdvertSeen(entry=entry))
        self._tell(entry, Standing.GOOD, "")
        self._look_around(entry)

    def _change(self, new: Entry) -> None:
        """Put what an advert says now in the place of what it said."""
        old = self._table[new.key]
        self._table[new.key] = new
        self._table.move_to_end(new.key)
        is_news = (old.service.txt, old.service.port) != (new.service.txt, new.service.port)
        # DPDP-4-06
        if is_news and new.advert is not None and self._is_honest(new):
            self._dead.pardon(new.advert.id, new.service.addresses, self._clock)
        entry = self._table[new.key] = self._judged(new)
        self._events.append(AdvertChanged(entry=entry))
        self._tell(entry, old.standing, old.why)
        self._look_around(entry)

    def _drop(self, key: str, *, is_crowded_out: bool = False) -> None:
        entry = self._table.pop(key)
        self._rechecks.pop(key, None)
        self._doubts.settle(key)
        _leave(self._targets, entry.service.target, key)
        provider = _provider(entry)
        if provider is not None:
            _leave(self._peers, provider, key)
        self._events.append(AdvertGone(entry=entry, is_crowded_out=is_crowded_out))
        if provider is not None:
            self._judge(list(self._peers.get(provider, ())))

    def _lose(self, key: str) -> None:
        """Let an entry go that is not there any more: that it comes back is news."""
        advert = self._table[key].advert
        self._drop(key)
        if advert is not None:
            self._dead.gone(advert.id)

    def _ask(self) -> None:
        """Ask for whom it is time, and let go for whom nobody answered."""
        asked, lost = self._doubts.due(self._clock)
        for key in asked:
            self._events.append(VerifyWanted(key=key, service=self._table[key].service))
        for key in lost:
            self._lose(key)

    def _stale_at(self) -> Instant | None:
        """Return when somebody was not heard for too long who is not in doubt already."""
        for key, entry in self._table.items():
            if key not in self._doubts:
                return entry.last_ns + STALE_NS
        return None

    # ---- room -----------------------------------------------------------------------------------

    # DPDP-7-05
    def _make_room(self, provider: _Provider | None, target: str) -> bool:
        """Let others go where a new advert has no room; returns whether it has."""
        peers = self._peers.get(provider, {}) if provider is not None else {}
        if len(peers) >= MAX_PER_ID:
            # who copies an id cannot drive out the one that signs
            oldest = min(self._by_age(peers), key=self._is_proven)
            self._drop(oldest, is_crowded_out=True)
            self._flood(1)
        neighbours = self._targets.get(target, {})
        if len(neighbours) >= MAX_PER_TARGET and not self._crowd_out(self._by_age(neighbours)):
            return False
        return len(self._table) < MAX_ADVERTS or self._crowd_out(self._table)

    def _crowd_out(self, keys: Iterable[str]) -> bool:
        """Let the first go that no pin names, of keys by age; returns whether there is one."""
        oldest = next((key for key in keys if not self._table[key].pinned), None)
        if oldest is None:
            return False
        self._drop(oldest, is_crowded_out=True)
        self._flood(1)
        return True

    def _by_age(self, keys: Iterable[str]) -> list[str]:
        """Return the keys, the one heard longest ago first."""
        return sorted(keys, key=lambda key: self._table[key].last_ns)

    def _is_proven(self, key: str) -> bool:
        return self._table[key].signed is Signed.GOOD

    def _flood(self, lost: int) -> None:
        """Count adverts that did not fit; warn of them once a minute."""
        self._lost += lost
        is_time = self._warned_at is None or self._clock >= self._warned_at + WARN_NS
        if self._lost and is_time:
            self._events.append(Flooded(lost=self._lost))
            self._lost = 0
            self._warned_at = self._clock

    # ---- judging --------------------------------------------------------------------------------

    def _judge_provider(self, provider: bytes) -> None:
        for kind in _KINDS:
            self._judge(list(self._peers.get((kind, provider), ())))

    def _judge(self, keys: Iterable[str]) -> None:
        """Judge entries again, and tell where something came of it."""
        for key in keys:
            old = self._table[key]
            new = self._table[key] = self._judged(old)
            if new != old:
                self._events.append(AdvertChanged(entry=new))
                self._tell(new, old.standing, old.why)

    def _judged(self, entry: Entry) -> Entry:
        """Return `entry` as it can be used now."""
        self._rechecks.pop(entry.key, None)
        addresses = self._links.usable(entry.service.addresses)
        advert = entry.advert
        if advert is None:
            return replace(entry, addresses=addresses)
        signed, ends_at = self._signature(entry, advert)
        alive, until = self._dead.alive(advert.id, addresses, self._clock)
        why = self._suspicion(entry, advert, signed)
        standing = Standing.SUSPECT if why else Standing.GOOD
        # DPDP-4-06
        is_dead = bool(until) and not alive
        if is_dead:
            standing, why = Standing.DEAD, ""
        times = [time for time in (until, ends_at) if time]
        if times:
            self._rechecks[entry.key] = min(times)
        return replace(
            entry,
            standing=standing,
            why=why,
            signed=signed,
            pinned=self._trust.is_pinned(advert),
            site=self._trust.is_site(advert),
            dead_until_ns=until if is_dead else 0,
            addresses=addresses if is_dead else alive,
        )

    def _signature(self, entry: Entry, advert: Advert) -> tuple[Signed, Instant]:
        """Return what the signature is worth and when that may be otherwise, 0 for never."""
        met = self._trust.known.get(advert.id)
        now_s = (self._clock + self._unix_offset) // NS_PER_S
        # DPDP-7-03
        signed = self._verdicts.of(entry.service, advert, met.meter_key if met else None, now_s)
        expires_s = advert.expires_s
        if expires_s is None or signed not in (Signed.GOOD, Signed.BAD):
            return signed, 0
        # a bad one may be of a clock that is ahead
        turns_s = expires_s - (signed is Signed.BAD) * (MAX_LIFE_S + MAX_SKEW_S)
        return signed, turns_s * NS_PER_S - self._unix_offset if turns_s > now_s else 0

    def _suspicion(self, entry: Entry, advert: Advert, signed: Signed) -> str:
        """Return why an advert is suspect, "" when it is not."""
        if self._downgrade(advert, signed):
            return DOWNGRADE
        # DPDP-5-03: what the meter key of the id has signed no other advert makes doubtful
        peers = map(self._table.__getitem__, self._peers[entry.service.kind, advert.id])
        if signed is not Signed.GOOD and not all(_is_one_provider(entry, peer) for peer in peers):
            return ID_CLASH
        # DPDP-7-01
        return OFF_LINK if self._links.is_off_link(entry.service.addresses) else ""

    def _downgrade(self, advert: Advert, signed: Signed) -> str:
        """Return what an advert lacks that its provider has shown, a sentence; "" for nothing."""
        met = self._trust.known.get(advert.id)
        pinned = self._trust.pinned_key(advert)
        # DPDP-7-09
        if pinned is not None and advert.exchange_key != pinned:
            is_other = advert.exchange_key is not None
            return f"it shows {'another' if is_other else 'no'} VPPN key, one is pinned"
        # DPDP-7-04
        if signed is Signed.BAD:
            return "its signature is bad or has ended"
        if signed is Signed.NONE and met is not None and met.has_signed:
            return "it is not signed, and was before"
        return ""

    def _is_honest(self, entry: Entry) -> bool:
        """Return whether an advert lacks nothing that its provider has shown."""
        advert = entry.advert
        return advert is not None and not self._downgrade(advert, self._signature(entry, advert)[0])

    def _tell(self, entry: Entry, was: Standing, why: str) -> None:
        """Tell of a downgrade that was none before."""
        if entry.why == DOWNGRADE and (was, why) != (entry.standing, DOWNGRADE):
            text = self._downgrade(entry.advert, entry.signed) if entry.advert else ""
            self._events.append(Downgrade(entry=entry, text=text))

    def _look_around(self, entry: Entry) -> None:
        """Judge the others of one id by an advert that is new or other, and tell of a clash."""
        provider = _provider(entry)
        if provider is None:
            return
        others = [key for key in self._peers[provider] if key != entry.key]
        self._judge(others)
        told = self._clashes.get(provider)
        if provider[1] in self._own or (told is not None and self._clock < told + WARN_NS):
            return
        # DPDP-5-02
        clash = next((key for key in others if _is_clash(entry, self._table[key])), None)
        if clash is not None:
            self._clashes[provider] = self._clock
            self._clashes.move_to_end(provider)
            if len(self._clashes) > MAX_CLASHES:
                self._clashes.popitem(last=False)
            self._events.append(IdClash(entry=entry, other=self._table[clash]))


def _is_bounded(service: Service) -> bool:
    return (
        len(service.txt) <= MAX_HEARD_TXT
        and len(service.instance.encode("utf-8", "surrogatepass")) <= MAX_INSTANCE
        and len(service.host) <= MAX_HOST
    )


def _provider(entry: Entry) -> _Provider | None:
    return None if entry.advert is None else (entry.service.kind, entry.advert.id)


def _is_one_provider(one: Entry, other: Entry) -> bool:
    """Return whether two adverts of one id are of one provider, as far as can be told."""
    keys = [entry.advert.exchange_key for entry in (one, other) if entry.advert is not None]
    # DPDP-5-03
    return one.service.port == other.service.port if keys == [None, None] else keys[0] == keys[1]


def _is_clash(one: Entry, other: Entry) -> bool:
    """Return whether two adverts of one id lead to different places, and no key makes them one.

    Providers of a realm have one meter key, which has signed both (DPDP-10-05); who has not met it
    yet learns from the first receipt whether it has.
    """
    if one.signed is other.signed is Signed.GOOD:
        return False
    if one.signed is other.signed is Signed.UNKNOWN and _is_one_provider(one, other):
        return False
    places = {(entry.service.port, entry.service.target) for entry in (one, other)}
    keys = {entry.advert.exchange_key for entry in (one, other) if entry.advert is not None}
    return len(places) > 1 and (len(keys) > 1 or None in keys)


def _leave(groups: dict[_GroupT, dict[str, None]], group: _GroupT, key: str) -> None:
    del groups[group][key]
    if not groups[group]:
        del groups[group]
