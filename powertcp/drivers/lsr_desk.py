"""The control socket of a lamp: its state, and the orders on, off, set and migrate."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Protocol

import trio

import powertcp
from powertcp.drivers.control import Control, Fields
from powertcp.drivers.lsr_lamp import LiveLamp, why
from powertcp.errors import LocalProtocolError
from powertcp.mplamps.node import Model
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal

# how often, and at most how many times, an order looks whether it is done
LOOK_S: Final = 0.02
LOOKS: Final = 500


class Switch(Protocol):
    """What is switched on and off."""

    @property
    def is_on(self) -> bool:
        """Whether it is on."""

    @property
    def is_settled(self) -> bool:
        """Whether what it was last told has been done, or was refused."""

    def switch(self, *, is_on: bool) -> None:
        """Switch it."""

    async def want(self, request: PowerProfile) -> Refusal | None:
        """Ask for another power from now on; return when the circuit may follow, or why not."""

    def stay(self) -> None:
        """Go on with the power before: the network has refused the one that was wanted."""


class LampDesk:
    """Answers for one lamp. switched: what is on or off."""

    def __init__(self, lamp: LiveLamp, switched: Switch) -> None:
        """Speak for `lamp`."""
        self._lamp = lamp
        self._switched = switched

    def control(self) -> Control:
        """Return the socket's server; run its `serve`."""
        greeting: Fields = {
            "powertcp": 1,
            "role": "lamp",
            "name": self._lamp.live.name,
            "pid": os.getpid(),
            "version": powertcp.__version__,
        }
        orders = {"on": self.on, "off": self.off, "set": self.set, "migrate": self.migrate}
        views = {"status": self.status, "explain": self.explain}
        return Control(greeting, {**views, **orders}, guarded=frozenset(orders))

    async def status(self, _: Mapping[str, object]) -> Fields | Refusal:
        """Return the state of the lamp and of its tunnels."""
        await trio.lowlevel.checkpoint()
        return {**self._lamp.status(), "on": self._switched.is_on, "drops": self._lamp.live.drops()}

    async def explain(self, _: Mapping[str, object]) -> Fields | Refusal:
        """Return why tunnels are not as they were asked for."""
        await trio.lowlevel.checkpoint()
        return {"explanations": self._lamp.refusals()}

    async def on(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Switch the lamp on; return its state once the network has answered."""
        return await self._switch(request, is_on=True)

    async def off(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Switch the lamp off; return its state once it is dark."""
        return await self._switch(request, is_on=False)

    async def _switch(self, request: Mapping[str, object], *, is_on: bool) -> Fields | Refusal:
        self._switched.switch(is_on=is_on)
        for _ in range(LOOKS):
            if self._switched.is_settled:
                break
            await trio.sleep_until(trio.current_time() + LOOK_S)
        return await self.status(request)

    async def set(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Ask for the PROFILE of `what`, make before break."""
        await trio.lowlevel.checkpoint()
        try:
            profile = PowerProfile.parse(str(request.get("what")), ProfileType.REQUEST).as_sent()
        except (ValueError, LocalProtocolError) as error:
            return Refusal(Reason.NOT_OFFERED, rule=str(error))
        if not profile.power_mw:
            return Refusal(Reason.NOT_OFFERED, rule=f"{profile.format()} is no power")
        refusal = await self._switched.want(profile)
        if refusal is not None:
            return refusal
        done = await self._lamp.set_request(profile)
        if isinstance(done, Refusal):
            self._switched.stay()
            return replace(done, rule=why(done))
        return {**self._lamp.status(), "set": done}

    async def migrate(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Let the lamp or its edge LSR make the routes: the model of `what`."""
        await trio.lowlevel.checkpoint()
        if request.get("what") not in tuple(Model):
            return Refusal(Reason.STATE, rule="a model is overlay or peer")
        count = self._lamp.migrate(Model(str(request["what"])))
        return {"state": self._lamp.node.lamp_state.value, "migrated": count}
