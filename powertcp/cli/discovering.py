"""What `powertcp discover` does once its words are read: look, and say what was found."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import trio

from powertcp.cli.adverts import SHORT, facts, lay_out, row, table
from powertcp.cli.judging import SEED, lines, measured, read_need
from powertcp.dpdp.advert import TYPE_TCP
from powertcp.dpdp.engine import Browser
from powertcp.dpdp.entry import Entry, Standing
from powertcp.dpdp.events import AdvertChanged, AdvertGone, AdvertSeen, Downgrade, IdClash
from powertcp.dpdp.known import KeyKind, KnownProvider, format_key
from powertcp.dpdp.select import Candidate, Need
from powertcp.dpdp.trust import Level, Trust
from powertcp.dpdp.txt import show_text
from powertcp.drivers.acquaintances import acquaint, read_acquaintances
from powertcp.drivers.daemon import now_ns, state_folder, unix_offset_ns
from powertcp.drivers.discovery import Discovery, open_discovery
from powertcp.drivers.distance import own_hosts
from powertcp.drivers.needs import judge
from powertcp.errors import ConfigError
from powertcp.machine import Event
from powertcp.units import NS_PER_S

DONE, NO, NOTHING = 0, 1, 3
QUIET_S = (
    1.5  # nothing new for so long: a responder may wait 1.35 s with an answer (RFC 6762, section 6)
)


def discover(given: argparse.Namespace, *, timeout_s: float) -> int:
    """Do what the words say; returns the exit status. Raises ConfigError, HostError."""
    folder = state_folder(os.environ, "consumer", given.state_dir or "")
    known = read_acquaintances(folder)
    try:
        trust = Trust.make(Level(given.trust) if given.trust else None, known=known)
    except ValueError as error:
        raise ConfigError("command line", "--trust", str(error)) from error
    search = Search(given, trust, timeout_s, read_need(given))
    trio.run(search.run)
    if given.pin:
        return pin(given.pin, search.entries, folder, as_json=given.json)
    return search.report()


class Search:
    """One look at the link. entries: what was found, whatever is wrong with it."""

    def __init__(
        self, given: argparse.Namespace, trust: Trust, timeout_s: float, need: Need | None
    ) -> None:
        """Look as the words say, for at most `timeout_s`. need: what is to be found."""
        self._given, self._trust, self._timeout_s, self._need = given, trust, timeout_s, need
        self.entries: list[Entry] = []
        self._judged: list[Candidate] = []
        self._shown: set[str] = set()
        self._fault = ""
        self._took_s = 0.0
        self._links: list[str] = []

    async def run(self) -> None:
        """Look until nothing new comes."""
        given = self._given
        browser = Browser(now_ns(), trust=self._trust, unix_offset_ns=unix_offset_ns())
        began = trio.current_time()
        async with open_discovery(
            given.interface or (), browser=browser, is_passive=given.passive
        ) as found:
            self._links = [each.name for each in found.mdns.chosen]
            with trio.move_on_after(self._timeout_s):
                await self._listen(found, began)
            self.entries, self._fault = found.snapshot(), found.fault
            if self._need is not None:
                own = own_hosts(found.mdns.chosen)
                shown = [each for each in self.entries if self._is_shown(each)]
                self._judged = await measured(
                    shown, self._need, self._trust, own, is_passive=given.passive
                )

    async def _listen(self, found: Discovery, began: float) -> None:
        """Take events until it is enough."""
        while True:
            is_early = bool(found.snapshot()) and not self._given.watch
            wait_s = QUIET_S if is_early and not self._given.passive else float("inf")
            with trio.move_on_after(wait_s) as quiet:
                event = await found.events.receive()
                self._took_s = trio.current_time() - began
                if self._given.watch:
                    self._tell(event)
                if self._given.one and self._usable(found.snapshot()):
                    return
            if quiet.cancelled_caught and not found.is_asking:
                return

    # -- what is said ----------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        """Print one change."""
        match event:
            case AdvertSeen(entry=entry) | AdvertChanged(entry=entry):
                self._follow(entry, is_there=self._is_wanted(entry))
            case AdvertGone(entry=entry):
                self._follow(entry, is_there=False)
            case Downgrade(entry=entry, text=text):
                self._say("downgrade", entry, text)
            case IdClash(entry=entry, other=other):
                self._say("id-clash", entry, f"also {show_text(other.service.instance)}")
            case _:
                pass

    def _follow(self, entry: Entry, *, is_there: bool) -> None:
        """Say what became of an entry among those that are shown."""
        was_there = entry.key in self._shown
        if is_there:
            self._shown.add(entry.key)
            self._say("changed" if was_there else "new", entry, "")
        elif was_there:
            self._shown.discard(entry.key)
            self._say("gone", entry, "")

    def _say(self, what: str, entry: Entry, more: str) -> None:
        if self._given.json:
            print(json.dumps({"event": what, **facts(entry), "more": more}), flush=True)
            return
        clock = time.strftime("%H:%M:%S")
        print(f"{clock} {what:<9} {lay_out([row(entry)])[0]}  {more}".rstrip(), flush=True)

    def report(self) -> int:
        """Print what was found; returns the exit status."""
        if self._given.why and self._judged:
            print("\n".join(lines(self._judged, as_json=self._given.json)))
            return DONE
        entries = self.entries
        if self._need is not None:
            # only those that would do, the best one first
            entries = [each.entry for each in self._judged if each.merits is not None]
        wanted = [entry for entry in entries if self._is_wanted(entry)]
        if self._given.one:
            wanted = self._usable(wanted)[:1]
        if self._given.watch:
            return DONE if wanted else NOTHING
        if not wanted:
            print(f"powertcp discover: {self._nothing()}", file=sys.stderr)
            return NOTHING
        if self._given.json:
            for entry in wanted:
                print(json.dumps(facts(entry)))
            return DONE
        print("\n".join(table(wanted)))
        print(self._summary())
        return DONE

    def _summary(self) -> str:
        providers = sum(entry.service.kind == TYPE_TCP for entry in self.entries)
        feeds = len(self.entries) - providers
        links = len(self._links)
        return (
            f"{_count(providers, 'provider')}, {_count(feeds, 'feed')} in {self._took_s:.1f} s"
            f" ({_count(links, 'interface')})"
        )

    def _nothing(self) -> str:
        """Say that nothing was found, and what to do then."""
        if self._fault:
            return f"nothing found: {self._fault}"
        if not self._links:
            return "nothing found: no interface is up"
        where = ", ".join(self._links)
        hidden = len(self.entries)
        if hidden:
            more = "--why says why" if self._need is not None else f"--all shows {hidden} more"
            return f"nothing that can be used on {where}; {more}"
        return (
            f"nothing found on {where}; Wi-Fi with client isolation and container bridges hide"
            " providers: powertcp consumer --connect HOST does without"
        )

    def _is_wanted(self, entry: Entry) -> bool:
        """Return whether an entry is shown."""
        return self._is_shown(entry) and (self._given.all or _is_good(entry))

    def _is_shown(self, entry: Entry) -> bool:
        return entry.service.kind == TYPE_TCP or bool(self._given.feeds)

    def _usable(self, entries: Sequence[Entry]) -> list[Entry]:
        usable = [entry for entry in entries if self._is_wanted(entry) and _is_good(entry)]
        if self._need is None:
            return usable
        judged = judge(usable, self._need, self._trust, SEED)
        return [each.entry for each in judged if each.merits is not None]


def _is_good(entry: Entry) -> bool:
    is_full = entry.advert is not None and not entry.advert.cap_mw
    return entry.standing is Standing.GOOD and not is_full


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


# ---- pins ---------------------------------------------------------------------------------------


def pin(wanted: str, entries: Sequence[Entry], folder: Path, *, as_json: bool) -> int:
    """Believe the provider whose id begins with `wanted` from now on; returns the exit status."""
    digits = wanted.lower().removeprefix("id:")
    found = {
        entry.advert.id: entry
        for entry in entries
        if entry.advert is not None and digits and entry.advert.id.hex().startswith(digits)
    }
    if not found:
        print(f"powertcp discover: no provider {wanted} on this link", file=sys.stderr)
        return NOTHING
    if len(found) > 1:
        said = f"{len(found)} providers begin with {wanted}: give more digits"
        raise ConfigError("command line", "--pin", said)
    (provider, entry) = next(iter(found.items()))
    if entry.standing is not Standing.GOOD:
        said = f"{digits[:SHORT]} is {entry.standing}: {entry.fault or entry.why}"
        print(f"powertcp discover: {show_text(said)}", file=sys.stderr)
        return NO
    advert = entry.advert
    key = advert.exchange_key if advert is not None else None
    now_s = time.time_ns() // NS_PER_S
    met = KnownProvider(
        id=provider, first_s=now_s, last_s=now_s, name=entry.service.instance,
        exchange_key=key, is_pinned=True,
    )  # fmt: skip
    acquaint(folder, met)
    letters = format_key(key, KeyKind.X25519) if key else ""
    if as_json:
        pinned = {
            "event": "pinned",
            "id": provider.hex(),
            "name": met.name,
            "exchange_key": letters,
        }
        print(json.dumps(pinned))
        return DONE
    print(f'pinned id:{provider.hex()} "{show_text(met.name)}"')
    print(f"  {letters or 'no key: it is believed by its id alone'}")
    if letters:
        print("  compare it with what powertcp vppn show prints at the provider")
    return DONE
