"""From data to its symmetry, and what to do with it.

- :class:`Dataset`, :func:`dataset`: inputs and targets, checked once;
- :func:`discover_fixed_points`: the subspace of parameters that training does not leave, by
  :class:`TrainingFree`, :class:`Training` or, as published, :class:`PaperLoop`;
- :func:`discover_group`: the group of a data set, every generator of which is judged on held-out samples;
  :func:`sharing`, :func:`equivariant_layer`, :func:`draw_sharing`: what it means for a layer;
- :func:`advise`: does a symmetry hold, what does its use buy, what does it cost; :class:`Advice`;
- :func:`examine`: the equivariance error of data, element by element; :func:`uncontradicted`, what is left;
- :func:`compare`, :func:`fit`: matched small trainings as none, DA, FA, canonical frame, EA; :class:`Budget`;
- :class:`SymmetricRegressor`, :class:`SymmetricClassifier`: the schemes as scikit-learn estimators.

References:
    Maass Martínez & Fontbona 2024, *Symmetries in Overparametrized Neural Networks: A Mean-Field View*,
    arXiv 2405.19995v3.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from symfield.discovery.advice import advise
from symfield.discovery.checks import Check
from symfield.discovery.closures import Accept, Closure, closure_of, permutations_of_matrices, spans
from symfield.discovery.dataset import Dataset, dataset
from symfield.discovery.examination import Element, Estimate, Examination, examine
from symfield.discovery.findings import FixedPoints, Method, Problem, Round
from symfield.discovery.fits import Fit, Fitter, Kernel, Network, Polynomial
from symfield.discovery.fixed_points import discover_fixed_points
from symfield.discovery.groups import DiscoveredGroup, discover_group
from symfield.discovery.hidden_permutations import SignedPair, hidden_permutations
from symfield.discovery.networks import Scheme, schemes
from symfield.discovery.paper_loop import PaperLoop, leading_residual, mean_residual
from symfield.discovery.recommendation import Advice, Finding, Ranked
from symfield.discovery.sharing import Sharing, draw_sharing, equivariant_layer, sharing
from symfield.discovery.subgroups import Candidate, uncontradicted
from symfield.discovery.training import Training
from symfield.discovery.training_free import TrainingFree
from symfield.discovery.trainings import Budget, Trained, Trainings, compare, fit

if TYPE_CHECKING:
    from symfield.discovery.estimators import SymmetricClassifier, SymmetricRegressor

__all__ = [
    "Dataset",
    "dataset",
    "discover_fixed_points",
    "FixedPoints",
    "Round",
    "Method",
    "Problem",
    "TrainingFree",
    "Training",
    "PaperLoop",
    "mean_residual",
    "leading_residual",
    "Closure",
    "Accept",
    "closure_of",
    "permutations_of_matrices",
    "spans",
    "SignedPair",
    "hidden_permutations",
    "discover_group",
    "DiscoveredGroup",
    "sharing",
    "Sharing",
    "equivariant_layer",
    "draw_sharing",
    "Check",
    "Fit",
    "Fitter",
    "Polynomial",
    "Kernel",
    "Network",
    "advise",
    "Advice",
    "Finding",
    "Ranked",
    "examine",
    "Examination",
    "Element",
    "Estimate",
    "uncontradicted",
    "Candidate",
    "schemes",
    "Scheme",
    "compare",
    "fit",
    "Budget",
    "Trainings",
    "Trained",
    "SymmetricRegressor",
    "SymmetricClassifier",
]

_ESTIMATORS = ("SymmetricRegressor", "SymmetricClassifier")


def __getattr__(name: str) -> Any:
    """The estimators, loaded on first use: they need scikit-learn, which is optional."""
    if name not in _ESTIMATORS:
        raise AttributeError(f"module 'symfield.discovery' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module("symfield.discovery.estimators"), name)
    except ImportError as error:
        raise ImportError(f"{name} needs scikit-learn: pip install 'symfield[datasets]'") from error
