"""Straight-through estimation: latent weights that are projected onto the orbit of a model.

Sought is the element g for which a loss at the midpoint of a and g b is least. The second model is given *latent*
weights θ, free of any symmetry. Each step projects them onto the orbit of b,

    g = argmax_g ⟨θ, g b⟩,

by weight matching, evaluates the loss at the midpoint of a and g b, and hands its gradient to θ as if the projection
were the identity. Where the gradient pulls a unit far enough, the projection changes its mind.

References:
    Ainsworth, Hayase & Srinivasa 2023, Git Re-Basin, Section 3.3 and Algorithm 3, arXiv 2209.04836v6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from symfield.typing import Params, Tensor
from symfield.weightspace.matching import Method, Problem, Solution, Work
from symfield.weightspace.matching_weights import WeightMatching
from symfield.weightspace.symmetry import Element

__all__ = ["StraightThrough"]


@dataclass(frozen=True)
class StraightThrough:
    """Gradient descent on latent weights whose projection onto the orbit of the second model is what counts.

    Attributes:
        loss: of parameters, such as the training loss of a batch; called with dicts of tensors at the midpoint.
        steps: of the optimiser.
        learning_rate: of Adam, on the latent weights.
        start: method that gives the first element, which is compared with all later ones; None takes the projection of
            the first model itself.
        projection: the matching of the latent weights; each begins where the last one ended.
        position: point of the segment from the first model to the moved second one at which the loss is taken.
    """

    loss: Callable[[Params], Tensor]
    steps: int = 100
    learning_rate: float = 1e-3
    start: Method | None = None
    projection: WeightMatching = field(default_factory=WeightMatching)
    position: float = 0.5

    def __call__(self, problem: Problem) -> Solution:
        """Run it.

        Args:
            problem: two models.

        Returns:
            Of all elements met, the start included, the one with the least loss; the history holds the least loss so
            far.
        """
        first = (self.start or self.projection)(problem)
        best = element = first.element
        work = first.work
        names = [name for name, value in problem.a.items() if value.is_floating_point()]
        latent = {name: problem.a[name].detach().clone().requires_grad_() for name in names}
        optimizer = torch.optim.Adam(latent.values(), lr=self.learning_rate)
        history: list[float] = []
        for step in range(self.steps + 1):
            if step:
                found = self._projected(problem, latent, element)
                element, work = found.element, work.plus(found.work)
            moved = problem.symmetry.apply(problem.b, element)
            with torch.enable_grad():
                # The value of the projection, the gradient of the latent weights.
                seen = {name: value + (moved[name] - value).detach() for name, value in latent.items()}
                value = self.loss(self._point(problem, seen))
                if step < self.steps:
                    optimizer.zero_grad()
                    value.backward()
            if step < self.steps:
                optimizer.step()
            if history and float(value) >= history[-1]:
                history.append(history[-1])
                continue
            best = element
            history.append(float(value))
        return Solution(best, tuple(history), work.plus(Work(updates=self.steps)))

    def _projected(self, problem: Problem, latent: Params, element: Element) -> Solution:
        """The element that brings the second model closest to the latent weights, from the last one on."""
        near = {**problem.a, **{name: value.detach() for name, value in latent.items()}}
        projection = replace(self.projection, start=lambda _: Solution(element), restarts=0)
        return projection(Problem(near, problem.b, problem.symmetry, problem.weights))

    def _point(self, problem: Problem, moved: Params) -> Params:
        """Parameters on the segment under all their names; tensors of integers come from the first model."""
        point = dict(problem.a)
        for name, value in moved.items():
            point[name] = torch.lerp(problem.a[name], value, self.position)
        aliases = problem.symmetry.aliases
        return {**point, **{name: point[home] for name, home in aliases.items() if home in point}}
