"""A load that only counts: what a consumer is billed for, without anything being powered."""

from powertcp.loads.events import Ceiling, Delivered, Ended, Lost, Powered, SupplyChannel


class NoneLoad:
    """Counts events and energy; draws whatever the contract allows."""

    name = "none"
    wants_samples = False

    def __init__(self) -> None:
        """Begin at nothing."""
        self.powered = False
        self.limit_mw = 0
        self.total_uj = 0
        self.events = 0

    async def run(self, supply: SupplyChannel) -> int:
        """Count until Ended; always 0."""
        async for event in supply:
            self.events += 1
            match event:
                case Powered(profile=profile):
                    self.powered = True
                    self.limit_mw = profile.power_mw
                case Ceiling(limit_mw=limit_mw):
                    self.limit_mw = limit_mw
                case Delivered(energy_uj=energy_uj):
                    self.total_uj += energy_uj
                case Lost():
                    self.powered = False
                case Ended():
                    break
                case _:
                    pass
        self.powered = False
        return 0
