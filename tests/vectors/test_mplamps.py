"""Every vector of the MPLampS draft: messages of RSVP, by the hand-written codec and by the schema."""

import json
from pathlib import Path
from typing import Any

import pytest

from powertcp.errors import DecodeError
from powertcp.mplamps.rsvp import Rejected, decode_message, encode_message
from powertcp.wire.rsvp_values import build_message, parse_message
from powertcp.wire.schema import Rejected as Refused
from tests.rsvp_messages import GOLDEN_PATH, GOLDEN_RESV
from tests.rsvp_values import own_values
from tools.mplamps_vectors import FOLDER, KEY_ID, SECRET, main

Values = dict[str, Any]
Row = tuple[str, Values, bytes]


def vectors(folder: Path) -> list[Row]:
    """Return (name, JSON, octets) of every vector in a folder; read at collection."""
    found = []
    for path in sorted(folder.glob("*.hex")):
        lines = path.read_text(encoding="utf-8").splitlines()
        octets = bytes.fromhex("".join(line.partition(";")[0] for line in lines))
        found.append((path.stem, json.loads(path.with_suffix(".json").read_text()), octets))
    return found


GOOD = [row for row in vectors(FOLDER) if row[1]["layout"] == "rsvp"]
BAD = [row for row in vectors(FOLDER / "bad") if row[1]["layout"] == "rsvp"]
GOLDEN = {"path": GOLDEN_PATH, "resv": GOLDEN_RESV}


@pytest.mark.requirement("MPLA-4.2-01", "MPLA-4.2-02")
def test_there_are_vectors_enough() -> None:
    assert len(GOOD) >= 20
    assert len(BAD) >= 10


def test_the_files_are_those_that_the_script_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["--check"]) == 0


@pytest.mark.requirement("MPLA-4.2-01", "MPLA-4.4-02", "MPLA-4.4-03")
@pytest.mark.parametrize("name", GOLDEN)
def test_the_octets_printed_in_the_specification_are_these(name: str) -> None:
    assert {row[0]: row[2] for row in GOOD}[name] == GOLDEN[name]


@pytest.mark.requirement("MPLA-4.2-01", "MPLA-4.3-01", "MPLA-4.4-01")
@pytest.mark.parametrize(("name", "about", "octets"), GOOD, ids=[row[0] for row in GOOD])
def test_good_vector(name: str, about: Values, octets: bytes) -> None:
    decoded = about["decoded"]
    assert parse_message(octets) == decoded
    keys = {int(KEY_ID, 16): SECRET} if "secret" in about else None
    received = decode_message(octets, keys)
    assert received.ttl == decoded["ttl"]
    assert not isinstance(received.message, Rejected)
    if "secret" not in about:
        assert own_values(received) == own_values(decoded)
    if about.get("canonical", True):
        assert build_message(decoded) == octets
    if about.get("canonical", True) and not keys:
        assert encode_message(received.message, received.ttl) == octets  # type: ignore[arg-type]


@pytest.mark.requirement("MPLA-4.1-02", "MPLA-4.2-02", "MPLA-4.3-01", "MPLA-4.3-05", "MPLA-4.4-06")
@pytest.mark.parametrize(("name", "about", "octets"), BAD, ids=[row[0] for row in BAD])
def test_bad_vector(name: str, about: Values, octets: bytes) -> None:
    with pytest.raises(Refused) as by_schema:
        parse_message(octets)
    assert by_schema.value.code == about["reject"]
    if about["reject"] >= 500:
        assert by_schema.value.field == about["field"]
        with pytest.raises(DecodeError) as by_hand:
            decode_message(octets)
        assert by_hand.value.code == about["reject"]
        return
    assert by_schema.value.value == about["value"]
    rejected = decode_message(octets).message
    assert isinstance(rejected, Rejected)
    assert rejected.fault == (about["reject"], about["value"])
