"""The SYNs of a link: each when it is due, none faster than the peer bears, and when to connect."""

from collections.abc import Callable

import trio

from powertcp.drivers.appliance import NO, Appliance, refusal_facts
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.path import Path
from powertcp.drivers.patience import NEVER, OPEN_GAP_NS
from powertcp.drivers.quest import Quest
from powertcp.dve import default_sampling
from powertcp.units import NS_PER_S, Instant


class Asker:
    """Asks for what has no flow yet, on the path that there is.

    current: that path, None while there is none. on_look: called after each look.
    """

    def __init__(
        self,
        quest: Quest,
        via: str | None,
        current: Callable[[], Path | None],
        on_look: Callable[[], None],
        *,
        is_screened: bool = False,
    ) -> None:
        """Ask nobody yet. via: the provider behind a gateway, None: as it chooses.

        is_screened: each is told to a firewall, which connects to it.
        """
        self._quest, self._via, self._is_screened = quest, via, is_screened
        self._current, self._on_look = current, on_look
        self._kick = trio.Event()

    def kick(self) -> None:
        """Look at once which SYN is due."""
        self._kick.set()

    async def run(self) -> None:
        """Send the SYN of each contract when it is due; until cancelled."""
        next_open = 0
        while True:
            now, path = now_ns(), self._current()
            waiting = [one for one in self._quest.wanted if not one.flow and not one.closing]
            if self._quest.is_leaving or path is None:
                waiting = []
            for each in waiting:
                # PTCP-13-02
                if path is not None and each.patience.due <= now >= next_open:
                    self._open(path, each, now)
                    next_open = now + OPEN_GAP_NS
            self._on_look()
            due = [max(each.patience.due, next_open) for each in waiting if not each.flow]
            await self._wait(min(due, default=NEVER))

    async def pause(self) -> None:
        """Wait before the next connection: a little after a cut, longer when nobody answers.

        It is made when a SYN is due: a provider hangs up on who says nothing for T_SYN.
        """
        earliest = self._quest.earliest()
        while wanted := self._quest.wanted:
            due = max(earliest, min(each.patience.due for each in wanted))
            if due <= now_ns():
                return
            await self._wait(due)

    async def _wait(self, until: Instant) -> None:
        self._kick = trio.Event()
        with trio.CancelScope() as scope:
            if until < NEVER:
                scope.deadline = until / NS_PER_S
            await self._kick.wait()

    def _open(self, path: Path, each: Appliance, now: Instant) -> None:
        if path.machine.is_terminated:
            return
        refusal = each.book.refusal() if each.book else None
        if refusal is not None:
            each.say("refused", refusal_facts(refusal) | {"again": False})
            each.finish(NO, refusal)
            return
        ticket, each.ticket = each.ticket, None
        # the path may go with the first octet: the contract knows its flow before that
        path.queue(self._begin, path, each, ticket, now)
        if not each.flow:
            each.ticket = ticket

    def _begin(self, path: Path, each: Appliance, ticket: bytes | None, now: Instant) -> None:
        each.flow = self.ask(path, each, ticket, each.esn_uj, now)
        each.flow_name = f"{path.where}/{each.flow}"

    def ask(
        self, path: Path, each: Appliance, ticket: bytes | None, esn_uj: int, now: Instant
    ) -> int:
        """Queue the SYN of `each`; returns the flow. With a ticket it goes on after `esn_uj`."""
        mark = each.mark if ticket else None
        # a flow that had no receipts goes on without
        is_metered = each.book is not None and (mark is not None or not ticket)
        flow = path.machine.open_flow(
            [each.ask],
            fallback=each.fallback,
            ticket=ticket,
            want_samples=True,
            esn_uj=esn_uj if ticket else 0,
            before=each.profile if ticket else None,
            meter=each.book.meter if each.book and is_metered else None,
            pages=mark,
            # FWRL-2-03
            via=str(path.place) if self._is_screened else self._via,
            now=now,
        )
        desired = each.ask.desired
        wanted_uj = each.quota.headroom_uj(desired, default_sampling(desired))
        path.machine.set_headroom(flow, wanted_uj, now=now)
        return flow
