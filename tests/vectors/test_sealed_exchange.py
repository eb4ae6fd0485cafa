"""The sealed exchange that the VPPN draft prints: held again, and opened by hand."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from powertcp.errors import DecodeError
from powertcp.wire.frames import Splitter, whole_segment
from tools.vppn_vectors import PATH, REQUIREMENTS, exchange, main, plain_of, sessions

VECTOR: dict[str, Any] = json.loads(PATH.read_text(encoding="ascii"))
SEGMENTS = [
    (one["from"], one["plain"], bytes.fromhex("".join(one["octets"]))) for one in VECTOR["segments"]
]
KEYS = {who: bytes.fromhex("".join(key)) for who, key in VECTOR["keys"].items()}
ids = pytest.mark.requirement(
    "VPPN-2.1-02", "VPPN-2.1-04", "VPPN-2.2-05", "VPPN-2.2-07", "VPPN-2.3-01", "VPPN-3-01",
    "VPPN-3-02", "VPPN-3-03", "VPPN-3-04",
)  # fmt: skip


@ids
def test_the_exchange_is_this_one_to_the_octet() -> None:
    assert exchange() == VECTOR
    assert [*REQUIREMENTS] == VECTOR["requirement"]
    assert main(["--check"]) == 0
    assert len(SEGMENTS) == 5
    assert len(SEGMENTS[0][2]) == 36 + 2 + 1296 + 10 + len(plain_of("syn-dc-lamp"))


@ids
def test_its_sealed_segments_open_with_the_printed_keys() -> None:
    """By the text of the draft alone, with a library of ciphers and nothing of ours."""
    counters = {"initiator": 0, "responder": 0}
    count = 0
    for who, plain, octets in SEGMENTS[2:]:
        expected = b"".join(map(plain_of, plain))
        found = b""
        while octets:
            head = 4 * octets[3]
            size = head + int.from_bytes(octets[6:8], "big")
            nonce = bytes(4) + counters[who].to_bytes(8, "little")
            key = KEYS[who[0].upper()]
            text = ChaCha20Poly1305(key).decrypt(nonce, octets[head:size], octets[:head])
            assert octets[8:20] == text[8:20]
            found += text
            counters[who] += 1
            count += 1
            octets = octets[size:]
        assert found == expected
    assert count >= 3


@ids
def test_each_side_of_ours_reads_what_the_other_one_says() -> None:
    initiator, responder, keys = sessions()
    sides = {"initiator": initiator, "responder": responder}
    for who, plain, octets in SEGMENTS:
        sides[who].put(b"".join(map(plain_of, plain)), 16384, 0)
        assert sides[who].take_out() == octets
        there = responder if who == "initiator" else initiator
        for raw in Splitter(65535).receive(octets):
            there.receive(raw, 0)
    assert dict(keys) == KEYS
    assert (
        initiator.binding == responder.binding == bytes.fromhex("".join(VECTOR["handshake hash"]))
    )


@ids
def test_one_changed_octet_is_found() -> None:
    for number, (who, _, octets) in enumerate(SEGMENTS[:2]):
        for at in range(20, len(octets), 97):
            initiator, responder, _ = sessions()
            initiator.put(plain_of("syn-dc-lamp"), 16384, 0)
            first = initiator.take_out()
            if number:
                responder.receive(*_raw(first))
            there = responder if who == "initiator" else initiator
            bent = octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]
            with pytest.raises(DecodeError):
                there.receive(*_raw(bent))


def _raw(octets: bytes) -> tuple[Any, int]:
    (raw,) = Splitter(65535).receive(octets)
    assert whole_segment(raw) == octets
    return raw, 0
