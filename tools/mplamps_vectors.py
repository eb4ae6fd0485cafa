"""Writes the vectors of the MPLampS draft, rfc/vectors/mplamps: RSVP and COPS, .hex with .json.

`python -m tools.mplamps_vectors [--check]`. Every value is stated by hand and made into octets by
the schema, bad octets by hand; nothing of powertcp/mplamps is used. A vector to be rejected names a
reason code from 500 on, for which it is dropped, or the error of RSVP with which it is answered.
"""

import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from powertcp.wire.cops_values import build_inner
from powertcp.wire.cops_values import build_message as build_cops
from powertcp.wire.rsvp_values import build_message, checksum_of, parse_message
from tools.vector_files import run

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "rfc" / "vectors" / "mplamps"
Values = dict[str, Any]

KEY_ID, SECRET = "000000000007", b"a secret of one feeder"
ANY = "0.0.0.0"  # noqa: S104 - an address that says any
ES, HOUSE, LAMP = "10.0.0.1", "10.0.0.4", "10.0.0.5"


class Vector(NamedTuple):
    """One message: its octets, what they say or why they are refused."""

    name: str
    octets: bytes
    requirement: tuple[str, ...]
    decoded: Values
    canonical: bool = True
    reject: int = 0
    value: int | None = None
    field: str = ""
    layout: str = "rsvp"


def one(name: str, /, **fields: object) -> Values:
    """Return the values of one object."""
    return {"object": name, **fields}


def profile(kind: str, current_ma: int, lease_s: int = 0) -> Values:
    """Return the values of the profile of a lamp of 230 V."""
    return {
        "type": kind, "voltage_mv": 230_000, "current_ma": current_ma, "waveform": "SINE",
        "phases": "ONE", "priority": 9, "frequency_chz": 5_000, "energy_j": 0, "lease_s": lease_s,
        "profile_id": 0, "tag": 0xBEEF, "giveback": False,
    }  # fmt: skip


def power(*profiles: Values) -> Values:
    """Return POWER."""
    return one("POWER", profiles=list(profiles))


def tariff(kind: str, price: int, supplier: int = 0, source: str = ANY, **more: int) -> Values:
    """Return TARIFF in euro."""
    rest = {"tariff_id": 0, "valid_s": 0} | more
    return one("TARIFF", supplier=supplier, source=source, currency="EUR", kind=kind, price=price,
               **rest)  # fmt: skip


def number(number: int, epoch: int = 0xBEEF, *, ack: bool = True) -> Values:
    """Return MESSAGE_ID."""
    return one("MESSAGE_ID", ack_desired=ack, epoch=epoch, number=number)


def error(node: str, code: int, value: int, flags: int = 4) -> Values:
    """Return ERROR_SPEC."""
    more = {"enterprise": 32473} if code == 252 else {}
    return one("ERROR_SPEC", node=node, flags=flags, code=code, value=value, **more)


def route(*hops: str, loose: bool = False) -> Values:
    """Return ERO, its last hop loose or not."""
    last = len(hops) - 1
    return one("ERO", hops=[{"node": hop, "loose": loose and at == last}
                            for at, hop in enumerate(hops)])  # fmt: skip


SESSION = one("SESSION", es=ES, tunnel=1, lamp=LAMP)
SHARED = one("SESSION", es=ES, tunnel=1, lamp=ANY)
HOP = one("HOP", node=LAMP, link=1)
FROM_HOUSE = one("HOP", node=HOUSE, link=1)
TIME = one("TIME_VALUES", refresh_ms=30_000)
REQUEST_LABEL = one("LABEL_REQUEST", l3pid=0x0800)
TEMPLATE = one("SENDER_TEMPLATE", lamp=LAMP, lsp=1)
FILTER = one("FILTER_SPEC", lamp=LAMP, lsp=1)
_BUCKET = {"rate": 38_940, "bucket": 1_416, "peak": 38_940, "least": 40, "greatest": 1_440}
TSPEC, FLOWSPEC = one("SENDER_TSPEC", **_BUCKET), one("FLOWSPEC", **_BUCKET)
STYLE = {name: one("STYLE", style=value) for name, value in (("FF", 10), ("WF", 17), ("SE", 18))}
PHASE, NEUTRAL = one("UPSTREAM_LABEL", label=230), one("LABEL", label=0)
ASKED = power(profile("REQUEST", 260), profile("MINIMUM", 100))
REFUSED = power(profile("REQUEST", 260), profile("REFUSE", 43))
GRANT = power(profile("GRANT", 260, 152))
CONFIRM = one("RESV_CONFIRM", node=ES)
QUOTE = tariff("QUOTE", 284_100, 7, ES, tariff_id=12, valid_s=3_600)


