"""authorized_watts: who may draw what, one line each; what no line allows is refused.

```
key    x25519:BASE64  max-power=65W voltage=5V-20V quota=2kWh/day from=10.0.0.0/8   alice@lamp
issuer ed25519:BASE64 groups=staff max-power=200W                                   employer
guest  max-power=10W voltage=5V-12V priority=9 quota=50Wh/day                       hot-spot
clear  deny
```
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from powertcp.errors import Fault, InvalidText, nearest
from powertcp.vppn.faults import Token, WordError, check_name, decode_lines, shown, tokens
from powertcp.vppn.identity import Algorithm, PublicKey
from powertcp.vppn.limits import WORDS, Limits, parse_groups, parse_words

# some 8,000 lines; read whole before anything is known about it
MAX_OCTETS: Final = 1 << 20
DENY: Final = "deny"


class Kind(StrEnum):
    """Whom a line is about, the most specific first."""

    KEY = "key"
    ISSUER = "issuer"
    GUEST = "guest"
    CLEAR = "clear"


_ALGORITHMS: Final = {Kind.KEY: Algorithm.X25519, Kind.ISSUER: Algorithm.ED25519}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line. key: of a node or an issuer. groups: of which a certificate needs one, () any."""

    line: int
    kind: Kind
    key: PublicKey | None
    groups: tuple[str, ...]
    limits: Limits
    is_denied: bool
    name: str


@dataclass(frozen=True, slots=True)
class AuthorizedWatts:
    """A valid file. file: its name in reasons. rules: in its order."""

    file: str
    rules: tuple[Rule, ...]

    def about(self, kind: Kind, key: PublicKey | None = None) -> list[Rule]:
        """Return the lines of one kind; those of a key or an issuer that name `key`."""
        return [rule for rule in self.rules if rule.kind is kind and rule.key == key]

    def place(self, rule: Rule) -> str:
        """Return file, line and what the line is about: where a decision stands."""
        return f"{self.file}:{rule.line} {rule.kind}"


def parse_authorized(octets: bytes, file: str) -> AuthorizedWatts:
    """Read a file; `file` is its name in errors. Raises InvalidText with a fault for each bad line."""
    rules: list[Rule] = []
    faults: list[Fault] = []
    for number, line in enumerate(decode_lines(octets, file, MAX_OCTETS), 1):
        if words := tokens(line):
            try:
                rules.append(_rule(words, number))
            except WordError as error:
                faults.append(Fault(number, error.column, str(error)))
    if faults:
        # VPPN-5-01
        raise InvalidText(file, faults)
    return AuthorizedWatts(file, tuple(rules))


def _rule(words: list[Token], line: int) -> Rule:
    head, rest = words[0], words[1:]
    end = words[-1].column + len(words[-1].text)
    if head.text not in list(Kind):
        text = f"a line begins with key, issuer, guest or clear, got {shown(head.text)}"
        raise WordError(head.column, text + nearest(head.text, Kind))
    kind = Kind(head.text)
    key = None
    if algorithm := _ALGORITHMS.get(kind):
        if not rest:
            raise WordError(end, f"{kind} needs a key: {algorithm}:BASE64")
        key = _key(rest.pop(0), algorithm)
    name = _name(rest.pop()) if _has_name(rest) else ""
    is_denied = [token.text for token in rest] == [DENY]
    if not rest:
        text = f"a line says what is allowed, for example max-power=65W, or {DENY}"
        raise WordError(end, text)
    more = ("groups",) if kind is Kind.ISSUER else ()
    limits, others = (Limits(), {}) if is_denied else _limits(rest, more)
    groups = _groups(others.get("groups"), rest)
    # VPPN-5-01
    if not is_denied and limits == Limits():
        text = f"it sets no limit: say what is allowed, for example max-power=65W, or {DENY}"
        raise WordError(end, text)
    return Rule(
        line=line,
        kind=kind,
        key=key,
        groups=groups,
        limits=limits,
        is_denied=is_denied,
        name=name,
    )


def _key(token: Token, algorithm: Algorithm) -> PublicKey:
    try:
        return PublicKey.parse(token.text, algorithm)
    except ValueError as error:
        raise WordError(token.column, str(error)) from error


def _has_name(words: list[Token]) -> bool:
    """Return whether the last word is a name: not a limit, nor one without its value, nor deny."""
    last = words[-1].text if words else "="
    return "=" not in last and last not in (*WORDS, "groups", DENY)


def _name(token: Token) -> str:
    try:
        return check_name(token.text, "a name")
    except ValueError as error:
        raise WordError(token.column, str(error)) from error


def _limits(words: list[Token], more: tuple[str, ...]) -> tuple[Limits, dict[str, str]]:
    for token in words:
        if token.text == DENY:
            raise WordError(token.column, f"{DENY} stands alone: nothing else is allowed then")
        if "=" not in token.text and token.text not in (*WORDS, *more):
            text = f"a word is NAME=VALUE, only the last one is a name, got {shown(token.text)}"
            raise WordError(token.column, text + nearest(token.text, [*WORDS, *more]))
    return parse_words(words, more)


def _groups(text: str | None, words: list[Token]) -> tuple[str, ...]:
    if text is None:
        return ()
    try:
        return parse_groups(text)
    except ValueError as error:
        column = next(token.column for token in words if token.text.startswith("groups="))
        raise WordError(column + len("groups="), f"groups: {error}") from error
