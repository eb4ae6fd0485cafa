"""What an end lets the other one name: terms that were accepted, and nothing beyond; pure.

Each function raises Breach with the reason for the RST. Protocol sections 1, 4, 7, 9 and 10.
"""

from collections.abc import Iterable

from powertcp.potcp.events import Ask
from powertcp.potcp.flow import Breach, first_of
from powertcp.profile import PowerProfile, ProfileType, in_range, is_fallback_of
from powertcp.registry import Reason, Refusal


# PTCP-9-03
def require_terms(grant: PowerProfile, accepted: Iterable[Ask]) -> Ask:
    """Return the first of `accepted` in whose range `grant` lies; anything else is RST 106."""
    most_mw = 0
    for ask in accepted:
        if in_range(grant, *ask):
            return ask
        most_mw = max(most_mw, ask.desired.power_mw)
    raise Breach(Refusal(Reason.NOT_OFFERED, grant.power_mw, most_mw))


# PTCP-1-04
def floor_of(profiles: tuple[PowerProfile, ...], grant: PowerProfile) -> PowerProfile | None:
    """Return the FALLBACK that goes with `grant`; one of another power is a breach."""
    floor = first_of(profiles, ProfileType.FALLBACK)
    if floor is not None and not is_fallback_of(floor, grant):
        raise Breach(Refusal(Reason.BAD_OPTION, 3, rule="FALLBACK of another power"))
    return floor
