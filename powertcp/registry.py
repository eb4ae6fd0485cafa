"""Code points of Power over TCP: segment types, flags, option kinds, reason codes with sentences.

Every number this project defines for the wire stands here once (protocol sections 2.2, 2.3, 15).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from powertcp.errors import LocalProtocolError

DEFAULT_PORT = 3251
MAX_TEXT_OCTETS = 128


class SegmentType(IntEnum):
    """Segment types, protocol section 2.2."""

    CTL = 0x01
    DATA = 0x02
    CREDIT = 0x03
    BLOCKED = 0x04
    READY = 0x05
    RENEG = 0x06
    ANSWER = 0x07
    SHED = 0x08
    TRIP = 0x09
    MAINTAIN = 0x0A
    RECEIPT = 0x0B
    TICKET = 0x0C
    COOKIE = 0x0D
    ALERT = 0x0E
    SEALED = 0x10
    FEED = 0x11


class Flag(IntFlag):
    """Segment flags, TCP's values, protocol section 2.1."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


class OptionKind(IntEnum):
    """In-band option kinds, protocol section 2.3."""

    END = 0
    NOP = 1
    MSP = 2
    PROFILE = 3
    CONTRACT = 4
    REASON = 5
    SAMPLING = 6
    MAINTAIN = 7
    METER = 8
    TARIFF = 9
    ENTITY = 10
    COOKIE = 11
    TICKET = 12
    SEAL = 128
    FEED = 129
    VIA = 130
    EXPERIMENT_1 = 253
    EXPERIMENT_2 = 254


# PTCP-2.3-01
def is_critical(kind: int) -> bool:
    """Return whether an unknown option of this kind refuses its segment."""
    return 128 <= kind <= 252


class Reason(IntEnum):
    """Reason codes, protocol section 15."""

    NO_CAPACITY = 100
    VOLTAGE_RANGE = 101
    CURRENT_RANGE = 102
    WAVEFORM = 103
    TARIFF = 104
    PRIORITY_DENIED = 105
    NOT_OFFERED = 106
    GLARE = 107
    LEASE_RANGE = 108
    SAMPLING = 109
    AUTH_REQUIRED = 200
    KEY_UNKNOWN = 201
    CERT_EXPIRED = 202
    CERT_REVOKED = 203
    WATT_LIMIT = 204
    ENERGY_QUOTA = 205
    POLICY = 206
    IDENTITY_MISMATCH = 207
    SEAL_REQUIRED = 208
    OVER_VOLTAGE = 300
    UNDER_VOLTAGE = 301
    OVER_CURRENT = 302
    SHORT_CIRCUIT = 303
    REVERSE_POWER = 304
    UNSOLICITED = 305
    MAINTAIN_LOST = 306
    LEASE_EXPIRED = 307
    BROWN_OUT = 308
    BUDGET = 309
    RESERVOIR_FULL = 310
    METER_MISMATCH = 400
    CREDIT_OVERRUN = 401
    PAYMENT_REQUIRED = 402
    RECEIPT_INVALID = 403
    RECEIPT_MISSING = 404
    SAMPLE_GAP = 405
    TICKET_INVALID = 406
    BAD_MAGIC = 500
    BAD_VERSION = 501
    BAD_LENGTH = 502
    BAD_OPTION = 503
    UNSUPPORTED_TYPE = 504
    UNSUPPORTED_OPTION = 505
    STATE = 506
    TIMEOUT = 507
    LIMIT = 508
    DECRYPT = 509
    EPOCH = 510
    CHURN = 511
    NORMAL = 600
    DRAINING = 601
    MAINTENANCE = 602
    HANDOVER = 603
    LOCATOR_TEST = 604
    OPERATOR = 605


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """One reason code: unit of value and limit, and the template of its sentence.

    The template may use {value}, {limit}, {free}: numbers with thousands separators.
    """

    code: int
    name: str
    unit: str
    template: str


