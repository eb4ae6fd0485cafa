"""Frozen dataclasses made as fast as others: for decoders that make them by the thousand.

The constructor of a frozen class writes every field through `object.__setattr__`, which takes three
times as long as the rest of decoding. A draft has the same slots, is written as any object is,
and becomes the frozen value by its class.
"""

from typing import Any


def draft_of(frozen: type) -> Any:  # noqa: ANN401  its fields are those of `frozen`
    """Return a class with the slots of `frozen`, a dataclass with slots, that can be written.

    Set every field of an instance, then its `__class__` to `frozen`; nobody else may see it before.
    """
    own = {"__slots__": (), "__init__": object.__init__, "__setattr__": object.__setattr__}
    return type(f"_{frozen.__name__}", (frozen,), {**own, "__doc__": frozen.__doc__})
