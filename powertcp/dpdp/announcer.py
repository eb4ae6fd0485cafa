"""The life of our own advert: named, announced, changed not too often, withdrawn (4 and 5).

A command machine beside the driver of a resolver: `want` says what is offered, events say what to
announce. Power waits for none of it.
"""

from collections import deque
from dataclasses import replace
from enum import Enum, auto
from re import compile as pattern
from typing import Final

from powertcp.crypto import SigningKey
from powertcp.dpdp.advert import ID_OCTETS, TYPE_TCP, Advert, encode_txt, fit
from powertcp.dpdp.bucket import Pace, TokenBucket
from powertcp.dpdp.events import Contested, Register, Renamed, Update, Withdraw
from powertcp.dpdp.names import ATTEMPTS, check_name, numbered
from powertcp.dpdp.signing import MAX_LIFE_S, sign
from powertcp.dpdp.txt import split_txt
from powertcp.errors import DecodeError, LocalProtocolError, known
from powertcp.machine import Entropy, Event
from powertcp.units import NS_PER_S, Duration, Instant

# DPDP-4-01: what cannot be announced is tried again
RETRY_NS: Final[Duration] = 5 * NS_PER_S
RETRY_MOST_NS: Final[Duration] = 300 * NS_PER_S
# a registration takes 1.2 s; what was not answered by then never is
ANSWER_NS: Final[Duration] = 30 * NS_PER_S
# DPDP-4-02
BUCKET: Final = 3
EVERY_NS: Final[Duration] = 6 * NS_PER_S
# RFC 6762, section 8.4
MOST_UPDATES: Final = 10
MINUTE_NS: Final[Duration] = 60 * NS_PER_S
# the part of the rating that cap may move unsaid
NEWS_PART: Final = 10
# DPDP-5-02
YIELD_NS: Final[Duration] = 2 * NS_PER_S
# how far the clock must be set to be worth an update
CLOCK_NS: Final[Duration] = 60 * NS_PER_S
_RENEW_NS: Final[Duration] = MAX_LIFE_S * NS_PER_S // 2
_ID: Final = pattern(rf"[0-9a-f]{{{2 * ID_OCTETS}}}")


class _State(Enum):
    """IDLE: nothing is wanted. ASKED: Register is open. FAILED: it is tried again. GONE: withdrawn."""

    IDLE = auto()
    ASKED = auto()
    FAILED = auto()
    REGISTERED = auto()
    GONE = auto()