def attribute(name: str = "lamp-1", flags: int = 4, setup: int = 4, holding: int = 4) -> Values:
    """Return SESSION_ATTRIBUTE."""
    return one("SESSION_ATTRIBUTE", setup=setup, holding=holding, flags=flags, name=name)


def flow(label: int = 16) -> Values:
    """Return FLOW_LABEL."""
    return one("FLOW_LABEL", label=label)


def said(kind: str, *objects: Values, ttl: int = 64) -> Values:
    """Return the values of a message."""
    return {"type": kind, "ttl": ttl, "objects": list(objects)}


LEAST = (SESSION, HOP, TIME, REQUEST_LABEL, attribute(), TEMPLATE, TSPEC, PHASE, flow(), ASKED)
GRANTED = (SESSION, FROM_HOUSE, TIME, STYLE["SE"], FLOWSPEC, FILTER, NEUTRAL, flow(), GRANT)
ROUTE = route(HOUSE, "10.0.0.3", "10.0.0.2", ES)
PATH = (number(1), SESSION, HOP, TIME, ROUTE, REQUEST_LABEL, attribute(), TEMPLATE, TSPEC, PHASE,
        flow(), ASKED, tariff("LIMIT", 300_000))  # fmt: skip


def made(name: str, requirement: str, kind: str, *objects: Values, ttl: int = 64) -> Vector:
    """Return a vector that a node may send."""
    values = said(kind, *objects, ttl=ttl)
    return Vector(name, build_message(values), tuple(requirement.split()), values)


def paths() -> list[Vector]:
    """Return PATHs."""
    record = one("RRO", hops=[{"node": HOUSE, "phase": 400, "neutral": 0}, {"node": LAMP}])
    return [
        made("path", "MPLA-4.2-01 MPLA-4.4-02 MPLA-4.4-03", "PATH", *PATH),
        made("path-least", "MPLA-4.2-01", "PATH", *LEAST),
        made("path-recorded", "MPLA-4.3-04 MPLA-4.3-05", "PATH",
             one("MESSAGE_ID_ACK", epoch=0xCAFE, number=9), number(2, ack=False), SESSION,
             FROM_HOUSE, TIME, route("10.0.0.3", ES, loose=True), REQUEST_LABEL,
             attribute("Küche", 6, 0, 7), TEMPLATE, TSPEC, record,
             one("UPSTREAM_LABEL", label=400), flow(0xF_FFFF), power(profile("REQUEST", 260)),
             ttl=63),
        made("path-12-volts", "MPLA-4.3-02", "PATH", *LEAST[:7],
             one("UPSTREAM_LABEL", label=1_012_000), *LEAST[8:]),
        made("path-shared", "MPLA-4.2-01", "PATH", SHARED, *LEAST[1:]),
        made("path-foreign-objects", "MPLA-4.3-01 MPLA-4.4-01", "PATH", *LEAST,
             one("FOREIGN", number=13, kind=2, content="00000000"),
             one("FOREIGN", number=200, kind=3, content="64696d6d"),
             one("FOREIGN", number=252, kind=1, content="0000000901020304")),
        made("path-keyed", "MPLA-4.10-01", "PATH", *keyed(*LEAST)),
    ]  # fmt: skip


def keyed(*objects: Values) -> tuple[Values, ...]:
    """Return objects of a PATH with an INTEGRITY before them, made here a second time."""
    blank = one("INTEGRITY", key_id=KEY_ID, sequence=1, digest="00" * 32)
    octets = build_message(said("PATH", blank, *objects))
    digest = hmac.digest(SECRET, octets[:2] + b"\0\0" + octets[4:], hashlib.sha256)
    return (blank | {"digest": digest.hex()}, *objects)


