"""The attacks of FWRL section 5 as data: what is done, under which policy, what must come of it.

`simulation.play` plays one on the machines themselves; here is what it is measured by.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final, NamedTuple

from powertcp.profile import PowerProfile, ProfileType
from powertcp.reclaim.accounts import Joules
from powertcp.reclaim.attack import SCENARIO_TERMS, AttackTerms

_UJ_PER_J: Final = 1_000_000
_PPM: Final = 1_000_000
# the table gives what is drawn of a reservoir to the millijoule
_HALF_MJ_UJ: Final = 500

RESERVOIR: Final = "main"
INSIDE: Final = "10.0.0.0/8"
# the provider that the inside trusts
TRUSTED: Final = "198.51.100.7"
ATTACKER: Final = "192.0.2.66"
# 9 W
LAMP: Final = PowerProfile.make(ProfileType.REQUEST, 12_000, 750)
_RECLAIM: Final = "reclaim main limit 1kW burst 2kJ count attacks"
_POLICY: Final = """\
reservoir main capacity {capacity} charge 95% discharge 95% max-in 2kW floor 0% when-full stop
set inside net {inside}
set provider net {trusted}/32

policy drop
rule state invalid               -> reject 506 log
rule sealed yes                  -> drop log
rule state unsolicited           -> {verdict}
rule src @inside dst @provider   -> accept
"""


def policy_text(capacity: str = "5kWh", verdict: str = _RECLAIM) -> str:
    """Return the policy of the scenarios. verdict: of what nobody asked for."""
    return _POLICY.format(capacity=capacity, inside=INSIDE, trusted=TRUSTED, verdict=verdict)


class Amount(NamedTuple):
    """What a sum of energy must be, uJ: from least to most. None: what the journal says."""

    least_uj: int | None
    most_uj: int | None

    def holds(self, energy_uj: int) -> bool:
        """Return whether a measured sum is such a one."""
        if self.least_uj is None or self.most_uj is None:
            return True
        return self.least_uj <= energy_uj <= self.most_uj

    def field(self) -> int | list[int] | None:
        """Return it for a machine: one number if it is exact, [least, most], or None."""
        if self.least_uj is None or self.most_uj is None:
            return None
        if self.least_uj == self.most_uj:
            return self.least_uj
        return [self.least_uj, self.most_uj]


def exactly(energy_uj: int) -> Amount:
    """Return the amount that is one number."""
    return Amount(energy_uj, energy_uj)


NOTHING: Final = exactly(0)
AS_POSTED: Final = Amount(None, None)
NAMES: Final = ("in_uj", "authorised_uj", "reclaimed_uj", "heat_uj", "out_uj", "claimed_uj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A row of the table: a sum of `Joules` under each name."""

    in_uj: Amount = NOTHING
    authorised_uj: Amount = NOTHING
    reclaimed_uj: Amount = NOTHING
    heat_uj: Amount = NOTHING
    out_uj: Amount = NOTHING
    claimed_uj: Amount = NOTHING

    def __iter__(self) -> Iterator[tuple[str, Amount]]:
        """Return names and amounts, in the order of the table."""
        return ((name, getattr(self, name)) for name in NAMES)


def _joules(in_uj: int, authorised_uj: int, reclaimed_uj: int, heat_uj: int) -> Expected:
    """Return a row that is exact, in uJ."""
    return Expected(
        in_uj=exactly(in_uj),
        authorised_uj=exactly(authorised_uj),
        reclaimed_uj=exactly(reclaimed_uj),
        heat_uj=exactly(heat_uj),
    )


