"""A lamp in the terminal: its brightness is the power delivered over the power it is rated at.

On a terminal it has the alternate screen and a glass bulb, elsewhere it prints a line a second.
Brightness moves by ramps and reverses at most once a second: it never flashes.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

import trio

from powertcp.loads.events import (
    Ceiling,
    Delivered,
    Ended,
    Fresh,
    Lost,
    Powered,
    Stale,
    SupplyChannel,
    SupplyEvent,
)
from powertcp.units import format_energy, format_power

# seconds from dark to full, and between two reversals of direction
RAMP_S: Final = 0.4
REVERSAL_S: Final = 1.0
FRAME_S: Final = 0.1
LINE_S: Final = 1.0
# a supply that delivered nothing for so long gives no light
SILENCE_S: Final = 1.5

ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[2J"
LEAVE: Final = "\x1b[0m\x1b[?25h\x1b[?1049l"
BULB: Final = (
    "     ▄▄▄▄▄▄▄     ",
    "   ▄█████████▄   ",
    "  █████████████  ",
    "  █████████████  ",
    "   ███████████   ",
    "    ▀███████▀    ",
    "      █████      ",
)
BASE: Final = ("      ▒▒▒▒▒      ", "      ▒▒▒▒▒      ", "       ▀▀▀       ")


class Ramp:
    """Brightness that follows its target without flashing; times in seconds."""

    def __init__(self) -> None:
        """Begin dark."""
        self.level = 0.0
        self._at = -math.inf
        self._direction = 0
        self._reversed_at = -math.inf

    def step(self, target: float, now: float) -> float:
        """Move towards `target` (0..1) by what the time since the last step allows."""
        reach = min(1.0, (now - self._at) / RAMP_S)
        self._at = now
        change = max(-reach, min(reach, target - self.level))
        if change == 0.0:
            return self.level
        direction = 1 if change > 0 else -1
        if direction != self._direction:
            if now - self._reversed_at < REVERSAL_S:
                return self.level
            self._direction, self._reversed_at = direction, now
        self.level += change
        return self.level


class Bulb:
    """What the lamp knows about its power; pure."""

    def __init__(self) -> None:
        """Begin unpowered."""
        self.state = "dark"
        self.rated_mw = 0
        self.power_mw = 0
        self.total_uj = 0
        self._heard_at = -math.inf

    def obey(self, event: SupplyEvent, now: float) -> None:
        """Note what happened to the supply."""
        match event:
            case Powered(full_mw=full_mw):
                self.state, self.rated_mw = "powered", full_mw
            case Delivered(power_mw=power_mw, total_uj=total_uj):
                self.power_mw, self.total_uj = power_mw, total_uj
                self._heard_at = now
            case Ceiling(limit_mw=limit_mw, rated_mw=rated_mw):
                self.state = (
                    f"shed to {format_power(limit_mw)}" if limit_mw < rated_mw else "powered"
                )
            case Stale():
                self.state = "provider silent"
            case Fresh():
                self.state = "powered"
            case Lost() | Ended():
                self.state, self.power_mw = "dark", 0
            case _:
                pass

    def brightness(self, now: float) -> float:
        """Return delivered / rated, 0..1; 0 when nothing was delivered lately."""
        if self.rated_mw <= 0 or now - self._heard_at > SILENCE_S:
            return 0.0
        return max(0.0, min(1.0, self.power_mw / self.rated_mw))

    def line(self, level: float) -> str:
        """Return the state in one line, with units."""
        return (
            f"lamp {level * 100:3.0f} %  {format_power(self.power_mw)}"
            f"  {format_energy(self.total_uj)}  {self.state}"
        )


def draw(level: float, line: str) -> str:
    """Return one frame: a warm bulb of `level` 0..1 (256 colours or more) and a line."""
    # the eye sees roughly the square root of the light
    glow = math.sqrt(level)
    red, green, blue = (round(40 + (top - 40) * glow) for top in (255, 214, 140))
    rows = [f"\x1b[38;2;{red};{green};{blue}m{row}\x1b[0m\x1b[K" for row in BULB]
    rows += [f"\x1b[38;5;244m{row}\x1b[0m\x1b[K" for row in BASE]
    return "\x1b[H\x1b[K\r\n" + "\r\n".join(rows) + f"\r\n\x1b[K\r\n  {line}\x1b[K\r\n"


class Lamp:
    """The lamp load; `out` is a terminal or any text stream."""

    name = "lamp"
    wants_samples = False

    def __init__(self, out: TextIO) -> None:
        """Shine on `out`."""
        self._out = out
        self._is_terminal = out.isatty()
        self._bulb = Bulb()
        self._ramp = Ramp()

    async def run(self, supply: SupplyChannel) -> int:
        """Shine until Ended; always 0. After cancellation the terminal is as it was."""
        with self._screen():
            shown = ""
            interval = FRAME_S if self._is_terminal else LINE_S
            next_frame = trio.current_time()
            while await self._listen(supply, next_frame):
                now = trio.current_time()
                next_frame = now + interval
                level = self._ramp.step(self._bulb.brightness(now), now)
                line = self._bulb.line(level)
                frame = draw(level, line) if self._is_terminal else f"{line}\n"
                if frame != shown or not self._is_terminal:
                    await self._write(frame)
                    shown = frame
        return 0

    async def _listen(self, supply: SupplyChannel, until: float) -> bool:
        """Take events until the next frame is due; False when the supply ended."""
        with trio.move_on_at(until):
            async for event in supply:
                self._bulb.obey(event, trio.current_time())
                if isinstance(event, Ended):
                    return False
            return False
        return True

    async def _write(self, text: str) -> None:
        """Write in a thread: a terminal held by ^S must not hold up the wire."""
        await trio.to_thread.run_sync(self._put, text, abandon_on_cancel=True)

    def _put(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):
            # the terminal was closed; the lamp shines on unseen
            return

    @contextmanager
    def _screen(self) -> Iterator[None]:
        if not self._is_terminal:
            yield
            return
        self._put(ENTER)
        try:
            yield
        finally:
            self._put(LEAVE)