def others() -> list[Vector]:
    """Return every other type."""
    two = one("FILTER_SPEC", lamp=LAMP, lsp=2)
    offers = (tariff("OFFER", 284_100, 7, ES), tariff("OFFER", -5_000, 8, "10.0.0.9"))
    return [
        made("resv", "MPLA-4.2-01 MPLA-4.4-02", "RESV", number(1, 0xCAFE), *GRANTED, QUOTE),
        made("resv-two-senders", "MPLA-4.2-01", "RESV", *GRANTED, two, NEUTRAL, flow(17), GRANT,
             QUOTE),
        made("resv-shared", "MPLA-4.2-01", "RESV", SHARED, FROM_HOUSE, TIME, STYLE["WF"], FLOWSPEC,
             NEUTRAL, flow(), GRANT),
        made("resv-confirm", "MPLA-4.2-03", "RESV", *GRANTED[:3], CONFIRM, STYLE["FF"],
             *GRANTED[4:]),
        made("path-err-capacity", "MPLA-4.3-06 MPLA-4.4-02", "PATH_ERR", number(3), SESSION,
             error("10.0.0.3", 1, 2), TEMPLATE, TSPEC, REFUSED),
        made("path-err-price", "MPLA-4.4-04", "PATH_ERR", SESSION, error(HOUSE, 252, 104),
             TEMPLATE, TSPEC, *offers),
        made("path-err-in-place", "MPLA-4.3-06", "PATH_ERR", SESSION, error(HOUSE, 24, 5, 1),
             TEMPLATE, TSPEC),
        made("resv-err", "MPLA-4.3-06", "RESV_ERR", SESSION, HOP, error(LAMP, 252, 302),
             STYLE["SE"], FLOWSPEC, FILTER, REFUSED),
        made("resv-err-shared", "MPLA-4.3-06", "RESV_ERR", SHARED, HOP, error(LAMP, 3, 0),
             STYLE["WF"], FLOWSPEC),
        made("path-tear", "MPLA-4.2-01", "PATH_TEAR", number(4), SESSION, HOP, TEMPLATE, TSPEC),
        made("resv-tear", "MPLA-4.2-01", "RESV_TEAR", SESSION, FROM_HOUSE, STYLE["SE"], FILTER),
        made("resv-conf", "MPLA-4.2-03", "RESV_CONF", SESSION, error(HOUSE, 0, 0, 0), CONFIRM,
             STYLE["SE"], FLOWSPEC, FILTER),
        made("ack", "MPLA-4.2-01", "ACK", one("MESSAGE_ID_ACK", epoch=0xBEEF, number=1),
             one("MESSAGE_ID_NACK", epoch=0xBEEF, number=9)),
        made("srefresh", "MPLA-4.2-01", "SREFRESH",
             one("MESSAGE_ID_LIST", epoch=0xBEEF, numbers=[1, 2, 7])),
        made("srefresh-longest", "MPLA-4.1-01", "SREFRESH",
             one("MESSAGE_ID_LIST", epoch=0xFF_FFFF, numbers=list(range(1, 365)))),
        made("hello", "MPLA-4.2-01", "HELLO", one("HELLO", source=0x1234, destination=0)),
        made("hello-answer", "MPLA-4.2-01", "HELLO",
             one("HELLO_ACK", source=0x5678, destination=0x1234)),
    ]  # fmt: skip


# --- octets that a receiver takes and no node sends, and those that are refused --------------------


def parts(octets: bytes) -> list[bytes]:
    """Return the objects of a message."""
    found, at = [], 8
    while at < len(octets):
        length = int.from_bytes(octets[at : at + 2], "big")
        found.append(octets[at : at + length])
        at += length
    return found


def whole(kind: int, objects: list[bytes], *, is_summed: bool = True) -> bytes:
    """Return a message of objects, with its checksum or without any."""
    body = b"".join(objects)
    octets = bytes((0x11, kind, 0, 0, 64, 0)) + (8 + len(body)).to_bytes(2, "big") + body
    checksum = checksum_of(octets) if is_summed else 0
    return octets[:2] + checksum.to_bytes(2, "big") + octets[4:]


