"""Cookies and resume tickets: what a provider remembers across connections, and what it need not.

One `TicketOffice` serves all connections of a daemon (protocol sections 4 and 10).
"""

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2s
from hmac import compare_digest
from struct import Struct
from typing import Final, Protocol

from powertcp.crypto import KEY_OCTETS, NONCE_OCTETS, TAG_OCTETS, Aead
from powertcp.errors import DecodeError
from powertcp.machine import Entropy
from powertcp.potcp.events import Origin
from powertcp.potcp.pages import Pages
from powertcp.profile import PowerProfile, in_range
from powertcp.units import NS_PER_S, Duration, Instant
from powertcp.wire.options import Meter, Sampling, Tariff

COOKIE_ROTATION_NS: Final = 120 * NS_PER_S
USED_IDS_MAX: Final = 65_536
HALF_OPEN_COOKIE: Final = 256
HALF_OPEN_REFUSE: Final = 1024
MEMBER_SHIFT: Final = 48  # the number of a member in the keys of its flows
_FIRST_OCTETS: Final = 5  # of the key of the first flow: far below the number of the member
# id, expiry in s of the office's clock, ESN base, contract, transcript, profile, sampling
_PLAIN: Final = Struct(">QQQI32s16sIIIBB")
_ASSOCIATED: Final = b"powertcp ticket 1"
TICKET_OCTETS: Final = NONCE_OCTETS + _PLAIN.size + TAG_OCTETS


@dataclass(slots=True, kw_only=True)
class Tenure:
    """A live contract that a ticket may move: the office's record of one energised flow.

    key: the office's number of the flow. acked_uj, sent_uj: bounds of a resumed ESN. until_uj: ESN
    at which the granted energy is delivered, 0: open-ended. wishes: what the sink had asked for.
    floor_ma: current of the fallback that was granted, of which `fallback` may be a part. tariff,
    pages: price and receipts of the flow, None without; `meter` of the source goes with them.
    party: who a VPPN has proven the sink to be, b"" in clear. origin: where the flow comes from, None
    if it is of this process.
    """

    key: int
    contract: int
    profile: PowerProfile
    fallback: PowerProfile | None
    sampling: Sampling
    minimum_mv: int
    acked_uj: int
    sent_uj: int
    limit_uj: int
    until_uj: int = 0
    wishes: tuple[PowerProfile, ...] = ()
    floor_ma: int | None = None
    tariff: Tariff | None = None
    pages: Pages | None = None
    party: bytes = b""
    origin: Origin | None = None

    # PTCP-10-04
    def is_metered_by(self, meter: Meter | None) -> bool:
        """Return whether a SYN has the sink's meter of before, None if there was none."""
        return (
            meter is None
            if self.pages is None
            else (meter is not None and meter.key == self.pages.peer_key)
        )

    def returned_uj(self, esn_uj: int) -> int:
        """Return what was sent and never verified; of another provider's flow that is its own."""
        return 0 if self.origin else self.sent_uj - esn_uj

    def is_asked_by(self, request: PowerProfile | None) -> bool:
        """Return whether `request` is one of before, or the contract itself."""
        return request is not None and any(
            in_range(request, wish, None) for wish in (self.profile, *self.wishes)
        )


class Holder(Protocol):
    """Whoever holds a flow that may be resumed elsewhere: a source flow."""

    def tenure(self) -> Tenure | None:
        """Return the contract as it stands, None when it cannot be moved any more."""

    def move(self, now: Instant, esn_uj: int) -> None:
        """End this path: the contract lives on elsewhere, from `esn_uj` that the sink verified."""


