"""Configurations as flat frozen dataclasses: which values a field takes, and how a text becomes one.

A *flat* configuration holds ``int``, ``float``, ``str``, ``bool``, ``Literal`` choices, unions of these with ``None``,
and tuples of these (``tuple[int, ...]`` or of fixed length). That is what JSON writes and reads back unchanged, and
what a person can type as ``key=value``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from symfield.experiments.errors import FieldError, unknown

__all__ = ["annotations_of", "check_configuration", "conform", "describe", "is_sequence", "parse", "plain", "replace"]

_TRUE, _FALSE, _NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null")
_SCALARS: tuple[type, ...] = (int, float, str, bool, type(None))


def annotations_of(config: type) -> dict[str, Any]:
    """The resolved annotations of a configuration's fields, in order.

    Args:
        config: a frozen dataclass.

    Returns:
        Field name to annotation.

    Raises:
        FieldError: if ``config`` is not a frozen dataclass, or a field is not flat.
    """
    return dict(_annotations(config))


def check_configuration(config: type) -> None:
    """Check that a class can serve as a study's configuration.

    Args:
        config: a flat frozen dataclass with a default for each field, with ``device: str``, ``dtype``, and either
            ``seed: int`` or ``seeds: tuple[int, ...]``.

    Raises:
        FieldError: naming the first field that is missing or has no default.
    """
    names = annotations_of(config)
    for field in dataclasses.fields(config):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise FieldError(f"{config.__name__}.{field.name} has no default; give it the paper's setting")
    for needed in ("device", "dtype"):
        if needed not in names:
            raise FieldError(f"{config.__name__} has no field {needed!r}; add one (every study has device and dtype)")
    if not {"seed", "seeds"} & set(names):
        raise FieldError(f"{config.__name__} has neither 'seed: int' nor 'seeds: tuple[int, ...]'; add one of them")


def is_sequence(annotation: Any) -> bool:
    """Whether a field takes a tuple, so that commas fill it rather than sweep over it.

    Example:
        >>> is_sequence(tuple[int, ...]), is_sequence(int), is_sequence(tuple[int, ...] | None)
        (True, False, True)
    """
    if _is_union(annotation):
        return any(is_sequence(member) for member in get_args(annotation))
    return get_origin(annotation) is tuple


def parse(annotation: Any, text: str, name: str) -> tuple[Any, ...]:
    """The values a text stands for: one for a tuple field, as many as there are commas for a scalar field.

    Integers may be given as an inclusive range, ``0..9``.

    Args:
        annotation: the field's annotation.
        text: what was typed after ``key=``.
        name: the field's name, for the message.

    Returns:
        The values, each conforming to ``annotation``.

    Raises:
        FieldError: if the text cannot be read as the annotation.

    Example:
        >>> parse(float, "0,1e-4", "tau"), parse(tuple[int, ...], "0..3,7", "seeds")
        ((0.0, 0.0001), ((0, 1, 2, 3, 7),))
    """
    if is_sequence(annotation):
        return (_parse_tuple(annotation, text, name),)
    parts = [part for piece in text.split(",") for part in _spread(annotation, piece.strip())]
    return tuple(_parse_scalar(annotation, part, name) for part in parts)


def conform(annotation: Any, value: object, name: str) -> Any:
    """The value as its annotation wants it: an int for a float becomes one, a list for a tuple becomes one.

    Args:
        annotation: the field's annotation.
        value: any Python value.
        name: the field's name, for the message.

    Returns:
        The value.

    Raises:
        FieldError: if the value has another type, or is not among the choices.

    Example:
        >>> conform(float, 1, "tau"), conform(tuple[float, ...], [1, 2], "steps")
        (1.0, (1.0, 2.0))
    """
    if _is_union(annotation):
        for member in get_args(annotation):
            try:
                return conform(member, value, name)
            except FieldError:
                continue
    elif get_origin(annotation) is Literal:
        for choice in get_args(annotation):
            if choice == value and type(choice) is type(value):
                return value
    elif get_origin(annotation) is tuple:
        if isinstance(value, (tuple, list)):
            members = _members(annotation, len(value))
            if members is not None:
                return tuple(conform(member, item, name) for member, item in zip(members, value, strict=True))
    elif annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif (annotation is None or annotation is type(None)) and value is None:
        return None
    elif isinstance(annotation, type) and type(value) is annotation:
        if isinstance(value, float) and math.isnan(value):
            raise FieldError(f"{name} expects a number, received nan")
        return value
    raise FieldError(f"{name} expects {describe(annotation)}, received {value!r}")


def plain(config: Any) -> dict[str, Any]:
    """A configuration as what JSON can hold, each value as its annotation wants it.

    Args:
        config: a flat frozen dataclass instance.

    Returns:
        Field name to value (tuples stay tuples; JSON writes them as lists).

    Raises:
        FieldError: if a value does not fit its annotation.
    """
    return {
        name: conform(annotation, getattr(config, name), f"{type(config).__name__}.{name}")
        for name, annotation in annotations_of(type(config)).items()
    }


def replace(config: Any, changes: dict[str, Any]) -> Any:
    """A copy of a configuration with some fields changed, checked against their annotations.

    Args:
        config: a flat frozen dataclass instance.
        changes: field name to value.

    Returns:
        The copy.

    Raises:
        FieldError: for an unknown field or a value that does not fit.
    """
    known = annotations_of(type(config))
    for name in changes:
        if name not in known:
            raise FieldError(unknown("key", name, known))
    return dataclasses.replace(config, **{name: conform(known[name], value, name) for name, value in changes.items()})


def describe(annotation: Any) -> str:
    """An annotation in words a user can act on.

    Example:
        >>> describe(Literal["SI", "WI"]), describe(tuple[int, ...]), describe(float | None)
        ("one of 'SI', 'WI'", 'a list of int', 'float or None')
    """
    if _is_union(annotation):
        return " or ".join(describe(member) for member in get_args(annotation))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        members = get_args(annotation)
        if len(members) == 2 and members[1] is Ellipsis:
            return f"a list of {describe(members[0])}"
        return "(" + ", ".join(describe(member) for member in members) + ")"
    if annotation is type(None):
        return "None"
    return getattr(annotation, "__name__", str(annotation))


@functools.cache
def _annotations(config: Any) -> dict[str, Any]:
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise FieldError(f"a configuration must be a dataclass, got {config!r}; add @dataclass(frozen=True)")
    if not config.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise FieldError(f"{config.__name__} can be changed after it is made; write @dataclass(frozen=True)")
    hints = get_type_hints(config)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(config)}
    for name, annotation in fields.items():
        if not _is_flat(annotation):
            raise FieldError(
                f"{config.__name__}.{name}: {describe(annotation)} cannot be written as key=value; "
                "use int, float, str, bool, Literal[...], one of these or None, or a tuple of these"
            )
    return fields


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _is_flat(annotation: Any, nested: bool = False) -> bool:
    if _is_union(annotation):
        return all(_is_flat(member, nested) for member in get_args(annotation))
    if get_origin(annotation) is Literal:
        return all(isinstance(choice, _SCALARS) for choice in get_args(annotation))
    if get_origin(annotation) is tuple and not nested:
        return all(member is Ellipsis or _is_flat(member, nested=True) for member in get_args(annotation))
    return annotation in _SCALARS


def _members(annotation: Any, length: int) -> tuple[Any, ...] | None:
    """The annotation of each item of a tuple with that length, or None when no such tuple fits."""
    members = get_args(annotation)
    if len(members) == 2 and members[1] is Ellipsis:
        return (members[0],) * length
    return members if len(members) == length else None


def _spread(annotation: Any, text: str) -> list[str]:
    """The integers of an inclusive range ``a..b``; any other text alone."""
    low, dots, high = text.partition("..")
    if dots and annotation is int and low.lstrip("-").isdigit() and high.lstrip("-").isdigit():
        return [str(value) for value in range(int(low), int(high) + 1)]
    return [text]


def _parse_tuple(annotation: Any, text: str, name: str) -> Any:
    if _is_union(annotation):
        if text.strip().lower() in _NONE and type(None) in get_args(annotation):
            return None
        annotation = next(member for member in get_args(annotation) if is_sequence(member))
    item = get_args(annotation)[0]
    parts = [part for piece in text.strip("()[] ").split(",") for part in _spread(item, piece.strip()) if part]
    members = _members(annotation, len(parts))
    if members is None:
        raise FieldError(f"{name} expects {describe(annotation)}, received {text!r}")
    return tuple(_parse_scalar(member, part, name) for member, part in zip(members, parts, strict=True))


def _parse_scalar(annotation: Any, text: str, name: str) -> Any:
    for candidate in _readings(text):
        try:
            return conform(annotation, candidate, name)
        except FieldError:
            continue
    raise FieldError(f"{name} expects {describe(annotation)}, received {text!r}")


def _readings(text: str) -> list[object]:
    """What a text may stand for, from the strictest reading to the text itself."""
    readings: list[object] = []
    lowered = text.lower()
    if lowered in _NONE:
        readings.append(None)
    for number in (int, float):
        try:
            readings.append(number(text))
        except ValueError:
            continue
    if lowered in _TRUE or lowered in _FALSE:
        readings.append(lowered in _TRUE)
    return [*readings, text]
