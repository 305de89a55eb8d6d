r"""Groups as words of the command line, and how they act on the columns of a data set.

::

    C4 D4 S5 A5 signs swap SO3 O3     on all inputs, which must be as many as the group asks for
    C4:a,b,c,d                        on these columns, the others fixed
    3*SO3                             three vectors: x.reshape(3, 3), the same rotation for each
    S5*2                              five points of two coordinates: x.reshape(5, 2)
    C4@8x8 D4@8x8 flip@8x8            turns and mirrorings of an image of 8 by 8 pixels
    C4  on two columns                turns of the plane by quarters

Several of them are the direct product.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from symfield.cli.data import DataError
from symfield.experiments.errors import unknown

if TYPE_CHECKING:
    from symfield.groups import Group, Representation

__all__ = ["OUTPUTS", "representation_of", "target_representation"]

#: How targets can be moved along.
OUTPUTS = ("fixed", "same", "sign")

_WORD = re.compile(
    r"(?:(?P<copies>\d+)\*)?(?P<kind>[A-Za-z]+?)(?P<n>\d*)(?:\*(?P<features>\d+))?"
    r"(?:@(?P<height>\d+)x(?P<width>\d+))?(?::(?P<columns>.+))?"
)
_KINDS = ("C", "D", "S", "A", "signs", "swap", "SO", "O", "flip")


def representation_of(words: Sequence[str], names: Sequence[str]) -> Representation:
    """How a group acts on inputs.

    Args:
        words: groups as above.
        names: names of the d inputs.

    Returns:
        A representation of dim d; of a direct product when there are several words.

    Raises:
        DataError: if a word is not understood, or does not fit the inputs.
    """
    from symfield.groups import DirectProduct, Factor, Placed

    parts = [_part(word, names) for word in words]
    if len(parts) == 1:
        rep, places = parts[0]
        whole = list(places) == list(range(len(names)))
        return rep if whole else Placed(rep, places, len(names))
    taken = [place for _, places in parts for place in places]
    if len(set(taken)) < len(taken):
        twice = sorted({names[place] for place in taken if taken.count(place) > 1})
        raise DataError(f"two groups act on {', '.join(twice[:5])}; give each its own columns, as in C4:a,b,c,d")
    group = DirectProduct(*(rep.group for rep, _ in parts))
    lifted = [Factor(group, i, rep) for i, (rep, _) in enumerate(parts)]
    total: Representation = lifted[0]
    for rep in lifted[1:]:
        total = total + rep
    return Placed(total, taken, len(names))


def target_representation(rule: str, rep: Representation, outputs: int) -> Representation:
    """How the group acts on targets.

    Args:
        rule: "fixed", "same" (as on the inputs), or "sign" (by the determinant).
        rep: how it acts on inputs.
        outputs: number of targets.

    Returns:
        A representation of that dim.

    Raises:
        DataError: if the rule is unknown or does not fit.
    """
    from symfield.groups import Sign, Trivial

    if rule not in OUTPUTS:
        raise DataError(unknown("way to move targets", rule, list(OUTPUTS)))
    if rule == "fixed":
        return Trivial(rep.group, outputs)
    if rule == "sign":
        return outputs * Sign(rep.group) if outputs > 1 else Sign(rep.group)
    if rep.dim != outputs:
        raise DataError(f"--output same moves targets as inputs, but there are {outputs} targets and {rep.dim} inputs")
    return rep


def _part(word: str, names: Sequence[str]) -> tuple[Representation, list[int]]:
    found = _WORD.fullmatch(word.strip())
    if found is None or found["kind"] not in _KINDS:
        kind = found["kind"] if found else word
        raise DataError(unknown("group", kind, list(_KINDS)) + "; for example C4, 3*SO3, S5*2, D4@8x8, swap:a,b")
    places = _places(found["columns"], names)
    rep = _image(word, found) if found["height"] else _acting(word, found, len(places))
    if rep.dim != len(places):
        raise DataError(
            f"{word} acts on {rep.dim} columns, received {len(places)}; name them, as in {word.partition(':')[0]}:"
            + ",".join(list(names)[: min(rep.dim, 4)])
            + (",…" if rep.dim > 4 else "")
        )
    return rep, places


def _places(columns: str | None, names: Sequence[str]) -> list[int]:
    if columns is None:
        return list(range(len(names)))
    places = []
    for name in (part.strip() for part in columns.split(",")):
        if name not in names:
            raise DataError(unknown("column", name, list(names)))
        places.append(list(names).index(name))
    if len(set(places)) < len(places):
        raise DataError(f"a column is named twice: {columns}")
    return places


def _acting(word: str, found: re.Match[str], columns: int) -> Representation:
    """A group on a list of columns."""
    from symfield.groups import (
        Alternating,
        Cyclic,
        Defining,
        Dihedral,
        Orthogonal,
        Planar,
        SignFlips,
        SpecialOrthogonal,
        Symmetric,
        Trivial,
    )

    kind, copies, features = found["kind"], int(found["copies"] or 1), int(found["features"] or 1)
    if kind == "flip":
        raise DataError("flip mirrors an image; give its size, as in flip@8x8")
    if copies < 1 or features < 1 or (copies > 1 and features > 1):
        raise DataError(f"expected k*NAME or NAME*k with a positive k, received {word}")
    each = columns // (copies * features)
    n = int(found["n"]) if found["n"] else (2 if kind == "swap" else each)
    if n < 1:
        raise DataError(f"{word} needs a positive size, as in {kind}4")
    makers: dict[str, type[Group]] = {
        "C": Cyclic, "D": Dihedral, "S": Symmetric, "A": Alternating, "signs": SignFlips, "swap": Cyclic,
        "SO": SpecialOrthogonal, "O": Orthogonal,
    }  # fmt: skip
    group = makers[kind](n)  # type: ignore[call-arg]
    rep: Representation = Defining(group)
    if kind in ("C", "D") and each == 2 and n != 2:
        rep = Planar(group)
    if features > 1:
        return rep * Trivial(group, features)
    return copies * rep if copies > 1 else rep


def _image(word: str, found: re.Match[str]) -> Representation:
    """Turns and mirrorings of pixels, row by row."""
    import torch

    from symfield.groups import Cyclic, Dihedral, Permutation

    kind, n, height, width = found["kind"], found["n"], int(found["height"]), int(found["width"])
    if min(height, width) < 1:
        raise DataError(f"expected an image of at least one pixel, received {word}")
    pixels = torch.arange(height * width).reshape(height, width)
    if kind in ("C", "D") and n == "4" and height != width:
        raise DataError(f"quarter turns need a square image, received {height} by {width}; C2 and flip do not")
    mirrored = pixels.flip(1).flatten()
    half = pixels.rot90(2).flatten()
    if kind == "flip" and not n:
        return Permutation(Cyclic(2), mirrored[None])
    if kind in ("C", "D") and n in ("2", "4"):
        turned = half if n == "2" else pixels.rot90(1).flatten().argsort()
        images = torch.stack([turned, mirrored] if kind == "D" else [turned])
        return Permutation(Dihedral(int(n)) if kind == "D" else Cyclic(int(n)), images)
    raise DataError(f"images know C2, C4, D2, D4 and flip, received {word}")
