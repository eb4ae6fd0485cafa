"""Which feed a consumer wants to hear, and where: what `--feed` says."""

import re
from dataclasses import dataclass

from powertcp.drivers.dial import format_address, parse_address
from powertcp.drivers.groups import FEED_GROUPS, Group, is_group
from powertcp.errors import ConfigError
from powertcp.potcp.receiver import SILENCE_NS
from powertcp.units import NS_PER_S, Duration

ANYWHERE = "multicast"
JOIN_NS = 2 * NS_PER_S  # the first signature of a feed comes within it
_ID = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedWish:
    """Which feed to hear, and where.

    wanted: its identifier, b"" any. host: subscribe there over TCP; "": hear `groups` on
    `interface`, "" on every one. give_up_ns: how long a feed that is not heard is waited for.
    """

    wanted: bytes = b""
    host: str = ""
    port: int = 0
    groups: tuple[Group, ...] = FEED_GROUPS
    interface: str = ""
    give_up_ns: Duration = 600 * NS_PER_S

    @property
    def where(self) -> str:
        """Where it is heard, as people write it."""
        if self.host:
            return format_address(self.host, self.port)
        return ", ".join(format_address(*group) for group in self.groups)

    def patience_ns(self, for_ns: Duration | None, *, is_heard: bool) -> Duration:
        """Return how long nothing may be heard: who wants little waits no longer for it.

        for_ns: what is wanted in all, None: no end. is_heard: whether the feed was heard before.
        """
        if for_ns is None:
            return self.give_up_ns
        return min(self.give_up_ns, max(for_ns, SILENCE_NS if is_heard else JOIN_NS))


def parse_wish(text: str, *, interface: str = "", give_up_ns: Duration | None = None) -> FeedWish:
    """Parse `[ID@]WHERE` or `ID`; WHERE is HOST[:PORT], GROUP[:PORT] or `multicast`.

    Raises ConfigError with a sentence.
    """
    name, at, where = text.rpartition("@")
    if not at and _ID.fullmatch(text):
        name, at, where = text, "@", ANYWHERE
    if at and not _ID.fullmatch(name):
        raise ConfigError(
            "command line", "--feed", f'a feed is named by 32 hex digits, not "{name}"'
        )
    wanted = bytes.fromhex(name)
    patience = 600 * NS_PER_S if give_up_ns is None else give_up_ns
    if where == ANYWHERE:
        return FeedWish(wanted=wanted, interface=interface, give_up_ns=patience)
    host, port = parse_address(where)
    if not port:
        raise ConfigError("command line", text, "a feed is heard at a port of 1..65535, got 0")
    if is_group(host):
        groups = ((host, port),)
        return FeedWish(wanted=wanted, groups=groups, interface=interface, give_up_ns=patience)
    return FeedWish(wanted=wanted, host=host, port=port, give_up_ns=patience)
