"""Drafts of frozen dataclasses."""

from dataclasses import FrozenInstanceError, dataclass

import pytest

from powertcp.frozen import draft_of, maker_of, ordered_maker_of


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


def test_a_maker_makes_what_the_constructor_makes() -> None:
    make = maker_of(Point)
    assert make(x=1) == Point(1)
    assert make(x=1, y=2) == Point(1, 2)
    assert type(make(x=1)) is Point
    with pytest.raises(FrozenInstanceError):
        make(x=1).x = 3  # type: ignore[misc]


def test_a_maker_wants_what_the_constructor_wants() -> None:
    with pytest.raises(TypeError):
        maker_of(Point)()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        maker_of(Point)(x=1, z=2)  # type: ignore[call-arg]


def test_an_ordered_maker_takes_the_named_fields_by_position() -> None:
    assert ordered_maker_of(Point, "y", "x")(2, 1) == Point(1, 2)
    assert ordered_maker_of(Point, "x")(1) == Point(1)
