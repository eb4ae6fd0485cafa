"""One neighbour of a node: what it must hear of, until it has said so, and what is heard of it.

Numbers of messages, acknowledgements, sending again, summary refresh, HELLO and INTEGRITY; what
the messages say is not known here. MPLampS sections 4.1, 4.2, 4.7 and 4.10; RFC 2961.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any, Final, NamedTuple, TypeAlias

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.machine import Buffer, Entropy, Trace
from powertcp.mplamps.rsvp.integrity import INTEGRITY_OCTETS
from powertcp.mplamps.rsvp.liveness import Change, Liveness
from powertcp.mplamps.rsvp.memory import Age, Memory, Replays, StateKey
from powertcp.mplamps.rsvp.messages import (
    Ack,
    Bundle,
    ErrorAnswer,
    Hello,
    Path,
    PathErr,
    PathTear,
    Received,
    Rejected,
    Resv,
    ResvConf,
    ResvErr,
    ResvTear,
    Sendable,
    Srefresh,
)
from powertcp.mplamps.rsvp.objects import MAX_EPOCH, Acknowledgement, MessageId, Sender, Session
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.rsvp.wire import FIRST_TTL, MAX_SENT, decode_message, encode_message
from powertcp.registry import Reason
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant

# MPLA-4.7-03
AGAIN_NS: Final[tuple[Duration, ...]] = (NS_PER_S // 2, NS_PER_S, 2 * NS_PER_S)
ACK_NS: Final[Duration] = 10 * NS_PER_MS
# more than that many acknowledgements do not wait for company
MAX_OWED: Final = 100
# as many go with another message; an Ack takes the rest
MAX_ATTACHED: Final = 8
# a neighbour that says with each HELLO that it has started is believed so often
RESTART_NS: Final[Duration] = NS_PER_S

_HEADER = 8
_LIST_HEAD = 8
_MASK = (1 << 32) - 1

Signal: TypeAlias = Path | Resv | PathErr | ResvErr | PathTear | ResvTear | ResvConf | ErrorAnswer
Heard: TypeAlias = Path | Resv | PathErr | ResvErr | PathTear | ResvTear | ResvConf | Rejected


class Fresh(NamedTuple):
    """A message to be processed, with its Send_TTL."""

    message: Heard
    ttl: int


class Refreshed(NamedTuple):
    """States of the neighbour that it still wants, as they were."""

    keys: tuple[StateKey, ...]


Arrival: TypeAlias = Fresh | Refreshed


def path_key(session: Session, sender: Sender) -> StateKey:
    """Return what a PATH and its tear are about."""
    return "path", session, sender


def resv_key(session: Session) -> StateKey:
    """Return what a RESV is about: all that the session has on a link."""
    return "resv", session


def _tear_key(session: Session, sender: Sender | None) -> StateKey:
    """Return what a ResvTear is about: the RESV, or only what it says of one sender."""
    return resv_key(session) if sender is None else ("resv", session, sender)


_KEYS: Final[dict[type, Callable[[Any], StateKey]]] = {
    Path: lambda message: path_key(message.session, message.sender),
    PathTear: lambda message: path_key(message.session, message.sender),
    Resv: lambda message: resv_key(message.session),
    ResvTear: lambda message: _tear_key(message.session, message.sender),
    PathErr: lambda message: ("patherr", message.session, message.sender),
    ResvErr: lambda message: ("resverr", message.session, message.sender),
    ResvConf: lambda message: ("resvconf", message.session, message.sender),
    ErrorAnswer: lambda message: ("answer", message.kind, message.echoed),
    Rejected: lambda message: ("rejected", message.kind, message.echoed),
}
_STATES: Final = frozenset((Path, Resv))


def key_of(message: Signal | Heard) -> StateKey:
    """Return what a message is about: of two with one key the later one holds."""
    return _KEYS[type(message)](message)


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


class Neighbour:
    """The messages of a node to the neighbour on one link, and back.

    After each call send what `drain` returns, ask `next_change` and `get_timer`.
    """

    def __init__(
        self, address: IPv4Address, settings: Settings, epoch: int, entropy: Entropy, now: Instant,
        trace: Trace | None = None,
    ) -> None:  # fmt: skip
        """Begin; epoch: 24 bits, drawn when the node starts."""
        if not 0 <= epoch <= MAX_EPOCH:
            raise LocalProtocolError(f"epoch {epoch:,}, limit {MAX_EPOCH:,}")
        self.address = address
        self.drops: Counter[str] = Counter()
        self._settings = settings
        self._keys = settings.accepted
        self._epoch = epoch
        self._entropy = entropy
        self._trace = trace
        self._number = 0
        self._sequence = settings.first_sequence
        self._states: dict[StateKey, _Sent] = {}
        self._triggers: dict[StateKey, _Sent] = {}
        self._numbers: dict[int, _Sent] = {}
        # by how often they were sent again: each is in the order of `due`
        self._waiting: tuple[OrderedDict[int, _Sent], ...] = tuple(OrderedDict() for _ in AGAIN_NS)
        self._owed: list[Acknowledgement] = []
        self._ack_at: Instant | None = None
        self._refresh_at: Instant | None = None
        self._all_at: Instant | None = None
        self._all_after: Instant = now
        self._out: list[bytes] = []
        self._memory = Memory(settings.max_states, settings.max_remembered)
        self._replays = Replays()
        self._liveness = Liveness(settings.hello_ns, entropy, now)
        room = MAX_SENT - _HEADER - _LIST_HEAD
        self._summary_size = (room - (INTEGRITY_OCTETS if settings.key else 0)) // 4

    # --- to the neighbour -----------------------------------------------------------------------

    def send(self, message: Signal, now: Instant, *, ttl: int = FIRST_TTL) -> None:
        """Send a message, which has no number and no acknowledgements yet.

        PATH and RESV last: they are refreshed until their tear is sent, or `forget`. A RESV is all
        that the session has here: after the ResvTear of a sender send that of those who are left,
        or `forget` it. A message takes the place of the one before it with the same key.
        Raises LocalProtocolError, nothing changed, for a message that cannot be encoded, and for
        more than max_states states.
        """
        kind = type(message)
        if kind not in _KEYS or message.message_id is not None or message.acks:
            raise LocalProtocolError(f"{kind.__name__} with number or acks, these are set here")
        key = key_of(message)
        is_state = kind in _STATES
        last = self._states.get(key)
        limit = self._settings.max_states
        if is_state and last is None and len(self._states) >= limit:
            raise LocalProtocolError(f"{limit + 1:,} states for {self.address}, limit {limit:,}")
        sent = _Sent(key, message, ttl, is_state=is_state)
        self._transmit(sent, now)
        if last is not None:
            self._settle(last)
            if not is_state:
                del self._states[key]
        if is_state:
            if self._triggers:
                self._overtake(message, key)
            self._states[key] = sent
            if self._refresh_at is None:
                self._refresh_at = self._refresh_due(now)
        elif sent.tries:
            if key in self._triggers:
                self._settle(self._triggers[key])
            self._triggers[key] = sent

    def _overtake(self, message: Signal, key: StateKey) -> None:
        """Send no more the tears of what a PATH or a RESV says anew."""
        over = [key]
        if type(message) is Resv:
            over += [_tear_key(message.session, one.sender) for one in message.circuits]
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

    def resend(self, now: Instant) -> None:
        """Send all states again at once: the link to the neighbour was down."""
        self._send_all(now)

    def drain(self) -> list[bytes]:
        """Return the datagrams to send now, in their order."""
        out, self._out = self._out, []
        return out

    @property
    def states(self) -> int:
        """How many states are refreshed for the neighbour."""
        return len(self._states)

    @property
    def waiting(self) -> int:
        """How many messages wait for their acknowledgement and will be sent again."""
        return sum(map(len, self._waiting))

    # --- from the neighbour -------------------------------------------------------------------------

    def receive(self, data: Buffer, now: Instant) -> list[Arrival]:
        """Take one datagram; return what is to be processed. What is dropped is in `drops`."""
        arrivals: list[Arrival] = []
        try:
            received = decode_message(data, self._keys)
        except DecodeError as error:
            # MPLA-4.1-02, MPLA-4.2-02, MPLA-4.10-01
            self._drop(Reason(error.code).name.lower())
            return arrivals
        if type(received.message) is Bundle:
            # MPLA-4.2-03
            for one in received.message.received:
                self._take(one, now, arrivals)
        else:
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
        liveness = self._liveness
        due = [
            at for at in (self._ack_at, self._refresh_at, self._all_at, liveness.hello_at,
                          liveness.lost_at) if at is not None
        ]  # fmt: skip
        due += [next(iter(waiting.values())).due for waiting in self._waiting if waiting]
        return min(due) if due else None

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`; early calls do nothing."""
        was_alive = self._liveness.is_alive
        hello = self._liveness.handle_timer(now)
        if was_alive and not self._liveness.is_alive:
            self._note("neighbour_lost")
        if hello is not None:
            self._put(hello, FIRST_TTL)
        if self._all_at is not None and now >= self._all_at:
            self._send_all(now)
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
            self._put(self._with_acks(sent.message, None), sent.ttl)
            return
        # MPLA-4.7-03
        may_wait = sent.is_state or len(self._triggers) < settings.max_triggers
        number = (self._number + 1) & _MASK
        mark = MessageId(self._epoch, number, is_ack_desired=may_wait)
        self._put(self._with_acks(sent.message, mark), sent.ttl)
        self._number = sent.number = number
        sent.is_acked = False
        if may_wait:
            sent.tries = 1
            sent.due = now + AGAIN_NS[0]
            self._numbers[number] = self._waiting[0][number] = sent

    def _with_acks(self, message: Signal, mark: MessageId | None) -> Signal:
        acks = tuple(self._owed[:MAX_ATTACHED])
        if mark is None and not acks:
            return message
        return replace(message, message_id=mark, acks=acks)

    def _put(self, message: Sendable, ttl: int) -> None:
        """Encode a message; the acknowledgements that it has are owed no more."""
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
        self._out.append(octets)

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
        last = len(AGAIN_NS)
        # from the last to the first, so that none is sent twice in one call
        for tries in range(last, 0, -1):
            waiting = self._waiting[tries - 1]
            while waiting:
                number, sent = next(iter(waiting.items()))
                if sent.due > now:
                    break
                del waiting[number]
                mark = MessageId(self._epoch, number)
                self._put(self._with_acks(sent.message, mark), sent.ttl)
                if tries < last:
                    sent.tries = tries + 1
                    sent.due = now + AGAIN_NS[tries]
                    self._waiting[tries][number] = sent
                elif not sent.is_state:
                    self._drop("unanswered")
                    del self._numbers[number], self._triggers[sent.key]

    # MPLA-4.7-04
    def _refresh(self, now: Instant) -> None:
        """Refresh all states: by their numbers if reliable, else in full."""
        self._refresh_at = self._refresh_due(now) if self._states else None
        if not self._settings.is_reliable:
            for sent in self._states.values():
                self._put(self._with_acks(sent.message, None), sent.ttl)
            return
        numbers = [sent.number for sent in self._states.values()]
        for at in range(0, len(numbers), self._summary_size):
            part = tuple(numbers[at : at + self._summary_size])
            self._put(Srefresh(epoch=self._epoch, numbers=part), FIRST_TTL)

    def _refresh_due(self, now: Instant) -> Instant:
        """Return when to refresh next: after 0.5 to 1.5 periods, by chance."""
        period = self._settings.refresh_ns
        return now + period // 2 + (period * int.from_bytes(self._entropy(4), "big") >> 32)

    def _send_all(self, now: Instant, *, is_new_instance: bool = True) -> None:
        """Send all states again, or those that were never acknowledged, as if they were new."""
        self._all_at = None
        self._all_after = now + RESTART_NS
        for sent in tuple(self._states.values()):
            if is_new_instance or not sent.is_acked:
                self._send_anew(sent, now)

    def _send_anew(self, sent: _Sent, now: Instant) -> None:
        self._settle(sent)
        self._transmit(sent, now)

    # --- acknowledging --------------------------------------------------------------------------

    def _owe(self, acks: Iterable[Acknowledgement], now: Instant) -> None:
        # MPLA-4.7-03
        self._owed += acks
        if self._owed and self._ack_at is None:
            self._ack_at = now + ACK_NS
        if len(self._owed) >= MAX_OWED:
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Send all acknowledgements that are owed."""
        owed, self._owed, self._ack_at = self._owed, [], None
        for at in range(0, len(owed), MAX_OWED):
            self._put(Ack(acks=tuple(owed[at : at + MAX_OWED])), FIRST_TTL)

    def _acknowledged(self, acks: tuple[Acknowledgement, ...], now: Instant) -> None:
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

    # --- receiving ------------------------------------------------------------------------------

    def _take(self, received: Received, now: Instant, arrivals: list[Arrival]) -> None:
        message, ttl, key_id, sequence = received
        if (
            self._keys is not None and key_id is not None and sequence is not None
            and not self._replays.is_new(key_id, sequence)
        ):  # fmt: skip
            # MPLA-4.10-01
            self._drop("replay")
            return
        match message:
            case Hello():
                self._hello(message, now)
            case Ack(acks=acks):
                self._acknowledged(acks, now)
            case Bundle():
                self._drop("bundle")
            case Srefresh():
                self._acknowledged(message.acks, now)
                self._summary(message, now, arrivals)
            case _:
                if message.acks:
                    self._acknowledged(message.acks, now)
                if message.message_id is None:
                    self._note_tear(message, now)
                    arrivals.append(Fresh(message, ttl))
                else:
                    self._numbered(Fresh(message, ttl), message.message_id, now, arrivals)

    # MPLA-4.7-03
    def _numbered(
        self, fresh: Fresh, mark: MessageId, now: Instant, arrivals: list[Arrival]
    ) -> None:
        """Take a message if its number says that it is new; acknowledge it in any case."""
        memory, number, message = self._memory, mark.number, fresh.message
        if not memory.has_epoch(mark.epoch, now):
            self._drop("former_epoch")
            return
        key = key_of(message)
        is_state = type(message) in _STATES
        age = memory.take_state(key, number, now) if is_state else memory.take(key, number, now)
        if mark.is_ack_desired:
            self._owe((Acknowledgement(mark.epoch, number),), now)
        if age is Age.NEW:
            self._note_senders(message, number, now)
            arrivals.append(fresh)
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
                        self._memory.note(_tear_key(session, circuit.sender), number, now)
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
            self._owe((Acknowledgement(message.message_id.epoch, message.message_id.number),), now)
        keys, unknown = self._memory.named(epoch, message.numbers)
        if keys:
            arrivals.append(Refreshed(keys))
        self._owe([Acknowledgement(epoch, number, is_nack=True) for number in unknown], now)

    def _hello(self, hello: Hello, now: Instant) -> None:
        was_alive = self._liveness.is_alive
        answer, counts, is_start = self._liveness.receive(hello, now)
        if not counts:
            self._drop("instance")
            return
        if answer is not None:
            self._put(answer, FIRST_TTL)
        if is_start:
            # MPLA-4.7-01
            self._note("neighbour_started")
            self._all_at = max(now, self._all_after)
            if now >= self._all_at:
                self._send_all(now)
        elif not was_alive:
            self._note("neighbour_found")
            self._send_all(now, is_new_instance=False)

    # --- notes ----------------------------------------------------------------------------------

    def _drop(self, reason: str) -> None:
        self.drops[reason] += 1
        if self._trace is not None:
            data = {"neighbour": str(self.address), "reason": reason}
            self._trace("mplamps:message_dropped", data)

    def _note(self, what: str) -> None:
        if self._trace is not None:
            self._trace(f"mplamps:{what}", {"neighbour": str(self.address)})
