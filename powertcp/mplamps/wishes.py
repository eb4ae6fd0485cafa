"""What a lamp wants of a network: the six states, its tunnels, and the PATH that asks.

MPLampS sections 1, 4.3 and 4.9.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from powertcp.errors import LocalProtocolError
from powertcp.machine import Event
from powertcp.mplamps.power import PowerObject, TariffObject, link_priority
from powertcp.mplamps.rsvp.errors import reason_of, sentence_of
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import (
    LABEL_RECORDING,
    SE_DESIRED,
    Attribute,
    ErrorSpec,
    Style,
    TokenBucket,
)
from powertcp.profile import FREQUENCY_ANY, PowerProfile, ProfileType
from powertcp.registry import Refusal
from powertcp.units import Instant

# the sampling that a sink proposes (PoTCP section 2), and what is sent of it
_DC_HZ: Final = 1000
_ANY_HZ: Final = 4000
_CYCLE_SAMPLES: Final = 80
_LEAST_HZ: Final = 10
_MOST_HZ: Final = 100_000
BLOCKS_PER_S: Final = 50
_PAIR_OCTETS: Final = 8
_BLOCK_OCTETS: Final = 68
_LEAST_PACKET: Final = 40
_GREATEST_PACKET: Final = 1440
_ANY_PRICE: Final = (1 << 63) - 1


class LampState(StrEnum):
    """The six states of a lamp, from best to worst."""

    LIT = "lit"
    FLICKER = "flicker"
    SIGNALLED = "signalled"
    REQUESTING = "requesting"
    SHED = "shed"
    DARK = "dark"


class Step(Enum):
    """What moves a lamp from state to state."""

    ASKED = auto()
    GRANTED = auto()
    BANKED = auto()
    MISSED = auto()
    REFUSED = auto()
    CUT = auto()
    ENDED = auto()


_S = LampState
# MPLA-1-01: a pair that is not here leaves the state as it is
STEPS: Final = {
    (_S.DARK, Step.ASKED): _S.REQUESTING,
    (_S.SHED, Step.ASKED): _S.REQUESTING,
    (_S.REQUESTING, Step.GRANTED): _S.SIGNALLED,
    (_S.REQUESTING, Step.REFUSED): _S.DARK,
    (_S.SIGNALLED, Step.BANKED): _S.LIT,
    (_S.FLICKER, Step.BANKED): _S.LIT,
    (_S.LIT, Step.MISSED): _S.FLICKER,
    **{(state, Step.CUT): _S.SHED for state in (_S.REQUESTING, _S.SIGNALLED, _S.LIT, _S.FLICKER)},
    **{(state, Step.ENDED): _S.DARK for state in LampState if state is not _S.DARK},
}


class Model(StrEnum):
    """Who makes the ERO: the edge LSR, or the lamp itself."""

    OVERLAY = "overlay"
    PEER = "peer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a lamp asks for. minimum: it would do with less, None: it would not.

    limit: the most it pays, None: any price. supplier: 0 any. es: None: any source of it.
    """

    request: PowerProfile
    minimum: PowerProfile | None = None
    limit: TariffObject | None = None
    supplier: int = 0
    model: Model = Model.OVERLAY
    style: Style = Style.SE
    es: IPv4Address | None = None

    def power(self) -> PowerObject:
        """Return the POWER of its PATH. Raises LocalProtocolError for profiles of other types."""
        return PowerObject.make(self.request, self.minimum)

    def check(self) -> None:
        """Raise LocalProtocolError for a wish that no PATH can say."""
        self.power()
        if self.style is Style.WF and self.model is Model.PEER:
            # MPLA-4.6-05
            raise LocalProtocolError("a shared session has no ERO: its model is overlay")
        if self.minimum is not None and self.minimum.type is not ProfileType.MINIMUM:
            raise LocalProtocolError("the least that a lamp would do with is a MINIMUM")