def table(rows: Iterable[ReasonRow]) -> dict[int, ReasonRow]:
    """Return rows by code. Raises LocalProtocolError for a duplicate code or name."""
    found: dict[int, ReasonRow] = {}
    names: set[str] = set()
    for row in rows:
        if row.code in found or row.name in names:
            raise LocalProtocolError(f"reason code {row.code} {row.name} is registered twice")
        found[row.code] = row
        names.add(row.name)
    return found


def _row(reason: Reason, unit: str, template: str) -> ReasonRow:
    return ReasonRow(int(reason), reason.name, unit, template)


REASONS = table(
    [
        _row(Reason.NO_CAPACITY, "mW", "asked {value} mW, {limit} mW free"),
        _row(Reason.VOLTAGE_RANGE, "mV", "asked {value} mV, supplied is {limit} mV"),
        _row(Reason.CURRENT_RANGE, "mA", "asked {value} mA, the limit is {limit} mA"),
        _row(
            Reason.WAVEFORM,
            "mV",
            "waveform, phases or frequency differ: {value} mV, limit {limit} mV",
        ),
        _row(Reason.TARIFF, "", "the tariff is not acceptable: {value}, limit {limit}"),
        _row(
            Reason.PRIORITY_DENIED,
            "",
            "priority {value} is not allowed, best is {limit}",
        ),
        _row(Reason.NOT_OFFERED, "mW", "wanted {value} mW, offered were {limit} mW"),
        _row(Reason.GLARE, "", "contract {value} met proposal {limit} of the other side"),
        _row(Reason.LEASE_RANGE, "s", "lease of {value} s, the limit is {limit} s"),
        _row(Reason.SAMPLING, "Hz", "sampling at {value} Hz, the limit is {limit} Hz"),
        _row(Reason.AUTH_REQUIRED, "", "an identity is required"),
        _row(Reason.KEY_UNKNOWN, "", "the key is not known"),
        _row(
            Reason.CERT_EXPIRED,
            "",
            "the certificate begins or ends at {value} s, it is {limit} s of Unix time",
        ),
        _row(Reason.CERT_REVOKED, "", "the certificate is revoked"),
        _row(Reason.WATT_LIMIT, "mW", "asked {value} mW, this peer may have {limit} mW"),
        _row(Reason.ENERGY_QUOTA, "uJ", "used {value} uJ of a quota of {limit} uJ"),
        _row(Reason.POLICY, "", "refused by policy, rule line {value}"),
        _row(Reason.IDENTITY_MISMATCH, "", "the identity is not the one of the contract"),
        _row(Reason.SEAL_REQUIRED, "", "only sealed power is taken"),
        _row(Reason.OVER_VOLTAGE, "mV", "measured {value} mV, the limit is {limit} mV"),
        _row(
            Reason.UNDER_VOLTAGE,
            "mV",
            "measured {value} mV, at least {limit} mV is due",
        ),
        _row(Reason.OVER_CURRENT, "mA", "measured {value} mA, the limit is {limit} mA"),
        _row(Reason.SHORT_CIRCUIT, "mA", "measured {value} mA, the limit is {limit} mA"),
        _row(
            Reason.REVERSE_POWER,
            "uJ",
            "a block of {value} uJ, at least {limit} uJ is due",
        ),
        _row(Reason.UNSOLICITED, "uJ", "{value} uJ arrived, {limit} uJ were asked for"),
        _row(
            Reason.MAINTAIN_LOST,
            "ms",
            "no answer for {value} ms, the limit is {limit} ms",
        ),
        _row(Reason.LEASE_EXPIRED, "s", "lease over after {value} s, it was {limit} s"),
        _row(Reason.BROWN_OUT, "mV", "voltage at {value} mV, the least is {limit} mV"),
        _row(Reason.BUDGET, "mW", "asked {value} mW, {limit} mW can be held"),
        _row(Reason.RESERVOIR_FULL, "uJ", "{value} uJ offered, room for {limit} uJ"),
        _row(
            Reason.METER_MISMATCH,
            "uJ",
            "the source states {value} uJ, the sink counts {limit} uJ",
        ),
        _row(
            Reason.CREDIT_OVERRUN,
            "uJ",
            "a block ends at {value} uJ, credit ends at {limit} uJ",
        ),
        _row(Reason.PAYMENT_REQUIRED, "", "payment is required: {value}, limit {limit}"),
        _row(Reason.RECEIPT_INVALID, "", "receipt {value} is not valid"),
        _row(
            Reason.RECEIPT_MISSING,
            "s",
            "no receipt for {value} s, the limit is {limit} s",
        ),
        _row(Reason.SAMPLE_GAP, "", "sample {value} came, {limit} was next"),
        _row(Reason.TICKET_INVALID, "", "the ticket is not valid: rule {value}"),
        _row(Reason.BAD_MAGIC, "", "magic {value}, must be {limit}"),
        _row(Reason.BAD_VERSION, "", "version {value}, must be {limit}"),
        _row(Reason.BAD_LENGTH, "", "length {value}, must be {limit}"),
        _row(Reason.BAD_OPTION, "", "malformed option at octet {value}"),
        _row(Reason.UNSUPPORTED_TYPE, "", "segment type {value} is not supported"),
        _row(Reason.UNSUPPORTED_OPTION, "", "critical option {value} is not supported"),
        _row(Reason.STATE, "", "segment type {value} is not allowed in state {limit}"),
        _row(Reason.TIMEOUT, "ms", "nothing came for {value} ms, the limit is {limit} ms"),
        _row(Reason.LIMIT, "", "{value} is over the limit of {limit}"),
        _row(Reason.DECRYPT, "", "a sealed segment does not open"),
        _row(Reason.EPOCH, "", "epoch {value}, current is {limit}"),
        _row(
            Reason.CHURN,
            "",
            "{value} openings and resets in a second, the limit is {limit}",
        ),
        _row(Reason.NORMAL, "", "closed"),
        _row(Reason.DRAINING, "", "the provider is draining"),
        _row(Reason.MAINTENANCE, "", "maintenance"),
        _row(Reason.HANDOVER, "", "the flow continues on another path"),
        _row(Reason.LOCATOR_TEST, "", "a locator test is running"),
        _row(Reason.OPERATOR, "", "by order of the operator"),
    ]
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was refused, shed, tripped or closed; also the value of the REASON option.

    code: reason code, unknown ones are kept. value, limit: in the unit of the code, signed 64 bit.
    retry_ms: when to try again, 0 = do not. text: what the peer wrote, for people only.
    rule, requirement: the deciding rule and requirement id, never sent.
    """

    code: int
    value: int = 0
    limit: int = 0
    retry_ms: int = 0
    text: str = ""
    rule: str = ""
    requirement: str = ""

    @property
    def name(self) -> str:
        """The registered name of the code, or REASON_<number>."""
        row = REASONS.get(self.code)
        return row.name if row else f"REASON_{self.code}"

    @property
    def unit(self) -> str:
        """The unit of value and limit, "" when they have none."""
        row = REASONS.get(self.code)
        return row.unit if row else ""

    def sentence(self) -> str:
        """Return "100 NO_CAPACITY: asked 60,000 mW, 14,200 mW free; retry in 5 s"."""
        row = REASONS.get(self.code)
        template = row.template if row else "value {value}, limit {limit}"
        said = template.format(value=f"{self.value:,}", limit=f"{self.limit:,}")
        if self.code == Reason.POLICY and not self.value:
            # no line of a file: people or a contract decided
            said = "refused by policy"
        if self.rule:
            said += f" ({self.rule})"
        if self.retry_ms:
            seconds, ms = divmod(self.retry_ms, 1000)
            said += f"; retry in {seconds} s" if not ms else f"; retry in {self.retry_ms:,} ms"
        return f"{self.code} {self.name}: {said}"
