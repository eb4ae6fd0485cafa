"""A conversation of two real connections behind a seal; imported by tests, not collected."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from powertcp.crypto import ExchangeKey
from powertcp.potcp.tickets import TicketOffice
from powertcp.registry import SegmentType
from powertcp.vppn.config import SealConfig
from powertcp.vppn.noise import PatternId
from powertcp.vppn.office import SealOffice
from powertcp.vppn.session import Session
from powertcp.vppn.tunnel import Tunnel
from powertcp.wire.frames import RawSegment, Splitter, whole_segment
from tests.conversation import START, Carrier, Pair, counting_entropy

DEVICE = ExchangeKey(bytes([0x11]) * 32)
PROVIDER = ExchangeKey(bytes([0x12]) * 32)
# Unix time of START on the connection's clock
UNIX_OFFSET = 1_763_700_000_000_000_000
ALL_PATTERNS = tuple(PatternId)


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
