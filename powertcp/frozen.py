"""Frozen dataclasses made as fast as others: for what is made by the thousand.

The constructor of a frozen class writes every field through `object.__setattr__`, which takes three
times as long as the rest of decoding. A draft has the same slots, is written as any object is,
and becomes the frozen value by its class.
"""

from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import cache, lru_cache
from typing import Any, Final, ParamSpec, TypeVar

ParametersT = ParamSpec("ParametersT")
ValueT = TypeVar("ValueT")
# functions that are kept: for each class, and each choice of fields that come in order
_MAKERS: Final = 256


@cache
def draft_of(frozen: type) -> Any:  # noqa: ANN401  its fields are those of `frozen`
    """Return a class with the slots of `frozen`, a dataclass with slots, that can be written.

    Set every field of an instance, then its `__class__` to `frozen`; nobody else may see it before.
    """
    own = {"__slots__": (), "__init__": object.__init__, "__setattr__": object.__setattr__}
    return type(f"_{frozen.__name__}", (frozen,), {**own, "__doc__": frozen.__doc__})


def maker_of(frozen: Callable[ParametersT, ValueT]) -> Callable[ParametersT, ValueT]:
    """Return what makes a `frozen`, a dataclass with slots, as its constructor does, but faster.

    A `__post_init__` is not called. Raises TypeError for a class with a default factory, or with
    fields that its constructor does not take.
    """
    make: Callable[ParametersT, ValueT] = ordered_maker_of(frozen)
    return make


@lru_cache(maxsize=_MAKERS)
def ordered_maker_of(frozen: Any, *first: str) -> Callable[..., Any]:  # noqa: ANN401  of any class
    """Return that with the fields `first` by position, the others by name."""
    for field in fields(frozen):
        if not field.init or field.default_factory is not MISSING:
            raise TypeError(f"{frozen.__name__}.{field.name} is not made as it is said")
    rows = {field.name: field.default for field in fields(frozen)}
    left = [
        name if default is MISSING else f"{name}=_defaults[{name!r}]"
        for name, default in rows.items()
        if name not in first
    ]
    signature = ", ".join((*first, *(["*", *left] if left else [])))
    body = "".join(f"    _made.{name} = {name}\n" for name in rows)
    text = (
        f"def _make({signature}):\n    _made = _draft()\n{body}"
        f"    _made.__class__ = _frozen\n    return _made\n"
    )
    scope: dict[str, Any] = {"_draft": draft_of(frozen), "_frozen": frozen, "_defaults": rows}
    # as `dataclass` does: the text is made of the names of fields, and of nothing else
    exec(text, scope)  # noqa: S102
    make: Callable[..., Any] = scope["_make"]
    return make