def entity(kind: str, content: str = "") -> bytes:
    """Return an object of a class and C-Type, both hexadecimal."""
    octets = bytes.fromhex(content)
    return (4 + len(octets)).to_bytes(2, "big") + bytes.fromhex(kind) + octets


LAMP_PATH = build_message(said("PATH", *LEAST))
LAMP_RESV = build_message(said("RESV", *GRANTED))


def changed(octets: bytes, kind: str, *new: bytes) -> bytes:
    """Return a message with the objects of a class and C-Type replaced."""
    head = bytes.fromhex(kind)
    old = parts(octets)
    at = next(at for at, part in enumerate(old) if part[2:4] == head)
    return whole(octets[1], [*old[:at], *new, *old[at + 1 :]])


def tolerated() -> list[Vector]:
    """Return messages that are accepted, and never sent so."""
    odd = {
        "path-any-order": (whole(1, parts(LAMP_PATH)[::-1]), ("MPLA-4.2-01",)),
        "path-no-checksum": (whole(1, parts(LAMP_PATH), is_summed=False), ("MPLA-4.1-02",)),
        "path-ignored-class": (
            whole(1, [entity("8c01", "00000001"), *parts(LAMP_PATH)]), ("MPLA-4.3-01",)
        ),
    }  # fmt: skip
    return [Vector(name, octets, ids, parse_message(octets), canonical=False)
            for name, (octets, ids) in odd.items()]  # fmt: skip


def bad() -> list[Vector]:
    """Return messages that are dropped, or answered with an error."""
    path, resv = parts(LAMP_PATH), parts(LAMP_RESV)
    hop = "01080a0000042000"
    flipped = LAMP_PATH[:3] + bytes((LAMP_PATH[3] ^ 1,)) + LAMP_PATH[4:]
    version = b"\x21" + LAMP_PATH[1:2] + (int.from_bytes(LAMP_PATH[2:4], "big") - 0x1000).to_bytes(
        2, "big") + LAMP_PATH[4:]  # fmt: skip
    offers = build_message(said("PATH_ERR", SESSION, error(HOUSE, 252, 104), TEMPLATE, TSPEC,
                                *[tariff("OFFER", 1)] * 8))  # fmt: skip
    ninth = parts(offers)[-1]
    dropped: list[tuple[str, bytes, int, str, str]] = [
        ("checksum-wrong", flipped, 503, "checksum", "MPLA-4.1-02"),
        ("version-2", version, 501, "version", "MPLA-4.1-02"),
        ("type-8", whole(8, path), 504, "type", "MPLA-4.1-02"),
        ("length-3", whole(1, [*path, b"\0\3\xc8\1"]), 502, "length", "MPLA-4.2-02"),
        ("length-6", whole(1, [*path, b"\0\6\xc8\1\0\0\0\0"]), 502, "length", "MPLA-4.2-02"),
        ("length-past-the-end", whole(1, [*path, b"\0\x0c\xc8\1\0\0\0\0"]), 502, "length",
         "MPLA-4.2-02"),
        ("session-twice", whole(1, [path[0], *path]), 506, "SESSION", "MPLA-4.2-02"),
        ("session-none", whole(1, path[1:]), 506, "class", "MPLA-4.2-02"),
        ("ack-empty", whole(13, []), 506, "class", "MPLA-4.2-02"),
        ("power-of-nobody", whole(2, [*resv[:5], resv[8], *resv[5:8]]), 506, "POWER",
         "MPLA-4.2-01"),
        ("offers-9", whole(3, [*parts(offers), ninth]), 506, "TARIFF", "MPLA-4.4-04"),
        ("label-21-bits", changed(LAMP_PATH, "2301", entity("2301", "00100000")), 503,
         "UPSTREAM_LABEL", "MPLA-4.2-02"),
        ("meter-in-path", whole(1, [*path, entity("fc04", "00007ed9" + "00" * 32)]), 506, "METER",
         "MPLA-4.4-05"),
    ]  # fmt: skip
    answered: list[tuple[str, bytes, int, int, str]] = [
        ("class-99", whole(1, [*path, entity("6307", "00000000")]), 13, 0x6307, "MPLA-4.3-01"),
        ("session-of-udp", changed(LAMP_PATH, "0107", entity("0101", "0a00000111000001")), 14,
         0x0101, "MPLA-4.3-01"),
        ("route-33-hops", whole(1, [*path, entity("1401", hop * 33)]), 24, 1, "MPLA-4.3-05"),
        ("power-none", whole(1, path[:-1]), 252, 503, "MPLA-4.5-01"),
        ("power-grant-in-path", changed(LAMP_PATH, "fc01", resv[8]), 252, 503, "MPLA-4.4-02"),
        ("flow-label-15", changed(LAMP_PATH, "fc02", entity("fc02", "00007ed90000000f")), 252, 503,
         "MPLA-4.4-03"),
        ("tariff-quote-in-path",
         whole(1, [*path, parts(build_message(said("PATH", QUOTE)))[0]]), 252, 503,
         "MPLA-4.4-04"),
        ("tariff-length", whole(1, [*path, entity("fc03", "00007ed9" + "00" * 24)]), 252, 503,
         "MPLA-4.4-06"),
    ]  # fmt: skip
    found = [Vector(name, octets, (rule,), {}, reject=code, field=field)
             for name, octets, code, field, rule in dropped]  # fmt: skip
    return found + [Vector(name, octets, (rule,), {}, reject=code, value=value)
                    for name, octets, code, value, rule in answered]  # fmt: skip


