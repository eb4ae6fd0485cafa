"""The policy that the draft shows is one: it loads, and its own tests hold."""

from pathlib import Path

import pytest

from powertcp.reclaim.policy_cases import run_cases
from powertcp.reclaim.policy_text import STATEMENTS, parse_policy
from tests.policies import read
from tools.rfc_set import Draft

ROOT = Path(__file__).parents[2]


def artworks() -> list[str]:
    """Return what the section about the language shows: the grammar, an example."""
    draft = Draft.read(ROOT / "rfc" / "draft-powertcp-protocol-00.xml")
    (section,) = (
        part for part in draft.tree.iter("section") if part.get("anchor") == "policy-language"
    )
    return [(art.text or "").lstrip("\n") for art in section.iter("artwork")]


@pytest.mark.requirement("FWRL-3-15")
def test_the_example_loads_and_its_tests_hold() -> None:
    _, example = artworks()
    policy = parse_policy(example.encode(), "example", read)
    assert (len(policy.rules), len(policy.sets), len(policy.lends)) == (10, 3, 1)
    outcomes = run_cases(policy)
    assert len(outcomes) == 2
    assert [one.differences for one in outcomes] == [(), ()]


def test_the_grammar_names_every_statement() -> None:
    grammar, _ = artworks()
    for word in STATEMENTS:
        assert f'"{word}"' in grammar
