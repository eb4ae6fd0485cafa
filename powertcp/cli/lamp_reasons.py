"""Why lamps are dark: what became of the newest circuit of each, and who said so, with numbers.

A lamp is dark that has no circuit which was granted and has not ended. What a trace tells of the
state of a lamp counts more than what its messages look like.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from powertcp.cli.lamp_lines import error_values, printable, said_at
from powertcp.cli.lamp_rungs import CircuitSaid, Rung
from powertcp.cli.lamp_sightings import Told
from powertcp.mplamps import rsvp
from powertcp.mplamps.power import PowerObject
from powertcp.units import Instant

# more lamps than any grid of ours has; those beyond are not looked at
MAX_LAMPS: Final = 1 << 20
# circuits of a lamp that are remembered: the newest ones
MAX_CIRCUITS: Final = 16
_LIT: Final = frozenset(("signalled", "lit"))


class State(Enum):
    """What became of a circuit, as a sentence about the node that did it."""

    ASKED = "no answer: the PATH was last seen on its way from {source} to {target}"
    GRANTED = "granted"
    REFUSED = "{sentence}"
    SWITCHED_OFF = "switched off: the lamp sent PathTear"
    WITHDRAWN = "the source took the power back: {source} sent ResvTear"


@dataclass(slots=True)
class _Circuit:
    """The newest of a circuit: state, since when, by which message."""

    state: State
    rung: Rung
    since_ns: Instant


@dataclass(slots=True)
class _Lamp:
    """What is known of one lamp."""

    circuits: OrderedDict[tuple[rsvp.Session, int], _Circuit] = field(default_factory=OrderedDict)
    told: dict[object, Told] = field(default_factory=dict)
    refusal: Rung | None = None
    is_seen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a lamp is dark, since when (None: it never asked), and why."""

    lamp: str
    is_dark: bool
    since_ns: Instant | None
    sentence: str
    rung: Rung | None = None

    def line(self, begin_ns: Instant) -> str:
        """Return a line for people."""
        state = "dark" if self.is_dark else "on"
        since = "" if self.since_ns is None else said_at(self.since_ns - begin_ns).strip()
        return printable(f"{self.lamp:<12}  {state:<4}  {since:>16}  {self.sentence}")

    def values(self) -> dict[str, object]:
        """Return it as JSON has it."""
        values: dict[str, object] = {
            "lamp": self.lamp, "is_dark": self.is_dark, "since_ns": self.since_ns,
            "sentence": self.sentence,
        }  # fmt: skip
        rung = self.rung
        if rung is None or rung.error is None:
            return values
        values |= error_values(rung.error, rung.refuser)
        power = rung.circuits[0].power
        return values | (_numbers(power) if power else {})


def _numbers(power: PowerObject) -> dict[str, object]:
    left = power.second.power_mw if power.second else None
    return {"asked_mw": power.profile.power_mw, "left_mw": left}


