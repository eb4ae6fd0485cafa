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
    Policy,
    Reclaim,
    Reject,
    Rule,
    State,
    Verdict,
    Way,
)
from powertcp.reclaim.policy_cases import Outcome, run_cases
from powertcp.reclaim.policy_lines import Fault, PolicyError
from powertcp.reclaim.policy_text import parse_policy
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
    "Fault",
    "FlowEnded",
    "FlowJudged",
    "FlowLeft",
    "Hook",
    "Hung",
    "Joules",
    "Outcome",
    "Phase",
    "Policy",
    "PolicyError",
    "Reclaim",
    "Reject",
    "Relay",
    "Rule",
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
    "parse_policy",
    "run_cases",
]
