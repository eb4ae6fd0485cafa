"""What an end lets the other one name."""

import pytest

from powertcp.potcp.flow import Breach
from powertcp.potcp.terms import floor_of, require_terms
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from tests.conversation import ask, profile

GRANT = profile("12V/1A,lease=60s", ProfileType.GRANT)


def floor(text: str) -> PowerProfile:
    return profile(text, ProfileType.FALLBACK)


@pytest.mark.requirement("PTCP-9-03", "PTCP-1-03")
def test_terms_lie_in_the_range_of_a_wish_and_the_first_such_wish_is_known() -> None:
    wishes = (ask("5V/1A"), ask("12V/2A", "12V/0.5A"), ask("12V/1A"))
    assert require_terms(GRANT, wishes) is wishes[1]
    with pytest.raises(Breach) as caught:
        require_terms(profile("12V/2.5A"), wishes)
    assert caught.value.refusal == Refusal(Reason.NOT_OFFERED, 30_000, 24_000)


@pytest.mark.requirement("PTCP-1-04")
def test_a_fallback_differs_from_its_grant_in_current_only() -> None:
    assert floor_of((GRANT,), GRANT) is None
    low = floor("12V/0.1A")
    assert floor_of((GRANT, low), GRANT) is low
    for text in ("9V/0.1A", "12V/1.1A"):
        with pytest.raises(Breach) as caught:
            floor_of((GRANT, floor(text)), GRANT)
        assert caught.value.refusal.code == Reason.BAD_OPTION