# --- policemen ----------------------------------------------------------------------------------

HANDLE = one("HANDLE", handle="0000002a")
CONTEXT = one("CONTEXT", r_type=1, m_type=1)
INTERFACE = one("IN_INTERFACE", address=LAMP, link=4)
POLICEMAN = {"address": "10.0.0.9", "port": 3288}


def meter(flags: int = 0, energy_uj: int = 3_588_000_000) -> Values:
    """Return METER."""
    return one("METER", flags=flags, seconds=60, energy_uj=energy_uj, packets=1_200,
               octets=99_000)  # fmt: skip


def policed(op: str, *objects: Values, solicited: bool = False, client_type: int = 1) -> Values:
    """Return the values of a message of COPS."""
    return {"op": op, "solicited": solicited, "client_type": client_type, "objects": list(objects)}


def info(*inner: Values) -> Values:
    """Return ClientSI."""
    return one("CLIENT_SI", inner=list(inner))


def decided(command: int, *inner: Values, flags: int = 0, solicited: bool = True) -> Values:
    """Return the values of DEC."""
    data = (one("REPLACEMENT", inner=list(inner)),) if inner else ()
    order = one("DECISION_FLAGS", command=command, flags=flags)
    return policed("DEC", HANDLE, CONTEXT, order, *data, solicited=solicited)


def reported(report: int, *inner: Values) -> Values:
    """Return the values of RPT."""
    more = (info(*inner),) if inner else ()
    kind = one("REPORT_TYPE", report=report)
    return policed("RPT", HANDLE, kind, *more, solicited=not inner)


