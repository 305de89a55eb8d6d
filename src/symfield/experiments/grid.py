"""Products of lists, and the grid that ``key=value`` words on the command line stand for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from symfield.experiments.errors import FieldError, unknown
from symfield.experiments.fields import annotations_of, parse, replace

__all__ = ["Grid"]


class Grid:
    """A product of named lists, iterated with the last name fastest.

    Args:
        axes: name to its values; an axis with one value is fixed, with several it is swept.

    Example:
        >>> for point in Grid(teacher=["WI", "SI"], n=[5, 10]):
        ...     print(point)
        {'teacher': 'WI', 'n': 5}
        {'teacher': 'WI', 'n': 10}
        {'teacher': 'SI', 'n': 5}
        {'teacher': 'SI', 'n': 10}
    """

    __slots__ = ("axes",)

    def __init__(self, **axes: Iterable[Any]) -> None:
        object.__setattr__(self, "axes", {name: tuple(values) for name, values in axes.items()})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Grid is a value; make another one")

    axes: dict[str, tuple[Any, ...]]

    @classmethod
    def parse(cls, config: type, words: Sequence[str]) -> Grid:
        """The grid of ``key=value`` words, typed by a configuration's annotations.

        A comma in a scalar field sweeps it; in a tuple field it separates the items.

        Args:
            config: the configuration's class (a flat frozen dataclass).
            words: such as ``["tau=0,1e-4", "widths=5,10"]``.

        Returns:
            A grid with one axis a word.

        Raises:
            FieldError: for a word without ``=``, an unknown or repeated key, or a value of the wrong type.

        Example:
            >>> from dataclasses import dataclass
            >>> @dataclass(frozen=True)
            ... class Config:
            ...     tau: float = 1e-4
            ...     widths: tuple[int, ...] = (5, 10)
            >>> Grid.parse(Config, ["tau=0,1e-4", "widths=50,100"])
            Grid(tau=(0.0, 0.0001), widths=((50, 100),))
        """
        known = annotations_of(config)
        axes: dict[str, tuple[Any, ...]] = {}
        for word in words:
            name, equals, text = word.partition("=")
            name = name.strip()
            if not equals:
                raise FieldError(f"expected key=value, received {word!r}")
            if name not in known:
                raise FieldError(unknown("key", name, known))
            if name in axes:
                raise FieldError(f"{name} is given twice; give it once, e.g. {name}={text}")
            axes[name] = tuple(dict.fromkeys(parse(known[name], text, name)))
        return cls(**axes)

    @property
    def swept(self) -> tuple[str, ...]:
        """The names of the axes with several values."""
        return tuple(name for name, values in self.axes.items() if len(values) > 1)

    def configurations(self, base: Any) -> list[Any]:
        """The base configuration at each point of the grid.

        Args:
            base: a flat frozen dataclass instance.

        Returns:
            One configuration a point; ``[base]`` for the empty grid.

        Raises:
            FieldError: for an axis that the configuration does not have.
        """
        return [replace(base, point) for point in self]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values()))

    def __len__(self) -> int:
        length = 1
        for values in self.axes.values():
            length *= len(values)
        return length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.axes == other.axes

    def __hash__(self) -> int:
        return hash(tuple(self.axes.items()))

    def __repr__(self) -> str:
        return f"Grid({', '.join(f'{name}={values!r}' for name, values in self.axes.items())})"
