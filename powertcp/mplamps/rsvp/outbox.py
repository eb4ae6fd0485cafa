"""What goes to one neighbour: messages until they are acknowledged, states until they are torn.

MPLampS section 4.7; RFC 2961 sections 4 to 6. Numbers, sending again, summary refresh, and
acknowledgements of what has come, alone or with what goes anyway.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from powertcp.errors import LocalProtocolError
from powertcp.machine import Entropy
from powertcp.mplamps.rsvp.integrity import INTEGRITY_OCTETS
from powertcp.mplamps.rsvp.keys import KEYS, STATES, Signal, tear_key
from powertcp.mplamps.rsvp.memory import StateKey
from powertcp.mplamps.rsvp.messages import Ack, Resv, Sendable, Srefresh
from powertcp.mplamps.rsvp.objects import MAX_EPOCH, Acknowledgement, MessageId
from powertcp.mplamps.rsvp.post import Post
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.rsvp.wire import FIRST_TTL, MAX_SENT, encode_message
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant

# MPLA-4.7-03
AGAIN_NS: Final[tuple[Duration, ...]] = (NS_PER_S // 2, NS_PER_S, 2 * NS_PER_S)
ACK_NS: Final[Duration] = 10 * NS_PER_MS
# more than that many acknowledgements do not wait for company
MAX_OWED: Final = 100
# as many go with another message; an Ack takes the rest
MAX_ATTACHED: Final = 8

# after the last time a message is waited for as long again as it took to send it
_WAITS: Final = (*AGAIN_NS, 2 * AGAIN_NS[-1])
_HEADER = 8
_LIST_HEAD = 8
_MASK = (1 << 32) - 1


class _Sent:
    """A message that was sent: its number, and when it is sent again unless acknowledged."""

    __slots__ = ("due", "is_acked", "is_state", "key", "message", "number", "tries", "ttl")

    def __init__(self, key: StateKey, message: Signal, ttl: int, *, is_state: bool) -> None:
        self.key = key
        self.message = message
        self.ttl = ttl
        self.is_state = is_state
        self.is_acked = False
        self.number = 0
        self.tries = 0
        self.due: Instant = 0


class Outbox:
    """Messages to one neighbour, in octets. Give time to `handle_timer`."""

    def __init__(
        self, address: IPv4Address, settings: Settings, epoch: int, entropy: Entropy,
        drop: Callable[[str], None], post: Post, link: int,
    ) -> None:  # fmt: skip
        """Begin; epoch: 24 bits. drop: is told of a message that nobody acknowledged.

        post: gets the datagrams, and each deadline as it is set, but by `handle_timer`. link: the
        number of the link.
        """
        if not 0 <= epoch <= MAX_EPOCH:
            raise LocalProtocolError(f"epoch {epoch:,}, limit {MAX_EPOCH:,}")
        self._address = address
        self._settings = settings
        self._epoch = epoch
        self._entropy = entropy
        self._drop = drop
        self.post = post
        self._link = link
        self._number = 0
        self._sequence = settings.first_sequence
        self._states: dict[StateKey, _Sent] = {}
        self._triggers: dict[StateKey, _Sent] = {}
        self._numbers: dict[int, _Sent] = {}
        # by how often they were sent again: each is in the order of `due`
        self._waiting: tuple[OrderedDict[int, _Sent], ...] = (
            tuple(OrderedDict() for _ in _WAITS) if settings.is_reliable else ()
        )
        self._owed: list[Acknowledgement] = []
        self._ack_at: Instant | None = None
        self._refresh_at: Instant | None = None
        room = MAX_SENT - _HEADER - _LIST_HEAD
        self._summary_size = (room - (INTEGRITY_OCTETS if settings.key else 0)) // 4

    def send(self, message: Signal, now: Instant, *, ttl: int = FIRST_TTL) -> None:
        """Send a message, which has no number and no acknowledgements yet.

        PATH and RESV last: they are refreshed until their tear is sent, or `forget`. A RESV is all
        that the session has here: after the ResvTear of a sender send that of those who are left,
        or `forget` it. A message takes the place of the one before it with the same key.
        Raises LocalProtocolError, nothing changed, for a message that cannot be encoded, and for
        more than max_states states.
        """
        kind = type(message)
        if kind not in KEYS or message.message_id is not None or message.acks:
            raise LocalProtocolError(f"{kind.__name__} with number or acks, these are set here")
        key = KEYS[kind](message)
        is_state = kind in STATES
        limit = self._settings.max_states
        if is_state and len(self._states) >= limit and key not in self._states:
            raise LocalProtocolError(f"{limit + 1:,} states for {self._address}, limit {limit:,}")
        sent = _Sent(key, message, ttl, is_state=is_state)
        self._transmit(sent, now)
        if is_state:
            self._hold(sent, now)
            return
        self.forget(key)
        if sent.tries:
            if key in self._triggers:
                self._settle(self._triggers[key])
            self._triggers[key] = sent

    def _hold(self, sent: _Sent, now: Instant) -> None:
        """Keep a state in the place of the one before it, and refresh it from here on."""
        key = sent.key
        last = self._states.setdefault(key, sent)
        if last is not sent:
            self._settle(last)
            self._states[key] = sent
        if self._triggers:
            self._overtake(sent.message, key)
        if self._refresh_at is None:
            self._refresh_at = self._refresh_due(now)
            self.post.wake_at(self._refresh_at)

    def _overtake(self, message: Signal, key: StateKey) -> None:
        """Send no more the tears of what a PATH or a RESV says anew."""
        over = [key]
        if type(message) is Resv:
            over += [tear_key(message.session, one.sender) for one in message.circuits]
        for one in over:
            tear = self._triggers.pop(one, None)
            if tear is not None:
                self._settle(tear)

    def forget(self, key: StateKey) -> None:
        """Refresh and send the state of `key` no more; nothing happens for one that is not held."""
        sent = self._states.pop(key, None)
        if sent is not None:
            self._settle(sent)

    def sent(self, key: StateKey) -> Signal | None:
        """Return the message that holds as the state of `key`, None if there is none."""
        sent = self._states.get(key)
        return None if sent is None else sent.message

    @property
    def states(self) -> int:
        """How many states are refreshed for the neighbour."""
        return len(self._states)

    @property
    def waiting(self) -> int:
        """How many messages wait for their acknowledgement."""
        return sum(map(len, self._waiting))

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline in ns, or None."""
        at = self._ack_at
        if self._refresh_at is not None and (at is None or self._refresh_at < at):
            at = self._refresh_at
        for waiting in self._waiting:
            if waiting:
                due = next(iter(waiting.values())).due
                at = due if at is None or due < at else at
        return at

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`; early calls do nothing."""
        self._send_again(now)
        if self._refresh_at is not None and now >= self._refresh_at:
            self._refresh(now)
        if self._ack_at is not None and now >= self._ack_at:
            self._acknowledge()

    # --- sending --------------------------------------------------------------------------------

    def _transmit(self, sent: _Sent, now: Instant) -> None:
        """Send a message for the first time under a new number, and wait for it if reliable."""
        settings = self._settings
        if not settings.is_reliable:
            if self._owed:
                self.put(self._with_acks(sent.message, None), sent.ttl)
            else:
                self.post.put((self._encoded(sent.message, sent.ttl), self._link))
            return
        # MPLA-4.7-03
        may_wait = sent.is_state or len(self._triggers) < settings.max_triggers
        number = (self._number + 1) & _MASK
        mark = MessageId(self._epoch, number, is_ack_desired=may_wait)
        self.put(self._with_acks(sent.message, mark), sent.ttl)
        self._number = sent.number = number
        sent.is_acked = False
        if may_wait:
            sent.tries = 1
            sent.due = now + AGAIN_NS[0]
            self._numbers[number] = self._waiting[0][number] = sent
            self.post.wake_at(sent.due)

    def _with_acks(self, message: Signal, mark: MessageId | None) -> Signal:
        acks = tuple(self._owed[:MAX_ATTACHED])
        if mark is None and not acks:
            return message
        return replace(message, message_id=mark, acks=acks)

    def put(self, message: Sendable, ttl: int) -> None:
        """Send a message as it is; the acknowledgements that it has are owed no more."""
        acks = () if type(message) is Ack else message.acks
        try:
            octets = self._encoded(message, ttl)
        except LocalProtocolError:
            if not acks:
                raise
            acks = ()
            octets = self._encoded(replace(message, acks=()), ttl)
        if acks:
            del self._owed[: len(acks)]
            if not self._owed:
                self._ack_at = None
        self.post.put((octets, self._link))

    def _encoded(self, message: Sendable, ttl: int) -> bytes:
        key = self._settings.key
        if key is None:
            return encode_message(message, ttl)
        # MPLA-4.10-01
        octets = encode_message(message, ttl, key, self._sequence)
        self._sequence += 1
        return octets

    def _settle(self, sent: _Sent) -> None:
        """Take a message off what waits: it is acknowledged, or another one took its place."""
        if sent.tries:
            self._waiting[sent.tries - 1].pop(sent.number, None)
            self._numbers.pop(sent.number, None)

    # MPLA-4.7-03
    def _send_again(self, now: Instant) -> None:
        # from the last to the first, so that none is sent twice in one call
        for tries in range(len(self._waiting), 0, -1):
            waiting = self._waiting[tries - 1]
            while waiting:
                number, sent = next(iter(waiting.items()))
                if sent.due > now:
                    break
                del waiting[number]
                if tries == len(_WAITS):
                    self._give_up(sent)
                    continue
                mark = MessageId(self._epoch, number)
                self.put(self._with_acks(sent.message, mark), sent.ttl)
                sent.tries = tries + 1
                sent.due = now + _WAITS[tries]
                self._waiting[tries][number] = sent

    def _give_up(self, sent: _Sent) -> None:
        """Wait no more. A state keeps its number: a summary may yet be answered with NACK."""
        self._drop("unanswered")
        if not sent.is_state:
            del self._numbers[sent.number], self._triggers[sent.key]

    # MPLA-4.7-04
    def _refresh(self, now: Instant) -> None:
        """Refresh all states: by their numbers if reliable, else in full."""
        self._refresh_at = self._refresh_due(now) if self._states else None
        if not self._settings.is_reliable:
            for sent in self._states.values():
                self.put(self._with_acks(sent.message, None), sent.ttl)
            return
        numbers = [sent.number for sent in self._states.values()]
        for at in range(0, len(numbers), self._summary_size):
            part = tuple(numbers[at : at + self._summary_size])
            self.put(Srefresh(epoch=self._epoch, numbers=part), FIRST_TTL)

    def _refresh_due(self, now: Instant) -> Instant:
        """Return when to refresh next: after 0.5 to 1.5 periods, by chance."""
        period = self._settings.refresh_ns
        return now + period // 2 + (period * int.from_bytes(self._entropy(4), "big") >> 32)

    def resend(self, now: Instant, *, is_all: bool = True) -> None:
        """Send all states again, or those that were never acknowledged, as if they were new."""
        for sent in tuple(self._states.values()):
            if is_all or not sent.is_acked:
                self._send_anew(sent, now)

    def _send_anew(self, sent: _Sent, now: Instant) -> None:
        self._settle(sent)
        self._transmit(sent, now)

    # --- acknowledging --------------------------------------------------------------------------

    def owe(self, acks: Iterable[Acknowledgement], now: Instant) -> None:
        """Send acknowledgements within 10 ms: with another message, or in an Ack."""
        # MPLA-4.7-03
        self._owed += acks
        if self._owed and self._ack_at is None:
            self._ack_at = now + ACK_NS
            self.post.wake_at(self._ack_at)
        if len(self._owed) >= MAX_OWED:
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Send all acknowledgements that are owed."""
        owed, self._owed, self._ack_at = self._owed, [], None
        for at in range(0, len(owed), MAX_OWED):
            self.put(Ack(acks=tuple(owed[at : at + MAX_OWED])), FIRST_TTL)

    def acknowledged(self, acks: tuple[Acknowledgement, ...], now: Instant) -> None:
        """Take acknowledgements of the neighbour; those of nothing that was sent say nothing."""
        for ack in acks:
            sent = self._numbers.get(ack.number) if ack.epoch == self._epoch else None
            if sent is None:
                continue
            if not ack.is_nack:
                sent.is_acked = True
                self._waiting[sent.tries - 1].pop(ack.number, None)
                if not sent.is_state:
                    del self._numbers[ack.number], self._triggers[sent.key]
            elif sent.is_state:
                # MPLA-4.7-04
                self._send_anew(sent, now)
