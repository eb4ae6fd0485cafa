"""Things that watch connections from the middle: what is said, what is verified, who goes on."""

from powertcp.reclaim.attack import SCENARIO_TERMS, Attack, AttackTerms, Style
from powertcp.reclaim.leg import Hung
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
    "Attack",
    "AttackTerms",
    "CopyHeld",
    "Denial",
    "Denied",
    "End",
    "FlowLeft",
    "Hung",
    "Phase",
    "Relay",
    "Seen",
    "Sighting",
    "Style",
    "TrackedFlow",
    "Tracker",
    "UpstreamWanted",
    "What",
]
