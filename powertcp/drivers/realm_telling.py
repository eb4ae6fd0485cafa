"""A provider tells another one of its realm what it holds. DPDP section 10."""

import logging
from typing import Final

import trio

from powertcp.drivers.realm_members import BEAT_S, SILENT_S, Flows, Member, Told
from powertcp.drivers.realm_wire import RealmWire
from powertcp.errors import DecodeError, WireBroken
from powertcp.potcp.realm import MAX_KEYS, Beat, Gone, Moved, Seen, Took

FIRST_RETRY_S: Final = 0.2
LAST_RETRY_S: Final = 5.0
_log = logging.getLogger("realm")


class Teller:
    """Dials another provider again and again, and tells it what there is."""

    def __init__(self, flows: Flows, member: Member, number: int, link_key: bytes) -> None:
        """Tell `member` of `flows`. number: our own place. link_key: of the realm."""
        self._flows, self._member = flows, member
        self._number, self._link_key = number, link_key

    async def run(self) -> None:
        """Dial and tell until cancelled."""
        member, pause_s = self._member, FIRST_RETRY_S
        while True:
            try:
                with trio.fail_after(SILENT_S):
                    stream = await trio.open_tcp_stream(member.host, member.port)
                wire = RealmWire(stream, str(member))
                try:
                    await wire.greet(self._link_key, is_dialer=True)
                    pause_s = FIRST_RETRY_S
                    await self._tell(wire)
                finally:
                    member.is_dialed = member.is_told = False
                    wire.close()
            except* (OSError, trio.TooSlowError, WireBroken, DecodeError) as errors:
                if not member.has_warned:
                    _log.warning("%s: %s; it is tried again", member, first_of(errors))
                    member.has_warned = True
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_RETRY_S)

    # DPDP-10-07
    async def _tell(self, wire: RealmWire) -> None:
        """Tell all that we hold, then what changes, as long as the connection stands."""
        member = self._member
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear_answers, wire)
            # DPDP-10-06: again on each new connection
            member.unsaid = set(member.moved)
            member.changed, member.gone = set(self._flows.live()), set()
            member.told.clear()
            member.is_dialed = True
            await wire.send(Beat(member=self._number))
            beat_at = trio.current_time()
            while True:
                member.news = trio.Event()
                await self._tell_news(wire)
                if trio.current_time() >= beat_at:
                    await self._tell_registers(wire)
                    await wire.send(Beat(member=self._number))
                    beat_at = trio.current_time() + BEAT_S
                    if not member.is_told:
                        member.is_told, member.has_warned = True, False
                        _log.info("%s: told of our flows", member)
                with trio.move_on_at(beat_at):
                    await member.news.wait()

    async def _tell_news(self, wire: RealmWire) -> None:
        member = self._member
        while member.unsaid:
            key = member.unsaid.pop()
            if key in member.moved:
                await wire.send(Moved(key=key, esn_uj=member.moved[key][0]))
        gone, member.gone = sorted(member.gone), set()
        for first in range(0, len(gone), MAX_KEYS):
            await wire.send(Gone(keys=tuple(gone[first : first + MAX_KEYS])))
        while member.changed:
            key = member.changed.pop()
            tenure, share = self._flows.tenure(key), self._flows.share(key)
            if tenure is not None and share is not None:
                member.told[key] = Told.of(tenure)
                await wire.send(share)

    async def _tell_registers(self, wire: RealmWire) -> None:
        member = self._member
        found: list[tuple[int, int, int]] = []
        over: list[int] = []
        for key, told in member.told.items():
            tenure = self._flows.tenure(key)
            if tenure is None:
                over.append(key)  # it is being closed
            elif told.sim != (now := Told.of(tenure)).sim:
                member.change(key)
            elif told != now:
                found.append((key, tenure.acked_uj, tenure.sent_uj))
        for key, acked_uj, sent_uj in found:
            member.told[key] = Told(acked_uj, sent_uj, member.told[key].sim)
        for key in over:
            member.end(key)
        for first in range(0, len(found), MAX_KEYS):
            await wire.send(Seen(flows=tuple(found[first : first + MAX_KEYS])))

    async def _hear_answers(self, wire: RealmWire) -> None:
        while True:
            match await wire.receive():
                case Took(key=key):
                    self._member.moved.pop(key, None)
                case _:
                    pass


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group, however deep."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
