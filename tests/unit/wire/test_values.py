from typing import Any

import pytest

from powertcp.wire.schema import Rejected
from powertcp.wire.values import build, explain, parse
from tests.wire_values import vectors

GOOD = vectors()
BAD = vectors(bad=True)


@pytest.mark.requirement("PTCP-1-05", "PTCP-2.2-03", "PTCP-2.3-05", "PTCP-3.1-03")
@pytest.mark.parametrize(("name", "about", "octets"), GOOD, ids=[row[0] for row in GOOD])
def test_rows_cover_every_octet_once(name: str, about: dict[str, object], octets: bytes) -> None:
    layout = str(about["layout"])
    said = explain(octets, layout)
    assert said.fault is None, name
    at = 0
    for row in said.rows:
        assert octets[row.offset : row.offset + len(row.octets)] == row.octets
        if row.offset == at:
            at += len(row.octets)
        else:
            assert octets[at : row.offset].strip(b"\x01") == b"", "only NOP may have no row"
            at = row.offset + len(row.octets)
    assert at == len(octets)


@pytest.mark.requirement("PTCP-1-01", "PTCP-2.2-03", "PTCP-2.3-05", "PTCP-3.1-03")
@pytest.mark.parametrize(("name", "about", "octets"), GOOD, ids=[row[0] for row in GOOD])
def test_values_and_octets_of_a_good_vector(
    name: str, about: dict[str, Any], octets: bytes
) -> None:
    layout, decoded = about["layout"], about["decoded"]
    assert parse(layout, octets) == decoded, name
    if about.get("canonical", True):
        assert build(layout, decoded) == octets


@pytest.mark.requirement("PTCP-2.3-02")
@pytest.mark.parametrize(("name", "about", "octets"), BAD, ids=[row[0] for row in BAD])
def test_explaining_ends_at_the_fault(name: str, about: dict[str, object], octets: bytes) -> None:
    fault = explain(octets, str(about["layout"])).fault
    assert fault is not None, name
    assert (fault.code, fault.value) == (about["reject"], about["value"])


@pytest.mark.requirement("PTCP-1-01", "PTCP-1-02")
def test_a_profile_that_does_not_fit_is_rounded_by_its_type() -> None:
    values = parse("profile", bytes.fromhex("4402002ee00005dc00000e1000001000"))
    far = {**values, "voltage_mv": 17_000_499, "current_ma": 17_000_001, "energy_j": 81_911}
    for kind, amps, joules in (
        ("REQUEST", 17_001_000, 82_000),
        ("MINIMUM", 17_001_000, 82_000),
        ("OFFER", 17_000_000, 82_000),
        ("GRANT", 17_000_000, 81_910),
    ):
        got = parse("profile", build("profile", {**far, "type": kind, "lease_s": 49}))
        assert (got["voltage_mv"], got["current_ma"]) == (17_000_000, amps)
        assert got["energy_j"] == joules
        assert got["lease_s"] == (48 if kind == "GRANT" else 52)
    most = {**far, "energy_j": 10**12, "lease_s": 2**30, "voltage_mv": 10**12}
    got = parse("profile", build("profile", most))
    assert (got["energy_j"], got["lease_s"]) == (8191 * 10**7, 1_015_792)
    assert got["voltage_mv"] == (2**24 - 1) * 1000


@pytest.mark.requirement("PTCP-1-05", "PTCP-3.1-03")
def test_layouts_of_a_wrong_size_have_no_rows() -> None:
    for layout in ("profile", "block", "segment"):
        said = explain(b"PO", layout)
        assert (said.rows, said.fault is not None) == ([], True)
    for layout in ("profile", "block", "segment"):
        with pytest.raises(Rejected):
            parse(layout, b"")
