"""Writes the vector of the VPPN draft, rfc/vectors/vppn/sealed-exchange.json, and as one captures it.

`python -m tools.vppn_vectors [--check]`. The octets and the key log, by which `powertcp decode` opens
them, are tests/data/sealed-exchange.hex and .keys. A handshake ik, power in its first flight, and three sealed
segments. All entropy is fixed: each secret is one octet, repeated.
"""

import json
import sys
from pathlib import Path
from typing import Any

from kyber_py.ml_kem import ML_KEM_768

from powertcp.crypto import ExchangeKey
from powertcp.vppn.config import SealConfig
from powertcp.vppn.office import SealOffice
from powertcp.vppn.session import Session
from powertcp.wire.frames import Splitter

VECTORS = Path(__file__).resolve().parent.parent / "rfc" / "vectors"
PATH = VECTORS / "vppn" / "sealed-exchange.json"
CAPTURE = VECTORS.parent.parent / "tests" / "data" / "sealed-exchange.hex"
TIME_NS = 1_763_712_000_000_000_000
ROW = 24
REQUIREMENTS = (
    "VPPN-2.1-02", "VPPN-2.1-04", "VPPN-2.2-05", "VPPN-2.2-07", "VPPN-2.3-01", "VPPN-3-01",
    "VPPN-3-02", "VPPN-3-03", "VPPN-3-04",
)  # fmt: skip
SECRETS = {
    "initiator static": "11", "responder static": "12", "initiator ephemeral": "13",
    "responder ephemeral": "14", "ML-KEM-768 seed": "15", "encapsulation": "16",
}  # fmt: skip


def secret(name: str, count: int = 32) -> bytes:
    """Return one of the secrets."""
    return bytes.fromhex(SECRETS[name]) * count


def plain_of(name: str) -> bytes:
    """Return the octets of a vector of the protocol draft."""
    lines = (VECTORS / "protocol" / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line.partition(";")[0] for line in lines))


class NoCookies:
    """Nobody is under load here."""

    def cookie(self, peer: bytes, flow: int, options: bytes, now: int) -> bytes:
        """Return none that is of use."""
        return bytes(32)

    def has_cookie(
        self, cookie: bytes | None, peer: bytes, flow: int, options: bytes, now: int
    ) -> bool:
        """Return False."""
        return False


def encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """Encapsulate by the fixed random value."""
    found: tuple[bytes, bytes] = ML_KEM_768._encaps_internal(public, secret("encapsulation"))  # noqa: SLF001
    return found


def sessions() -> tuple[Session, Session, list[tuple[str, bytes]]]:
    """Return both sides, and the list in which their keys appear."""
    keys: list[tuple[str, bytes]] = []
    drawn = {32: secret("initiator ephemeral"), 64: secret("ML-KEM-768 seed", 64), 4: bytes(4)}
    responder_key = ExchangeKey(secret("responder static"))
    initiator = Session(
        SealConfig(
            key=ExchangeKey(secret("initiator static")),
            peer=responder_key.public,
            key_log=lambda _, __, who, key: keys.append((who, key)),
        ),
        is_initiator=True,
        entropy=drawn.__getitem__,
        unix_offset_ns=TIME_NS,
    )
    responder = Session(
        SealConfig(key=responder_key, encapsulate=encapsulate),
        is_initiator=False,
        entropy={32: secret("responder ephemeral")}.__getitem__,
        office=SealOffice(NoCookies(), TIME_NS - 1),
        unix_offset_ns=TIME_NS,
    )
    return initiator, responder, keys


def rows(octets: bytes) -> list[str]:
    """Return octets as lines that fit into the draft."""
    return [octets[at : at + ROW].hex() for at in range(0, len(octets), ROW)]


def exchange() -> dict[str, Any]:
    """Hold the conversation and return what the file says of it."""
    initiator, responder, keys = sessions()
    sides = {"initiator": initiator, "responder": responder}
    said = []
    for name, plain in (
        ("initiator", ["syn-dc-lamp"]),
        ("responder", ["synack-grant"]),
        ("initiator", ["ack-grant", "credit"]),
        ("responder", ["ready", "data-10-samples"]),
        ("initiator", ["maintain-probe"]),
    ):
        there = next(side for other, side in sides.items() if other != name)
        sides[name].put(b"".join(map(plain_of, plain)), 16384, 0)
        octets = sides[name].take_out()
        for raw in Splitter(65535).receive(octets):
            there.receive(raw, 0)
        said.append({"from": name, "plain": plain, "octets": rows(octets)})
    return {
        "requirement": list(REQUIREMENTS),
        "pattern": "ik",
        "secrets, one octet repeated": SECRETS,
        "time_ns": TIME_NS,
        "segments": said,
        "handshake hash": rows(initiator.binding),
        "keys": {who: rows(key) for who, key in keys},
    }


def capture(said: dict[str, Any]) -> str:
    """Return the segments of a conversation as a file of hex digits."""
    lines = ["; made by tools/vppn_vectors.py"]
    for one in said["segments"]:
        lines += [f"; {one['from']}: {', '.join(one['plain'])}", *one["octets"]]
    return "\n".join(lines) + "\n"


def key_log(said: dict[str, Any]) -> str:
    """Return the keys of a conversation as both its ends log them."""
    ephemeral = ExchangeKey(secret("initiator ephemeral")).public.hex()
    rows = [
        f"VPPN_KEY {ephemeral} 00000000 {who} {''.join(key)}" for who, key in said["keys"].items()
    ]
    return "\n".join(["# made by tools/vppn_vectors.py", *rows]) + "\n"


def main(argv: list[str]) -> int:
    """Write the files, or with --check compare them. Returns 0, or 1 for a difference."""
    said = exchange()
    texts = {
        PATH: json.dumps(said, indent=1) + "\n",
        CAPTURE: capture(said),
        CAPTURE.with_suffix(".keys"): key_log(said),
    }
    if argv == ["--check"]:
        return int(any(not it.exists() or it.read_text() != texts[it] for it in texts))
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
