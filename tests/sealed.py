"""A conversation of two real connections behind a seal; imported by tests, not collected."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from powertcp.crypto import ExchangeKey
from powertcp.potcp.tickets import TicketOffice
from powertcp.registry import SegmentType
from powertcp.units import NS_PER_MS, NS_PER_S
from powertcp.vppn.config import SealConfig
from powertcp.vppn.epochs import EpochLimits
from powertcp.vppn.noise import PatternId
from powertcp.vppn.office import SealOffice
from powertcp.vppn.session import Session
from powertcp.vppn.tunnel import Tunnel, TunnelBroken
from powertcp.wire.frames import RawSegment, Splitter, whole_segment
from powertcp.wire.options import Sampling
from tests.conversation import SINK, SOURCE, START, Carrier, Pair, counting_entropy

DEVICE = ExchangeKey(bytes([0x11]) * 32)
PROVIDER = ExchangeKey(bytes([0x12]) * 32)
# Unix time of START on the connection's clock
UNIX_OFFSET = 1_763_700_000_000_000_000
ALL_PATTERNS = tuple(PatternId)
LIMITS = EpochLimits()
OFTEN = replace(LIMITS, rekey_ns=NS_PER_S, spread_ns=0)
BLOCK_MS = 100


def device_config(pattern: PatternId = PatternId.IK, **changes: Any) -> SealConfig:
    key = None if pattern in (PatternId.NK, PatternId.NK_CLASSIC) else DEVICE
    config = SealConfig(
        key=key, peer=PROVIDER.public, pattern=pattern, allow_classic=pattern.is_classic
    )
    return replace(config, **changes)


def provider_config(**changes: Any) -> SealConfig:
    return replace(SealConfig(key=PROVIDER, allow_classic=True), **changes)


class SealedPair(Pair):
    """A Pair whose octets travel through a tunnel."""

    def __init__(
        self,
        device: SealConfig | None = None,
        provider: SealConfig | None = None,
        *,
        seal_office: SealOffice | None = None,
        office: TicketOffice | None = None,
        now: int = START,
        chunk: Callable[[bytes], Sequence[bytes]] | None = None,
        may_be_clear: bool = False,
        seed: int = 1000,
        **config: Any,
    ) -> None:
        super().__init__(office=office, now=now, chunk=chunk, **{"msp": 65535} | config)
        self.seal_office = seal_office or SealOffice(self.office, now + UNIX_OFFSET - 1)
        initiator = Session(
            device or device_config(),
            is_initiator=True,
            entropy=counting_entropy(seed),
            unix_offset_ns=UNIX_OFFSET,
        )
        responder = Session(
            provider or provider_config(),
            is_initiator=False,
            entropy=counting_entropy(seed + 500),
            office=self.seal_office,
            peer=b"peer",
            unix_offset_ns=UNIX_OFFSET,
        )
        self.tunnels = (
            Tunnel(self.sink, initiator, now, is_initiator=True),
            Tunnel(self.source, responder, now, is_initiator=False, may_be_clear=may_be_clear),
        )
        for tunnel in self.tunnels:
            tunnel.start(now)

    @property
    def carriers(self) -> tuple[Carrier, Carrier]:
        return self.tunnels

    def pump_raw(self, side: int) -> list[bytes]:
        """Return the whole segments that `side` has to say, without carrying them."""
        octets = self.tunnels[side].data_to_send()
        return [whole_segment(raw) for raw in Splitter(65535).receive(octets)]


def raw_of(octets: bytes) -> RawSegment:
    """Return the one segment in `octets`."""
    (raw,) = Splitter(65535).receive(octets)
    return raw


def is_sealed(octets: bytes) -> bool:
    return octets[4] == SegmentType.SEALED


def running(
    pattern: PatternId = PatternId.IK_CLASSIC, limits: EpochLimits = LIMITS, **options: object
) -> SealedPair:
    """Return a pair with flow 1 energised."""
    pair = SealedPair(
        device_config(pattern, limits=limits),
        provider_config(limits=limits),
        **options,  # type: ignore[arg-type]
    )
    pair.energise("12V/1.5A", sampling=Sampling(1000))
    return pair


def codes(pair: SealedPair) -> list[int]:
    """Return why each side broke off, 0 if it did not."""
    broken = [pair.take(side, TunnelBroken) for side in (SINK, SOURCE)]
    return [one[0].refusal.code if one else 0 for one in broken]


def epochs(pair: SealedPair) -> list[int]:
    return [tunnel.session.epoch for tunnel in pair.tunnels]


def step(pair: SealedPair, milliseconds: int = BLOCK_MS) -> None:
    """Let both timers run, carry nothing."""
    pair.now += milliseconds * NS_PER_MS
    for tunnel in pair.tunnels:
        tunnel.handle_timer(pair.now)
