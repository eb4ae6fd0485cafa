"""Things that watch connections from the middle: what is said, what is verified, who goes on.

A script of the operator takes from here what it is asked with and what it may answer.
"""

from powertcp.reclaim.accounts import Joules
from powertcp.reclaim.attack import SCENARIO_TERMS, Attack, AttackTerms, Style
from powertcp.reclaim.layer import ConnectionOpened, FlowEnded, FlowJudged, Hook, SecondPassed
from powertcp.reclaim.leg import Hung
from powertcp.reclaim.policy import (
    Accept,
    Decision,
    Drop,
    Facts,
    Reclaim,
    Reject,
    State,
    Verdict,
    Way,
)
from powertcp.reclaim.relay import (
    CopyHeld,
    Denial,
    Denied,
    FlowLeft,
    Relay,
    Seen,
    UpstreamWanted,
)
from powertcp.reclaim.track import End, Phase, Sighting, TrackedFlow, Tracker, What

__all__ = [
    "SCENARIO_TERMS",
    "Accept",
    "Attack",
    "AttackTerms",
    "ConnectionOpened",
    "CopyHeld",
    "Decision",
    "Denial",
    "Denied",
    "Drop",
    "End",
    "Facts",
    "FlowEnded",
    "FlowJudged",
    "FlowLeft",
    "Hook",
    "Hung",
    "Joules",
    "Phase",
    "Reclaim",
    "Reject",
    "Relay",
    "SecondPassed",
    "Seen",
    "Sighting",
    "State",
    "Style",
    "TrackedFlow",
    "Tracker",
    "UpstreamWanted",
    "Verdict",
    "Way",
    "What",
]
