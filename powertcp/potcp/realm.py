"""What providers of one realm tell each other of the flows they hold, so that tickets go anywhere.

A realm is one operator's providers that share the key of their tickets and the key of their meters.
Each tells the others of every flow it holds; who gets a ticket of such a flow goes on with it, and
tells the one that had it. DPDP section 10.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from powertcp.errors import DecodeError
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.events import Origin
from powertcp.potcp.pages import PAGE_GAP_NS, PAGE_OCTETS, Pages
from powertcp.potcp.tickets import Tenure
from powertcp.profile import PowerProfile, is_fallback_of
from powertcp.registry import Reason
from powertcp.units import NS_PER_S, Instant
from powertcp.wire.options import Meter, Sampling, Tariff

MAX_MESSAGE_OCTETS: Final = 65_536
MAX_KEYS: Final = 1024  # in one message
# how far a register may have gone since it was told: it is told each second, and a flow whose
# provider is silent is honoured for T_GRACE
AHEAD_S: Final = 15

_U8 = Annotated[int, msgspec.Meta(ge=0, lt=1 << 8)]
_U32 = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
_U63 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_I63 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Profile = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Page = Annotated[bytes, msgspec.Meta(max_length=PAGE_OCTETS)]
_Party = Annotated[bytes, msgspec.Meta(max_length=256)]
_Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$", max_length=3)]


class PriceShare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tariff: digest of its document, currency, millionths per kWh."""

    digest: _Hash
    currency: _Currency
    price: _I63

    @classmethod
    def of(cls, tariff: Tariff | None) -> "PriceShare | None":
        """Return what is told of a tariff."""
        return cls(tariff.digest, tariff.currency, tariff.price) if tariff else None

    def tariff(self) -> Tariff:
        """Return the tariff."""
        return Tariff(self.digest, self.currency, self.price)


