"""Frozen dataclasses made as fast as others: for what is made by the thousand.

The constructor of a frozen class writes every field through `object.__setattr__`, which takes three
times as long as the rest of decoding. A draft has the same slots, is written as any object is,
and becomes the frozen value by its class.
"""

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, ParamSpec, TypeVar

ParametersT = ParamSpec("ParametersT")
ValueT = TypeVar("ValueT")


def draft_of(frozen: type) -> Any:  # noqa: ANN401  its fields are those of `frozen`
    """Return a class with the slots of `frozen`, a dataclass with slots, that can be written.

    Set every field of an instance, then its `__class__` to `frozen`; nobody else may see it before.
    """
    own = {"__slots__": (), "__init__": object.__init__, "__setattr__": object.__setattr__}
    return type(f"_{frozen.__name__}", (frozen,), {**own, "__doc__": frozen.__doc__})


def maker_of(frozen: Callable[ParametersT, ValueT]) -> Callable[ParametersT, ValueT]:
    """Return what makes a `frozen`, a dataclass with slots, as its constructor does, but faster.

    A `__post_init__` is not called.
    """
    make: Callable[ParametersT, ValueT] = ordered_maker_of(frozen)
    return make


def ordered_maker_of(frozen: Any, *first: str) -> Callable[..., Any]:  # noqa: ANN401  of any class
    """Return that with the fields `first` by position, the others by name."""
    rows = {field.name: field.default for field in fields(frozen)}
    left = [
        name if default is MISSING else f"{name}=defaults[{name!r}]"
        for name, default in rows.items()
        if name not in first
    ]
    signature = ", ".join((*first, *(["*", *left] if left else [])))
    body = "".join(f"    made.{name} = {name}\n" for name in rows)
    text = (
        f"def make({signature}):\n    made = draft()\n{body}"
        f"    made.__class__ = frozen\n    return made\n"
    )
    scope: dict[str, Any] = {"draft": draft_of(frozen), "frozen": frozen, "defaults": rows}
    # as `dataclass` does: the text is made of the names of fields, and of nothing else
    exec(text, scope)  # noqa: S102
    make: Callable[..., Any] = scope["make"]
    return make
