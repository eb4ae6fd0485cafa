"""One neighbour of a node: what it must hear of, until it has said so, and what is heard of it.

Which messages are new, which are late, which are replays; HELLO and INTEGRITY. What the messages
say is not known here. MPLampS sections 4.1, 4.2, 4.7 and 4.10; RFC 2961.
"""

from collections import Counter
from ipaddress import IPv4Address
from typing import Final, NamedTuple, TypeAlias

from powertcp.errors import DecodeError
from powertcp.machine import Buffer, Entropy, Trace
from powertcp.mplamps.rsvp.keys import (
    STATES,
    Heard,
    Signal,
    key_of,
    path_key,
    resv_key,
    tear_key,
)
from powertcp.mplamps.rsvp.liveness import Change, Liveness
from powertcp.mplamps.rsvp.memory import Age, Memory, Replays, StateKey
from powertcp.mplamps.rsvp.messages import (
    Ack,
    Bundle,
    Hello,
    Path,
    PathTear,
    Received,
    Resv,
    ResvTear,
    Srefresh,
)
from powertcp.mplamps.rsvp.objects import Acknowledgement, MessageId
from powertcp.mplamps.rsvp.outbox import Outbox
from powertcp.mplamps.rsvp.post import Post
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.rsvp.wire import FIRST_TTL, decode_message
from powertcp.registry import Reason
from powertcp.units import NS_PER_S, Duration, Instant

# a neighbour that says with each HELLO that it has started is believed so often
RESTART_NS: Final[Duration] = NS_PER_S


class Refreshed(NamedTuple):
    """States of the neighbour that it still wants, as they were."""

    keys: tuple[StateKey, ...]


Arrival: TypeAlias = Received | Refreshed
"""A message to be processed, or what lives on."""


