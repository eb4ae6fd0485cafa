"""Writes the vectors of the DPDP draft, rfc/vectors/dpdp: TXT records, each .hex with its .json.

`python -m tools.dpdp_vectors [--check]`. Every string is spelled out here and every value is stated
by hand or made by the schema; nothing of powertcp/dpdp is used. `--check` writes nothing and exits
1 when a file is missing, stale or made by nobody.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from powertcp.crypto import ExchangeKey, SigningKey
from powertcp.wire.values import parse
from tools.vector_files import run

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "rfc" / "vectors" / "dpdp"
Values = dict[str, Any]
Strings = tuple[str | bytes, ...]

METER = SigningKey(bytes([0x21]) * 32)
EXCHANGE = ExchangeKey(bytes([0x22]) * 32)
INSTANCE, KIND, PORT = "Roof array", "_powertcp._tcp.local.", 3251
NOW_S = 1_795_305_600
BENCH_ID = "7f31a2c4d5e60718293a4b5c6d7e8f90"
BENCH = "4c00002ee0000bb80000000000000000"
FIVE_VOLT = "64000013880000000000000000000000"
MAINS = "4c4003827000" + "3e80" + "1388" + "0000" + "00000000"
THREE_PHASE = "4c7003827000" + "7d00" + "1388" + "0000" + "00000000"
BATTERY_48 = "4c0000bb80" + "0007d0" + "0000" + "0000" + "00000000"
USB = "4c00" + "004e20" + "001388" + "0000" + "0000" + "00000000"
LEAST: Strings = ("txtvers=1", f"id={BENCH_ID}", f"p1={BENCH}", "cap=36000", "src=grid")


class Vector(NamedTuple):
    """One TXT record: its strings, what they say or why the record is refused."""

    name: str
    strings: Strings
    requirement: tuple[str, ...]
    decoded: Values
    canonical: bool = True
    field: str = ""
    reject: int = 0
    about: Values | None = None
    octets: bytes = b""


def letters(octets: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def profile(digits: str) -> Values:
    """Return the values of one power profile, by the schema."""
    return parse("profile", bytes.fromhex(digits))


def offer(digits: str, minimum: str = "") -> Values:
    """Return the values of one offer."""
    return {"offer": profile(digits), "minimum": profile(minimum) if minimum else None}


def said(*offers: Values, **changes: object) -> Values:
    """Return what the least advert says, with changes."""
    values: Values = {
        "id": BENCH_ID,
        "offers": list(offers) or [offer(BENCH)],
        "cap_mw": 36_000,
        "source": "grid",
    }
    return values | changes


def raw(strings: Strings) -> bytes:
    """Return the octets of a record."""
    encoded = [text if isinstance(text, bytes) else text.encode() for text in strings]
    return b"".join(bytes([len(text)]) + text for text in encoded)


def instead(old: str, *new: str | bytes) -> Strings:
    """Return the strings of the least advert with one key replaced, or left out."""
    at = next(at for at, text in enumerate(LEAST) if str(text).startswith(f"{old}="))
    return (*LEAST[:at], *new, *LEAST[at + 1 :])


def provider_id() -> str:
    """Return the id of the provider whose meter key this is."""
    return hashlib.blake2s(b"DPDP id 1" + METER.public, digest_size=16).hexdigest()


def signed() -> Vector:
    """Return a signed advert of 397 octets: four offers, seal and signature."""
    pairs = {
        "txtvers": "1", "id": provider_id(), "p1": MAINS, "p2": THREE_PHASE, "p3": BATTERY_48,
        "p4": USB, "cap": "36000000", "src": "reclaimed", "tariff": "EUR:250000",
        "vk": letters(EXCHANGE.public), "seal": "req", "exp": str(NOW_S + 86_400),
    }  # fmt: skip
    lines = ["powertcp dpdp 1", f"{INSTANCE}.{KIND}", str(PORT)]
    lines += [f"{key}={value}" for key, value in sorted(pairs.items())]
    signature = METER.sign("".join(f"{line}\n" for line in lines).encode())
    strings = (*(f"{key}={value}" for key, value in pairs.items()), f"sig={letters(signature)}")
    decoded = said(
        *(offer(digits) for digits in (MAINS, THREE_PHASE, BATTERY_48, USB)),
        id=provider_id(),
        cap_mw=36_000_000,
        source="reclaimed",
        tariff={"currency": "EUR", "micro_per_kwh": 250_000},
        exchange_key=EXCHANGE.public.hex(),
        seal="req",
        expires_s=NOW_S + 86_400,
        signature=signature.hex(),
    )
    about = {
        "instance": INSTANCE, "kind": KIND, "port": PORT, "meter_key": METER.public.hex(),
        "now_s": NOW_S, "signed lines": lines,
    }  # fmt: skip
    ids = ("DPDP-3-02", "DPDP-3-05", "DPDP-7-03")
    return Vector("four-offers-signed", strings, ids, decoded, about=about)


def good() -> list[Vector]:
    """Return the records that a provider may send."""
    euro = {"currency": "EUR", "micro_per_kwh": 250_000}
    vk = letters(EXCHANGE.public)
    return [
        Vector("bench", (*LEAST[:2], f"p1={BENCH}{FIVE_VOLT}", *LEAST[3:], "tariff=EUR:250000"),
               ("DPDP-3-01", "DPDP-3-04"), said(offer(BENCH, FIVE_VOLT), tariff=euro)),
        Vector("one-offer", (*instead("cap", "cap=36000000"), "tariff=EUR:250000", f"vk={vk}"),
               ("DPDP-3-02",),
               said(cap_mw=36_000_000, tariff=euro, exchange_key=EXCHANGE.public.hex())),
        signed(),
        Vector("least", instead("cap", "cap=0"), ("DPDP-3-03",), said(cap_mw=0)),
        Vector("battery", (*LEAST[:4], "src=battery", "tariff=CHF:-5000", "soc=71",
                           "loc=Küche, links"), ("DPDP-3-07",),
               said(source="battery", soc=71, loc="Küche, links",
                    tariff={"currency": "CHF", "micro_per_kwh": -5_000})),
        Vector("guest", (*LEAST, "tariff=0", f"vk={vk}", "seal=opt", "hot=guest"),
               ("DPDP-3-07",),
               said(tariff={"currency": "", "micro_per_kwh": 0}, seal="opt", hot="guest",
                    exchange_key=EXCHANGE.public.hex())),
        Vector("feed", (*LEAST[:4], "src=feed", "grp=ff15::5054",
                        "feed=00112233445566778899aabbccddeeff"), ("DPDP-3-07",),
               said(source="feed", group="ff15::5054", feed="00112233445566778899aabbccddeeff")),
        Vector("unknown-keys", (*instead("src", "src=wind"), "note=blue door", "spare"),
               ("DPDP-3-01",),
               said(source="wind", others=[["note", b"blue door".hex()], ["spare", None]])),
    ]  # fmt: skip


def tolerated() -> list[Vector]:
    """Return records that a receiver takes and no provider sends."""
    odd = ("src=grid", "", "=no key", b"\xffkey=1", "CAP=36000", "cap=1", f"P1={BENCH.upper()}",
           f"Id={BENCH_ID.upper()}", "p1=00", "TxtVers=1", "txtvers=2")  # fmt: skip
    malformed = ("p2=4c00", f"p3={FIVE_VOLT}", "tariff=250000", "vk=AAAA", "seal=maybe",
                 "grp=10.0.0.7", "feed=00", "hot", "soc=101", b"loc=\xff", "exp=-1",
                 "sig=" + "A" * 85 + "B")  # fmt: skip
    filler = tuple(f"x{number}=".ljust(255, "x") for number in range(4))
    rest = f"y={'y' * (1300 - len(raw((*LEAST, *filler))) - 3)}"
    kept = [[text[:2], text[3:].encode().hex()] for text in filler] + [
        ["y", rest[2:].encode().hex()]
    ]
    return [
        Vector("keys-in-any-order", odd, ("DPDP-3-01",), said(), canonical=False),
        Vector("malformed-optional", (*LEAST, *malformed), ("DPDP-3-03",),
               said(ignored=len(malformed)), canonical=False),
        Vector("octets-1300", (*LEAST, *filler, rest), ("DPDP-3-02",), said(others=kept),
               canonical=False),
    ]  # fmt: skip


def _refused(name: str, strings: Strings, field: str, reject: int = 503) -> Vector:
    numbers = {"txtvers": "01", "txt": "02"}
    ids = ("DPDP-3-03", "DPDP-3-04") if field == "p1" else (f"DPDP-3-{numbers.get(field, '03')}",)
    return Vector(name, strings, ids, {}, field=field, reject=reject)


def bad() -> list[Vector]:
    """Return records that are no adverts."""
    cut = raw(LEAST)[:-1]
    filler = tuple(f"x{number}=".ljust(255, "x") for number in range(4))
    rest = f"y={'y' * (1301 - len(raw((*LEAST, *filler))) - 3)}"
    request = BENCH.replace("4c", "44", 1)
    lease, tag = BENCH[:26] + "10" + BENCH[28:], BENCH[:28] + "0001"
    above = f"{FIVE_VOLT[:4]}003a98{FIVE_VOLT[10:]}"
    other_kind = f"6440{FIVE_VOLT[4:]}"
    return [
        Vector("empty", (), ("DPDP-3-01",), {}, field="txtvers", reject=501),
        _refused("empty-string", ("",), "txtvers", 501),
        _refused("txtvers-none", LEAST[1:], "txtvers", 501),
        _refused("txtvers-2", instead("txtvers", "txtvers=2"), "txtvers", 501),
        _refused("txtvers-alone", instead("txtvers", "txtvers"), "txtvers", 501),
        _refused("id-none", instead("id"), "id"),
        _refused("id-short", instead("id", f"id={BENCH_ID[:-2]}"), "id"),
        _refused("id-no-digits", instead("id", f"id=x{BENCH_ID[1:]}"), "id"),
        _refused("p1-none", instead("p1"), "p1"),
        _refused("p1-alone", instead("p1", "p1"), "p1"),
        _refused("p1-short", instead("p1", f"p1={BENCH[:-1]}"), "p1"),
        _refused("p1-blank", instead("p1", f"p1={BENCH[:30]} 0"), "p1"),
        _refused("p1-request", instead("p1", f"p1={request}"), "p1"),
        _refused("p1-version", instead("p1", f"p1=8c{BENCH[2:]}"), "p1"),
        _refused("p1-lease", instead("p1", f"p1={lease}"), "p1"),
        _refused("p1-tag", instead("p1", f"p1={tag}"), "p1"),
        _refused("p1-two-offers", instead("p1", f"p1={BENCH}{BENCH}"), "p1"),
        _refused("p1-minimum-above", instead("p1", f"p1={BENCH}{above}"), "p1"),
        _refused("p1-minimum-of-sine", instead("p1", f"p1={BENCH}{other_kind}"), "p1"),
        _refused("cap-none", instead("cap"), "cap"),
        _refused("cap-negative", instead("cap", "cap=-1"), "cap"),
        _refused("cap-unit", instead("cap", "cap=36W"), "cap"),
        _refused("cap-zero-first", instead("cap", "cap=036"), "cap"),
        _refused("cap-greatest-and-one", instead("cap", f"cap={10**18}"), "cap"),
        _refused("src-none", instead("src"), "src"),
        _refused("src-empty", instead("src", "src="), "src"),
        _refused("src-two-words", instead("src", "src=grid wind"), "src"),
        _refused("src-33-letters", instead("src", f"src={'s' * 33}"), "src"),
        _refused("cut", (), "txt", 502)._replace(octets=cut),
        _refused("octets-1301", (*LEAST, *filler, rest), "txt", 508),
    ]


def octets_of(vector: Vector) -> bytes:
    """Return the record of a vector."""
    return vector.octets or raw(vector.strings)


def hex_text(vector: Vector) -> str:
    """Return the .hex file of a vector: each string, and what it is in a comment."""
    why = f"reject {vector.reject}, {vector.field}" if vector.reject else "txt"
    lines = [f"; {vector.name}: {why}"]
    octets = octets_of(vector)
    at = 0
    while at < len(octets):
        string = octets[at : at + 1 + octets[at]]
        at += len(string)
        text = string[1:].decode("ascii", "backslashreplace") or "(empty)"
        lines.append(f"; {text}" if len(text) <= 60 else f"; {text[:57]}...")
        lines += [string[row : row + 16].hex(" ") for row in range(0, len(string), 16)]
    return "\n".join(lines) + "\n"


def told(vector: Vector) -> Values:
    """Return the .json file of a vector."""
    if vector.reject:
        verdict: Values = {"valid": False, "reject": vector.reject, "field": vector.field}
    else:
        verdict = {"valid": True, "decoded": vector.decoded}
        verdict |= {} if vector.canonical else {"canonical": False}
        verdict |= {"signed": vector.about} if vector.about else {}
    count = {"layout": "txt", "octets": len(octets_of(vector))}
    return count | verdict | {"requirement": list(vector.requirement)}


def files() -> dict[Path, str]:
    """Return every file with its text."""
    made: dict[Path, str] = {}
    for vector in (*good(), *tolerated(), *bad()):
        base = (FOLDER / "bad" if vector.reject else FOLDER) / vector.name
        made[base.with_suffix(".hex")] = hex_text(vector)
        text = json.dumps(told(vector), indent=1, ensure_ascii=False)
        made[base.with_suffix(".json")] = text + "\n"
    return made


def main(argv: list[str]) -> int:
    """Write the vectors, or with --check compare them. Returns 0, or 1 for a difference."""
    there = {path for path in FOLDER.rglob("*") if path.is_file()}
    return run(argv, "tools.dpdp_vectors", __doc__, ROOT, files(), there)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
