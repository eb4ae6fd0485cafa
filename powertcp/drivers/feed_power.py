"""What a feed powers: its events as those of a flow, so that a load sees no difference."""

from powertcp.drivers.appliance import Appliance, refusal_facts
from powertcp.machine import Event
from powertcp.potcp.events import (
    Alerted,
    Ask,
    HeatCounted,
    PowerGranted,
    PowerReady,
    SamplesReceived,
)
from powertcp.potcp.receiver import SILENCE_NS, FeedJoined, FeedSilent
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import Instant


def unknown_power() -> PowerProfile:
    """Return what a receiver asks for before it knows what is broadcast."""
    return PowerProfile.parse("0V/0A", ProfileType.REQUEST)


class FeedPower:
    """Powers one load: on with the first block that is banked, leased while signatures come.

    heard_at: when anything was banked last.
    """

    def __init__(self, appliance: Appliance, where: str) -> None:
        """Power `appliance` with what is heard at `where`."""
        self.heard_at: Instant = 0
        self._each = appliance
        self._where = where
        self._powered = False

    def take(self, event: Event, now: Instant) -> None:
        """Take one event of a receiver or of its subscription."""
        each = self._each
        match event:
            case FeedJoined():
                self._join(event)
            case SamplesReceived():
                self._bank(event, now)
            case HeatCounted():
                each.take(event, now, 0)
            case FeedSilent():
                each.say("silent", {"where": self._where})
                self._powered = False
                each.lose(None, now)
            case Alerted(severity=severity, refusal=refusal):
                each.say("alert", {"severity": severity} | refusal_facts(refusal))

    def _join(self, event: FeedJoined) -> None:
        """An epoch begins: its power is what there is from here on."""
        each, profile = self._each, event.profile
        each.ask = Ask(profile.with_type(ProfileType.REQUEST))
        each.feed = event.feed.feed_id.hex()
        each.granted = PowerGranted(
            flow=0, contract=0, profile=profile, fallback=None, sampling=event.sampling, tariff=None
        )
        facts = {"epoch": event.feed.epoch, "profile": profile.format(), "where": self._where}
        each.say("joined", facts)
        self._powered = False

    def _bank(self, event: SamplesReceived, now: Instant) -> None:
        each, until = self._each, now + SILENCE_NS
        self.heard_at = now
        if not self._powered and each.granted is not None and not each.closing:
            self._powered = True
            ready = PowerReady(flow=0, contract=0, profile=each.granted.profile, fallback=None)
            each.take(ready, now, until)
        each.renew(until)
        each.take(event, now, until)