class Announcer:
    """Our own advert.

    name: of the instance, for people. rating_mw: what `cap` is compared with. port, host: those of
    SRV. key: the meter key whose hash is the id; it signs. unix_offset_ns: what makes Unix time
    of `now`.
    """

    def __init__(
        self,
        name: str,
        now: Instant,
        *,
        rating_mw: int,
        port: int,
        host: str,
        entropy: Entropy,
        kind: str = TYPE_TCP,
        key: SigningKey | None = None,
        unix_offset_ns: Duration = 0,
    ) -> None:
        self._name = check_name(name)
        self._rating = rating_mw
        self._port = port
        self._host = host
        self._entropy = entropy
        self._kind = kind
        self._key = key
        self._unix_offset = unix_offset_ns
        self._clock = now
        self._state = _State.IDLE
        self._attempt = 1
        self._wanted: Advert | None = None
        self._said: Advert | None = None
        self._has_news = False
        self._is_forced = False
        self._is_failing = False
        self._pace = Pace(TokenBucket(BUCKET, EVERY_NS, now), MOST_UPDATES, MINUTE_NS)
        self._pause: Duration = 0
        # when an answer must be here, or the next attempt is due
        self._wait_until: Instant | None = None
        self._rename_at: Instant | None = None
        self._renew_at: Instant | None = None
        self._rival = ""
        self._told_at: Instant | None = None
        self._events: deque[Event] = deque()

    @property
    def instance(self) -> str:
        """The name that is announced or tried now; it is `name` until somebody else has that."""
        wanted = self._wanted
        return self._name if wanted is None else numbered(self._name, self._attempt, wanted.id)

    @property
    def is_registered(self) -> bool:
        """Whether others can find it."""
        return self._state is _State.REGISTERED

    # ---- verbs ----------------------------------------------------------------------------------

    def want(self, advert: Advert, now: Instant) -> None:
        """Say what is offered from now on; exp and sig are added here. After `drain` of no effect.

        Raises LocalProtocolError for an advert that cannot be sent, or with another id.
        """
        self._tick(now)
        advert = replace(advert, expires_s=None, signature=None)
        if advert == self._wanted or self._state is _State.GONE:
            return
        before = self._wanted
        if before is not None and before.id != advert.id:
            raise LocalProtocolError(
                f"the id of a provider stays: {before.id.hex()}, got {advert.id.hex()}"
            )
        encode_txt(self._sealed(advert, now))
        self._wanted = advert
        if before is None:
            self._register(now)
        else:
            self._note_news()
            self._update(now)

    def registered(self, now: Instant) -> None:
        """Take the answer to Register: it is announced."""
        self._tick(now)
        if self._state is _State.GONE:
            self._events.append(Withdraw(instance=self.instance))
            return
        self._check_asked()
        if self._state is not _State.REGISTERED:
            self._state = _State.REGISTERED
            self._pause = 0
            self._wait_until = None
            self._note_news()
            self._update(now)

    def refused(self, now: Instant) -> None:
        """Take the answer to Register: somebody else has this name."""
        self._tick(now)
        self._check_asked()
        if self._state not in (_State.ASKED, _State.FAILED):
            return
        if self._attempt < ATTEMPTS:
            self._rename("the name is taken", now)
        else:
            self._fail(now)

    def failed(self, now: Instant) -> None:
        """Take the answer to Register or Update: it cannot be announced now."""
        self._tick(now)
        self._check_asked()
        if self._state is not _State.GONE:
            self._fail(now)

    def lost(self, now: Instant) -> None:
        """The resolver was started anew, and knows nothing of ours."""
        self._tick(now)
        if self._state not in (_State.IDLE, _State.GONE):
            self._register(now)

    def set_clock(self, unix_offset_ns: Duration, now: Instant) -> None:
        """Take what makes Unix time of `now`: the clock was set, or the host slept.

        What was signed by another clock may have ended for everybody, and is signed anew.
        """
        self._tick(now)
        # DPDP-7-03
        if abs(unix_offset_ns - self._unix_offset) >= CLOCK_NS:
            self._unix_offset = unix_offset_ns
            if self._key is not None and self._state in (_State.ASKED, _State.REGISTERED):
                self._force(now)

    def announce_again(self, now: Instant) -> None:
        """Announce the same once more, as soon as may be: our addresses are others."""
        self._tick(now)
        if self._state is _State.REGISTERED:
            self._force(now)

    # DPDP-5-02
    def seen_own_name(self, txt: bytes, port: int, host: str, now: Instant) -> None:
        """Take a record under our name that the resolver holds: TXT, and port and target of SRV.

        Our own one is known by its id, port and host.
        """
        self._tick(now)
        wanted = self._wanted
        if self._state is not _State.REGISTERED or wanted is None or self._rename_at is not None:
            return
        own, other = wanted.id.hex(), _id_of(txt)
        if other == own:
            # port 0: nothing is known of its place
            if port and (port, host.lower()) != (self._port, self._host.lower()):
                self._contest(other, now)
            return
        # hex digits sort as the numbers they are
        if own < other and self._attempt < ATTEMPTS:
            spread = int.from_bytes(self._entropy(4), "big")
            self._rename_at = now + (spread * YIELD_NS >> 32)
            self._rival = other
        else:
            self._contest(other, now)

    def drain(self, now: Instant) -> None:
        """Say goodbye: nobody new is to come. What a verb says after this has no effect."""
        self._tick(now)
        # DPDP-4-03
        if self._state in (_State.ASKED, _State.FAILED, _State.REGISTERED):
            self._events.append(Withdraw(instance=self.instance))
        self._state = _State.GONE
        self._wait_until = self._rename_at = None

    # ---- what comes out -------------------------------------------------------------------------

    def next_event(self) -> Event | None:
        """Drain one event; None when there are no more."""
        return self._events.popleft() if self._events else None

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline in ns, or None."""
        times = [self._wait_until, self._rename_at]
        if self._state is _State.REGISTERED:
            times.append(self._renew_at)
            if self._has_news and self._wait_until is None:
                times.append(self._pace.ready_at)
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`; early calls do nothing."""
        self._tick(now)
        if self._wait_until is not None and now >= self._wait_until:
            self._wait_until = None
            if self._state is _State.ASKED:
                self._fail(now)
            elif self._state is _State.FAILED:
                self._register(now)
        if self._rename_at is not None and now >= self._rename_at:
            self._rename(f"provider {self._rival} has this name", now)
        # DPDP-7-03
        is_due = self._renew_at is not None and now >= self._renew_at
        if is_due and self._state is _State.REGISTERED:
            self._force(now)
        else:
            self._update(now)

    # ---- inside ---------------------------------------------------------------------------------

    def _tick(self, now: Instant) -> None:
        if now < self._clock:
            raise LocalProtocolError(f"the clock went back from {self._clock} to {now}")
        self._clock = now

    def _check_asked(self) -> None:
        if self._state is _State.IDLE:
            raise LocalProtocolError("nothing was to be announced")

    def _sealed(self, advert: Advert, now: Instant) -> Advert:
        """Return `advert` as it is sent under our name: signed if we can."""
        if self._key is None:
            return fit(advert)
        name = numbered(self._name, self._attempt, advert.id)
        expires_s = (now + self._unix_offset) // NS_PER_S + MAX_LIFE_S
        return sign(advert, name, self._kind, self._port, self._key, expires_s)

    def _speak(self, now: Instant) -> Advert:
        """Return what is announced now; it is what later changes are compared with."""
        self._said = known(self._wanted, "nothing is wanted")
        self._has_news = self._is_forced = False
        # DPDP-7-03
        self._renew_at = None if self._key is None else now + _RENEW_NS
        return self._sealed(self._said, now)

    def _register(self, now: Instant) -> None:
        self._state = _State.ASKED
        self._rename_at = None
        # DPDP-4-01
        self._wait_until = now + ANSWER_NS
        # what probes say is heard as any other announcement
        self._pace.take(now)
        self._events.append(Register(instance=self.instance, advert=self._speak(now)))

    def _fail(self, now: Instant) -> None:
        """Try again later, and later each time."""
        # DPDP-4-01
        self._pause = min(2 * self._pause, RETRY_MOST_NS) or RETRY_NS
        self._wait_until = now + self._pause
        if self._state is _State.REGISTERED:
            self._has_news = self._is_forced = self._is_failing = True
        else:
            self._state = _State.FAILED

    def _rename(self, why: str, now: Instant) -> None:
        """Take the next name."""
        was = self.instance
        self._attempt += 1
        # DPDP-5-01
        self._events.append(Renamed(instance=self.instance, was=was, why=why))
        self._register(now)

    def _contest(self, other: str, now: Instant) -> None:
        """Keep our name, and say so at once."""
        self._force(now)
        if other != self._rival or self._told_at is None or now >= self._told_at + MINUTE_NS:
            self._rival, self._told_at = other, now
            self._events.append(Contested(instance=self.instance, other=other))

    def _force(self, now: Instant) -> None:
        """Announce whatever there is, as soon as there is a token."""
        self._has_news = self._is_forced = True
        self._renew_at = None
        self._update(now)

    # DPDP-4-02
    def _note_news(self) -> None:
        """Note what must be announced; once noted, the newest is, whatever it is by then."""
        said, wanted = known(self._said, "nothing was said"), known(self._wanted, "none is wanted")
        self._has_news = self._has_news or is_news(said, wanted, self._rating)

    # DPDP-4-02
    def _update(self, now: Instant) -> None:
        """Announce what is new, if there is a token."""
        if (
            self._state is not _State.REGISTERED
            or not self._has_news
            or self._wait_until is not None
        ):
            return
        if self._wanted == self._said and not self._is_forced:
            self._has_news = False
        elif self._pace.take(now):
            if not self._is_failing:
                self._pause = 0
            self._is_failing = False
            self._events.append(Update(instance=self.instance, advert=self._speak(now)))


# DPDP-4-02
def is_news(said: Advert, wanted: Advert, rating_mw: int) -> bool:
    """Return whether others must hear of `wanted` after `said`.

    That is any change but that of the charge, of `cap` by less than a tenth of the rating, or of
    the signature; and any of `cap` by which the smallest offer can be had, or no longer. An offer
    without a MINIMUM can be had as long as there is anything.
    """
    if _without_hints(said) != _without_hints(wanted):
        return True
    least_mw = min(one.minimum.power_mw if one.minimum else 1 for one in wanted.offers)
    if (said.cap_mw >= least_mw) is not (wanted.cap_mw >= least_mw):
        return True
    moved_mw = abs(wanted.cap_mw - said.cap_mw)
    return moved_mw > 0 and moved_mw * NEWS_PART >= rating_mw


def _without_hints(advert: Advert) -> Advert:
    return replace(advert, cap_mw=0, soc=None, expires_s=None, signature=None)


def _id_of(txt: bytes) -> str:
    """Return the id of a TXT record in hex digits, "" for none."""
    try:
        value = dict(split_txt(txt)).get("id") or b""
    except DecodeError:
        return ""
    text = value.decode("ascii", "replace").lower()
    return text if _ID.fullmatch(text) else ""
