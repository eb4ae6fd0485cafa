"""Every vector of the DPDP draft: TXT records that are adverts, and records that are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from powertcp.dpdp.advert import (
    Advert,
    Offer,
    Tariff,
    UnknownVersion,
    decode_txt,
    encode_txt,
    provider_id,
)
from powertcp.dpdp.entry import Signed
from powertcp.dpdp.signing import signing_input, verify
from powertcp.errors import DecodeError
from powertcp.profile import PowerProfile
from tests.wire_values import profile_from, profile_values
from tools.dpdp_vectors import FOLDER, KIND, main

Values = dict[str, Any]
# what an advert says when it does not say it
UNSAID: Values = {"group": "", "hot": "", "loc": "", "others": [], "ignored": 0}
OCTETS = ("id", "exchange_key", "feed", "signature")


def vectors(folder: Path) -> list[tuple[str, Values, bytes]]:
    """Return (name, JSON, octets) of every vector in a folder; read at collection."""
    found = []
    for path in sorted(folder.glob("*.hex")):
        lines = path.read_text(encoding="utf-8").splitlines()
        octets = bytes.fromhex("".join(line.partition(";")[0] for line in lines))
        found.append((path.stem, json.loads(path.with_suffix(".json").read_text()), octets))
    return found


GOOD = vectors(FOLDER)
BAD = vectors(FOLDER / "bad")


def values(advert: Advert) -> Values:
    """Return what an advert says, as the JSON of a vector has it."""

    def told(profile: PowerProfile | None) -> Values | None:
        return None if profile is None else profile_values(profile)

    offers = [{"offer": told(one.offer), "minimum": told(one.minimum)} for one in advert.offers]
    tariff = advert.tariff
    price = tariff and {"currency": tariff.currency, "micro_per_kwh": tariff.micro_per_kwh}
    others = [[key, None if value is None else value.hex()] for key, value in advert.others]
    said = {name: getattr(advert, name) for name in Advert.__slots__}
    said |= {name: said[name].hex() for name in OCTETS if said[name] is not None}
    said |= {"offers": offers, "tariff": price, "others": others}
    return {name: value for name, value in said.items() if value != UNSAID.get(name)}


def advert_from(said: Values) -> Advert:
    """Return the advert that says this."""
    fields: Values = dict(said)
    fields |= {name: bytes.fromhex(said[name]) for name in OCTETS if name in said}
    fields["offers"] = tuple(
        Offer(
            offer=profile_from(one["offer"]),
            minimum=profile_from(one["minimum"]) if one["minimum"] else None,
        )
        for one in said["offers"]
    )
    if "tariff" in said:
        fields["tariff"] = Tariff(**said["tariff"])
    fields["others"] = tuple(
        (key, None if value is None else bytes.fromhex(value))
        for key, value in said.get("others", ())
    )
    return Advert(**fields)


def test_the_files_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out
    assert len(GOOD) >= 11
    assert len(BAD) >= 30


@pytest.mark.requirement("DPDP-3-01", "DPDP-3-02", "DPDP-3-03", "DPDP-3-04", "DPDP-3-07")
@pytest.mark.parametrize(("name", "about", "octets"), GOOD, ids=[row[0] for row in GOOD])
def test_good_vector(name: str, about: Values, octets: bytes) -> None:
    assert about["valid"], name
    assert len(octets) == about["octets"]
    found = decode_txt(octets)
    assert values(found) == about["decoded"]
    if about.get("canonical", True):
        assert encode_txt(found) == octets
        assert encode_txt(advert_from(about["decoded"])) == octets


@pytest.mark.requirement("DPDP-3-01", "DPDP-3-02", "DPDP-3-03", "DPDP-3-04")
@pytest.mark.parametrize(("name", "about", "octets"), BAD, ids=[row[0] for row in BAD])
def test_bad_vector(name: str, about: Values, octets: bytes) -> None:
    assert not about["valid"], name
    assert len(octets) == about["octets"]
    with pytest.raises(DecodeError) as caught:
        decode_txt(octets)
    assert (caught.value.code, caught.value.field) == (about["reject"], about["field"])
    assert isinstance(caught.value, UnknownVersion) is (about["field"] == "txtvers")


@pytest.mark.requirement("DPDP-3-05", "DPDP-7-03")
def test_the_signature_is_that_of_the_meter_key_over_these_lines() -> None:
    (about, octets), = ((about, octets) for _, about, octets in GOOD if "signed" in about)  # fmt: skip
    signed = about["signed"]
    key = bytes.fromhex(signed["meter_key"])
    assert provider_id(key).hex() == about["decoded"]["id"]
    text = signing_input(signed["instance"], KIND, signed["port"], octets)
    assert text.decode().splitlines() == signed["signed lines"]
    found = verify(octets, signed["instance"], KIND, signed["port"], key, signed["now_s"])
    assert found is Signed.GOOD


@pytest.mark.requirement("DPDP-3-02")
def test_the_sizes_that_the_draft_states() -> None:
    sizes = {name: len(octets) for name, _, octets in GOOD}
    assert sizes["one-offer"] == 169
    assert sizes["four-offers-signed"] == 397
    assert sizes["octets-1300"] == 1300


def test_a_missing_file_and_one_too_many_are_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tools.dpdp_vectors.FOLDER", tmp_path)
    monkeypatch.setattr("tools.dpdp_vectors.ROOT", tmp_path)
    assert main(["--check"]) == 1
    assert "bench.hex: stale" in capsys.readouterr().out
    assert main([]) == 0
    assert main(["--check"]) == 0
    (tmp_path / "foreign.hex").write_text("00\n")
    assert main(["--check"]) == 1
    assert "foreign.hex: made by nobody" in capsys.readouterr().out
