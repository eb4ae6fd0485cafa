"""Things that watch connections from the middle: what is said, what is verified, who goes on."""

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
    "TrackedFlow",
    "Tracker",
    "UpstreamWanted",
    "What",
]
