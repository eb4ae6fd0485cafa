"""What an end lets the other one name: terms that were accepted, and nothing beyond; pure.

Each function raises Breach with the reason for the RST. Protocol sections 1, 4, 5, 7, 9 and 10.
"""

from collections.abc import Iterable
from dataclasses import replace

from powertcp.potcp.config import BOUNDS
from powertcp.potcp.events import Ask, PageMark
from powertcp.potcp.flow import MIN_RATE_HZ, Breach, first_of
from powertcp.profile import PowerProfile, ProfileType, in_range, is_fallback_of
from powertcp.registry import Reason, Refusal
from powertcp.wire.options import Maintain, Meter, Sampling

LEASE_MIN_S, LEASE_MAX_S = BOUNDS["lease_s"]
_INTERVAL_MS = BOUNDS["maintain_interval_ms"]
_MISSES = BOUNDS["maintain_misses"]
Offers = tuple[PowerProfile, PowerProfile | None]


def _not_offered(named: PowerProfile, most_mw: int) -> Breach:
    return Breach(Refusal(Reason.NOT_OFFERED, named.power_mw, most_mw))


# PTCP-9-03
def require_terms(grant: PowerProfile, accepted: Iterable[Ask]) -> Ask:
    """Return the first of `accepted` in whose range `grant` lies; anything else is RST 106."""
    most_mw = 0
    for ask in accepted:
        if in_range(grant, *ask):
            return ask
        most_mw = max(most_mw, ask.desired.power_mw)
    raise _not_offered(grant, most_mw)


# PTCP-4-04
def taken_of(offers: Iterable[Offers], choice: PowerProfile) -> PowerProfile | None:
    """Return the GRANT that `choice` takes of `offers`, as its octets say it; None if none.

    A range leaves voltage and current to the sink; lease, priority, energy are the source's word.
    """
    for offer, least in offers:
        if in_range(choice, offer, least):
            if offer.type is ProfileType.GRANT:
                return offer
            return offer.with_type(
                ProfileType.GRANT,
                voltage_mv=choice.voltage_mv,
                current_ma=choice.current_ma,
                lease_s=min(offer.lease_s, LEASE_MAX_S),
            ).as_sent()
    return None


# PTCP-4-01, PTCP-10-03
def require_granted(grant: PowerProfile, asks: tuple[Ask, ...], before: PowerProfile | None) -> int:
    """Take what was asked for, or at a resume the contract in force; returns its longest lease."""
    if before is None:
        return require_terms(grant, asks).desired.lease_s
    require_resumed(grant, before, asks)
    return before.lease_s


# PTCP-9-03
def require_ready(
    grant: PowerProfile, contract: int, terms: PowerProfile, proposal: tuple[Ask, ...] | None
) -> int:
    """Take what was accepted; returns the longest lease: it grows with an own RENEG only."""
    wish = require_terms(grant, (Ask(terms),) if proposal is None else proposal)
    # PTCP-4-06
    own_s = wish.desired.lease_s if proposal is not None and contract % 2 == 0 else 0
    return own_s or terms.lease_s


# PTCP-3.2-01
def fixed_of(proposed: Sampling | None, fixed: Sampling | None) -> Sampling:
    """Return the sampling of a SYN+ACK: that of the SYN, but for a lower rate."""
    if fixed is None or proposed is None:
        raise Breach(Refusal(Reason.SAMPLING, 0, 0, rule="SAMPLING is missing"))
    same = replace(fixed, rate_hz=proposed.rate_hz) == proposed
    if not same or not MIN_RATE_HZ <= fixed.rate_hz <= proposed.rate_hz:
        raise Breach(Refusal(Reason.SAMPLING, fixed.rate_hz, proposed.rate_hz))
    return fixed


# LEDG-6-10
def metered_of(ours: Meter | None, theirs: Meter | None, mark: PageMark | None) -> Meter | None:
    """Return the METER of a SYN+ACK if our SYN had one too; at a resume it is that of before."""
    if mark is not None and (theirs is None or theirs.key != mark.peer_key):
        raise Breach(Refusal(Reason.RECEIPT_INVALID, mark.page, rule="another meter"))
    return theirs if ours is not None else None


