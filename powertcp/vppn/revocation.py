"""Revocation lists: the certificates and keys that an issuer takes back, signed each day anew.

```
powertcp-krl 1
issuer ed25519:BASE64
issued 2026-11-21T08:00:00Z
expires 2026-11-22T08:00:00Z
serial 4711
key x25519:BASE64
signature BASE64
```

Serials rise, then keys rise by their text; each stands once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from powertcp.errors import LocalProtocolError
from powertcp.registry import Reason, Refusal
from powertcp.vppn.certificate import Certificate
from powertcp.vppn.identity import Algorithm, PublicKey, SecretKey
from powertcp.vppn.limits import format_moment, parse_moment
from powertcp.vppn.signed import (
    MOMENT_FORM,
    SignedText,
    parse_issuer,
    parse_serial,
    parse_version,
    sign_lines,
    wrong_validity,
)

# some 15,000 keys or 70,000 serials; read whole before anything is known about it
MAX_OCTETS: Final = 1 << 20
MAX_VALIDITY_S: Final = 86_400
PREFIX: Final = b"powertcp krl"
MAGIC: Final = "powertcp-krl"
_HEAD_LINES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """What an issuer took back. file: its name in reasons. serials, keys: sorted."""

    file: str
    issuer: PublicKey
    issued_s: int
    expires_s: int
    serials: tuple[int, ...] = ()
    keys: tuple[PublicKey, ...] = ()

    def line_of_serial(self, serial: int) -> int:
        """Return the line on which a serial stands, 0 where it does not."""
        return self.serials.index(serial) + _HEAD_LINES + 1 if serial in self.serials else 0

    def line_of_key(self, key: PublicKey | None) -> int:
        """Return the line on which a key stands, 0 where it does not."""
        before = _HEAD_LINES + 1 + len(self.serials)
        return self.keys.index(key) + before if key is not None and key in self.keys else 0


def parse_revocations(octets: bytes, file: str) -> RevocationList:
    """Read a list and verify its signature by the issuer it names. Raises InvalidText.

    Whether it has expired is for the caller to judge.
    """
    # VPPN-5-05
    text = SignedText(octets, file, MAX_OCTETS)
    text.take(MAGIC, parse_version, "1")
    issuer = text.take("issuer", parse_issuer, "ed25519:BASE64")
    issued_s = text.take("issued", parse_moment, MOMENT_FORM)
    expires_s = text.take("expires", parse_moment, MOMENT_FORM)
    if wrong := wrong_validity(issued_s, expires_s, MAX_VALIDITY_S):
        raise text.fault(len("expires ") + 1, wrong)
    serials: list[int] = []
    while text.is_next("serial"):
        serial = text.take("serial", parse_serial, "NUMBER")
        if serials and serial <= serials[-1]:
            raise text.fault(len("serial ") + 1, f"serials rise, and {serial} is not the greatest")
        serials.append(serial)
    keys: list[PublicKey] = []
    while text.is_next("key"):
        key = text.take("key", PublicKey.parse, "x25519:BASE64")
        if keys and str(key) <= str(keys[-1]):
            raise text.fault(len("key ") + 1, f"keys rise by their text, and {key} is not the last")
        keys.append(key)
    text.finish(issuer, PREFIX)
    return RevocationList(
        file=file,
        issuer=issuer,
        issued_s=issued_s,
        expires_s=expires_s,
        serials=tuple(serials),
        keys=tuple(keys),
    )


def issue_revocations(
    key: SecretKey,
    issued_s: int,
    expires_s: int,
    serials: Iterable[int],
    keys: Iterable[PublicKey],
) -> bytes:
    """Return the signed text of a list; `serials` and `keys` in any order.

    Raises LocalProtocolError for a validity that `parse_revocations` would refuse, for a key that
    is none of nodes or meters to sign with, and for more than it can hold.
    """
    if key.algorithm is not Algorithm.ED25519:
        raise LocalProtocolError(f"a key of {key.algorithm} signs nothing")
    if wrong := wrong_validity(issued_s, expires_s, MAX_VALIDITY_S):
        raise LocalProtocolError(f"the revocation list is not valid: {wrong}")
    lines = [
        f"{MAGIC} 1",
        f"issuer {key.public}",
        f"issued {format_moment(issued_s)}",
        f"expires {format_moment(expires_s)}",
        *(f"serial {serial}" for serial in sorted(set(serials))),
        *(f"key {text}" for text in sorted({str(each) for each in keys})),
    ]
    octets = sign_lines(lines, key, PREFIX)
    if len(octets) > MAX_OCTETS:
        text = f"the revocation list has {len(octets):,} octets, at most {MAX_OCTETS:,}"
        raise LocalProtocolError(f"{text}: begin a new issuer key")
    return octets


@dataclass(frozen=True, slots=True)
class Revocations:
    """Every list that a node was given.

    lists: those that could be read. unreadable: names of the files that could not. is_open: accept
    the certificates of an issuer whose list has expired or cannot be read.
    """

    lists: tuple[RevocationList, ...] = ()
    unreadable: tuple[str, ...] = ()
    is_open: bool = False

    def judge_key(self, key: PublicKey, issuers: Iterable[PublicKey]) -> Refusal | None:
        """Return 203 for a key that one of `issuers` took back, also by a list that has expired."""
        trusted = set(issuers)
        for each in self.lists:
            # VPPN-5-05
            if each.issuer in trusted and (line := each.line_of_key(key)):
                return Refusal(Reason.CERT_REVOKED, rule=f"{each.file}:{line} key {key}")
        return None

    def judge(self, certificate: Certificate, now_s: int) -> Refusal | None:
        """Return why a certificate is not accepted: 203 taken back, 206 for want of a fresh list."""
        own = [each for each in self.lists if each.issuer == certificate.issuer]
        for each in own:
            if line := each.line_of_serial(certificate.serial):
                rule = f"{each.file}:{line} serial {certificate.serial}"
                return Refusal(Reason.CERT_REVOKED, rule=rule)
        # VPPN-5-05
        if self.is_open or any(now_s < each.expires_s for each in own):
            return None
        if own:
            last = max(own, key=lambda each: each.expires_s)
            rule = f"{last.file}:4 the list expired {format_moment(last.expires_s)}"
            return Refusal(Reason.POLICY, _HEAD_LINES, rule=f"{rule}, krl-fail=closed")
        if self.unreadable:
            names = ", ".join(self.unreadable)
            rule = f"{names}:1 the list cannot be read, krl-fail=closed"
            return Refusal(Reason.POLICY, 1, rule=rule)
        return None