class TicketOffice:
    """Cookies, tickets and the flows that tickets may move, for all connections of a process.

    entropy: source of keys and nonces. key: that seals tickets, None a new one; member: the number of
    this process, if others have the same key (DPDP-10-05): tickets outlive us then, so that the keys
    of our flows begin at random. unix_offset_ns: from our clock to the one that they have in common.
    Bounds: 65,536 used ids, one holder per live flow.
    """

    __slots__ = (
        "_aead",
        "_cookie_keys",
        "_entropy",
        "_holders",
        "_next_key",
        "_rotate_at",
        "_used",
        "half_open",
        "half_open_cookie",
        "half_open_refuse",
        "unix_offset_ns",
    )

    def __init__(
        self,
        entropy: Entropy,
        *,
        key: bytes | None = None,
        member: int = 0,
        half_open_cookie: int = HALF_OPEN_COOKIE,
        half_open_refuse: int = HALF_OPEN_REFUSE,
    ) -> None:
        self._entropy = entropy
        self._aead = Aead(key or entropy(KEY_OCTETS))
        self._cookie_keys = (entropy(KEY_OCTETS), entropy(KEY_OCTETS))
        self.unix_offset_ns: Duration = 0
        self._rotate_at: Instant | None = None
        self._used: OrderedDict[int, None] = OrderedDict()
        self._holders: dict[int, Holder] = {}
        # DPDP-10-05
        first = int.from_bytes(entropy(_FIRST_OCTETS), "big") if member else 0
        self._next_key = (member << MEMBER_SHIFT) + first + 1
        self.half_open = 0
        self.half_open_cookie = half_open_cookie
        self.half_open_refuse = half_open_refuse

    @property
    def needs_cookie(self) -> bool:
        """Whether a SYN without a cookie gets one instead of an answer. PTCP-14-01."""
        return self.half_open >= self.half_open_cookie

    @property
    def is_full(self) -> bool:
        """Whether a SYN is refused 508 whatever it carries. PTCP-14-01."""
        return self.half_open >= self.half_open_refuse

    # PTCP-4-08
    def cookie(self, peer: bytes, flow: int, options: bytes, now: Instant) -> bytes:
        """Return the cookie (32 octets) of a SYN: its peer, flow and options without cookie."""
        self._rotate(now)
        return _cookie(self._cookie_keys[0], peer, flow, options)

    def has_cookie(
        self, cookie: bytes | None, peer: bytes, flow: int, options: bytes, now: Instant
    ) -> bool:
        """Return whether `cookie` was given to this very SYN under one of the two keys."""
        self._rotate(now)
        if cookie is None:
            return False
        return any(
            compare_digest(cookie, _cookie(key, peer, flow, options)) for key in self._cookie_keys
        )

    def _rotate(self, now: Instant) -> None:
        if self._rotate_at is None:
            self._rotate_at = now + COOKIE_ROTATION_NS
        elif now >= self._rotate_at:
            stale = now >= self._rotate_at + COOKIE_ROTATION_NS
            older = self._entropy(KEY_OCTETS) if stale else self._cookie_keys[0]
            self._cookie_keys = (self._entropy(KEY_OCTETS), older)
            self._rotate_at = now + COOKIE_ROTATION_NS

    def enrol(self, holder: Holder) -> int:
        """Return a new key for a flow that tickets may move."""
        key = self._next_key
        self._next_key += 1
        self._holders[key] = holder
        return key

    def leave(self, key: int) -> None:
        """Forget a flow: its tickets are void."""
        self._holders.pop(key, None)

    # DPDP-10-05
    def adopt(self, key: int, holder: Holder) -> None:
        """Honour tickets of a flow that another process holds, until `leave`."""
        self._holders[key] = holder

    def find(self, key: int) -> Holder | None:
        """Return who holds a flow."""
        return self._holders.get(key)

    # PTCP-10-01
    def issue(self, tenure: Tenure, transcript: bytes, life_s: int, now: Instant) -> bytes:
        """Return a new sealed ticket for a flow; each ticket can be used once."""
        serial = int.from_bytes(self._entropy(8), "big")
        sampling = tenure.sampling
        plain = _PLAIN.pack(
            serial,
            self._seconds(now) + life_s,
            tenure.key,
            tenure.contract,
            transcript,
            tenure.profile.to_wire(),
            sampling.rate_hz,
            sampling.nv_per_lsb,
            sampling.na_per_lsb,
            sampling.pairs,
            sampling.encoding,
        )
        nonce = self._entropy(NONCE_OCTETS)
        return nonce + self._aead.seal(nonce, plain, _ASSOCIATED)

    # PTCP-10-04
    def redeem(
        self,
        ticket: bytes | None,
        request: PowerProfile | None,
        esn_uj: int,
        now: Instant,
        meter: Meter | None = None,
        party: bytes = b"",
    ) -> Tenure | None:
        """Return the contract a ticket moves and end its old path, or None: a plain SYN.

        request: the REQUEST beside it, as before. esn_uj: energy the sink verified; must lie
        between what it acknowledged and what was sent. meter: the sink's, as before. party: who a
        VPPN has proven the sink to be, as before.
        """
        opened = None if ticket is None else self._open(ticket, now)
        if opened is None:
            return None
        serial, key = opened
        holder = self._holders.get(key)
        tenure = holder.tenure() if holder else None
        # PTCP-10-03
        if holder is None or tenure is None or not tenure.acked_uj <= esn_uj <= tenure.sent_uj:
            return None
        if not tenure.is_asked_by(request) or not tenure.is_metered_by(meter):
            return None
        # PTCP-10-04
        if tenure.party != party:
            return None
        self._used[serial] = None
        if len(self._used) > USED_IDS_MAX:
            self._used.popitem(last=False)
        self.leave(key)
        holder.move(now, esn_uj)
        return tenure

    def _seconds(self, now: Instant) -> int:
        """Return the time by which tickets expire."""
        return (now + self.unix_offset_ns) // NS_PER_S

    def _open(self, ticket: bytes, now: Instant) -> tuple[int, int] | None:
        """Return serial and key of a ticket that is ours, unexpired and unused."""
        if len(ticket) != TICKET_OCTETS:
            return None
        try:
            plain = self._aead.unseal(ticket[:NONCE_OCTETS], ticket[NONCE_OCTETS:], _ASSOCIATED)
        except DecodeError:
            return None
        serial, expiry_s, key, *_ = _PLAIN.unpack(plain)
        if serial in self._used or self._seconds(now) >= expiry_s:
            return None
        return serial, key


def _cookie(key: bytes, peer: bytes, flow: int, options: bytes) -> bytes:
    text = len(peer).to_bytes(2, "big") + peer + flow.to_bytes(4, "big") + options
    return blake2s(text, key=key).digest()
