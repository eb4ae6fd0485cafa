"""What the parts of a screen ask of it: who is where, and to say something to one side."""

from typing import Protocol

from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.firewall import Firewall
from powertcp.reclaim.leg import Leg
from powertcp.reclaim.track import End
from powertcp.reclaim.watch import Party
from powertcp.registry import Refusal
from powertcp.units import Instant
from powertcp.wire.frames import RawSegment
from powertcp.wire.segments import Control


class Middle(Protocol):
    """One connection through the firewall, as its parts see it."""

    firewall: Firewall
    is_client_inside: bool
    target: Party | None

    def leg(self, end: End) -> Leg:
        """Return one side."""

    def ends(self, sender: End) -> tuple[Party, Party | None]:
        """Return who sends, and the other."""

    def name_of(self, number: int | str) -> str:
        """Return a flow as people see it."""

    def account_of(self, number: int, source: End, now: Instant, what: str = "") -> FlowAccount:
        """Open the account of a flow whose power `source` sends."""

    def want(self) -> None:
        """Something passes to the far side: it must be there."""

    def park(self, via: str | None, raw: RawSegment) -> None:
        """Let a request wait until it is known where it goes."""

    def pass_raw(self, leg: Leg, raw: RawSegment, *, is_marked: bool = False) -> None:
        """Hand a segment to the other side."""

    def say(self, leg: Leg, control: Control) -> None:
        """Say something of our own to one side."""

    def drop(self, leg: Leg, now: Instant) -> None:
        """Close the connection without a word."""

    def fail(self, leg: Leg, refusal: Refusal, now: Instant) -> None:
        """End the connection with RST on flow 0."""

    def churn(self, leg: Leg, now: Instant) -> None:
        """Count something that is answered here."""

    def drop_stray(self, leg: Leg, number: int, account: FlowAccount, now: Instant) -> None:
        """Close the connection for what is no flow of the tracker."""

    def refuse_stray(
        self, leg: Leg, number: int, account: FlowAccount, refusal: Refusal, now: Instant
    ) -> None:
        """Say RST to what is no flow of the tracker."""

    def note_harvest_over(self, number: int, now: Instant) -> None:
        """A harvest ended."""