class Reasons:
    """Follows every lamp by the messages about it."""

    def __init__(self) -> None:
        """Begin with no lamp."""
        self._lamps: dict[str, _Lamp] = {}

    def expect(self, lamp: str) -> None:
        """Note a lamp of a topology, which may never ask."""
        self._lamp(lamp)

    def take(self, rung: Rung) -> None:
        """Take one message of RSVP; policemen are answered for by their edge LSR."""
        match rung.seen.said:
            case rsvp.Path() as said:
                self._asked(rung, said)
            case rsvp.Resv() as said:
                for one in rung.circuits:
                    self._granted(rung, said.session, one)
            case rsvp.PathErr() as said if not said.error.flags & rsvp.IN_PLACE:
                self._set(rung, said.session, rung.circuits[0], State.REFUSED)
            case rsvp.PathTear() as said if rung.seen.source == rung.circuits[0].lamp:
                self._set(rung, said.session, rung.circuits[0], State.SWITCHED_OFF)
            case rsvp.ResvTear() as said if self._is_there(rung, rung.circuits[0]):
                self._set(rung, said.session, rung.circuits[0], State.WITHDRAWN)

    def hear(self, told: Told) -> None:
        """Take an event of a trace: only the changes of lamps count."""
        node = told.data.get("node")
        if told.name != "mplamps:lamp_changed" or not isinstance(node, str):
            return
        lamp = self._lamp(node)
        tunnel = told.data.get("tunnel")
        if lamp is not None and isinstance(tunnel, int):
            if tunnel not in lamp.told and len(lamp.told) == MAX_CIRCUITS:
                lamp.told.pop(next(iter(lamp.told)))
            lamp.told[tunnel] = told

    def verdicts(self) -> Iterator[Verdict]:
        """Yield what there is to say of each lamp, in the order in which they were met."""
        for name, lamp in self._lamps.items():
            yield _verdict_of_trace(name, lamp) if lamp.told else _verdict(name, lamp)

    # ---- messages -------------------------------------------------------------------------------

    def _lamp(self, name: str) -> _Lamp | None:
        lamp = self._lamps.get(name)
        if lamp is None and len(self._lamps) < MAX_LAMPS:
            lamp = self._lamps[name] = _Lamp()
        return lamp

    def _is_there(self, rung: Rung, one: CircuitSaid) -> bool:
        """Whether a message comes to its lamp, or the link of the lamp is not in the capture."""
        lamp = self._lamps.get(one.lamp)
        return rung.seen.target == one.lamp or (lamp is not None and not lamp.is_seen)

    def _asked(self, rung: Rung, said: rsvp.Path) -> None:
        one = rung.circuits[0]
        lamp = self._lamp(one.lamp)
        if lamp is None:
            return
        lamp.is_seen |= rung.seen.source == one.lamp
        circuit = lamp.circuits.get((said.session, said.sender.lsp))
        # a refresh, or the same PATH again
        if circuit is None or circuit.state is not State.GRANTED:
            self._set(rung, said.session, one, State.ASKED)

    def _granted(self, rung: Rung, session: rsvp.Session, one: CircuitSaid) -> None:
        if one.lamp:
            if self._is_there(rung, one):
                self._set(rung, session, one, State.GRANTED)
            return
        # one RESV for all lamps of a session: it is that of the lamp to which it goes
        lamp = self._lamps.get(rung.seen.target)
        for shared, lsp in list(lamp.circuits) if lamp else ():
            if shared == session:
                whose = CircuitSaid(lamp=rung.seen.target, lsp=lsp)
                self._set(rung, session, whose, State.GRANTED)

    def _set(self, rung: Rung, session: rsvp.Session, one: CircuitSaid, state: State) -> None:
        lamp = self._lamp(one.lamp)
        if lamp is None or one.lsp is None:
            return
        key = session, one.lsp
        old = lamp.circuits.get(key)
        at_ns = rung.seen.at_ns
        since_ns = old.since_ns if old and old.state is state else at_ns
        lamp.circuits[key] = _Circuit(state, rung, since_ns)
        lamp.circuits.move_to_end(key)
        if len(lamp.circuits) > MAX_CIRCUITS:
            lamp.circuits.popitem(last=False)
        if state is State.REFUSED:
            lamp.refusal = rung


def _verdict(name: str, lamp: _Lamp) -> Verdict:
    """Judge by messages: the newest circuit says why."""
    lit = [one for one in lamp.circuits.values() if one.state is State.GRANTED]
    if lit:
        since_ns = min(one.since_ns for one in lit)
        return Verdict(lamp=name, is_dark=False, since_ns=since_ns, sentence="granted")
    if not lamp.circuits:
        text = "it never asked: there is no PATH of it"
        return Verdict(lamp=name, is_dark=True, since_ns=None, sentence=text)
    newest = next(reversed(lamp.circuits.values()))
    rung = newest.rung
    said = newest.state.value.format(
        source=rung.seen.source, target=rung.seen.target, sentence=rung.sentence
    )
    if newest.state is State.ASKED and lamp.refusal is not None:
        said, rung = f"{said}; before that {lamp.refusal.sentence}", lamp.refusal
    return Verdict(lamp=name, is_dark=True, since_ns=newest.since_ns, sentence=said, rung=rung)


def _verdict_of_trace(name: str, lamp: _Lamp) -> Verdict:
    """Judge by what the lamp told, and let the message of refusal say why where there is one."""
    lit = [told for told in lamp.told.values() if told.data.get("state") in _LIT]
    if lit:
        since_ns = min(told.at_ns for told in lit)
        return Verdict(lamp=name, is_dark=False, since_ns=since_ns, sentence="granted")
    newest = max(lamp.told.values(), key=lambda told: told.at_ns)
    by_messages = _verdict(name, lamp)
    said = newest.data.get("sentence")
    if by_messages.is_dark and lamp.circuits:
        sentence, rung = by_messages.sentence, by_messages.rung
    else:
        state = newest.data.get("state")
        sentence, rung = str(said or f"the lamp tells that it is {state}"), None
    return Verdict(
        lamp=name, is_dark=True, since_ns=newest.at_ns, sentence=sentence, rung=rung
    )  # fmt: skip
