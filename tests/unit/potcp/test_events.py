"""Events are past facts that own their data."""

import dataclasses
from typing import Any

import pytest

from powertcp.machine import Event
from powertcp.potcp import events
from powertcp.potcp.events import (
    Ask,
    FlowEvent,
    Offer,
)
from powertcp.profile import PowerProfile

KINDS: list[Any] = [
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind not in (Event, FlowEvent)
]
HOT = {"SamplesReceived", "CreditReceived"}
WISH = PowerProfile.parse("12V/1A")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_event_is_slotted_keyword_only_and_frozen_unless_hot(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    assert not hasattr(kind, "__dict__") or "__slots__" in vars(kind)
    assert all(field.kw_only for field in dataclasses.fields(kind))
    values = {field.name: None for field in dataclasses.fields(kind)}
    one = kind(**values)
    assert one == kind(**values)
    assert not hasattr(one, "__dict__")
    name = next(iter(values), "anything")
    if kind.__name__ in HOT:
        setattr(one, name, 3)
    else:
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
            setattr(one, name, 3)


def test_there_are_events_and_only_connection_wide_ones_name_no_flow() -> None:
    nameless = {
        kind.__name__
        for kind in KINDS
        if "flow" not in {field.name for field in dataclasses.fields(kind)}
    }
    assert nameless == {
        "ConnectionStale",
        "ConnectionFresh",
        "ConnectionTerminated",
        "LeaseRenewed",
    }
    assert len(KINDS) >= 25


def test_a_wish_without_a_minimum_is_exact() -> None:
    assert tuple(Ask(WISH)) == tuple(Offer(WISH)) == (WISH, None)
