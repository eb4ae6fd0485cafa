"""What a node remembers of the numbers of a neighbour: those of messages, and those of INTEGRITY.

A number says whether a message is new, is the last one again, or is late. MPLampS section 4.7;
RFC 2961 section 4.5, RFC 2747 section 4.2.
"""

from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum, auto
from typing import Final, TypeAlias

from powertcp.units import NS_PER_S, Duration, Instant

StateKey: TypeAlias = tuple[Hashable, ...]
"""What a message is about: kind, session and often sender; see `path_key` and `resv_key`."""

# longer than a message is sent again, so that one that is late does not raise what is removed
REMEMBERED_NS: Final[Duration] = 10 * NS_PER_S
# restarts of a neighbour within REMEMBERED_NS whose late messages are known
MAX_FORMER: Final = 8
# RFC 2747: messages of a neighbour may overtake each other by so many
REPLAY_WINDOW: Final = 64

_HALF = 1 << 31
_MASK = (1 << 32) - 1


class Age(Enum):
    """How a message stands to those before it with the same key."""

    NEW = auto()
    SAME = auto()
    OLD = auto()


class Memory:
    """The last number of each key, of one epoch of a neighbour."""

    def __init__(self, max_states: int, max_remembered: int) -> None:
        """Begin without an epoch."""
        self._max_states = max_states
        self._max_remembered = max_remembered
        self._epoch: int | None = None
        self._former: list[tuple[int, Instant]] = []
        # in the order in which they were refreshed
        self._last: OrderedDict[StateKey, int] = OrderedDict()
        self._keys: dict[int, StateKey] = {}
        self._removed: OrderedDict[StateKey, tuple[int, Instant]] = OrderedDict()

    @property
    def states(self) -> int:
        """How many states of the neighbour have a number here."""
        return len(self._last)

    @property
    def removed(self) -> int:
        """How many numbers of what is removed are remembered."""
        return len(self._removed)

    @property
    def epoch(self) -> int | None:
        """The epoch of the neighbour, None if it has sent no number yet."""
        return self._epoch

    def has_epoch(self, epoch: int, now: Instant) -> bool:
        """Return whether messages of `epoch` count; a new one replaces the last, which is over."""
        if epoch == self._epoch:
            return True
        while self._former and self._former[0][1] <= now:
            self._former.pop(0)
        if any(epoch == former for former, _ in self._former):
            return False
        if self._epoch is not None:
            self._former.append((self._epoch, now + REMEMBERED_NS))
            del self._former[:-MAX_FORMER]
        self._epoch = epoch
        self._last.clear()
        self._keys.clear()
        self._removed.clear()
        return True

    # MPLA-4.7-03
    def take_state(self, key: StateKey, number: int, now: Instant) -> Age:
        """Say how old a PATH or a RESV of this epoch is, and remember its number if it is new.

        With max_states states that which was refreshed longest ago is forgotten: a summary that
        names it is answered with NACK.
        """
        age = self._age(key, number, now)
        if age is Age.OLD:
            return age
        last = self._last.get(key)
        if age is Age.NEW:
            if last is not None:
                self._unname(last, key)
            else:
                self._removed.pop(key, None)
            self._last[key] = number
            self._keys[number] = key
            if len(self._last) > self._max_states:
                oldest, its_number = self._last.popitem(last=False)
                self._unname(its_number, oldest)
        if last is not None:
            self._last.move_to_end(key)
        return age

    # MPLA-4.7-03
    def take(self, key: StateKey, number: int, now: Instant) -> Age:
        """Say how old any other message is; if it is new its number is remembered for 10 s.

        It ends the state of the same key. One that is not new is not remembered.
        """
        age = self._age(key, number, now)
        if age is Age.NEW:
            self.note(key, number, now)
        return age

    def _age(self, key: StateKey, number: int, now: Instant) -> Age:
        last = self._last.get(key)
        is_state = last is not None
        if last is None:
            gone = self._removed.get(key)
            if gone is None or gone[1] <= now:
                return Age.NEW
            last = gone[0]
        ahead = (number - last) & _MASK
        if not ahead:
            return Age.SAME if is_state else Age.OLD
        return Age.OLD if ahead >= _HALF else Age.NEW

    def note(self, key: StateKey, number: int, now: Instant) -> None:
        """Remember for 10 s that this was said of `key`, whose state is no more."""
        last = self._last.pop(key, None)
        if last is not None:
            self._unname(last, key)
        removed = self._removed
        removed[key] = (number, now + REMEMBERED_NS)
        removed.move_to_end(key)
        while removed:
            oldest = next(iter(removed))
            if removed[oldest][1] > now and len(removed) <= self._max_remembered:
                break
            del removed[oldest]

    def remove(self, key: StateKey, now: Instant) -> None:
        """Take note that the state of `key` is gone; nothing happens if there is none."""
        last = self._last.get(key)
        if last is not None:
            self.note(key, last, now)

    def named(
        self, epoch: int, numbers: tuple[int, ...]
    ) -> tuple[tuple[StateKey, ...], tuple[int, ...]]:
        """Return the keys of the states with these numbers, and the numbers of none."""
        if epoch != self._epoch:
            return (), numbers
        keys = self._keys
        found = tuple(keys[number] for number in numbers if number in keys)
        for key in found:
            self._last.move_to_end(key)
        return found, tuple(number for number in numbers if number not in keys)

    def _unname(self, number: int, key: StateKey) -> None:
        """Forget to whom a number belongs, unless the neighbour gave it to another state too."""
        if self._keys.get(number) == key:
            del self._keys[number]


class Replays:
    """Which numbers of INTEGRITY were there, by key: the greatest, and the 64 up to it."""

    def __init__(self) -> None:
        """Begin with no number."""
        self._seen: dict[int, tuple[int, int]] = {}

    # MPLA-4.10-01
    def is_new(self, key_id: int, sequence: int) -> bool:
        """Return whether the number was never there under this key, which was verified before."""
        if key_id not in self._seen:
            self._seen[key_id] = (sequence, 1)
            return True
        greatest, seen = self._seen[key_id]
        ahead = sequence - greatest
        if ahead > 0:
            kept = (seen << ahead if ahead < REPLAY_WINDOW else 0) | 1
            self._seen[key_id] = (sequence, kept & ((1 << REPLAY_WINDOW) - 1))
            return True
        bit = 1 << -ahead if -ahead < REPLAY_WINDOW else 0
        if not bit or seen & bit:
            return False
        self._seen[key_id] = (greatest, seen | bit)
        return True
