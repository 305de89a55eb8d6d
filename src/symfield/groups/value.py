"""Frozen values: objects that are their fields, and nothing else."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

from symfield.typing import Tensor

__all__ = ["Value"]


class Value:
    """A frozen value: equal to, and hashed as, any other of its class with equal fields.

    Only the fields are pickled; whatever else an object has computed for itself is computed again when needed.
    A subclass names its fields and sets them once, with :meth:`_set`, in its ``__init__``.
    """

    _fields: ClassVar[tuple[str, ...]] = ()

    def _set(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def _key(self) -> tuple[Hashable, ...]:
        return tuple(_hashable(self.__dict__[name]) for name in self._fields)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: build a new one instead of setting {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Value):
            return NotImplemented
        return self is other or self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self), self._key()))

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in self._fields}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(_text(self.__dict__[name]) for name in self._fields)})"


def _hashable(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        canonical = (value + 0).cpu().contiguous()  # −0.0 and 0.0 are one number
        return (str(canonical.dtype), tuple(canonical.shape), canonical.numpy().tobytes())
    return value


def _text(value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    return repr(value.tolist()) if len(value) else f"torch.zeros({tuple(value.shape)}, dtype={value.dtype})"