def token_bucket(request: PowerProfile) -> TokenBucket:
    """Return what the samples of a power take: octets/s, and octets. MPLA-4.3-03."""
    rate_hz = _sampling_hz(request.frequency_chz)
    samples = rate_hz * _PAIR_OCTETS * request.pairs
    # MPLA-4.3-03
    rate = (samples + _BLOCK_OCTETS * BLOCKS_PER_S) * 11 // 10
    packet = -(-samples // BLOCKS_PER_S) + _BLOCK_OCTETS
    return TokenBucket(rate, 2 * packet, rate, _LEAST_PACKET, _GREATEST_PACKET)


def _sampling_hz(frequency_chz: int) -> int:
    if not frequency_chz:
        return _DC_HZ
    if frequency_chz == FREQUENCY_ANY:
        return _ANY_HZ
    rate_hz = (2 * _CYCLE_SAMPLES * frequency_chz + 100) // 200
    return min(max(rate_hz, _LEAST_HZ), _MOST_HZ)


def attribute_of(wish: Wish, name: str) -> Attribute:
    """Return the priorities and flags of a wish of the lamp called `name`. MPLA-4.3-04."""
    # MPLA-4.3-04
    half = link_priority(wish.request)
    flags = LABEL_RECORDING if wish.style is Style.FF else LABEL_RECORDING | SE_DESIRED
    return Attribute(half, half, flags, name)


class Line:
    """A circuit of a tunnel, as its lamp knows it.

    phase: the flow label given out for it. names: of the route, if the lamp has made it. grant,
    quote: None before the RESV.
    """

    __slots__ = ("circuit", "grant", "is_granted", "link", "names", "phase", "quote", "tries")

    def __init__(self, circuit: CircuitId, link: int) -> None:
        """Begin with a circuit that is asked for on a link."""
        self.circuit = circuit
        self.link = link
        self.phase = 0
        self.names: tuple[str, ...] = ()
        self.tries = 0
        self.is_granted = False
        self.grant: PowerProfile | None = None
        self.quote: TariffObject | None = None


@dataclass(slots=True, eq=False)
class Tunnel:
    """What a lamp wants, its state, and its circuits: the one in use, the next, and old ones.

    es: the source asked, the edge LSR while the lamp has no preference. choice: the OFFER taken,
    of `choices` in a row. offers: those not taken yet. full: suppliers and sources without room or
    way, for this time of asking.
    was_granted: since it was switched on. replaces: the tunnel whose supplier it takes the place
    of. is_probe: it only asks for OFFERs. before: what it was for until a change that has not come
    yet. is_troubled: the circuit in use is in place, and no more. retry_at: when it asks again.
    """

    number: int
    wish: Wish
    es: IPv4Address
    state: LampState = LampState.DARK
    current: Line | None = None
    coming: Line | None = None
    old: list[tuple[Instant, Line]] = field(default_factory=list)
    lsp: int = 0
    choice: TariffObject | None = None
    choices: int = 0
    offers: tuple[TariffObject, ...] = ()
    full: set[tuple[int, IPv4Address]] = field(default_factory=set)
    was_granted: bool = False
    replaces: int | None = None
    is_probe: bool = False
    before: Wish | None = None
    is_troubled: bool = False
    retry_at: Instant | None = None
    end_at: Instant | None = None


def refusal_of(
    error: ErrorSpec,
    names: Mapping[IPv4Address, str],
    power: PowerObject | None = None,
    offers: tuple[TariffObject, ...] = (),
) -> Refusal:
    """Return what people are told of an error, with mW asked for and left where it says so."""
    asked_mw = power.profile.power_mw if power is not None else 0
    left_mw = power.second.power_mw if power is not None and power.second is not None else 0
    # MPLA-4.8-01
    text = sentence_of(error, power, offers, names)
    return Refusal(reason_of(error), asked_mw, left_mw, text=text, requirement="MPLA-4.8-01")


@dataclass(frozen=True, slots=True, kw_only=True)
class LampChanged(Event):
    """A tunnel of a lamp has another state, circuit or grant, or was refused another one.

    refusal: why, None if for nothing bad.
    """

    tunnel: int
    state: LampState
    refusal: Refusal | None
    circuit: CircuitId | None
    grant: PowerProfile | None
    quote: TariffObject | None
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplierChanged(Event):
    """The tunnel `new` is signalled, of another supplier than `old`.

    Where `old` carries a connection, open one in `new`, then switch `old` off.
    """

    old: int
    new: int
    at: Instant


class TunnelRow(NamedTuple):
    """A tunnel as others see it. supplier: 0 where none is known."""

    number: int
    state: LampState
    supplier: int
    es: IPv4Address
    circuit: CircuitId | None
    grant: PowerProfile | None
    quote: TariffObject | None


def row_of(tunnel: Tunnel) -> TunnelRow:
    """Return what others see of a tunnel."""
    line, choice = tunnel.current or tunnel.coming, tunnel.choice
    supplier = choice.supplier if choice is not None else tunnel.wish.supplier
    return TunnelRow(
        tunnel.number,
        tunnel.state,
        supplier,
        tunnel.es,
        line.circuit if line is not None else None,
        line.grant if line is not None else None,
        line.quote if line is not None else None,
    )