# PTCP-10-03
def require_resumed(grant: PowerProfile, before: PowerProfile, asks: Iterable[Ask]) -> None:
    """Take the contract in force: `before`, less if a SHED was enforced unseen, or what was asked.

    A READY that was lost with the old path may have changed the contract, never beyond `asks`.
    """
    if not _is_under(grant, before):
        require_terms(grant, asks)


# PTCP-7-04
def require_ceiling(ceiling: PowerProfile, terms: PowerProfile) -> None:
    """Take a ceiling under the contract: of the same voltage, with no more current."""
    if not _is_under(ceiling, terms):
        raise _not_offered(ceiling, terms.power_mw)


# PTCP-4-01
def is_within(proposal: Ask, wish: Ask) -> bool:
    """Return whether every power that `proposal` covers is of the kind and voltages of `wish`.

    Its current may be less than wished for, a part of what was shed, never more.
    """
    desired = wish.desired
    lowest_mv = (proposal.minimum or proposal.desired).voltage_mv
    return (
        proposal.desired.same_kind(desired)
        and (wish.minimum or desired).voltage_mv <= lowest_mv
        and proposal.desired.voltage_mv <= desired.voltage_mv
        and proposal.desired.current_ma <= desired.current_ma
    )


def _is_under(profile: PowerProfile, most: PowerProfile) -> bool:
    return (
        profile.same_kind(most)
        and profile.voltage_mv == most.voltage_mv
        and profile.current_ma <= most.current_ma
    )


# PTCP-4-06
def longest_lease(asks: Iterable[Ask]) -> int:
    """Return the longest lease of `asks`, s; one that states none allows every lease."""
    return max(ask.desired.lease_s or LEASE_MAX_S for ask in asks)


# PTCP-4-06
def least_lease_s(silence_ms: int) -> int:
    """Return the shortest lease, s, that outlasts a silent peer that is STALE after `silence_ms`."""
    return max(LEASE_MIN_S, silence_ms // 1000 + 1)


# PTCP-4-06
def require_lease(lease_s: int, most_s: int, interval_ms: int, misses: int) -> None:
    """Take a lease of 5 to 3600 s, up to `most_s` (0: not stated), that outlasts the probes."""
    most_s = min(most_s or LEASE_MAX_S, LEASE_MAX_S)
    if lease_s > most_s:
        raise Breach(Refusal(Reason.LEASE_RANGE, lease_s, most_s))
    least_s = least_lease_s(interval_ms * misses)
    if lease_s < least_s:
        raise Breach(Refusal(Reason.LEASE_RANGE, lease_s, least_s))


# PTCP-1-04
def floor_of(
    profiles: tuple[PowerProfile, ...], grant: PowerProfile, asked: PowerProfile | None
) -> PowerProfile | None:
    """Return the FALLBACK that goes with `grant`: at most the current that was asked for."""
    floor = first_of(profiles, ProfileType.FALLBACK)
    if floor is None:
        return None
    if not is_fallback_of(floor, grant):
        raise Breach(Refusal(Reason.BAD_OPTION, 3, rule="FALLBACK of another power"))
    # PTCP-4-06
    most_ma = asked.current_ma if asked is not None else 0
    if floor.current_ma > most_ma:
        raise _not_offered(floor, floor.with_type(floor.type, current_ma=most_ma).power_mw)
    return floor


# PTCP-5-01, PTCP-5-03
def require_maintain(wish: Maintain) -> Maintain:
    """Return `wish` if its interval and misses are within their bounds; else it is RST 508."""
    bounds = (("interval", wish.interval_ms, _INTERVAL_MS), ("misses", wish.misses, _MISSES))
    for word, value, (least, most) in bounds:
        if not least <= value <= most:
            limit = least if value < least else most
            raise Breach(Refusal(Reason.LIMIT, value, limit, rule=f"MAINTAIN {word}"))
    return wish
