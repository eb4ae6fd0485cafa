"""A consumer's control socket: its status, and the reset of a load that tripped too often."""

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import trio

import powertcp
from powertcp.drivers.consumer import Consumer
from powertcp.drivers.control import Control, Fields
from powertcp.drivers.daemon import now_ns
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS


async def _nothing() -> list[Fields]:
    """Nobody is looked for: the provider was named."""
    await trio.lowlevel.checkpoint()
    return []


class Desk:
    """Answers for one consumer."""

    def __init__(
        self, consumer: Consumer, searches: Callable[[], Awaitable[list[Fields]]] = _nothing
    ) -> None:
        """Speak for `consumer`. searches: what it looks for, and why it has not found it."""
        self._consumer, self._searches = consumer, searches

    def control(self) -> Control:
        """Return the socket's server; run its `serve`."""
        greeting: Fields = {
            "powertcp": 1,
            "role": "consumer",
            "name": "",
            "pid": os.getpid(),
            "version": powertcp.__version__,
        }
        verbs = {"status": self.status, "explain": self.explain, "reset": self.reset}
        return Control(greeting, verbs, guarded=frozenset({"reset"}))

    async def status(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Return the sums; with "flows": true each contract."""
        appliances = self._consumer.appliances
        searches = await self._searches()
        live = [each for each in appliances if each.flow and not each.done]
        idle = "searching" if searches else "waiting"
        answer: Fields = {
            "state": "closing" if self._consumer.is_stopping else "powered" if live else idle,
            "energy_uj": sum(each.energy_uj for each in appliances),
            "heat_uj": sum(each.heat_uj for each in appliances),
        }
        if searches:
            answer["searches"] = searches
        if request.get("flows"):
            now = now_ns()
            answer["flows"] = [
                {
                    "id": each.name,
                    "name": each.load.name,
                    "state": "off" if each.is_off else "done" if each.done else "wanted",
                    "text": each.ask.desired.format(),
                    "power_mw": each.profile.power_mw if each.profile and each.flow else 0,
                    "energy_uj": each.energy_uj,
                    "lease_ms": max(0, each.lease_until - now) // NS_PER_MS,
                }
                for each in appliances
            ]
        return answer

    async def explain(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Return the last no to the contract of this name, flow or load; without `what` to all.

        What a contract is looked for is said before that.
        """
        searches = await self._searches()
        what = str(request.get("what") or "")
        rows: list[Fields] = [
            {
                "flow": each.flow_name or each.name,
                "what": "power is looked for",
                "given": "",
                **search,
            }
            | {"wanted": each.ask.desired.format()}
            for each in self._consumer.appliances
            for search in searches
            if not each.done and each.ask.desired.format() in _texts(search)
            if not what or what == each.flow_name or each.answers_to(what)
        ]
        rows += [
            {
                "flow": each.flow_name or each.name,
                "what": each.reason[0],
                "wanted": each.ask.desired.format(),
                "given": each.profile.format() if each.profile and each.flow else "",
                **{key: each.reason[1].get(key) for key in ("code", "sentence", "value", "limit")},
            }
            for each in self._consumer.appliances
            if each.reason and (not what or what == each.flow_name or each.answers_to(what))
        ]
        if rows or not what:
            return {"explanations": rows}
        return Refusal(Reason.STATE, rule="no such flow")

    async def reset(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Let the named load try again; refusal 206 when none of that name is off."""
        count = self._consumer.reset(str(request.get("load", "")))
        return {"reset": count} if count else Refusal(Reason.POLICY)


def _texts(search: Fields) -> list[object]:
    """Return what a search is for."""
    wanted = search.get("wanted")
    return wanted if isinstance(wanted, list) else []


def socket_path(folder: Path) -> Path:
    """Return where a consumer's control socket stands."""
    return folder / f"consumer-{os.getpid()}.sock"
