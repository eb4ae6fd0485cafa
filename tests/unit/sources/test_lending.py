"""Terms of lending, and of running the host: what cannot be is said."""

from dataclasses import replace

import pytest

from powertcp.sources.lending import MAX_DECLARED_MW, InfrastructureTerms, LendTerms
from powertcp.sources.source import parse_supply

LEND = LendTerms(reservoir="main", supply=parse_supply("12V/5A,prio=5"), above_percent=20)
INFRASTRUCTURE = InfrastructureTerms(reservoir="main", share_percent=50)


def test_terms_of_the_document_have_no_faults() -> None:
    assert LEND.faults() == INFRASTRUCTURE.faults() == []
    assert LEND.supply.profile.priority == 5
    assert replace(INFRASTRUCTURE, declared_mw=MAX_DECLARED_MW).faults() == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (replace(LEND, above_percent=100), "above 100% is not 0% to 99%"),
        (replace(LEND, above_percent=-1), "above -1% is not 0% to 99%"),
        (replace(LEND, listen=("::", 65_536)), "port 65536 is not 0 to 65535"),
        (replace(INFRASTRUCTURE, share_percent=0), "share 0% is not 1% to 100%"),
        (replace(INFRASTRUCTURE, share_percent=101), "share 101% is not 1% to 100%"),
        (replace(INFRASTRUCTURE, declared_mw=0), "power 0 mW is not 1 to 1,000,000,000 mW"),
    ],
)
def test_each_value_that_cannot_be_has_its_sentence(
    wrong: LendTerms | InfrastructureTerms, said: str
) -> None:
    assert wrong.faults() == [said]
