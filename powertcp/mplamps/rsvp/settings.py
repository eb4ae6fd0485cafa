"""How a node signals to its neighbours: periods, keys and limits; the same for all of its links.

MPLampS sections 4.7 and 4.10. Durations in ns.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from powertcp.mplamps.rsvp.integrity import Key
from powertcp.units import NS_PER_MS, NS_PER_S, Duration

# MPLA-4.7-02
REFRESH_NS: Final = 30 * NS_PER_S
# MPLA-4.7-05
HELLO_NS: Final = 300 * NS_PER_MS
# section 4.10: circuits of a node; each is one PATH or one RESV for a neighbour, and one of it
MAX_STATES: Final = 100_000
# all circuits torn at once
MAX_TRIGGERS: Final = MAX_STATES
# and all of those torn by the neighbour
MAX_REMEMBERED: Final = MAX_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a node signals.

    is_reliable: messages are numbered, acknowledged and refreshed by their numbers. hello_ns: None
    for no HELLO. key: messages are sent under it. keys: secrets of the neighbours by their ids;
    with any key a message without a right INTEGRITY is dropped. first_sequence: greater than any
    number of INTEGRITY that this node has used before under `key`; wall clock in ns will do.
    """

    is_reliable: bool = True
    refresh_ns: Duration = REFRESH_NS
    hello_ns: Duration | None = None
    key: Key | None = None
    keys: Mapping[int, bytes] = field(default_factory=dict)
    first_sequence: int = 1
    max_states: int = MAX_STATES
    max_triggers: int = MAX_TRIGGERS
    max_remembered: int = MAX_REMEMBERED

    @property
    def refresh_ms(self) -> int:
        """What TIME_VALUES says, in ms."""
        return self.refresh_ns // NS_PER_MS

    @property
    def accepted(self) -> Mapping[int, bytes] | None:
        """Secrets by their ids under which messages are taken; None if no key is needed."""
        # MPLA-4.10-01
        own = {} if self.key is None else {self.key.key_id: self.key.secret}
        return {**own, **self.keys} or None