class Neighbour:
    """The messages of a node to the neighbour on one link, and back.

    After each call send what is in the post, and ask `next_change`.
    """

    def __init__(
        self, address: IPv4Address, settings: Settings, epoch: int, entropy: Entropy, now: Instant,
        post: Post, link: int, trace: Trace | None = None,
    ) -> None:  # fmt: skip
        """Begin; epoch: 24 bits, drawn when the node starts.

        post, link: as `Outbox` takes them; ask `get_timer` for the first deadline.
        """
        self.address = address
        self.drops: Counter[str] = Counter()
        self._trace = trace
        self._keys = settings.accepted
        self.post = post
        self._outbox = Outbox(address, settings, epoch, entropy, self._drop, self.post, link)
        self._memory = Memory(settings.max_states, settings.max_remembered)
        self._replays = Replays()
        self._liveness = Liveness(settings.hello_ns, entropy, now)
        self.changes = self._liveness.changes
        """What `next_change` drains."""
        self._resend_at: Instant | None = None
        self._resend_after: Instant = now

    # --- to the neighbour -----------------------------------------------------------------------

    def send(self, message: Signal, now: Instant, *, ttl: int = FIRST_TTL) -> None:
        """Send a message, which has no number and no acknowledgements yet.

        PATH and RESV last: they are refreshed until their tear is sent, or `forget`. A RESV is all
        that the session has here: after the ResvTear of a sender send that of those who are left,
        or `forget` it. A message takes the place of the one before it with the same key.
        Raises LocalProtocolError, nothing changed, for a message that cannot be encoded, and for
        more than max_states states.
        """
        self._outbox.send(message, now, ttl=ttl)

    def forget(self, key: StateKey) -> None:
        """Refresh and send the state of `key` no more; nothing happens for one that is not held."""
        self._outbox.forget(key)

    def sent(self, key: StateKey) -> Signal | None:
        """Return the message that holds as the state of `key`, None if there is none."""
        return self._outbox.sent(key)

    def resend(self, now: Instant) -> None:
        """Send all states again at once: the link to the neighbour was down."""
        self._resend_at = None
        self._resend_after = now + RESTART_NS
        self._outbox.resend(now)

    @property
    def states(self) -> int:
        """How many states are refreshed for the neighbour."""
        return self._outbox.states

    @property
    def waiting(self) -> int:
        """How many messages wait for their acknowledgement."""
        return self._outbox.waiting

    # --- from the neighbour ---------------------------------------------------------------------

    def receive(self, data: Buffer, now: Instant) -> list[Arrival]:
        """Take one datagram; return what is to be processed. What is dropped is in `drops`."""
        try:
            received = decode_message(data, self._keys)
        except DecodeError as error:
            # MPLA-4.1-02, MPLA-4.2-02, MPLA-4.10-01
            self._drop(Reason(error.code).name.lower())
            return []
        arrivals: list[Arrival] = []
        self._take(received, now, arrivals)
        return arrivals

    def unlearn(self, key: StateKey, now: Instant) -> None:
        """Take note that a state of the neighbour was removed here without a tear of it.

        It timed out, or was refused. A summary that names it is answered with NACK.
        """
        self._memory.remove(key, now)

    @property
    def is_alive(self) -> bool:
        """Whether the neighbour is there; without HELLO it is believed to be."""
        return self._liveness.is_alive

    def next_change(self) -> Change | None:
        """Drain one change of `is_alive` or of the instance of the neighbour."""
        return self._liveness.next_change()

    # --- time -----------------------------------------------------------------------------------

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline in ns, or None."""
        liveness, at = self._liveness, self._outbox.get_timer()
        for other in (self._resend_at, liveness.hello_at, liveness.lost_at):
            if other is not None and (at is None or other < at):
                at = other
        return at

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`; early calls do nothing."""
        was_alive = self._liveness.is_alive
        hello = self._liveness.handle_timer(now)
        if was_alive and not self._liveness.is_alive:
            self._note("neighbour_lost")
        if hello is not None:
            self._outbox.put(hello, FIRST_TTL)
        if self._resend_at is not None and now >= self._resend_at:
            self.resend(now)
        self._outbox.handle_timer(now)

    # --- receiving ------------------------------------------------------------------------------

    def _take(self, received: Received, now: Instant, arrivals: list[Arrival]) -> None:
        message, _, key_id, sequence = received
        if (
            self._keys is not None and key_id is not None and sequence is not None
            and not self._replays.is_new(key_id, sequence)
        ):  # fmt: skip
            # MPLA-4.10-01
            self._drop("replay")
            return
        if isinstance(message, Bundle):
            # MPLA-4.2-03
            for one in message.received:
                self._take(one, now, arrivals)
            return
        if message.acks:
            self._outbox.acknowledged(message.acks, now)
        if isinstance(message, (Path, Resv)) and message.message_id is None:
            arrivals.append(received)
            return
        match message:
            case Hello():
                self._hello(message, now)
            case Srefresh():
                self._summary(message, now, arrivals)
            case Ack():
                pass
            case _ if message.message_id is None:
                self._note_tear(message, now)
                arrivals.append(received)
            case _:
                self._numbered(received, message, message.message_id, now, arrivals)

    # MPLA-4.7-03
    def _numbered(
        self, received: Received, message: Heard, mark: MessageId, now: Instant,
        arrivals: list[Arrival],
    ) -> None:  # fmt: skip
        """Take a message if its number says that it is new; acknowledge it in any case."""
        memory, number = self._memory, mark.number
        before = memory.epoch
        if not memory.has_epoch(mark.epoch, now):
            self._drop("former_epoch")
            return
        if before not in (None, mark.epoch):
            self._restarted(now)
        key = key_of(message)
        is_state = type(message) in STATES
        age = memory.take_state(key, number, now) if is_state else memory.take(key, number, now)
        if mark.is_ack_desired:
            self._outbox.owe((Acknowledgement(mark.epoch, number),), now)
        if age is Age.NEW:
            self._note_senders(message, number, now)
            arrivals.append(received)
        elif age is Age.SAME and is_state:
            arrivals.append(Refreshed((key,)))
        else:
            self._drop("old_number")

    def _note_senders(self, message: Heard, number: int, now: Instant) -> None:
        """Remember what RESV and ResvTear of one session say of the same senders."""
        match message:
            case Resv(session=session, circuits=circuits):
                for circuit in circuits:
                    if circuit.sender is not None:
                        self._memory.note(tear_key(session, circuit.sender), number, now)
            case ResvTear(session=session):
                self._memory.take(resv_key(session), number, now)

    def _note_tear(self, message: Heard, now: Instant) -> None:
        """Forget the number of what is torn by a message without one."""
        match message:
            case PathTear(session=session, sender=sender):
                self._memory.remove(path_key(session, sender), now)
            case ResvTear(session=session):
                self._memory.remove(resv_key(session), now)

    # MPLA-4.7-04
    def _summary(self, message: Srefresh, now: Instant, arrivals: list[Arrival]) -> None:
        epoch = message.epoch
        if message.message_id is not None and message.message_id.is_ack_desired:
            self._outbox.owe(
                (Acknowledgement(message.message_id.epoch, message.message_id.number),), now
            )
        keys, unknown = self._memory.named(epoch, message.numbers)
        if keys:
            arrivals.append(Refreshed(keys))
        self._outbox.owe([Acknowledgement(epoch, number, is_nack=True) for number in unknown], now)

    def _hello(self, hello: Hello, now: Instant) -> None:
        was_alive = self._liveness.is_alive
        answer, counts, is_start = self._liveness.receive(hello, now)
        if self._liveness.lost_at is not None:
            self.post.wake_at(self._liveness.lost_at)
        if not counts:
            self._drop("instance")
            return
        if answer is not None:
            self._outbox.put(answer, FIRST_TTL)
        if is_start:
            self._restarted(now)
        elif not was_alive:
            self._note("neighbour_found")
            self._outbox.resend(now, is_all=False)

    def _restarted(self, now: Instant) -> None:
        """Send all states again: the neighbour has lost what it knew."""
        # MPLA-4.7-01
        self._note("neighbour_started")
        self._resend_at = max(now, self._resend_after)
        self.post.wake_at(self._resend_at)
        if now >= self._resend_at:
            self.resend(now)

    # --- notes ----------------------------------------------------------------------------------

    def _drop(self, reason: str) -> None:
        self.drops[reason] += 1
        if self._trace is not None:
            data = {"neighbour": str(self.address), "reason": reason}
            self._trace("mplamps:message_dropped", data)

    def _note(self, what: str) -> None:
        if self._trace is not None:
            self._trace(f"mplamps:{what}", {"neighbour": str(self.address)})
