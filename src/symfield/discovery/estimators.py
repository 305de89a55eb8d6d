"""The schemes as scikit-learn estimators: in pipelines, cross-validation and grid searches.

Needs scikit-learn, an optional dependency: ``pip install 'symfield[datasets]'``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from symfield import random
from symfield.discovery.advice import advise
from symfield.discovery.dataset import Dataset
from symfield.discovery.networks import KINDS, Scheme, schemes
from symfield.discovery.trainings import Budget, fit
from symfield.experiments.threads import one_thread
from symfield.groups import Representation

__all__ = ["SymmetricClassifier", "SymmetricRegressor"]


class _Symmetric(BaseEstimator):
    """What the regressor and the classifier share: which scheme, and its training."""

    def __init__(  # values are checked by fit: scikit-learn sets parameters one by one
        self,
        group: Any = None,
        group_out: Any = None,
        scheme: Any = "FA",
        width: Any = 96,
        steps: Any = 600,
        batch: Any = 32,
        rate: Any = 0.05,
        random_state: Any = None,
    ) -> None:
        self.group = group
        self.group_out = group_out
        self.scheme = scheme
        self.width = width
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.random_state = random_state

    def _train(self, data: Dataset) -> None:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        first, second = random.split(random.generator(seed), 2)
        budget = Budget(width=self.width, steps=self.steps, batch=self.batch, rate=self.rate)
        scheme = self._chosen(data, budget, first)
        with one_thread():
            self.network_ = fit(data, scheme, budget=budget, generator=second)
        self.scheme_ = scheme.name
        self.n_iter_ = self.steps

    def _chosen(self, data: Dataset, budget: Budget, generator: torch.Generator) -> Scheme:
        for what, rep in (("group", self.group), ("group_out", self.group_out)):
            if rep is not None and not isinstance(rep, Representation):
                raise ValueError(f"expected {what} to be a representation or None, received {rep!r}")
        if self.scheme not in (*KINDS, "advise"):
            raise ValueError(f"expected a scheme among {', '.join(KINDS)} or advise, received {self.scheme!r}")
        if self.scheme == "advise":
            self.advice_ = advise(data, self.group, rep_out=self.group_out, budget=budget, generator=generator)
            return self.advice_.scheme
        if self.group is None or self.scheme == "none":
            return Scheme("none")
        for what, rep, columns in (
            ("inputs", self.group, data.x.shape[1]),
            ("targets", self.group_out, data.y.shape[1]),
        ):
            if rep is not None and rep.dim != columns:
                raise ValueError(f"expected a representation of dim {columns} on the {what}, received {rep}")
        told: dict[str, str] = {}
        found = schemes(
            self.group, self.group_out, outputs=data.y.shape[1], width=self.width, generator=generator,
            missing=told.__setitem__,
        )  # fmt: skip
        for scheme in found:
            if scheme.kind == self.scheme:
                return scheme
        raise ValueError(f"{self.scheme} is not known for {self.group.group}: {told.get(self.scheme, '')}")

    def _values(self, x: Any) -> np.ndarray:
        check_is_fitted(self)
        points = validate_data(self, x, reset=False, dtype=np.float64)
        with one_thread():
            return self.network_.predict(torch.tensor(points)).numpy()


class SymmetricRegressor(RegressorMixin, _Symmetric):
    """A network of one hidden layer that uses a symmetry, for numbers.

    Args:
        group: ρ on the columns of X, orthogonal; without one the network is plain, or with ``scheme="advise"`` the
            group is looked for in the data.
        group_out: ρ̂ on the columns of y; trivial when absent.
        scheme: "none", "DA", "FA", "frame", "EA", or "advise": what :func:`symfield.discovery.advise` recommends.
        width: hidden neurons.
        steps: steps of Adam.
        batch: samples a step.
        rate: first step size.
        random_state: seed, ``RandomState``, or None.

    Example:
        >>> from symfield.groups import Cyclic, Defining
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(200, 3))
        >>> model = SymmetricRegressor(Defining(Cyclic(3)), steps=100, random_state=0).fit(x, np.abs(x).sum(1))
        >>> model.scheme_, bool(np.allclose(model.predict(x), model.predict(np.roll(x, 1, axis=1)), atol=1e-5))
        ('FA C_3', True)
    """

    def fit(self, X: Any, y: Any) -> SymmetricRegressor:
        """Train.

        Args:
            X: inputs ``(n, d)``.
            y: targets ``(n,)`` or ``(n, o)``.

        Returns:
            The estimator itself.

        Raises:
            ValueError: if shapes, group and scheme do not fit, or there are fewer than two samples.
        """
        x, targets = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        self._flat = targets.ndim == 1
        values = targets.reshape(len(targets), -1).astype(np.float64)
        self._train(Dataset(torch.tensor(x), torch.tensor(values)))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predictions.

        Args:
            X: inputs ``(n, d)``.

        Returns:
            Shape ``(n,)`` or ``(n, o)``, as y was.
        """
        values = self._values(X)
        return values[:, 0] if self._flat else values

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class SymmetricClassifier(ClassifierMixin, _Symmetric):
    """A network of one hidden layer that uses a symmetry, for classes.

    Args:
        group: ρ on the columns of X, orthogonal; without one the network is plain, or with ``scheme="advise"`` the
            group is looked for in the data.
        group_out: ρ̂ on the classes, in the order of ``classes_``, a permutation; trivial when absent.
        scheme: "none", "DA", "FA", "frame", "EA", or "advise": what :func:`symfield.discovery.advise` recommends.
        width: hidden neurons.
        steps: steps of Adam.
        batch: samples a step.
        rate: first step size.
        random_state: seed, ``RandomState``, or None.

    Example:
        >>> from symfield.groups import Cyclic, Defining
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(200, 2))
        >>> model = SymmetricClassifier(Defining(Cyclic(2)), steps=100, random_state=0).fit(x, x.sum(1) > 0)
        >>> bool(model.score(x, x.sum(1) > 0) > 0.9)
        True
    """

    def fit(self, X: Any, y: Any) -> SymmetricClassifier:
        """Train.

        Args:
            X: inputs ``(n, d)``.
            y: classes ``(n,)``.

        Returns:
            The estimator itself.

        Raises:
            ValueError: if shapes, group and scheme do not fit, or there is one class.
        """
        x, labels = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(labels)
        self.classes_, index = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("expected two classes or more, received one class")
        indicators = torch.nn.functional.one_hot(torch.tensor(index), len(self.classes_)).double()
        self._train(Dataset(torch.tensor(x), indicators, "classification"))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes.

        Args:
            X: inputs ``(n, d)``.

        Returns:
            Shape ``(n, classes)``, in the order of ``classes_``.
        """
        values = self._values(X)
        return values / values.sum(-1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """Classes.

        Args:
            X: inputs ``(n, d)``.

        Returns:
            Shape ``(n,)``.
        """
        chosen = self.predict_proba(X).argmax(-1)
        return self.classes_[chosen]
