"""Both directions of a sealed connection over its epochs: VPPN sections 3 and 4."""

from dataclasses import dataclass, field
from typing import Final

from powertcp.errors import DecodeError, LocalProtocolError, known
from powertcp.registry import Reason
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant
from powertcp.vppn.record import Batcher, Ends, Opener, Privacy, Sealer, check_inner, read_seal
from powertcp.wire.frames import RawSegment

EPOCH_MAX: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochLimits:
    """How long one epoch may last: VPPN-4-01 when the initiator renews it, VPPN-4-04 its end.

    spread_ns: added at random to rekey_ns. attempt_ns: what one attempt may take. gap_ns: between
    two attempts, and of two that a responder takes at once.
    """

    rekey_ns: Duration = 120 * NS_PER_S
    spread_ns: Duration = 333 * NS_PER_MS
    rekey_segments: int = 1 << 20
    rekey_octets: int = 1 << 36
    end_ns: Duration = 180 * NS_PER_S
    end_segments: int = 1 << 21
    end_octets: int = 1 << 37
    attempt_ns: Duration = 5 * NS_PER_S
    gap_ns: Duration = NS_PER_S


@dataclass(slots=True)
class _Epoch:
    sealer: Sealer
    opener: Opener
    began: Instant
    number: int = field(init=False)

    def __post_init__(self) -> None:
        self.number = self.sealer.epoch


class Channel:
    """Seals what we send, opens what the peer sent; epochs only rise in each direction."""

    __slots__ = ("_batcher", "_coming", "_limits", "_privacy", "_receiving", "_sending")

    def __init__(self, privacy: Privacy, limits: EpochLimits) -> None:
        self._privacy = privacy
        self._limits = limits
        self._batcher = Batcher(privacy)
        self._sending: _Epoch | None = None
        self._receiving: _Epoch | None = None
        # agreed, and the peer has not yet sent with it
        self._coming: _Epoch | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is an epoch at all."""
        return self._sending is not None

    @property
    def epoch(self) -> int:
        """The epoch that both directions have reached."""
        sending, receiving = self._pair()
        return min(sending.number, receiving.number)

    # VPPN-4-07
    @property
    def is_settled(self) -> bool:
        """Whether both directions have used one epoch and none is agreed beyond it."""
        sending, receiving = self._pair()
        is_one = self._coming is None and sending.number == receiving.number
        return is_one and self.has_sent and self.has_heard

    @property
    def has_sent(self) -> bool:
        """Whether anything was sealed with the epoch we send with."""
        return self._pair()[0].sealer.segments > 0

    @property
    def has_heard(self) -> bool:
        """Whether anything was opened with the epoch that the peer sends with."""
        return self._receiving is not None and self._receiving.opener.segments > 0

    @property
    def began(self) -> Instant:
        """When the epoch we send with was agreed."""
        return self._pair()[0].began

    def _pair(self) -> tuple[_Epoch, _Epoch]:
        text = "the handshake of epoch 0 is complete"
        return known(self._sending, text), known(self._receiving, text)

    def install(
        self, number: int, send_key: bytes, receive_key: bytes, now: Instant, *, sends: bool
    ) -> None:
        """Take the keys of an epoch. sends: whether we send with it at once, as its initiator does.

        An epoch of the same number that nobody has used yet is replaced.
        """
        ends = Ends(self._limits.end_segments, self._limits.end_octets)
        sealer, opener = Sealer(number, send_key, ends), Opener(number, receive_key, ends)
        epoch = _Epoch(sealer, opener, now)
        if self._sending is None:
            self._sending = self._receiving = epoch
            return
        self._coming = epoch
        if sends:
            self._sending = epoch

    # VPPN-4-03
    def open(self, raw: RawSegment, now: Instant) -> bytes:
        """Return the plain segments in a sealed one.

        Raises DecodeError 509 for what the peer did not seal, or not in this order, 510 for
        another epoch than the one in force or agreed, and for one that is at its end.
        """
        seal = read_seal(raw)
        receiving = self._pair()[1]
        coming = self._coming
        is_new = coming is not None and seal.epoch == coming.number
        epoch = coming if coming is not None and is_new else receiving
        if seal.epoch != epoch.number:
            raise DecodeError(0, "epoch", Reason.EPOCH, seal.epoch, epoch.number)
        # VPPN-4-04
        self._check(epoch, now)
        plain = check_inner(epoch.opener.open(raw, seal.counter), raw, self._privacy)
        if is_new:
            self._receiving, self._coming = epoch, None
            self._sending = epoch
        return plain

    def seal(self, plain: bytes, limit: int, now: Instant) -> list[bytes]:
        """Return sealed segments for whole plain ones, at most `limit` plain octets in each.

        Raises DecodeError 510 when the epoch is at its end.
        """
        sending = self._pair()[0]
        # VPPN-4-04
        self._check(sending, now)
        return self._batcher.seal(plain, limit, sending.sealer, now)

    def _check(self, epoch: _Epoch, now: Instant) -> None:
        age, limit = now - epoch.began, self._limits.end_ns
        if age >= limit:
            raise DecodeError(0, "age", Reason.EPOCH, age, limit)

    def check_age(self, now: Instant) -> None:
        """Raise DecodeError 510 when an epoch in force is too old. VPPN-4-04."""
        if self._sending is not None:
            for epoch in self._pair():
                self._check(epoch, now)

    @property
    def ends_at(self) -> Instant:
        """When the older of the epochs in force must not be used any more."""
        sending, receiving = self._pair()
        return min(sending.began, receiving.began) + self._limits.end_ns

    # VPPN-4-01
    @property
    def is_worn(self) -> bool:
        """Whether the epoch has carried so much that it is to be renewed."""
        limits = self._limits
        return any(
            one.segments >= limits.rekey_segments or one.octets >= limits.rekey_octets
            for one in (self._pair()[0].sealer, self._pair()[1].opener)
        )


def next_epoch(number: int) -> int:
    """Return the epoch after `number`. Raises LocalProtocolError after the last one."""
    if number >= EPOCH_MAX:
        raise LocalProtocolError(f"epoch {number} is the last one")
    return number + 1
