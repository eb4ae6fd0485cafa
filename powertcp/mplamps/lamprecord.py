"""What has become of a lamp of a simulation. MPLampS section 8."""

from dataclasses import dataclass

from powertcp.mplamps.node import LampChanged, LampState, Model
from powertcp.profile import PowerProfile
from powertcp.registry import Refusal
from powertcp.units import Instant


@dataclass(slots=True)
class LampRecord:
    """What has become of a lamp. on_at: when it was switched on, None if it never was.

    signalled_at, lit_at: for the first time after that. patient_until: until when it waits for
    its first block, None before its circuit is closed.
    """

    name: str
    is_wanted: bool = False
    on_at: Instant | None = None
    signalled_at: Instant | None = None
    lit_at: Instant | None = None
    patient_until: Instant | None = None
    state: LampState = LampState.DARK
    refusal: Refusal | None = None
    grant: PowerProfile | None = None
    model: Model = Model.OVERLAY

    def switch_on(self, model: Model, now: Instant) -> None:
        """Begin anew."""
        self.is_wanted, self.model = True, model
        self.on_at, self.signalled_at, self.lit_at, self.patient_until = now, None, None, None

    def take(self, event: LampChanged, state: LampState, now: Instant) -> None:
        """Note a change of one of its tunnels, after which the lamp is in `state`."""
        self.state, self.refusal = state, event.refusal
        if event.grant is not None:
            self.grant = event.grant
        if state in (LampState.SIGNALLED, LampState.LIT) and self.signalled_at is None:
            self.signalled_at = now
        if state is LampState.LIT and self.lit_at is None:
            self.lit_at = now