def cops() -> list[Vector]:
    """Return messages of COPS, one of each kind and those that are accepted and never sent so."""
    offers = (tariff("OFFER", 284_100, 7, ES), tariff("OFFER", -5_000, 8, "10.0.0.9"))
    refused = (error(HOUSE, 252, 104), *offers)
    start, again = one("PEP_ID", name=HOUSE), one("LAST_PDP", **POLICEMAN)
    timers = one("KEEP_ALIVE_TIMER", seconds=30), one("ACCOUNTING_TIMER", seconds=60)
    stop, elsewhere = one("ERROR", code=11, sub_code=0), one("ERROR", code=12, sub_code=0)
    rows: list[tuple[str, str, Values]] = [
        ("open", "MPLA-6-03", policed("OPN", start)),
        ("open-again", "MPLA-6-03", policed("OPN", start, again)),
        ("accept", "MPLA-6-03", policed("CAT", *timers)),
        ("request", "MPLA-6-04", policed("REQ", HANDLE, CONTEXT, INTERFACE, info(*PATH))),
        ("install", "MPLA-6-04", decided(1, QUOTE)),
        ("new-price", "MPLA-6-01", decided(1, QUOTE, solicited=False)),
        ("remove", "MPLA-6-04 MPLA-6-06", decided(2, *refused, flags=1)),
        ("nothing", "MPLA-6-04", decided(0)),
        ("not-understood", "MPLA-6-04",
         policed("DEC", HANDLE, one("ERROR", code=13, sub_code=0x0709), solicited=True)),
        ("closed", "MPLA-6-04", reported(1)),
        ("failed", "MPLA-6-04", reported(2)),
        ("meter", "MPLA-6-04 MPLA-4.4-05", reported(3, meter())),
        ("meter-final", "MPLA-6-04 MPLA-4.4-05", reported(3, meter(3, 2**64 - 1))),
        ("delete", "MPLA-6-04", policed("DRQ", HANDLE, one("REASON", code=4, sub_code=0))),
        ("synchronize", "MPLA-6-04", policed("SSQ")),
        ("synchronize-one", "MPLA-6-04", policed("SSQ", HANDLE)),
        ("complete", "MPLA-6-04", policed("SSC")),
        ("complete-one", "MPLA-6-04", policed("SSC", one("HANDLE", handle="6f6464"))),
        ("keep-alive", "MPLA-6-03", policed("KA", client_type=0)),
        ("close", "MPLA-6-03", policed("CC", stop)),
        ("close-all", "MPLA-6-03",
         policed("CC", elsewhere, one("REDIRECT", **POLICEMAN), client_type=0)),
    ]  # fmt: skip
    odd: list[tuple[str, str, Values]] = [
        ("keep-alive-signed", "MPLA-6-08",
         policed("KA", one("INTEGRITY", content="0000000100000001" + "00" * 12), client_type=0)),
        ("request-two-interfaces", "MPLA-6-04",
         policed("REQ", HANDLE, CONTEXT, INTERFACE,
                 one("OUT_INTERFACE", address=ES, link=1), info(*LEAST),
                 info(tariff("LIMIT", 300_000)))),
    ]  # fmt: skip
    made = [Vector(f"cops-{name}", build_cops(values), tuple(rules.split()), values, layout="cops")
            for name, rules, values in rows]  # fmt: skip
    return made + [
        Vector(f"cops-{name}", build_cops(values), tuple(rules.split()), values, canonical=False,
               layout="cops")
        for name, rules, values in odd
    ]  # fmt: skip


def octets_of(op: int, body: str, flags: int = 0x10, client_type: int = 1) -> bytes:
    """Return a message of COPS around a body, hexadecimal."""
    octets = bytes.fromhex(body)
    head = bytes((flags, op)) + client_type.to_bytes(2, "big")
    return head + (8 + len(octets)).to_bytes(4, "big") + octets


