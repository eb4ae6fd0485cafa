"""Drafts of frozen dataclasses."""

from dataclasses import FrozenInstanceError, dataclass

import pytest

from powertcp.frozen import draft_of


@dataclass(frozen=True, slots=True)
class Point:
    """A frozen value."""

    x: int
    y: int = 0


def test_a_draft_becomes_the_frozen_value() -> None:
    draft = draft_of(Point)()
    draft.x, draft.y = 1, 2
    draft.__class__ = Point
    point: Point = draft
    assert point == Point(1, 2)
    assert hash(point) == hash(Point(1, 2))
    with pytest.raises(FrozenInstanceError):
        point.x = 3  # type: ignore[misc]


def test_a_draft_takes_no_other_fields() -> None:
    with pytest.raises(AttributeError):
        draft_of(Point)().z = 1
