"""What the neighbours of a node share: the datagrams that go out, and the earliest deadline."""

from powertcp.units import Instant


class Post:
    """Datagrams of a node in their order, each with the number of its link.

    timer: the earliest deadline in ns, or None; it may be that nothing is due at it.
    """

    __slots__ = ("_datagrams", "put", "timer")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._datagrams: list[tuple[bytes, int]] = []
        self.put = self._datagrams.append
        self.timer: Instant | None = None

    def wake_at(self, at: Instant) -> None:
        """Note a deadline."""
        if self.timer is None or at < self.timer:
            self.timer = at

    def drain(self) -> list[tuple[bytes, int]]:
        """Return the datagrams to send now."""
        if not self._datagrams:
            return []
        datagrams = self._datagrams.copy()
        self._datagrams.clear()
        return datagrams
