"""Pages of receipts for the test vectors: values by hand, octets by the schema, real signatures.

The keys are Ed25519 keys whose seeds are 32 octets 0x01 (source) and 32 octets 0x02 (sink).
"""

from collections.abc import Iterator
from hashlib import blake2s
from typing import Any

from powertcp.crypto import SigningKey
from powertcp.wire.values import build

Values = dict[str, Any]
Good = tuple[str, bytes, tuple[str, ...]]
Bad = tuple[str, bytes, int, int, tuple[str, ...]]

SOURCE = SigningKey(b"\x01" * 32)
SINK = SigningKey(b"\x02" * 32)
NOTHING = "00" * 32
UNSIGNED = "00" * 64
MINUTE_NS = 60_000_000_000
START_NS = 1_800_000_000_000_000_000
# 18 W for a minute
PAGE_UJ = 1_080_000_000
PRICE_MICRO = 312_000
UJ_PER_KWH = 3_600_000_000_000
LAYOUT = "LEDG-6-07"
SIGNED = "LEDG-6-08"
FEED = "LEDG-6-05"

# one DVE block: ten samples of 12 V and 1.5 A
BLOCK = bytes.fromhex("00000000 80 01 000a" + "00002ee0 0016e360" * 10)


def page(number: int, **fields: Any) -> Values:  # noqa: ANN401  JSON values
    """Return the values of an unsigned page of a lamp of 18 W."""
    values: Values = {
        "flags": ["SIMULATED"],
        "clock": "S",
        "transcript": blake2s(b"SYN, SYN+ACK, ACK").hexdigest(),
        "contract": 1,
        "page": number,
        "samples": 10,
        "start_uj": number * PAGE_UJ,
        "end_uj": (number + 1) * PAGE_UJ,
        "start_ns": START_NS + number * MINUTE_NS,
        "end_ns": START_NS + (number + 1) * MINUTE_NS,
        "cost_micro": 0,
        "tariff": NOTHING,
        "previous": NOTHING,
        "digest": blake2s(bytes(32) + BLOCK).hexdigest(),
        "source_key": SOURCE.public.hex(),
        "sink_key": SINK.public.hex(),
        "source_signature": UNSIGNED,
        "sink_signature": UNSIGNED,
    }
    return {**values, **fields}


def by_source(values: Values) -> bytes:
    """Return the octets with the signature of the source."""
    octets = build("receipt", values)
    return octets[:252] + SOURCE.sign(b"powertcp receipt source " + octets[:252]) + bytes(64)


def by_sink(octets: bytes) -> bytes:
    """Return the octets with the signature of the sink."""
    return octets[:316] + SINK.sign(b"powertcp receipt sink " + octets[:316])


def both(values: Values) -> bytes:
    """Return the octets with both signatures."""
    return by_sink(by_source(values))


def after(octets: bytes) -> str:
    """Return the digest that the next page carries."""
    return blake2s(octets[:316] + bytes(64)).hexdigest()


def cost(price_micro: int, start_uj: int, end_uj: int) -> int:
    """Return the cost of a page under a price in force since 0 uJ; nothing here is half a unit."""

    def rounded(energy_uj: int) -> int:
        return (2 * price_micro * energy_uj + UJ_PER_KWH) // (2 * UJ_PER_KWH)

    return rounded(end_uj) - rounded(start_uj)


def good_receipts() -> Iterator[Good]:
    """Yield (name, octets, requirements) of pages to be accepted."""
    first = both(page(0))
    yield "receipt-page-0", first, (LAYOUT, SIGNED)
    second = both(page(1, previous=after(first)))
    yield "receipt-page-1", second, ("LEDG-6-01", SIGNED)
    last = page(2, previous=after(second), flags=["FINAL", "SIMULATED"], end_uj=2 * PAGE_UJ + 1)
    yield "receipt-final", both(last), ("LEDG-6-01", LAYOUT)
    yield "receipt-as-sent", by_source(page(0)), (SIGNED,)
    resumed = {"flags": ["TRUNCATED", "RESUMED"], "contract": 3}
    again = page(2, previous=after(second), **resumed)
    yield "receipt-resumed", both(again), ("LEDG-6-01",)
    document = b'{"currency": "EUR", "price_micro_per_kwh": 312000}\n'
    tariff = blake2s(document).hexdigest()
    priced = page(0, tariff=tariff, cost_micro=cost(PRICE_MICRO, 0, PAGE_UJ))
    yield "receipt-priced", both(priced), ("LEDG-6-04",)
    price = -PRICE_MICRO
    paid = page(7, previous=after(first), tariff=tariff,
                cost_micro=cost(price, 7 * PAGE_UJ, 8 * PAGE_UJ))  # fmt: skip
    yield "receipt-negative-cost", both(paid), ("LEDG-6-04",)
    early = page(1, previous=after(first), clock="U", end_ns=START_NS - MINUTE_NS)
    yield "receipt-clock-backwards", both(early), ("LEDG-6-06",)
    yield "receipt-relative", both(page(0, clock="R", start_ns=0, end_ns=MINUTE_NS)), (LAYOUT,)
    epoch = blake2s(b"powertcp feed" + bytes(range(16)) + b"\0\0\0\x09").hexdigest()
    feed = build("receipt", page(0, flags=["FEED"], transcript=epoch, clock="I"))
    yield "receipt-feed", by_sink(feed), (FEED,)
    least: Values = {"flags": [], "samples": 0, "end_uj": 0, "start_ns": 0, "end_ns": 0}
    yield "receipt-least", both(page(0, contract=0, **least)), (LAYOUT,)
    most: Values = dict.fromkeys(("samples", "start_uj", "end_uj", "start_ns", "end_ns"), 2**64 - 1)
    most |= {"contract": 2**32 - 1, "cost_micro": 2**63 - 1, "previous": "ff" * 32}
    flags = ["FINAL", "TRUNCATED", "RESUMED", "SIMULATED"]
    yield "receipt-most", both(page(2**32 - 1, **most | {"flags": flags})), (LAYOUT,)
    debt = page(1, cost_micro=-(2**63), previous="ff" * 32)
    yield "receipt-greatest-debt", both(debt), (LAYOUT,)


def bad_receipts() -> Iterator[Bad]:
    """Yield (name, octets, code, value, requirements) of octets that are no page."""
    whole = both(page(0))
    for size in (0, 1, 379):
        yield f"receipt-octets-{size}", whole[:size], 502, size, (LAYOUT,)
    yield "receipt-octets-381", whole + b"\0", 502, 381, (LAYOUT,)
    for name, offset, octet in (
        ("version-0", 0, 0),
        ("version-2", 0, 2),
        ("flags-20", 1, 0x20),
        ("flags-ff", 1, 0xFF),
        ("clock-0", 2, 0),
        ("clock-lower", 2, ord("s")),
        ("nonzero", 3, 1),
    ):
        octets = whole[:offset] + bytes((octet,)) + whole[offset + 1 :]
        yield f"receipt-{name}", octets, 403, octet, (LAYOUT,)
    falls = both(page(0, start_uj=PAGE_UJ + 1))
    yield "receipt-register-falls", falls, 403, PAGE_UJ, (LAYOUT,)
    yield "receipt-page-0-follows", both(page(0, previous="01" * 32)), 403, 0, (LAYOUT,)
    feed = both(page(3, flags=["FEED"], previous="01" * 32))
    yield "receipt-feed-signed-by-source", feed, 403, 3, (FEED, LAYOUT)
