"""A script for `powertcp firewall run --script night.py`: at night the house is closed.

From 22:00 to 06:00, local time, only GUARD passes, with at most 20 W, and no attack is reclaimed: the
reservoir hums. A time that is not known is night.
"""

from powertcp.reclaim import Accept, Drop, FlowJudged, Reclaim, Reject, Verdict
from powertcp.registry import Reason
from powertcp.vppn.identity import PublicKey

NIGHT = (22 * 60, 6 * 60)
GUARD = PublicKey.parse("x25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").octets
GUARD_MW = 20_000


def _is_night(minute: int | None) -> bool:
    begin, end = NIGHT
    return minute is None or minute >= begin or minute < end


def on_flow_judged(asked: FlowJudged) -> Verdict | None:
    """Let the policy be, but at night."""
    if not _is_night(asked.facts.minute):
        return None
    match asked.decision.verdict:
        case Reclaim():
            return Drop()
        case Accept(limit_mw=limit_mw) if asked.facts.peer == GUARD:
            return Accept(min(limit_mw or GUARD_MW, GUARD_MW))
        case Accept():
            return Reject(Reason.POLICY)
        case _:
            return None