class Kind(Enum):
    """What else happens beside an attack."""

    ATTACK = auto()
    # another policy is taken after `reload_after` blocks
    RELOAD = auto()
    # devices inside are supplied meanwhile
    GUESTS = auto()
    # the firewall is killed at random moments
    KILLS = auto()
    # then a device inside draws from the reservoir
    DRAW = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One attack, all of it data.

    policy, reload: texts. reload_after: blocks of the attack. guests: devices that draw
    `guest_terms` for `guest_s`. kills: how many. Of a draw `expected` is what it alone does.
    """

    name: str
    title: str
    attack: AttackTerms
    expected: Expected
    kind: Kind = Kind.ATTACK
    policy: str = field(default_factory=policy_text)
    reload: str = ""
    reload_after: int = 0
    guests: int = 0
    guest_terms: PowerProfile = LAMP
    guest_s: int = 60
    kills: int = 0


_S1: Final = _joules(60_000 * _UJ_PER_J, 0, 57_000 * _UJ_PER_J, 3_000 * _UJ_PER_J)
# S9: S1 goes on for so long that 1000 kills leave something between them
_KILLED_NS: Final = 1_200 * 1_000_000_000


def _scenarios() -> Iterator[Scenario]:
    terms = SCENARIO_TERMS
    yield Scenario(name="S1", title="unsolicited clear flood", attack=terms["S1"], expected=_S1)
    yield Scenario(
        name="S2",
        title="one sample of 400 kV",
        attack=terms["S2"],
        expected=_joules(61_599 * _UJ_PER_J, 0, 56_905 * _UJ_PER_J, 4_694 * _UJ_PER_J),
    )
    yield Scenario(
        name="S3",
        title="sealed flood by a stranger",
        attack=terms["S3"],
        expected=Expected(claimed_uj=Amount(0, 100 * _UJ_PER_J)),
    )
    yield Scenario(name="S4", title="60,000 blocks of one sample", attack=terms["S4"], expected=_S1)
    yield Scenario(
        name="S5",
        title="room for 30 kJ, then stop",
        attack=terms["S5"],
        expected=_joules(31_578_947_368, 0, 29_999_999_999, 1_578_947_369),
        policy=policy_text(capacity="30kJ"),
    )
    yield Scenario(
        name="S6",
        title="while 5 devices draw 9 W each",
        attack=terms["S6"],
        expected=_joules(
            62_700 * _UJ_PER_J, 2_700 * _UJ_PER_J, 57_000 * _UJ_PER_J, 3_000 * _UJ_PER_J
        ),
        kind=Kind.GUESTS,
        guests=5,
    )
    yield Scenario(
        name="S7",
        title="headers claim ten times as much",
        attack=terms["S7"],
        expected=replace(_S1, claimed_uj=exactly(540_000 * _UJ_PER_J)),
    )
    yield Scenario(
        name="S8",
        title="reload to reject after block 300",
        attack=terms["S8"],
        expected=_joules(30_000 * _UJ_PER_J, 0, 28_500 * _UJ_PER_J, 1_500 * _UJ_PER_J),
        kind=Kind.RELOAD,
        reload=policy_text(verdict="reject 206"),
        reload_after=300,
    )
    yield Scenario(
        name="S9",
        title="kill -9 at 1,000 random moments",
        attack=replace(terms["S9"], duration_ns=_KILLED_NS),
        expected=Expected(in_uj=AS_POSTED, reclaimed_uj=AS_POSTED, heat_uj=AS_POSTED),
        kind=Kind.KILLS,
        kills=1_000,
    )
    yield Scenario(
        name="S10",
        title="then a device draws 60 W for 60 s",
        attack=terms["S10"],
        expected=Expected(
            reclaimed_uj=_near(-3_789_474_000),
            heat_uj=_near(189_474_000),
            out_uj=exactly(3_600 * _UJ_PER_J),
        ),
        kind=Kind.DRAW,
        guests=1,
        guest_terms=PowerProfile.make(ProfileType.REQUEST, 12_000, 5_000),
    )


def _near(energy_uj: int) -> Amount:
    return Amount(energy_uj - _HALF_MJ_UJ, energy_uj + _HALF_MJ_UJ)


# FWRL-5-01
SCENARIOS: Final[Mapping[str, Scenario]] = {one.name: one for one in _scenarios()}


class Check(NamedTuple):
    """Something else that must be so. said: with its numbers."""

    is_held: bool
    said: str


class RuleHit(NamedTuple):
    """What one statement of a policy decided."""

    line: int
    text: str
    hits: int
    energy_uj: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What depends on the machine that plays: real time, real memory, real work.

    verdict_p50_ns, verdict_p99_ns: from the first octets of a stranger to the first decision on
    them. cpu_ns: of the firewall alone. resident_octets: of the whole process, afterwards.
    """

    verdicts: int
    verdict_p50_ns: int
    verdict_p99_ns: int
    cpu_ns: int
    resident_octets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a scenario. sent_uj: what the attacker gave out. virtual_ns: how long it took."""

    scenario: Scenario
    joules: Joules
    sent_uj: int
    blocks: int
    virtual_ns: int
    rules: tuple[RuleHit, ...]
    checks: tuple[Check, ...]
    measured: Measured | None = None

    @property
    def differences(self) -> list[str]:
        """Return the names of the sums that are not what the table says."""
        return [
            name
            for name, amount in self.scenario.expected
            if not amount.holds(getattr(self.joules, name))
        ]

    @property
    def is_as_expected(self) -> bool:
        """Whether everything is as the table says, with residual 0."""
        return (
            not self.differences
            and not self.joules.residual_uj
            and all(check.is_held for check in self.checks)
        )

    @property
    def recovery_ppm(self) -> int | None:
        """Of the energy that attacked, the part that was banked; None where nothing did."""
        attack_uj = self.joules.in_uj - self.joules.authorised_uj
        return self.joules.reclaimed_uj * _PPM // attack_uj if attack_uj > 0 else None

    @property
    def cpu_ns_per_kj(self) -> int | None:
        """Real CPU time of the firewall for each kJ banked, which is virtual."""
        banked_uj = self.joules.reclaimed_uj
        if self.measured is None or banked_uj <= 0:
            return None
        return self.measured.cpu_ns * 1_000_000_000 // banked_uj