def bad_cops() -> list[Vector]:
    """Return octets that are no message of COPS, or a message with a bad private object in it."""
    handle, context = "000801010000002a", "0008020100010001"
    install, report = "0008060100010000", "00080c0100030000"
    delete = "0008050100040000"
    limit = build_inner([tariff("LIMIT", 300_000)])
    price = (limit[:19] + b"\3" + limit[20:]).hex()
    register = build_inner([meter(4)]).hex()
    rows: list[tuple[str, bytes, int, str, str]] = [
        ("version-2", octets_of(9, "", 0x20, 0), 501, "version", "MPLA-6-03"),
        ("cut-in-the-header", octets_of(9, "", client_type=0)[:7], 502, "header", "MPLA-6-03"),
        ("longer-than-said", octets_of(5, "") + bytes(4), 502, "message length", "MPLA-6-03"),
        ("op-11", octets_of(11, ""), 504, "op code", "MPLA-6-03"),
        ("client-type-2", octets_of(5, "", client_type=2), 504, "client type", "MPLA-6-03"),
        ("request-solicited", octets_of(1, "", 0x11), 503, "flags", "MPLA-6-04"),
        ("object-of-3-octets", octets_of(5, "0003010100000000"), 502, "length of an object",
         "MPLA-6-03"),
        ("object-past-the-end", octets_of(5, "000c01010000002a"), 502, "length of an object",
         "MPLA-6-03"),
        ("handle-none", octets_of(4, delete), 506, "order", "MPLA-6-04"),
        ("handle-empty", octets_of(5, "00040101"), 503, "HANDLE", "MPLA-6-04"),
        ("handle-65-octets", octets_of(5, "00450101" + "2a" * 65 + "000000"), 503, "HANDLE",
         "MPLA-6-04"),
        ("context-first", octets_of(2, context + handle + install, 0x11), 506, "order",
         "MPLA-6-04"),
        ("two-decisions", octets_of(2, handle + (context + install) * 2, 0x11), 505, "object",
         "MPLA-6-04"),
        ("object-17", octets_of(5, handle + "00041101"), 505, "object", "MPLA-6-04"),
        ("command-3", octets_of(2, handle + context + "0008060100030000", 0x11), 503,
         "DECISION_FLAGS", "MPLA-6-04"),
        ("report-4", octets_of(3, handle + "00080c0100040000"), 503, "REPORT_TYPE", "MPLA-6-04"),
        ("name-without-zero", octets_of(6, "00080b0130303030"), 503, "PEP_ID", "MPLA-6-03"),
        ("meter-flag-4", octets_of(3, handle + report + "002c0901" + register), 503, "METER",
         "MPLA-4.4-06"),
        ("tariff-kind-3", octets_of(2, handle + context + install + "00280603" + price, 0x11), 503,
         "TARIFF", "MPLA-4.4-06"),
    ]  # fmt: skip
    return [Vector(f"cops-{name}", octets, (rule,), {}, reject=code, field=field, layout="cops")
            for name, octets, code, field, rule in rows]  # fmt: skip


# --- files --------------------------------------------------------------------------------------


def hex_text(vector: Vector) -> str:
    """Return the .hex file of a vector: the header, then each object with its name."""
    why = f"reject {vector.reject}" if vector.reject else vector.layout
    lines = [f"; {vector.name}: {why}", vector.octets[:8].hex(" ")]
    names = iter([*vector.decoded.get("objects", ())])
    at = 8
    while at < len(vector.octets):
        length = max(int.from_bytes(vector.octets[at : at + 2], "big"), 4)
        length += -length % 4 if vector.layout == "cops" else 0
        part = vector.octets[at : at + length]
        at += length
        if vector.canonical and not vector.reject:
            lines.append(f"; {next(names)['object']}")
        lines += [part[row : row + 16].hex(" ") for row in range(0, len(part), 16)]
    return "\n".join(lines) + "\n"


def told(vector: Vector) -> Values:
    """Return the .json file of a vector."""
    if vector.reject:
        verdict: Values = {"valid": False, "reject": vector.reject}
        verdict |= {} if vector.value is None else {"value": vector.value}
        verdict |= {"field": vector.field} if vector.field else {}
    else:
        verdict = {"valid": True, "decoded": vector.decoded}
        verdict |= {} if vector.canonical else {"canonical": False}
        is_keyed = any(row["object"] == "INTEGRITY" for row in vector.decoded["objects"])
        if is_keyed and vector.layout == "rsvp":
            verdict["secret"] = SECRET.hex()
    return {"layout": vector.layout, **verdict, "requirement": list(vector.requirement)}


def files() -> dict[Path, str]:
    """Return every file with its text."""
    found: dict[Path, str] = {}
    for vector in (*paths(), *others(), *tolerated(), *bad(), *cops(), *bad_cops()):
        base = (FOLDER / "bad" if vector.reject else FOLDER) / vector.name
        found[base.with_suffix(".hex")] = hex_text(vector)
        text = json.dumps(told(vector), indent=1, ensure_ascii=False)
        found[base.with_suffix(".json")] = text + "\n"
    return found


def main(argv: list[str]) -> int:
    """Write the vectors, or with --check compare them. Returns 0, or 1 for a difference."""
    there = {path for path in FOLDER.rglob("*") if path.is_file()}
    return run(argv, "tools.mplamps_vectors", __doc__, ROOT, files(), there)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
