"""Writes the test vectors of the protocol draft: rfc/vectors/protocol/*.hex and *.json.

Good vectors are built by the construct schema from the values below; what is refused, and why, is
stated here by hand and must agree with the schema. `--check` writes nothing and exits 1 when a
file is missing, stale or made by nobody.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from powertcp.wire.schema import Rejected
from powertcp.wire.values import build, parse
from tools.feed_vectors import bad_feeds, good_feeds
from tools.receipt_vectors import bad_receipts, good_receipts
from tools.vector_files import run

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "rfc" / "vectors" / "protocol"
Values = dict[str, Any]


class Vector(NamedTuple):
    """One vector: octets, what they are, what they say or why they are refused."""

    name: str
    layout: str
    octets: bytes
    requirement: tuple[str, ...]
    reject: int = 0
    value: int = 0
    canonical: bool = True


# --- values -----------------------------------------------------------------------------------

ALL_ONES = 2**64 - 1
KEY = bytes(range(32)).hex()
UUID = "6ba7b8109dad11d180b400c04fd430c8"


def profile(kind: str, mv: int, ma: int, **fields: object) -> Values:
    """Return the values of a profile; fields left out are 0, DC, ONE."""
    values: Values = {"type": kind, "voltage_mv": mv, "current_ma": ma, "waveform": "DC"}
    values |= {"phases": "ONE", "priority": 0, "frequency_chz": 0, "energy_j": 0, "lease_s": 0}
    return {**values, "profile_id": 0, "tag": 0, "giveback": False, **fields}


def option(name: str | int, **fields: object) -> Values:
    """Return the values of an option."""
    return {"option": name, **fields}


def offer(kind: str, mv: int, ma: int, **fields: object) -> Values:
    """Return the values of a PROFILE option."""
    return {"option": "PROFILE", **profile(kind, mv, ma, **fields)}


def segment(
    kind: str,
    flags: str = "",
    flow: int = 1,
    esn: int = 0,
    options: Sequence[Values] = (),
    **payload: object,
) -> Values:
    """Return the values of a segment; flags as in "SYN+ACK"."""
    order = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"]
    names = sorted(filter(None, flags.split("+")), key=order.index)
    head = {"type": kind, "flags": names, "flow": flow, "esn": esn}
    return {**head, "options": list(options), "payload": payload}


def reason(code: int, value: int = 0, limit: int = 0, retry_ms: int = 0, text: str = "") -> Values:
    """Return the values of a REASON option."""
    return option("REASON", code=code, retry_ms=retry_ms, value=value, limit=limit, text=text)


REQUEST_12V = profile("REQUEST", 12000, 1500, priority=2, energy_j=3600, tag=0x1000)
GRANT_12V = profile("GRANT", 12000, 1000, priority=2, energy_j=3600, lease_s=60, tag=0x1000)
REQUEST_230V = profile(
    "REQUEST", 230000, 16000, waveform="SINE", priority=3, frequency_chz=5000, tag=0xBEEF
)
OFFER_220KV = profile(
    "OFFER", 220_000_000, 2_000_000, waveform="SINE", phases="DELTA", frequency_chz=5000
)
MSP = option("MSP", msp=16384)
SAMPLING = option(
    "SAMPLING", rate_hz=1000, nv_per_lsb=1_000_000, na_per_lsb=1000, pairs=1, encoding=0
)
MAINTAIN = option("MAINTAIN", interval_ms=1000, misses=3)
CONTRACT = option("CONTRACT", contract=1)
GRANT = {"option": "PROFILE", **GRANT_12V}
FALLBACK = offer("FALLBACK", 12000, 100, priority=2, lease_s=60, tag=0x1000)
MINIMUM = offer("MINIMUM", 5000, 500, priority=2, tag=0x1000)
SYN_OPTIONS = [MSP, {"option": "PROFILE", **REQUEST_12V}, MINIMUM, SAMPLING, MAINTAIN]
TARIFF = option("TARIFF", digest=KEY, currency="EUR", price=312_000)
METER = option("METER", receipt_s=60, receipt_uj=3_600_000_000, key=KEY)
ENTITY = option("ENTITY", uuid=UUID, index=7)


def good_profiles() -> Iterator[tuple[str, Values]]:
    """Yield (name, values) of profiles."""
    yield "profile-request-12v", REQUEST_12V
    yield "profile-grant-12v", GRANT_12V
    yield "profile-request-230v", REQUEST_230V
    yield "profile-offer-220kv-delta", OFFER_220KV
    yield "profile-zero", profile("REQUEST", 0, 0)
    yield "profile-full-scale-milli", profile("OFFER", 2**24 - 1, 2**24 - 1)
    yield "profile-full-scale-kilo", profile("OFFER", (2**24 - 1) * 1000, (2**24 - 1) * 1000)
    yield "profile-first-kilo", profile("OFFER", 16_778_000, 0)
    yield "profile-energy-8191j", profile("REQUEST", 5000, 1, energy_j=8191)
    yield "profile-energy-81910j", profile("REQUEST", 5000, 1, energy_j=81910)
    yield "profile-energy-greatest", profile("REQUEST", 5000, 1, energy_j=81_910_000_000)
    for seconds in (5, 30, 304, 3696, 1_015_792):
        yield f"profile-lease-{seconds}s", profile("GRANT", 5000, 500, lease_s=seconds)
    yield (
        "profile-wye-any-frequency",
        profile("REQUEST", 230000, 32000, waveform="SINE", phases="WYE", frequency_chz=0xFFFF),
    )
    yield "profile-split-arbitrary", profile("OFFER", 120000, 15000, waveform="ARBITRARY",
                                             phases="SPLIT", frequency_chz=6000)  # fmt: skip
    yield "profile-by-id", profile("REQUEST", 230000, 40, waveform="BY_ID", frequency_chz=5000,
                                   profile_id=48, priority=15, giveback=True)  # fmt: skip
    yield "profile-refuse-nothing", profile("REFUSE", 230000, 0)
    yield "profile-fallback", profile("FALLBACK", 12000, 100, lease_s=60, tag=0xFFFF)


def good_blocks() -> Iterator[tuple[str, Values]]:
    """Yield (name, values) of DVE blocks."""
    extremes = [-(2**31), 2**31 - 1, 0, -1]
    yield "block-one-sample", {"counter": 0, "sync": 1, "pairs": 1, "samples": [5000, 500_000]}
    yield "block-simulated", {"counter": 1, "sync": 0x80, "pairs": 1, "samples": [5000, 1] * 3}
    yield "block-counter-last", {"counter": 2**32 - 1, "sync": 2, "pairs": 1, "samples": extremes}
    yield "block-three-pairs", {"counter": 80, "sync": 0x82, "pairs": 3, "samples": [*range(12)]}
    yield "block-two-pairs", {"counter": 7, "sync": 0, "pairs": 2, "samples": extremes * 2}


def good_control() -> Iterator[tuple[str, Values]]:
    """Yield (name, values) of segments of the handshake and its end."""
    yield "syn-dc-lamp", segment("CTL", "SYN", options=SYN_OPTIONS)
    full = [METER, ENTITY, option("COOKIE", cookie=KEY), option("TICKET", ticket="00ff" * 115)]
    yield "syn-every-option", segment("CTL", "SYN", options=[*SYN_OPTIONS, *full])
    via = option("VIA", via="provider.example:3251")
    yield "syn-via", segment("CTL", "SYN", flow=3, options=[SYN_OPTIONS[1], via])
    pairs = [offer(kind, 5000, 100 * n, tag=n) for n in (4, 3, 2, 1)
             for kind in ("REQUEST", "MINIMUM")]  # fmt: skip
    yield "syn-four-pairs", segment("CTL", "SYN", flow=2, options=pairs)
    ticket = [{"option": "PROFILE", **REQUEST_12V}, option("TICKET", ticket="ab")]
    yield "syn-resume", segment("CTL", "SYN", esn=46_000_000, options=ticket)
    granted = [MSP, GRANT, FALLBACK, CONTRACT, SAMPLING, MAINTAIN, TARIFF]
    yield "synack-grant", segment("CTL", "SYN+ACK", options=granted)
    offers = [offer("OFFER", 5000 * n, 1000, tag=0x1000) for n in range(1, 9)]
    counter = [*offers, CONTRACT, reason(100, 60_000, 14_200, 5000, "feeder is full")]
    yield "synack-counter-eight", segment("CTL", "SYN+ACK", options=counter)
    sixteen = [offer("OFFER" if n % 2 else "MINIMUM", 5000, n, tag=1) for n in range(16, 0, -1)]
    yield "synack-sixteen-profiles", segment("CTL", "SYN+ACK", options=sixteen)
    yield "ack-grant", segment("CTL", "ACK", options=[GRANT, CONTRACT])
    refused = [offer("REFUSE", 230000, 0, tag=0x1000), reason(101, 12_000, 230_000)]
    yield "rst-refuse", segment("CTL", "RST", options=refused)
    yield "rst-connection", segment("CTL", "RST", flow=0, options=[reason(500, 0x4745, 0x504F)])
    yield "rst-bare", segment("CTL", "RST", flow=2**32 - 1)
    yield "rst-retry", segment("CTL", "RST", options=[reason(100, 1, -1, 2**32 - 1)])
    yield "fin", segment("CTL", "FIN", esn=13_800_000_000)
    yield "fin-drain", segment("CTL", "FIN", esn=ALL_ONES, options=[reason(601)])
    yield "finack", segment("CTL", "FIN+ACK", esn=13_800_000_000)


def good_power() -> Iterator[tuple[str, Values]]:
    """Yield (name, values) of segments of an energised flow."""
    lamp: Values = {"counter": 0, "sync": 0x80, "pairs": 1, "samples": [5000, 500_000] * 10}
    yield "data-10-samples", segment("DATA", esn=250_000, **lamp)
    yield "data-ece", segment("DATA", "ECE", esn=2**63, **lamp)
    yield "credit", segment("CREDIT", esn=250_000, limit_uj=36_000_000, demand_mw=18_000)
    yield "credit-cwr", segment("CREDIT", "CWR", limit_uj=0, demand_mw=0)
    yield "credit-all", segment("CREDIT", limit_uj=ALL_ONES, demand_mw=ALL_ONES)
    yield "blocked", segment("BLOCKED", esn=36_000_000, limit_uj=36_000_000)
    yield "ready", segment("READY", options=[GRANT, FALLBACK, CONTRACT])
    again = [{"option": "PROFILE", **REQUEST_12V}, MINIMUM, option("CONTRACT", contract=2)]
    yield "reneg", segment("RENEG", esn=5, options=again)
    costs = [option("CONTRACT", contract=3), reason(104), TARIFF]
    yield "reneg-tariff", segment("RENEG", options=costs)
    yield "answer-accept", segment("ANSWER", options=[CONTRACT], verdict=0)
    yield "answer-reject-glare", segment("ANSWER", options=[CONTRACT, reason(107, 2, 3)], verdict=1)
    low = [offer("OFFER", 12000, 375, tag=0x1000), option("CONTRACT", contract=5), reason(309)]
    yield "shed", segment("SHED", options=low, deadline_ms=1000, restore_s=30)
    yield "shed-urgent", segment("SHED", "URG", options=low, deadline_ms=0, restore_s=0)
    over = [reason(300, 10_000_000, 13_200)]
    yield "trip", segment("TRIP", esn=1, options=over)
    yield "trip-urgent", segment("TRIP", "URG", options=over)
    probe: Values = {"nonce": 0x01020304, "echo": 0, "time_ns": 1_800_000_000_000_000_000}
    yield "maintain-probe", segment("MAINTAIN", flow=0, **probe)
    yield "maintain-answer", segment("MAINTAIN", flow=0, nonce=0, echo=0x01020304, time_ns=0)
    yield "alert-warning", segment("ALERT", options=[reason(301, 10_000, 10_800)], severity=2)
    yield "alert-connection", segment("ALERT", flow=0, options=[reason(511, 21, 20)], severity=3)


def good_rest() -> Iterator[tuple[str, Values]]:
    """Yield (name, values) of the remaining types and options."""
    yield "receipt", segment("RECEIPT", page=bytes(n % 251 for n in range(380)).hex())
    yield "ticket-shortest", segment("TICKET", lifetime_s=3600, ticket="00")
    yield "ticket-longest", segment("TICKET", lifetime_s=2**32 - 1, ticket="a5" * 230)
    yield "cookie", segment("COOKIE", cookie=KEY)
    seal = option("SEAL", epoch=1, counter=ALL_ONES)
    yield "sealed", segment("SEALED", "ECE", options=[seal], octets="c0ffee" * 8)
    yield "sealed-hello", segment("SEALED", "SYN", flow=0, options=[seal], octets="0000" + KEY)
    feed = option("FEED", feed_id=UUID, epoch=9)
    yield "feed", segment("FEED", flow=0, esn=77, options=[GRANT, SAMPLING, feed], octets="00" * 16)
    yield "feed-subscribe", segment("FEED", "SYN", flow=0, options=[feed], octets="")
    yield "feed-leave", segment("FEED", "FIN", flow=0, options=[feed], octets="")
    text = reason(206, 41, text="r\u00e8gle 41: \u5c4b\u6839 \u26a1")
    yield "option-reason-utf8", segment("CTL", "RST", options=[text])
    longest = reason(605, -(2**63), 2**63 - 1, text="\u26a1" * 42 + "ab")
    yield "option-reason-128", segment("CTL", "FIN", options=[longest])
    yield "option-reason-unknown", segment("CTL", "RST", options=[reason(999, 1, 2)])
    yield "option-msp-least", segment("CTL", "SYN", options=[option("MSP", msp=1024)])
    yield "option-msp-most", segment("CTL", "SYN", options=[option("MSP", msp=65535)])
    loss = option("TARIFF", digest=KEY, currency="SEK", price=-1)
    yield "option-tariff-negative", segment("CTL", "SYN+ACK", options=[loss])
    three = {**SAMPLING, "pairs": 3, "rate_hz": 100_000}
    yield "option-sampling-three", segment("CTL", "SYN", options=[three])
    yield "option-unknown-13", segment("CTL", "SYN", options=[option(13, octets="")])
    yield "option-unknown-127", segment("CTL", "SYN", options=[option(127, octets="ab" * 253)])
    trial = option("EXPERIMENT_1", octets="3251"), option("EXPERIMENT_2", octets="00" * 253)
    yield "option-experiments", segment("CTL", "SYN", options=trial)


# --- vectors ----------------------------------------------------------------------------------

LAYOUT = {"profile": ("PTCP-1-01", "PTCP-1-05"), "block": ("PTCP-3.1-03",)}


def requirement_of(values: Values) -> tuple[str, ...]:
    """Return the ids that a good segment shows."""
    ids = {"PTCP-2.2-03"}
    if values["options"]:
        ids.add("PTCP-2.3-05")
    if values["type"] == "DATA":
        ids.add("PTCP-3.1-03")
    if any(isinstance(row["option"], int) for row in values["options"]):
        ids.add("PTCP-2.3-01")
    if any(row["option"] == "PROFILE" for row in values["options"]):
        ids.add("PTCP-1-05")
    return tuple(sorted(ids))


def good() -> Iterator[Vector]:
    """Yield the vectors that are accepted and encoded again to the same octets."""
    for layout, rows in (("profile", good_profiles()), ("block", good_blocks())):
        for name, values in rows:
            yield Vector(name, layout, build(layout, values), LAYOUT[layout])
    for name, octets, ids in good_receipts():
        yield Vector(name, "receipt", octets, ids)
    for rows in (good_control(), good_power(), good_rest()):
        for name, values in rows:
            yield Vector(name, "segment", build("segment", values), requirement_of(values))
    for name, values, ids in good_feeds():
        yield Vector(name, "segment", build("segment", values), ids)


def raw(kind: int, flags: int = 0, flow: int = 1, area: str = "", payload: str = "") -> bytes:
    """Return a segment of any content; area and payload are hex digits, the area is padded."""
    options, body = bytes.fromhex(area), bytes.fromhex(payload)
    options += bytes(-len(options) % 4)
    head = bytes((0x50, 0x4F, 1, 5 + len(options) // 4, kind, flags)) + len(body).to_bytes(2, "big")
    return head + flow.to_bytes(4, "big") + bytes(8) + options + body


def syn(area: str) -> bytes:
    """Return a SYN with the options area `area`."""
    return raw(1, 2, area=area)


def tolerated() -> Iterator[Vector]:
    """Yield the vectors that are accepted though no encoder of ours would write them."""

    def one(name: str, octets: bytes, *ids: str, layout: str = "segment") -> Vector:
        return Vector(name, layout, octets, ids, canonical=False)

    yield one("profile-noncanonical-kilo", bytes.fromhex("4600 00000c 000001 0000 0000 00 00 0000"),
              "PTCP-1-01", layout="profile")  # fmt: skip
    yield one("profile-noncanonical-energy", bytes.fromhex("4400 000001 000001 0000 2001 00 00 0000"),
              "PTCP-1-01", layout="profile")  # fmt: skip
    yield one("profile-noncanonical-copy", bytes.fromhex("4000 002ee0 0005dc 0000 0e10 00 00 1000"),
              "PTCP-1-01", layout="profile")  # fmt: skip
    yield one("flags-unlisted-ctl", raw(1, 0xEA), "PTCP-2.1-04")
    yield one("flags-unlisted-credit", raw(3, 0x7F, payload="00" * 16), "PTCP-2.1-04")
    yield one("flags-unlisted-trip", raw(9, 0xFF), "PTCP-2.1-04")
    yield one("options-nops", syn("01" * 32), "PTCP-2.3-03")
    yield one("options-nop-between", syn("01 0204 4000 01"), "PTCP-2.3-05")
    yield one("options-end-then-zero", syn("0204 4000 00000000"), "PTCP-2.3-02")
    yield one("options-not-in-order", syn("0406 00000001 0204 4000"), "PTCP-2.3-05")
    yield one("options-area-512", syn("00" * 512), "PTCP-2.3-03")
    yield one("options-on-credit", raw(3, area="0d02", payload="00" * 16), "PTCP-2.3-01")
    yield one("reason-invalid-utf8", syn("0519 01f4 00000000 0000000000000000 0000000000000000 ff"),
              "PTCP-2.3-04")  # fmt: skip
    yield one("type-80-skipped", raw(0x80, 0xFF, payload="00"), "PTCP-2.2-01")
    yield one("type-ff-skipped", raw(0xFF, area="8302"), "PTCP-2.2-01")


HEADER = "504f0105 0102 0000 00000001 0000000000000000"
PROFILE = "0312 4402002ee00005dc00000e1000001000"
REASON = "01f4 00000000 0000000000000000 0000000000000000"
Bad = tuple[str, bytes, int, int]


def bad_headers() -> Iterator[Bad]:
    """Yield (name, octets, code, value) of headers that end a connection."""

    def head(old: str, new: str) -> bytes:
        return bytes.fromhex(HEADER.replace(old, new, 1))

    yield "magic-http", b"GET / HTTP/1.1\r\n\r\n\r\n", 500, 0x4745
    yield "magic-zero", bytes(20), 500, 0
    yield "magic-swapped", head("504f", "4f50"), 500, 0x4F50
    yield "version-0", head("0105", "0005"), 501, 0
    yield "version-2", head("0105", "0205"), 501, 2
    yield "offset-0", head("0105", "0100"), 502, 0
    yield "offset-4", head("0105", "0104"), 502, 4
    yield "offset-134", head("0105", "0186"), 508, 134
    yield "offset-255", head("0105", "01ff"), 508, 255
    yield "payload-16385", head("0102 0000", "0202 4001"), 508, 16385
    yield "payload-65535", head("0102 0000", "0240 ffff"), 508, 65535
    yield "magic-before-version", head("504f0105", "504e0200"), 500, 0x504E


def bad_types() -> Iterator[Bad]:
    """Yield vectors of types and flags that are refused."""
    for kind in (0x00, 0x0F, 0x12, 0x7F):
        yield f"type-{kind:02x}", raw(kind), 504, kind
    for name, flags in (
        ("none", 0x00), ("syn-fin", 0x03), ("syn-rst", 0x06), ("rst-ack", 0x14),
        ("all", 0xFF), ("psh", 0x08), ("fin-syn-ack", 0x13),
    ):  # fmt: skip
        yield f"ctl-flags-{name}", raw(1, flags), 506, flags
    yield "maintain-on-flow", raw(10, flow=1, payload="00" * 16), 506, 1
    yield "answer-verdict-2", raw(7, payload="02"), 506, 2
    yield "answer-verdict-255", raw(7, payload="ff"), 506, 255
    yield "alert-severity-0", raw(14, payload="00"), 506, 0
    yield "alert-severity-4", raw(14, payload="04"), 506, 4


def bad_lengths() -> Iterator[Bad]:
    """Yield vectors of payloads of a wrong length."""
    wrong = (
        ("ctl", 1, 1), ("data", 2, 0), ("data", 2, 8), ("data", 2, 15), ("data", 2, 17),
        ("credit", 3, 15), ("credit", 3, 17), ("credit", 3, 0), ("blocked", 4, 7),
        ("blocked", 4, 9), ("ready", 5, 4), ("reneg", 6, 1), ("answer", 7, 0), ("answer", 7, 2),
        ("shed", 8, 7), ("shed", 8, 9), ("trip", 9, 1), ("receipt", 11, 379), ("receipt", 11, 381),
        ("ticket", 12, 4), ("ticket", 12, 235), ("cookie", 13, 31), ("cookie", 13, 33),
        ("alert", 14, 0), ("alert", 14, 2),
    )  # fmt: skip
    for name, kind, octets in wrong:
        flags = 0x10 if kind == 1 else 0
        yield f"{name}-payload-{octets}", raw(kind, flags, payload="00" * octets), 502, octets
    yield "maintain-payload-15", raw(10, flow=0, payload="00" * 15), 502, 15
    yield "maintain-payload-17", raw(10, flow=0, payload="00" * 17), 502, 17
    block = "00000000 00 01 0002"
    yield "data-block-short", raw(2, payload=block + "00" * 8), 502, 16
    yield "data-block-long", raw(2, payload=block + "00" * 24), 502, 32
    yield "data-block-no-pairs", raw(2, payload="00000000 00 00 0001" + "00" * 8), 502, 16
    yield "data-block-no-samples", raw(2, payload="00000000 00 01 0000" + "00" * 8), 502, 16


def bad_options() -> Iterator[Bad]:
    """Yield vectors of option areas that are malformed."""
    yield "option-length-0", syn("0d00 0000"), 503, 20
    yield "option-length-1", syn("0d01 0000"), 503, 20
    yield "option-length-missing", syn("0204 4000 010101 0d"), 503, 27
    yield "option-past-area", syn("0d05 0000"), 503, 20
    yield "option-known-past-area", syn("0204 4000 0406 0000"), 503, 24
    yield "option-after-end", syn("0204 4000 00000001"), 503, 24
    yield "option-end-hides-option", syn("00 0204 4000"), 503, 20
    for name, area in (
        ("msp-3", "0203 40"), ("msp-5", "0205 400000"), ("profile-17", "0311" + "44" * 15),
        ("profile-19", PROFILE.replace("0312", "0313") + "00"), ("contract-5", "0405 000000"),
        ("reason-23", "0517" + "00" * 21), ("reason-153", "0599" + "00" * 151),
        ("sampling-15", "060f" + "01" * 13), ("maintain-7", "0707 03e8030000"),
        ("meter-45", "082d" + "00" * 43), ("tariff-47", "092f" + "00" * 45),
        ("entity-19", "0a13" + "00" * 17), ("cookie-33", "0b21" + "00" * 31),
        ("ticket-2", "0c02"), ("ticket-233", "0ce9" + "00" * 231), ("seal-13", "800d" + "00" * 11),
        ("feed-23", "8117" + "00" * 21), ("via-2", "8202"), ("via-99", "8263" + "61" * 97),
        ("experiment-3", "fd03 00"),
    ):  # fmt: skip
        yield f"option-{name}", syn("01" + area), 503, 21
    for name, area in (
        ("msp-1023", "0204 03ff"), ("profile-version-0", "0312 04" + "00" * 15),
        ("profile-version-2", "0312 84" + "00" * 15), ("profile-type-6", "0312 74" + "00" * 15),
        ("sampling-pairs-0", "0610 000003e8 000f4240 000003e8 00 00"),
        ("sampling-pairs-4", "0610 000003e8 000f4240 000003e8 04 00"),
        ("sampling-nv-0", "0610 000003e8 00000000 000003e8 01 00"),
        ("sampling-na-0", "0610 000003e8 000f4240 00000000 01 00"),
        ("sampling-encoding-1", "0610 000003e8 000f4240 000003e8 01 01"),
        ("maintain-nonzero", "0706 03e8 03 01"),
        ("tariff-currency-lower", "092e" + "00" * 32 + "657572 00" + "00" * 8),
        ("tariff-currency-octets", "092e" + "00" * 32 + "45ff52 00" + "00" * 8),
        ("tariff-nonzero", "092e" + "00" * 32 + "455552 01" + "00" * 8),
        ("via-space", "8205 612062"), ("via-high", "8203 ff"),
    ):  # fmt: skip
        yield f"option-{name}", syn("0d02" + area), 503, 22


def bad_repeats() -> Iterator[Bad]:
    """Yield vectors of options that are too many, or critical and unknown."""
    yield "option-msp-twice", syn("0204 4000 0204 4000"), 503, 24
    yield "option-reason-twice", syn(("0518" + REASON) * 2), 503, 44
    yield "option-unknown-twice", syn("0d02 0d02"), 503, 22
    yield "option-experiment-twice", syn("fd04 0001 fd04 0002"), 503, 24
    yield "option-33-nops", syn("01" * 33), 508, 33
    yield "option-33-options", syn("".join(f"{kind:02x}02" for kind in range(13, 46))), 508, 33
    yield "option-17-profiles", syn(PROFILE * 17), 508, 17
    for kind in (131, 200, 252):
        yield f"option-critical-{kind}", syn(f"0204 4000 {kind:02x}02 0000"), 505, kind
    yield "option-critical-in-data", raw(2, area="8302", payload="00" * 6 + "010001"[2:] * 2
                                         + "00" * 6), 505, 131  # fmt: skip
    yield "option-critical-in-maintain", raw(10, flow=0, area="fc02", payload="00" * 16), 505, 252
    yield "option-length-before-critical", syn("8301 0000"), 503, 20
    yield "option-structure-before-value", syn("0204 0001 8402 0000"), 505, 132


IDS = {
    500: ("PTCP-2.1-03",), 501: ("PTCP-2.1-03",), 504: ("PTCP-2.2-01",), 505: ("PTCP-2.3-01",),
    503: ("PTCP-2.3-02", "PTCP-2.3-05"), 506: ("PTCP-2.1-04", "PTCP-2.2-03"),
}  # fmt: skip


def bad() -> Iterator[Vector]:
    """Yield the vectors that are refused."""
    for rows in (bad_headers(), bad_types(), bad_lengths(), bad_options(), bad_repeats()):
        for name, octets, code, value in rows:
            framing = name.startswith(("offset", "payload"))
            limits = ("PTCP-2.1-03",) if framing else ("PTCP-2.3-03",)
            lengths = ("PTCP-2.1-03",) if framing else ("PTCP-2.2-02",)
            ids = IDS.get(code, lengths if code == 502 else limits)
            yield Vector(name, "segment", octets, ids, code, value)
    for name, head in (
        ("version-0", 0x04),
        ("version-3", 0xC4),
        ("type-6", 0x74),
        ("type-7", 0x7C),
    ):
        octets = bytes((head,)) + bytes(15)
        yield Vector(f"profile-{name}", "profile", octets, ("PTCP-1-05",), 503, head)
    block = bytes.fromhex("00000000 00 01 0001 00000000 00000000")
    for name, octets in (
        ("empty", b""), ("header-only", block[:8]), ("cut", block[:12]), ("long", block + bytes(8)),
        ("no-pairs", block[:5] + bytes(11)), ("n-0", block[:6] + bytes(10)),
    ):  # fmt: skip
        row = Vector(f"block-{name}", "block", octets, ("PTCP-3.1-03",), 502, len(octets))
        yield row
    for name, octets, code, value, ids in bad_receipts():
        yield Vector(name, "receipt", octets, ids, code, value)
    for name, octets, code, value, ids in bad_feeds():
        yield Vector(name, "segment", octets, ids, code, value)


# --- files ------------------------------------------------------------------------------------


def told(vector: Vector) -> Values:
    """Return the JSON of a vector; raises SystemExit when the schema disagrees with it."""
    said: Values = {"layout": vector.layout, "valid": not vector.reject}
    try:
        decoded = parse(vector.layout, vector.octets)
    except Rejected as fault:
        if (fault.code, fault.value) != (vector.reject, vector.value):
            raise SystemExit(f"{vector.name}: schema rejects {fault.code} {fault.value}") from fault
        said |= {"reject": vector.reject, "value": vector.value}
        return {**said, "requirement": list(vector.requirement)}
    if vector.reject:
        raise SystemExit(f"{vector.name}: the schema accepts it")
    same = "skipped" not in decoded and build(vector.layout, decoded) == vector.octets
    if vector.canonical and not same:
        raise SystemExit(f"{vector.name}: the schema encodes other octets")
    if not vector.canonical:
        said["canonical"] = False
    return {**said, "decoded": decoded, "requirement": list(vector.requirement)}


def hex_text(vector: Vector) -> str:
    """Return the .hex file of a vector."""
    digits = [f"{octet:02x}" for octet in vector.octets]
    lines = [" ".join(digits[at : at + 16]) for at in range(0, len(digits), 16)]
    why = f"reject {vector.reject}, value {vector.value}" if vector.reject else vector.layout
    return "\n".join([f"; {vector.name}: {why}", *lines]) + "\n"


def files() -> dict[Path, str]:
    """Return every file with its text."""
    made: dict[Path, str] = {}
    for vector in (*good(), *tolerated(), *bad()):
        base = (FOLDER / "bad" if vector.reject else FOLDER) / vector.name
        text = json.dumps(told(vector), indent=1, ensure_ascii=False) + "\n"
        for path, content in ((base.with_suffix(".hex"), hex_text(vector)),
                              (base.with_suffix(".json"), text)):  # fmt: skip
            if path in made:
                raise SystemExit(f"{path.name} is made twice")
            made[path] = content
    return made


def main(argv: list[str]) -> int:
    """Write the vectors, or with --check compare them. Returns 0, or 1 for a difference."""
    there = {path for path in FOLDER.rglob("*") if path.is_file() and path.parent.name != "streams"}
    return run(argv, "tools.make_vectors", __doc__, ROOT, files(), there)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
