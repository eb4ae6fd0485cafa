"""The control socket of a lamp: its state, and the orders on, off, set and migrate."""

import os
from collections.abc import Mapping
from typing import Protocol

import trio

import powertcp
from powertcp.drivers.control import Control, Fields
from powertcp.drivers.lsr_lamp import LiveLamp
from powertcp.errors import LocalProtocolError
from powertcp.mplamps.node import Model
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal


class Switch(Protocol):
    """What is switched on and off."""

    @property
    def is_on(self) -> bool:
        """Whether it is on."""

    def switch(self, *, is_on: bool) -> None:
        """Switch it."""

    def want(self, request: PowerProfile) -> None:
        """Ask for another power from now on."""


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
        orders = {"on": self._on, "off": self._off, "set": self._set, "migrate": self._migrate}
        views = {"status": self.status, "explain": self._explain}
        return Control(greeting, {**views, **orders}, guarded=frozenset(orders))

    async def status(self, _: Mapping[str, object]) -> Fields | Refusal:
        """Return the state of the lamp and of its tunnels."""
        await trio.lowlevel.checkpoint()
        return {**self._lamp.status(), "on": self._switched.is_on, "drops": self._lamp.live.drops()}

    async def _explain(self, _: Mapping[str, object]) -> Fields | Refusal:
        await trio.lowlevel.checkpoint()
        return {"explanations": self._lamp.refusals()}

    async def _on(self, request: Mapping[str, object]) -> Fields | Refusal:
        self._switched.switch(is_on=True)
        return await self.status(request)

    async def _off(self, request: Mapping[str, object]) -> Fields | Refusal:
        self._switched.switch(is_on=False)
        return await self.status(request)

    async def _set(self, request: Mapping[str, object]) -> Fields | Refusal:
        await trio.lowlevel.checkpoint()
        try:
            profile = PowerProfile.parse(str(request.get("what")), ProfileType.REQUEST).as_sent()
        except (ValueError, LocalProtocolError) as error:
            return Refusal(Reason.NOT_OFFERED, rule=str(error))
        if not profile.power_mw:
            return Refusal(Reason.NOT_OFFERED, rule=f"{profile.format()} is no power")
        self._switched.want(profile)
        count = self._lamp.set_request(profile)
        return {"state": self._lamp.node.lamp_state.value, "set": count}

    async def _migrate(self, request: Mapping[str, object]) -> Fields | Refusal:
        await trio.lowlevel.checkpoint()
        if request.get("what") not in tuple(Model):
            return Refusal(Reason.STATE, rule="a model is overlay or peer")
        count = self._lamp.migrate(Model(str(request["what"])))
        return {"state": self._lamp.node.lamp_state.value, "migrated": count}
