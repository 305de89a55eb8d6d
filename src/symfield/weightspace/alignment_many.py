"""Several models at once: one element for each, towards a common frame.

Matching models two by two gives maps that disagree: from A to B to C is not from A to C. Here every model i gets one
element g_i that brings it into a common frame, and the map from model j to model i is g_i^{-1} g_j, so that

    (g_i^{-1} g_j)(g_j^{-1} g_k) = g_i^{-1} g_k

for all triples: cycle consistency by construction. The elements minimise the spread Σ_i ‖g_i θ_i − mean_j g_j θ_j‖².
Each step aligns one model to the mean of all others, which lowers the spread exactly as it lowers that distance:

    spread = (1 − 1/N) ‖g_i θ_i − mean_{j≠i} g_j θ_j‖² + what does not depend on g_i.

References:
    Ainsworth, Hayase & Srinivasa 2023, Appendix A.10 (MergeMany), arXiv 2209.04836. Crisostomi et al. 2024, C²M³:
    cycle- consistent multi-model merging, arXiv 2405.17897.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from symfield.typing import Params, Tensor
from symfield.weightspace.alignment import _checked, _weights
from symfield.weightspace.matching import Method, Problem, Work, fit
from symfield.weightspace.matching_weights import WeightMatching, identity
from symfield.weightspace.symmetry import Element, ParameterSymmetry

__all__ = ["ManyAlignment", "align_many"]


@dataclass(frozen=True)
class ManyAlignment:
    """Several models in one frame.

    Attributes:
        elements: one for each model; the first stays where it is.
        params: the models moved; same functions, new tensors.
        history: the spread Σ_i ‖g_i θ_i − mean‖² after each accepted step.
        work: what the method did, all steps together.
        symmetry: of the architecture.
    """

    elements: tuple[Element, ...] = field(repr=False)
    params: tuple[Params, ...] = field(repr=False)
    history: tuple[float, ...] = field(repr=False)
    work: Work
    symmetry: ParameterSymmetry = field(repr=False)

    def between(self, i: int, j: int) -> Element:
        """The element that takes model j to model i.

        Args:
            i: number of the model that stays.
            j: number of the model that is moved.

        Returns:
            g_i^{-1} g_j; these compose without contradiction.
        """
        return self.symmetry.compose(self.symmetry.invert(self.elements[i]), self.elements[j])


@torch.no_grad()
def align_many(
    models: Sequence[Mapping[str, Tensor]],
    symmetry: ParameterSymmetry,
    *,
    method: Callable[[int], Method] | None = None,
    weights: Mapping[str, float] | Callable[[str], float] | None = None,
    rounds: int = 20,
    tolerance: float = 1e-6,
) -> ManyAlignment:
    """Move several models along their symmetry, into one frame: that of the first.

    Args:
        models: at least two, tensors by name.
        symmetry: of the architecture.
        method: ``method(i)`` aligns model i to the first one, such as
            ``lambda i: ActivationMatching(modules[0], modules[i], x)``. By default weight matching to the mean of
            those before. Weight matching from where the models stand follows in any case.
        weights: how much each tensor counts, as in :func:`align`.
        rounds: passes at most, in which each model is aligned to the mean of all others.
        tolerance: relative fall of the spread in a pass below which it stops.

    Returns:
        The :class:`ManyAlignment`; the inputs are not modified.

    Raises:
        KeyError: if a tensor is missing or unknown.
        ValueError: if there are fewer than two models, shapes differ, or a tensor holds NaN or infinity.
        TypeError: if a tensor that the symmetry moves is not of a floating dtype.

    Example:
        >>> from symfield.weightspace import from_axes
        >>> symmetry = from_axes({"up": ("h", None), "down": (None, "h")}, {"up": (4, 2), "down": (1, 4)})
        >>> a = {"up": torch.arange(8.0).reshape(4, 2).sin(), "down": torch.tensor([[1.0, -1.0, 2.0, 0.5]])}
        >>> others = [symmetry.apply(a, {"h": torch.tensor(order)}) for order in ([1, 0, 3, 2], [3, 2, 0, 1])]
        >>> found = align_many([a, *others], symmetry)
        >>> found.history[-1], found.between(1, 2)["h"].tolist()
        (0.0, [3, 2, 0, 1])
    """
    if len(models) < 2:
        raise ValueError(f"expected at least two models, received {len(models)}; there is nothing to align")
    checked = [_checked(params, symmetry, f"number {i}") for i, params in enumerate(models)]
    first = checked[0]
    checked = [{name: value.to(first[name]) if name in first else value for name, value in m.items()} for m in checked]
    chosen = _weights(first, symmetry, weights)
    elements: list[Element] = [symmetry.identity()]
    moved = [symmetry.apply(first, {})]
    work = Work()
    for i in range(1, len(checked)):
        solve, target = (WeightMatching(), _mean(moved)) if method is None else (method(i), first)
        solution = solve(Problem(target, checked[i], symmetry, chosen))
        elements.append(symmetry.compose(solution.element, {}))
        moved.append(symmetry.apply(checked[i], solution.element))
        work = work.plus(solution.work)
    history = [_spread(moved, chosen)]
    polish = WeightMatching(identity)
    for _ in range(rounds if len(checked) > 2 else 1):
        before = history[-1]
        for i in range(1, len(checked)):  # the first, which sets the frame, never moves
            solution = polish(Problem(_mean(moved[:i] + moved[i + 1 :]), moved[i], symmetry, chosen))
            work = work.plus(solution.work)
            element = symmetry.compose(solution.element, elements[i])
            trial = symmetry.apply(checked[i], element)
            spread = _spread([*moved[:i], trial, *moved[i + 1 :]], chosen)
            if spread < history[-1]:
                elements[i], moved[i] = element, trial
                history.append(spread)
        if before - history[-1] <= tolerance * before:
            break
    params = tuple(symmetry.apply(dict(m), g) for m, g in zip(models, elements, strict=True))
    return ManyAlignment(tuple(elements), params, tuple(history), work, symmetry)


def _mean(models: Sequence[Params]) -> Params:
    return {
        name: torch.stack([m[name] for m in models]).mean(0) if value.is_floating_point() else value
        for name, value in models[0].items()
    }


def _spread(models: Sequence[Params], weights: Mapping[str, float]) -> float:
    centre = _mean(models)
    return sum(fit(centre, model, weights).squared_distance for model in models)
