"""Segments of a feed for the test vectors: values by hand, octets by the schema, real signatures.

The feed is that of the Ed25519 key whose seed is 32 octets 0x01. Two blocks of ten samples of 12 V
and 1.5 A at 1 kHz, 180,000 uJ each, and the signature that covers both.
"""

from collections.abc import Iterator
from hashlib import blake2s
from typing import Any

from powertcp.wire.values import build
from tools.receipt_vectors import SOURCE, by_sink, page

Values = dict[str, Any]
Good = tuple[str, Values, tuple[str, ...]]
Bad = tuple[str, bytes, int, int, tuple[str, ...]]

BLOCK, SIGNATURE, NAME, TERMS = "PTCP-12-04", "PTCP-12-05", "PTCP-12-06", "PTCP-12-07"
TCP = "PTCP-12-02"
FEED_ID = blake2s(b"powertcp feed id 1" + SOURCE.public).digest()[:16]
EPOCH = 7
BLOCK_UJ = 180_000

FEED: Values = {"option": "FEED", "feed_id": FEED_ID.hex(), "epoch": EPOCH}
METER: Values = {
    "option": "METER", "receipt_s": 60, "receipt_uj": 360_000_000_000, "key": SOURCE.public.hex(),
}  # fmt: skip
SAMPLING: Values = {
    "option": "SAMPLING", "rate_hz": 1000, "nv_per_lsb": 1_000_000, "na_per_lsb": 1000, "pairs": 1,
    "encoding": 0,
}  # fmt: skip
GRANT: Values = {
    "option": "PROFILE", "type": "GRANT", "voltage_mv": 12_000, "current_ma": 1_500,
    "waveform": "DC", "phases": "ONE", "priority": 0, "frequency_chz": 0, "energy_j": 0,
    "lease_s": 0, "profile_id": 0, "tag": 0, "giveback": False,
}  # fmt: skip


def feed(
    *flags: str, esn: int = 0, options: tuple[Values, ...] = (FEED,), octets: str = ""
) -> Values:
    """Return the values of a FEED segment."""
    head = {"type": "FEED", "flags": list(flags), "flow": 0, "esn": esn}
    return {**head, "options": list(options), "payload": {"octets": octets}}


def block(index: int, *flags: str) -> Values:
    """Return the values of the datagram with block `index`."""
    values = {"counter": 10 * index, "sync": 0x80, "pairs": 1, "samples": [12_000, 1_500_000] * 10}
    octets = build("block", values).hex()
    return feed(*flags, esn=BLOCK_UJ * index, options=(GRANT, SAMPLING, FEED), octets=octets)


def signature(first: int, count: int) -> Values:
    """Return the values of the signature of blocks `first` to `first + count - 1`."""
    payload = (10 * first).to_bytes(4, "big") + bytes((count,))
    for index in range(first, first + count):
        payload += blake2s(build("segment", block(index)), digest_size=16).digest()
    option = b"\x81\x16" + FEED_ID + EPOCH.to_bytes(4, "big")
    payload += SOURCE.sign(b"powertcp feed 1" + option + payload)
    esn = BLOCK_UJ * (first + count)
    return feed("PSH", esn=esn, options=(METER, FEED), octets=payload.hex())


def receipt() -> Values:
    """Return the values of the page that a receiver of both blocks signed, on its way."""
    digest = bytes(32)
    for index in range(2):
        digest = blake2s(digest + bytes.fromhex(block(index)["payload"]["octets"])).digest()
    transcript = blake2s(b"powertcp feed" + FEED_ID + EPOCH.to_bytes(4, "big"))
    fields = {"flags": ["FEED", "FINAL", "SIMULATED"], "transcript": transcript.hexdigest()}
    unsigned = page(0, **fields, contract=0, samples=20, end_uj=2 * BLOCK_UJ, digest=digest.hex())
    octets = by_sink(build("receipt", unsigned)).hex()
    head = {"type": "RECEIPT", "flags": [], "flow": 0, "esn": 0}
    return {**head, "options": [FEED], "payload": {"page": octets}}


def good_feeds() -> Iterator[Good]:
    """Yield (name, values, requirements) of the segments of a feed."""
    yield "feed-block-0", block(0), (BLOCK, TERMS)
    yield "feed-block-1", block(1), (BLOCK, TERMS)
    yield "feed-block-1-ece", block(1, "ECE"), (BLOCK, SIGNATURE)
    yield "feed-signature", signature(0, 2), (SIGNATURE, NAME)
    yield "feed-signature-one", signature(2, 1), (SIGNATURE,)
    yield "feed-signature-most", signature(3, 25), (SIGNATURE,)
    nameless = {**FEED, "feed_id": "00" * 16, "epoch": 0}
    yield "feed-subscribe-any", feed("SYN", options=(nameless,)), (TCP,)
    confirm = feed("SYN", "ACK", esn=BLOCK_UJ, options=(GRANT, SAMPLING, METER, FEED))
    yield "feed-confirm", confirm, (TCP, NAME)
    yield "feed-end", feed("FIN"), (TCP,)
    yield "feed-receipt", receipt(), ("LEDG-6-05",)


def bad_feeds() -> Iterator[Bad]:
    """Yield (name, octets, code, value, requirements) of FEED segments that no decoder takes."""
    whole = build("segment", block(0))
    area = whole[20:76]
    named = area[34:56]

    def spoilt(options: bytes) -> bytes:
        options += bytes(-len(options) % 4)
        words = 5 + len(options) // 4
        return whole[:3] + bytes((words,)) + whole[4:20] + options + whole[76:]

    ids = ("PTCP-2.3-02",)
    yield "feed-named-twice", spoilt(area + named), 503, 76, ids
    yield "feed-name-cut", spoilt(named[:1] + b"\x15" + named[2:21]), 503, 20, ids
    critical = spoilt(area + b"\xc8\x04\x00\x00")
    yield "feed-critical-option", critical, 505, 200, ("PTCP-2.3-01",)
