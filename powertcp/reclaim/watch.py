"""What the firewall knows of one flow that passes, and what a rule may look at of it."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final, NamedTuple

from powertcp.dve import BlockSums
from powertcp.potcp.events import Ask
from powertcp.profile import FREQUENCY_ANY, PowerProfile
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.bucket import Bucket, CreditGate
from powertcp.reclaim.policy import Accept, Facts, State, Way
from powertcp.reclaim.track import End, Phase, TrackedFlow
from powertcp.units import Instant
from powertcp.wire.options import Entity, Sampling, Tariff

Address = IPv4Address | IPv6Address

STATES: Final = {
    Phase.ASKED: State.NEW,
    Phase.OFFERED: State.OFFERED,
    Phase.LATCHED: State.OFFERED,
    Phase.ENERGISED: State.ENERGISED,
    Phase.ENDING: State.CLOSING,
    Phase.OVER: State.CLOSING,
}


class Party(NamedTuple):
    """One end of a connection. name: ADDRESS:PORT. key: that it proved, None for none."""

    name: str
    address: Address | None
    key: bytes | None = None

    # FWRL-4-05
    @property
    def account(self) -> str:
        """What the ledger and the bounds of harvesting call it: its IPv4 address, its IPv6 prefix of 64 bits.

        Who has a prefix has 2^64 addresses, and the ledger an account for each name.
        """
        address = self.address
        if address is None:
            return self.name
        if not isinstance(address, IPv6Address) or address.is_loopback:
            return str(address)
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False))


@dataclass(slots=True)
class Watch:
    """A flow that passes. gate: of its credit under a limit. is_marking: its DATA carry ECE.

    mark_uj: energy at which it is judged again, None: at no more. passed_uj: of this read, not yet
    counted. claimed_uj: of its claims, what is counted. tariff, entity: as its
    handshake said. faulty_since: when its sink was given a block that it must refuse.
    ends_by: until when FIN or TRIP must be answered.
    """

    account: FlowAccount
    gate: CreditGate | None = None
    is_marking: bool = False
    mark_uj: int | None = None
    passed_uj: int = 0
    claimed_uj: int = 0
    tariff: Tariff | None = None
    entity: Entity | None = None
    faulty_since: Instant | None = None
    ends_by: Instant | None = None

    # FWRL-3-05
    def go_by(
        self, verdict: Accept, bucket: Bucket | None, credit_uj: int, now: Instant
    ) -> bytes | None:
        """Go by a verdict; return CREDIT that it lets go at once. credit_uj: that the source has."""
        self.is_marking = verdict.is_marking
        before, self.gate = self.gate, None
        held = before.held if before is not None else None
        if bucket is None:
            return held
        self.gate = CreditGate(bucket, before.credit_uj if before is not None else credit_uj)
        if before is None:
            return None
        # FWRL-3-02: a limit after another one has no new burst
        bucket.go_on(before.level(now), now)
        self.gate.holds = before.holds
        return self.gate.offer(held, before.wanted_uj, now) if held is not None else None


# FWRL-2-05
def way_of(sender: End, *, is_client_inside: bool) -> Way:
    """Return the direction of what `sender` began."""
    return Way.OUT if (sender is End.CLIENT) == is_client_inside else Way.IN


def facts_of(
    state: State,
    way: Way,
    ends: tuple[Party, Party | None],
    *,
    flow: TrackedFlow | None = None,
    ask: Ask | None = None,
    watch: Watch | None = None,
) -> Facts:
    """Return what a rule may look at. ends: who began, and the other. ask: terms that are judged."""
    began, other = ends
    facts = Facts(
        state=state,
        way=way,
        is_sealed=began.key is not None,
        peer=began.key or (other.key if other is not None else None),
        src=began.address,
        dst=other.address if other is not None else None,
        energy_uj=flow.verified_uj if flow is not None else 0,
    )
    if ask is not None:
        note_profile(facts, ask.desired)
    if watch is not None and watch.tariff is not None:
        facts.tariff_micro, facts.currency = watch.tariff.price, watch.tariff.currency
    if watch is not None and watch.entity is not None:
        facts.entity = watch.entity.uuid
    return facts


def note_profile(facts: Facts, profile: PowerProfile) -> None:
    """Let a rule see a power profile."""
    facts.voltage_mv, facts.current_ma = profile.voltage_mv, profile.current_ma
    facts.power_mw, facts.priority = profile.power_mw, profile.effective_priority
    # FWRL-3-10
    is_any = profile.frequency_chz == FREQUENCY_ANY
    facts.frequency_chz = None if is_any else profile.frequency_chz
    facts.waveform = profile.waveform


def note_block(facts: Facts, sums: BlockSums, sampling: Sampling) -> None:
    """Let a rule see what a block measures: greatest voltage and current, mean power."""
    facts.voltage_mv = sums.v_peak * sampling.nv_per_lsb // 1_000_000
    facts.current_ma = sums.i_peak * sampling.na_per_lsb // 1_000_000
    scale = sampling.nv_per_lsb * sampling.na_per_lsb
    # nV * nA = 10^-18 W; 10^-15 mW
    facts.power_mw = max(0, sums.a) * scale // (sums.n * 10**15)


def in_force(flow: TrackedFlow) -> tuple[Ask, ...]:
    """Return what is in force of a flow, or will be: nothing before its ACK."""
    held = flow.profile or flow.taken
    return (Ask(held, None),) if held is not None else ()


def terms_of(flow: TrackedFlow) -> tuple[Ask, ...]:
    """Return what is in force of a flow, or asked for as long as nothing is."""
    return in_force(flow) or flow.asks


def is_due(at: Instant | None, now: Instant) -> bool:
    """Return whether a deadline has come."""
    return at is not None and at <= now
