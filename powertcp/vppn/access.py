"""The judge: what an identity may draw, by authorized_watts, its certificate and revocations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from powertcp.errors import InvalidText, known
from powertcp.profile import PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.vppn.authorized import AuthorizedWatts, Kind, Rule
from powertcp.vppn.certificate import Certificate, parse_certificate
from powertcp.vppn.identity import PublicKey
from powertcp.vppn.limits import Address, Limits, Period, format_moment
from powertcp.vppn.revocation import Revocations

# of REASON, 32 bit
MAX_RETRY_MS: Final = (1 << 32) - 1
NOTHING_REVOKED: Final = Revocations()


class OverLimit(Enum):
    """What becomes of a request above a limit: refused, or answered with what is within."""

    REFUSE = "refuse"
    OFFER = "offer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """Who asks. key: the static key that the handshake proved, None if it proved none.

    is_sealed: whether there is a VPPN at all. certificate: its text as it came, b"" for none.
    """

    address: Address
    is_sealed: bool
    key: PublicKey | None = None
    certificate: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a SYN or RENEG asks. most: the request. least: its minimum, if it is a range.

    held_mw: what the other flows of the identity have. used_uj: verified energy of the identity in
    the current window of each period for which there is a quota.
    """

    most: PowerProfile
    least: PowerProfile | None = None
    held_mw: int = 0
    used_uj: Mapping[Period, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be granted at most. is_counter: it is outside of what was asked, so it is an offer."""

    most: PowerProfile
    is_counter: bool


@dataclass(frozen=True, slots=True)
class _Over:
    """One limit that is exceeded."""

    code: Reason
    value: int
    limit: int
    field: str


@dataclass(frozen=True, slots=True)
class Rights:
    """What one identity may draw. limits: what every source allows.

    name: of the identity. rule: the line that decided. sources: place and limits of the line, and
    of the certificate. serial: of the certificate, 0 for none. ends_s: Unix time, None: never.
    kind: what the line is about.
    """

    name: str
    rule: str
    limits: Limits
    sources: tuple[tuple[str, Limits], ...]
    serial: int = 0
    ends_s: int | None = None
    kind: Kind = Kind.CLEAR

    def allow(self, wish: Wish, now_s: int, over: OverLimit) -> Allowed | Refusal:
        """Return what may be granted of a wish, or why nothing.

        A range is granted as far as it is within the limits. What no part of is within is refused
        with the limit, or with OverLimit.OFFER answered with what is within.
        """
        # VPPN-5-02
        if refusal := self._spent(wish, now_s) or self._misshapen(wish.most):
            return refusal
        inside, exceeded = self._within(wish)
        if not exceeded:
            return Allowed(wish.most, is_counter=False)
        # two lines may leave no voltage that both allow
        if self.limits.most_mv is None or inside.voltage_mv <= self.limits.most_mv:
            # VPPN-5-02
            if _is_in_range(inside, wish):
                return Allowed(inside, is_counter=False)
            if over is OverLimit.OFFER and 0 < inside.power_mw <= wish.most.power_mw:
                return Allowed(inside, is_counter=True)
        first = exceeded[0]
        rule, text = self._decided(first.field), ""
        if first.code == Reason.WATT_LIMIT and wish.held_mw:
            text = f"beside {wish.held_mw:,} mW of its other flows"
            rule = f"{rule}, {text}"
        return Refusal(first.code, first.value, first.limit, rule=rule, text=text)

    def _spent(self, wish: Wish, now_s: int) -> Refusal | None:
        for period, quota_uj in self.limits.quotas:
            used_uj = known(wish.used_uj.get(period), f"the energy of this {period} is counted")
            if used_uj >= quota_uj:
                retry_ms = min((period.window(now_s)[1] - now_s) * 1000, MAX_RETRY_MS)
                rule = self._decided("quotas", period, quota_uj)
                return Refusal(Reason.ENERGY_QUOTA, used_uj, quota_uj, retry_ms, rule=rule)
        return None

    def _misshapen(self, most: PowerProfile) -> Refusal | None:
        shapes = self.limits.waveforms
        if shapes is None or most.waveform in shapes:
            return None
        volts = most.voltage_mv
        return Refusal(Reason.WAVEFORM, volts, volts, rule=self._decided("waveforms"))

    def _within(self, wish: Wish) -> tuple[PowerProfile, list[_Over]]:
        """Return the wish cut down to every limit, and the limits that it exceeds."""
        limits, most = self.limits, wish.most
        exceeded: list[_Over] = []
        volts, amps, priority = most.voltage_mv, most.current_ma, most.priority
        if limits.most_mv is not None and volts > limits.most_mv:
            volts = limits.most_mv
            exceeded.append(_Over(Reason.VOLTAGE_RANGE, most.voltage_mv, volts, "most_mv"))
        if volts < limits.least_mv:
            volts = limits.least_mv
            exceeded.append(_Over(Reason.VOLTAGE_RANGE, most.voltage_mv, volts, "least_mv"))
        if limits.current_ma is not None and amps > limits.current_ma:
            amps = limits.current_ma
            exceeded.append(_Over(Reason.CURRENT_RANGE, most.current_ma, amps, "current_ma"))
        if limits.priority is not None and most.effective_priority < limits.priority:
            priority = limits.priority
            over = _Over(
                Reason.PRIORITY_DENIED, most.effective_priority, limits.priority, "priority"
            )
            exceeded.append(over)
        inside = most.with_type(most.type, voltage_mv=volts, current_ma=amps, priority=priority)
        if limits.power_mw is not None:
            free_mw = max(0, limits.power_mw - wish.held_mw)
            if most.power_mw > free_mw:
                over = _Over(Reason.WATT_LIMIT, most.power_mw, free_mw, "power_mw")
                exceeded.append(over)
            inside = inside.with_type(inside.type, current_ma=inside.current_for(free_mw))
        return inside, exceeded

    def _decided(self, name: str, *quota: object) -> str:
        """Return the place of the line whose limit it is; where it is the certificate's, both."""
        effective = getattr(self.limits, name)
        for place, limits in self.sources:
            value = getattr(limits, name)
            if quota in value if quota else value == effective:
                return self.rule if place == self.rule else f"{self.rule}, {place}"
        # neither alone
        return ", ".join(place for place, _ in self.sources)


def _is_in_range(inside: PowerProfile, wish: Wish) -> bool:
    """Return whether what is within the limits is still what was asked."""
    least = wish.least
    return (
        least is not None
        and inside.priority == wish.most.priority
        and least.voltage_mv <= inside.voltage_mv <= wish.most.voltage_mv
        and least.current_ma <= inside.current_ma
    )


# ---- who it is ----------------------------------------------------------------------------------


def find_rights(
    watts: AuthorizedWatts,
    applicant: Applicant,
    now_s: int,
    revocations: Revocations = NOTHING_REVOKED,
) -> Rights | Refusal:
    """Return what an applicant may draw by the first line that fits, or why nothing.

    A line of its key comes before one of its certificate's issuer, before guest, before clear. The
    lines that name it most closely decide: when none of them applies, none less close is looked at.
    """
    certificate = None
    if applicant.certificate:
        try:
            certificate = parse_certificate(applicant.certificate)
        except InvalidText as error:
            # VPPN-5-04
            return Refusal(Reason.KEY_UNKNOWN, rule=str(error))
        # a certificate speaks for one static key, whoever shows it
        if certificate.subject != applicant.key:
            # VPPN-2.2-01
            rule = f"certificate:3 subject {certificate.subject}"
            return Refusal(Reason.IDENTITY_MISMATCH, rule=rule)
    if applicant.key is not None:
        issuers = [rule.key for rule in watts.rules if rule.kind is Kind.ISSUER and rule.key]
        if refusal := revocations.judge_key(applicant.key, issuers):
            return refusal
        # VPPN-5-07
        if rules := watts.about(Kind.KEY, applicant.key):
            return _choose(watts, rules, applicant, now_s)
    if certificate is not None and (rules := watts.about(Kind.ISSUER, certificate.issuer)):
        return _vouched(watts, rules, certificate, applicant, now_s, revocations)
    kinds = (Kind.GUEST, Kind.CLEAR) if applicant.is_sealed else (Kind.CLEAR,)
    for kind in kinds:
        if rules := watts.about(kind):
            return _choose(watts, rules, applicant, now_s)
    what = "no line names this key" if applicant.key else "no line is about guests"
    what = what if applicant.is_sealed else "no line is about clear power"
    # VPPN-5-07
    return Refusal(_stranger(applicant), rule=f"{watts.file}: {what}")


def _stranger(applicant: Applicant) -> Reason:
    return Reason.AUTH_REQUIRED if applicant.key is None else Reason.KEY_UNKNOWN


def _choose(
    watts: AuthorizedWatts, rules: list[Rule], applicant: Applicant, now_s: int
) -> Rights | Refusal:
    """Return the rights of the first of `rules` that applies, or why the first one does not."""
    refusals: list[Refusal] = []
    for rule in rules:
        place = watts.place(rule)
        refusal = _denied(rule, place, applicant) or _unfit(
            rule.limits, place, rule.line, applicant, now_s
        )
        if refusal is None:
            limits = rule.limits
            name = rule.name or str(rule.key or rule.kind)
            ends_s = limits.expires_s
            return Rights(name, place, limits, ((place, limits),), ends_s=ends_s, kind=rule.kind)
        refusals.append(refusal)
    # VPPN-5-07
    return refusals[0]


def _denied(rule: Rule, place: str, applicant: Applicant) -> Refusal | None:
    if not rule.is_denied:
        return None
    is_named = rule.kind in (Kind.KEY, Kind.ISSUER)
    return Refusal(
        Reason.POLICY if is_named else _stranger(applicant),
        rule.line if is_named else 0,
        rule=f"{place} deny",
    )


def _unfit(
    limits: Limits, place: str, line: int, applicant: Applicant, now_s: int
) -> Refusal | None:
    """Return why limits do not apply here or now."""
    if limits.expires_s is not None and limits.expires_s <= now_s:
        rule = f"{place} expires={format_moment(limits.expires_s)}"
        return Refusal(Reason.CERT_EXPIRED, limits.expires_s, now_s, rule=rule)
    if not limits.allows_from(applicant.address):
        return Refusal(Reason.POLICY, line, rule=f"{place} from, not {applicant.address}")
    return None


def _vouched(
    watts: AuthorizedWatts,
    rules: list[Rule],
    certificate: Certificate,
    applicant: Applicant,
    now_s: int,
    revocations: Revocations,
) -> Rights | Refusal:
    """Return what an issuer's line and its certificate allow together."""
    if refusal := judge_time(certificate, now_s) or revocations.judge(certificate, now_s):
        return refusal
    fitting = [
        rule for rule in rules if not rule.groups or set(rule.groups) & set(certificate.groups)
    ]
    if not fitting:
        groups = ",".join(certificate.groups) or "none"
        text = f"{watts.place(rules[0])} groups={','.join(rules[0].groups)}, certificate: {groups}"
        return Refusal(Reason.POLICY, rules[0].line, rule=text)
    rights = _choose(watts, fitting, applicant, now_s)
    if isinstance(rights, Refusal):
        return rights
    place = f"certificate {certificate.serial}:{certificate.limits_line}"
    own = certificate.limits
    if refusal := _unfit(own, place, certificate.limits_line, applicant, now_s):
        return refusal
    # a certificate narrows; another tariff is not a narrower one
    if own.tariff and own.tariff != rights.limits.tariff:
        rule = f"{rights.rule} tariff={rights.limits.tariff}, {place} tariff={own.tariff}"
        # VPPN-5-08
        return Refusal(Reason.TARIFF, rule=rule)
    # VPPN-5-08
    limits = rights.limits.within(own)
    ends_s = min(certificate.not_after_s, limits.expires_s or certificate.not_after_s)
    sources = (*rights.sources, (place, own))
    serial, kind = certificate.serial, rights.kind
    return Rights(certificate.name, rights.rule, limits, sources, serial, ends_s, kind)


def judge_time(certificate: Certificate, now_s: int) -> Refusal | None:
    """Return 202 before and after the time of a certificate; before, with the time to wait."""
    after_s, before_s = certificate.not_after_s, certificate.not_before_s
    serial = f"certificate {certificate.serial}"
    # VPPN-5-04
    if after_s <= now_s:
        rule = f"{serial} not-after {format_moment(after_s)}"
        return Refusal(Reason.CERT_EXPIRED, after_s, now_s, rule=rule)
    if now_s < before_s:
        retry_ms = min((before_s - now_s) * 1000, MAX_RETRY_MS)
        rule = f"{serial} not valid before {format_moment(before_s)}"
        return Refusal(Reason.CERT_EXPIRED, before_s, now_s, retry_ms, rule=rule)
    return None
