"""Events are past facts that own their data."""

import dataclasses
from typing import Any

import pytest

from powertcp.dpdp import events
from powertcp.machine import Event

KINDS: list[Any] = [
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
]


def test_every_event_is_looked_at() -> None:
    assert len(KINDS) >= 12


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_event_is_slotted_keyword_only_and_frozen(kind: Any) -> None:
    assert "__slots__" in vars(kind)
    assert all(field.kw_only for field in dataclasses.fields(kind))
    assert kind.__dataclass_params__.frozen
    assert kind.__doc__
