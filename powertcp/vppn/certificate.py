"""Employer certificates: what an issuer vouches for, for one shift.

```
powertcp-cert 1
serial 4711
subject x25519:BASE64
name alice@lamp
groups staff
limits max-power=65W voltage=5V-20V quota=2kWh/day
not-before 2026-11-21T08:00:00Z
not-after 2026-11-21T16:00:00Z
issuer ed25519:BASE64
signature BASE64
```

Lines stand in exactly this order; `groups` and `limits` are left out when there are none.
"""

from dataclasses import dataclass
from typing import Final

from powertcp.errors import LocalProtocolError
from powertcp.vppn.faults import WordError, check_name, tokens
from powertcp.vppn.identity import PublicKey, SecretKey
from powertcp.vppn.limits import (
    Limits,
    format_moment,
    parse_groups,
    parse_moment,
    parse_words,
)
from powertcp.vppn.signed import (
    MOMENT_FORM,
    SignedText,
    parse_issuer,
    parse_serial,
    parse_version,
    sign_lines,
    wrong_validity,
)

# it stands in a message of the handshake
MAX_OCTETS: Final = 1024
# a lost device is a matter of days, not of years
MAX_VALIDITY_S: Final = 30 * 86_400
DEFAULT_VALIDITY_S: Final = 8 * 3_600
PREFIX: Final = b"powertcp cert"
MAGIC: Final = "powertcp-cert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What an issuer signed. subject: of whom. Valid from not_before_s on, before not_after_s.

    limits_line: number of its line, 0 where there is none.
    """

    serial: int
    subject: PublicKey
    name: str
    groups: tuple[str, ...]
    limits: Limits
    not_before_s: int
    not_after_s: int
    issuer: PublicKey
    limits_line: int = 0


def parse_certificate(octets: bytes, file: str = "certificate") -> Certificate:
    """Read a certificate and verify its signature by the issuer it names.

    Whether that issuer may vouch for anything, and the time, are for the caller to judge.
    Raises InvalidText: every octet has one lawful place, and any altered one is found.
    """
    # VPPN-5-04
    text = SignedText(octets, file, MAX_OCTETS)
    text.take(MAGIC, parse_version, "1")
    serial = text.take("serial", parse_serial, "NUMBER")
    subject = text.take("subject", PublicKey.parse, "x25519:BASE64")
    name = text.take("name", lambda value: check_name(value, "a name"), "NAME")
    groups = text.take("groups", parse_groups, "NAME,..") if text.is_next("groups") else ()
    limits, limits_line = Limits(), 0
    if text.is_next("limits"):
        limits = _limits(text)
        limits_line = text.line
    not_before_s = text.take("not-before", parse_moment, MOMENT_FORM)
    not_after_s = text.take("not-after", parse_moment, MOMENT_FORM)
    if wrong := wrong_validity(not_before_s, not_after_s, MAX_VALIDITY_S):
        raise text.fault(len("not-after ") + 1, wrong)
    issuer = text.take("issuer", parse_issuer, "ed25519:BASE64")
    # VPPN-5-04
    text.finish(issuer, PREFIX)
    return Certificate(
        serial=serial,
        subject=subject,
        name=name,
        groups=groups,
        limits=limits,
        not_before_s=not_before_s,
        not_after_s=not_after_s,
        issuer=issuer,
        limits_line=limits_line,
    )


def _limits(text: SignedText) -> Limits:
    """Read the line of the limits; a fault names the column of the word."""
    written = text.take("limits", str, "NAME=VALUE ..")
    before = len("limits ")
    if "#" in written:
        raise text.fault(before + written.index("#") + 1, "a certificate has no comments")
    try:
        return parse_words(tokens(written))[0]
    except WordError as error:
        raise text.fault(before + error.column, str(error)) from error


def issue_certificate(certificate: Certificate, key: SecretKey) -> bytes:
    """Return the text of `certificate`, signed by `key`, whose public half its issuer is.

    Raises LocalProtocolError for another key, and for what `parse_certificate` would refuse.
    """
    if key.public != certificate.issuer:
        raise LocalProtocolError(f"{key.public} cannot sign for {certificate.issuer}")
    if wrong := wrong_validity(certificate.not_before_s, certificate.not_after_s, MAX_VALIDITY_S):
        raise LocalProtocolError(f"the certificate is not valid: {wrong}")
    limits = certificate.limits.format()
    lines = [
        f"{MAGIC} 1",
        f"serial {certificate.serial}",
        f"subject {certificate.subject}",
        f"name {certificate.name}",
        *([f"groups {','.join(certificate.groups)}"] if certificate.groups else []),
        *([f"limits {limits}"] if limits else []),
        f"not-before {format_moment(certificate.not_before_s)}",
        f"not-after {format_moment(certificate.not_after_s)}",
        f"issuer {certificate.issuer}",
    ]
    octets = sign_lines(lines, key, PREFIX)
    if len(octets) > MAX_OCTETS:
        text = f"the certificate has {len(octets):,} octets, at most {MAX_OCTETS:,}"
        raise LocalProtocolError(f"{text}: fewer groups or limits")
    return octets