class PagesShare(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the receipts of a flow stand: what of `Pages` does not begin anew with a resume."""

    receipt_s: _U32
    receipt_uj: _U63
    key: _Hash
    peer_key: _Hash
    transcript: _Hash
    number: _U32
    signed_uj: _U63
    start_uj: _U63
    contract: _U32
    price: PriceShare | None
    open: _Page
    open_end_uj: _U63
    open_contract: _U32
    open_price: PriceShare | None
    open_sim: bool
    sim: bool
    copy: _Page
    is_disputed: bool

    @classmethod
    def of(cls, pages: Pages) -> "PagesShare":
        """Return what is told of `pages`."""
        return cls(
            receipt_s=pages.meter.receipt_s,
            receipt_uj=pages.meter.receipt_uj,
            key=pages.meter.key,
            peer_key=pages.peer_key,
            transcript=pages.transcript,
            number=pages.number,
            signed_uj=pages.signed_uj,
            start_uj=pages.start_uj,
            contract=pages.contract,
            price=PriceShare.of(pages.tariff),
            open=pages.open,
            open_end_uj=pages.open_end_uj,
            open_contract=pages.open_contract,
            open_price=PriceShare.of(pages.open_tariff),
            open_sim=pages.open_sim,
            sim=pages.sim,
            copy=pages.copy,
            is_disputed=pages.is_disputed,
        )

    def pages(self, heard: Instant, now: Instant) -> Pages:
        """Return them as they go on from `now`; a page is due as when they were heard of, but not
        before the sink can have said which one it has signed. Raises DecodeError for half a page.
        """
        if {len(self.open), len(self.copy)} - {0, PAGE_OCTETS}:
            raise _bad("page")
        price = self.price.tariff() if self.price else None
        meter = Meter(self.receipt_s, self.receipt_uj, self.key)
        pages = Pages(meter, self.peer_key, self.transcript, self.contract, price)
        pages.number, pages.signed_uj, pages.start_uj = self.number, self.signed_uj, self.start_uj
        pages.open, pages.open_end_uj, pages.copy = self.open, self.open_end_uj, self.copy
        pages.open_contract, pages.open_sim, pages.sim = self.open_contract, self.open_sim, self.sim
        pages.open_tariff = self.open_price.tariff() if self.open_price else None
        pages.is_disputed, pages.sent_at, pages.is_foreign = self.is_disputed, now, True
        # DPDP-10-09
        due = max(heard + self.receipt_s * NS_PER_S, now + PAGE_GAP_NS)
        pages.page_at = due if self.receipt_s else None
        if pages.open:
            pages.expose_at = now + ConnectionConfig().receipt_ns
        return pages


class Share(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """A flow that a provider holds, as another one needs it to go on."""

    key: _U63
    contract: _U32
    profile: _Profile
    fallback: _Profile | None
    sampling: tuple[_U32, _U32, _U32, _U8, _U8]
    minimum_mv: _U32
    acked_uj: _U63
    sent_uj: _U63
    limit_uj: _U63
    until_uj: _U63
    wishes: Annotated[tuple[_Profile, ...], msgspec.Meta(max_length=8)]
    floor_ma: _U32 | None
    price: PriceShare | None
    pages: PagesShare | None
    party: _Party
    desired: _Profile
    minimum: _Profile | None
    start_ns: _U63

    @classmethod
    def of(
        cls, tenure: Tenure, desired: PowerProfile, minimum: PowerProfile | None, start_ns: int
    ) -> "Share":
        """Return what is told of a flow: who asked for which range, and since when power flows."""
        sampling = tenure.sampling
        return cls(
            key=tenure.key,
            contract=tenure.contract,
            profile=tenure.profile.to_wire(),
            fallback=_octets(tenure.fallback),
            sampling=(
                sampling.rate_hz,
                sampling.nv_per_lsb,
                sampling.na_per_lsb,
                sampling.pairs,
                sampling.encoding,
            ),
            minimum_mv=tenure.minimum_mv,
            acked_uj=tenure.acked_uj,
            sent_uj=tenure.sent_uj,
            limit_uj=tenure.limit_uj,
            until_uj=tenure.until_uj,
            wishes=tuple(wish.to_wire() for wish in tenure.wishes),
            floor_ma=tenure.floor_ma,
            price=PriceShare.of(tenure.tariff),
            pages=PagesShare.of(tenure.pages) if tenure.pages else None,
            party=tenure.party,
            desired=desired.to_wire(),
            minimum=_octets(minimum),
            start_ns=start_ns,
        )

    def tenure(self, heard: Instant, now: Instant) -> Tenure:
        """Return the contract as it may be resumed now. Raises DecodeError for what is none."""
        profile, fallback = PowerProfile.from_wire(self.profile), _profile(self.fallback)
        desired, minimum = PowerProfile.from_wire(self.desired), _profile(self.minimum)
        sampling = Sampling(*self.sampling)
        if not desired.same_kind(profile):
            raise _bad("desired")
        if fallback is not None and not is_fallback_of(fallback, profile):
            raise _bad("fallback")
        if minimum is not None and not minimum.same_kind(desired):
            raise _bad("minimum")
        # PTCP-3.2-01
        if sampling.pairs != profile.pairs or not 10 <= sampling.rate_hz <= 100_000:
            raise _bad("sampling")
        if self.acked_uj > self.sent_uj:
            raise _bad("acked_uj")
        # DPDP-10-07: the source may have gone on since it said so
        ahead_uj = AHEAD_S * profile.power_mw * 1000
        return Tenure(
            key=self.key,
            contract=self.contract,
            profile=profile,
            fallback=fallback,
            sampling=sampling,
            minimum_mv=self.minimum_mv,
            acked_uj=self.acked_uj,
            sent_uj=self.sent_uj + ahead_uj,
            limit_uj=self.limit_uj,
            until_uj=self.until_uj,
            wishes=tuple(PowerProfile.from_wire(wish) for wish in self.wishes),
            floor_ma=self.floor_ma,
            tariff=self.price.tariff() if self.price else None,
            pages=self.pages.pages(heard, now) if self.pages else None,
            party=self.party,
            origin=Origin(
                desired=desired,
                minimum=minimum,
                start_ns=self.start_ns,
                signed_uj=self.pages.signed_uj if self.pages else None,
            ),
        )


class Seen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """How far registers have come: (key, acked, sent) of each flow, in uJ."""

    flows: Annotated[tuple[tuple[_U63, _U63, _U63], ...], msgspec.Meta(max_length=MAX_KEYS)]


class Gone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Flows that are over: their tickets are void."""

    keys: Annotated[tuple[_U63, ...], msgspec.Meta(max_length=MAX_KEYS)]


class Moved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """A flow goes on with the sender, from `esn_uj` that its sink verified; until `Took` says so."""

    key: _U63
    esn_uj: _U63


class Took(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The answer to `Moved`: the flow is over where it was."""

    key: _U63


class Beat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The sender is there; each second. The first one says who it is, the second one that it has
    told all that it holds.
    """

    member: _U32


Message = Share | Seen | Gone | Moved | Took | Beat
_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """Return a message as JSON."""
    return _ENCODER.encode(message)


def decode_message(octets: bytes) -> Message:
    """Return the message that JSON says. Raises DecodeError naming what is wrong."""
    try:
        return _DECODER.decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(0, f"realm message: {error}", Reason.BAD_OPTION) from error


@dataclass(slots=True)
class Replica:
    """A flow that another provider of the realm holds: who has its ticket may go on here.

    heard: when it was told. clock: what time it is. fits: whether its power could be had here.
    on_move: told that it goes on here, from which ESN.
    """

    share: Share
    heard: Instant
    clock: Callable[[], Instant]
    fits: Callable[[Tenure], bool]
    on_move: Callable[[int, int], None]

    def note(self, acked_uj: int, sent_uj: int) -> None:
        """Take how far its register has come: never back."""
        acked_uj = max(acked_uj, self.share.acked_uj)
        sent_uj = max(sent_uj, self.share.sent_uj, acked_uj)
        self.share = msgspec.structs.replace(self.share, acked_uj=acked_uj, sent_uj=sent_uj)

    # DPDP-10-05
    def tenure(self) -> Tenure | None:
        """Return the contract as it may be resumed, None: its power cannot be had here."""
        tenure = self.share.tenure(self.heard, self.clock())
        return tenure if self.fits(tenure) else None

    def move(self, now: Instant, esn_uj: int) -> None:
        """It goes on here."""
        self.on_move(self.share.key, esn_uj)


def _bad(field: str) -> DecodeError:
    return DecodeError(0, f"realm share: {field}", Reason.BAD_OPTION)


def _octets(profile: PowerProfile | None) -> bytes | None:
    return None if profile is None else profile.to_wire()


def _profile(octets: bytes | None) -> PowerProfile | None:
    return None if octets is None else PowerProfile.from_wire(octets)
