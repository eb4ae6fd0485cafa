"""Names of an instance: numbered when taken, cut to what a label holds, never empty."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.dpdp.advert import MAX_INSTANCE
from powertcp.dpdp.names import ATTEMPTS, check_name, numbered
from powertcp.errors import LocalProtocolError

ID = bytes.fromhex("7f31a2c4d5e60718293a4b5c6d7e8f90")


@pytest.mark.requirement("DPDP-5-01")
def test_numbers_up_to_nine_and_then_the_id() -> None:
    names = [numbered("Bench PSU", attempt, ID) for attempt in range(1, ATTEMPTS + 1)]
    assert names[0] == "Bench PSU"
    assert names[1:9] == [f"Bench PSU ({number})" for number in range(2, 10)]
    assert names[9:] == ["Bench PSU 7f31a2c4"]


@pytest.mark.requirement("DPDP-2-02")
@given(st.text(st.characters(codec="utf-8"), min_size=1), st.integers(2, ATTEMPTS))
def test_no_number_makes_a_name_too_long(text: str, attempt: int) -> None:
    base = text.encode()[:MAX_INSTANCE].decode(errors="ignore")
    name = numbered(base, attempt, ID)
    assert len(name.encode()) <= MAX_INSTANCE
    assert name != numbered(base, attempt - 1, ID)


@pytest.mark.requirement("DPDP-2-02")
def test_names_at_the_bound_and_one_above() -> None:
    assert check_name("ä" * 31 + "b") == "ä" * 31 + "b"
    with pytest.raises(LocalProtocolError, match="up to 63 octets of text in one line, got 64"):
        check_name("ä" * 32)


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "bell\a", "\ud800"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(LocalProtocolError, match="a name is"):
        check_name(name)
