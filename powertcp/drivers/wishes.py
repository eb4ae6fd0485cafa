"""What a consumer is asked to do, as its links and their parts read it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from powertcp.dpdp.roam import Roam
from powertcp.drivers.guide import Guide
from powertcp.drivers.price import MaxPrice
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_S, Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a consumer is asked to do.

    guide: names the provider. asks: one flow each. fallbacks: what each asks to keep after its
    lease, None nothing. mux: all on one connection. for_ns, energy_uj: of each flow, time in
    samples. give_up_ns: how long a lost provider is looked for. max_price: the most that is paid,
    None whatever is asked. via: the provider behind a gateway, None: as it chooses. firewall: host
    and port that every provider is asked through, None: each is connected to. roam: for what a
    provider is left.
    """

    guide: Guide
    asks: Sequence[Ask]
    fallbacks: Sequence[PowerProfile | None] = ()
    mux: bool = False
    for_ns: Duration | None = None
    energy_uj: int | None = None
    give_up_ns: Duration = 600 * NS_PER_S
    max_price: MaxPrice | None = None
    via: str | None = None
    firewall: tuple[str, int] | None = None
    roam: Roam = Roam.NEEDED
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)
