"""Symmetries of the parameters of a model at fixed function: derived, certified, applied.

- :func:`symmetries`: from a module and an example to its :class:`ParameterSymmetry`, with a :class:`Report`;
- :func:`trace`, :func:`derive`, :func:`certify`: the steps, from :class:`ParameterGraph` to certificate;
- :func:`fold_norms`: the same function with root-mean-square norms, whose stream can be turned;
- :class:`ParameterSymmetry`: a product of factors with the tensors and axes they move; elements are plain dicts;
- :class:`Permutation`, :class:`PositiveScale`, :class:`Sign`, :class:`Orthogonal`, :class:`Conformal`,
  :class:`GeneralLinear`: the factors;
- :func:`align`, :func:`align_many`: elements that bring models together, by :class:`WeightMatching` and other methods;
  :func:`transport` between widths, :func:`zip_models` in part; :func:`assign`: linear assignment with a certificate;
- :class:`Piece`, :class:`Product`, :class:`Concat`: how the entries of an axis are laid out;
- :func:`interpolate`, :func:`curve`, :func:`barrier`: what a metric does on the line between two models;
- :func:`merge`, :func:`repair`: averages of models, their batch norms and hidden statistics;
- :func:`variational`: Gaussians of low rank over the weights of any model;
- :func:`train_zoo`: a data set of networks; :func:`fit_metanetwork`: what networks that read networks can tell of them;
- :func:`asymmetrize`: a model without interchangeable units, by :class:`Rule`; :func:`fixed_entries`: what is fixed;
  :class:`AsymmetricLinear`, :class:`FiGLU`: the layers; :func:`symmetrize_back`: the dense model again;
- :func:`verify_asymmetry`: which guarantee holds of a model, under which assumption;
- :func:`train_many`: many networks of one architecture trained as one program, by :class:`AdamW` and other rules;
- :func:`unit_agreement`, :func:`target_prices`, :func:`permutation_gap`, :func:`coherence`: can units be told apart;
- :func:`four_corners`, :func:`confidence`: barriers unmatched and matched, plain and repaired, over pairs of models.
"""

from symfield.weightspace.agreement import require_same_masks
from symfield.weightspace.alignment import Alignment, align, is_running_statistic
from symfield.weightspace.alignment_many import ManyAlignment, align_many
from symfield.weightspace.alignment_partial import Zipped, zip_models
from symfield.weightspace.alignment_widths import Transported, reading_axes, transport
from symfield.weightspace.assignment import Assignment, assign
from symfield.weightspace.asymmetric.automorphisms import Automorphisms, label_automorphisms, mask_automorphisms
from symfield.weightspace.asymmetric.convert import asymmetrize, asymmetrize_like, symmetrize_back
from symfield.weightspace.asymmetric.equivariances import Equivariances, activation_equivariances, gate_is_rigid
from symfield.weightspace.asymmetric.gates import FiGLU
from symfield.weightspace.asymmetric.layers import AsymmetricConv1d, AsymmetricConv2d, AsymmetricLinear
from symfield.weightspace.asymmetric.masks import (
    BoundZeros,
    Densest,
    EveryEntry,
    MaskLaw,
    RandomFilters,
    RandomRows,
    count_fixed,
    fixed_mask,
    fixed_values,
)
from symfield.weightspace.asymmetric.ranks import JacobianRank, jacobian_rank
from symfield.weightspace.asymmetric.rules import (
    FixedPlan,
    Place,
    PlannedWeight,
    Rule,
    per_root_fan_in,
    places,
    plan_asymmetry,
)
from symfield.weightspace.asymmetric.verify import AsymmetryReport, Guarantee, verify_asymmetry
from symfield.weightspace.asymmetric.weights import (
    FixedEntries,
    MaskedWeight,
    ShiftedWeight,
    fix_entries,
    fixed_entries,
    release_entries,
)
from symfield.weightspace.by_hand import from_axes
from symfield.weightspace.calibration import calibration_error, log_mean_probability
from symfield.weightspace.certify import certify
from symfield.weightspace.curves import (
    Curve,
    Metric,
    barrier,
    curve,
    global_convexity,
    interpolate,
    local_convexity,
    midpoint_barrier,
    monotonicity_gap,
)
from symfield.weightspace.derive import derive, symmetries
from symfield.weightspace.factors import (
    Conformal,
    Factor,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScale,
    Sign,
)
from symfield.weightspace.folding import Folded, FoldedNorm, KeptNorm, RootMeanSquare, fold_norms
from symfield.weightspace.graph import Node, ParameterGraph, TensorInfo
from symfield.weightspace.identifiability import (
    UnitAgreement,
    coherence,
    leading_subspace,
    model_agreement,
    permutation_gap,
    swap_costs,
    target_prices,
    unit_agreement,
)
from symfield.weightspace.layout import Concat, Layout, Move, Piece, Product, map_blocks, pieces
from symfield.weightspace.losses import ModelMetric, loss_metric
from symfield.weightspace.matching import Fit, Method, Problem, Solution, Work
from symfield.weightspace.matching_activations import ActivationMatching, activations, correlation, covariance
from symfield.weightspace.matching_soft import FrankWolfe, Sinkhorn, sinkhorn
from symfield.weightspace.matching_starts import sorted_entries
from symfield.weightspace.matching_straight_through import StraightThrough
from symfield.weightspace.matching_weights import WeightMatching, identity
from symfield.weightspace.merging import (
    FourCorners,
    Interval,
    Repairing,
    confidence,
    corners_over_pairs,
    four_corners,
    merge,
)
from symfield.weightspace.metanetworks import (
    ConvolutionalReader,
    Prediction,
    Split,
    Statistics,
    agreement,
    deep_sets,
    fit_metanetwork,
    flattened_mlp,
    split_samples,
)
from symfield.weightspace.metanetworks_graph import GraphMetanetwork, fit_graph_metanetwork, mlp_graphs
from symfield.weightspace.procrustes import orthogonal_procrustes
from symfield.weightspace.repairing import LayerRepair, Repair, Repaired, repair
from symfield.weightspace.report import Check, Fixed, Report, Unknown
from symfield.weightspace.schedules import Schedule, constant, cosine, triangular
from symfield.weightspace.symmetry import Element, Face, ParameterSymmetry, Slot
from symfield.weightspace.tracing import Example, Untraceable, trace
from symfield.weightspace.training import PerNetwork, Training, initial_many, outputs_many, train_many
from symfield.weightspace.update_rules import SGD, Adam, AdamW, Slots, UpdateRule
from symfield.weightspace.variational import LowRankGaussian, Variational, divergence, variational, width_prior
from symfield.weightspace.zoo import HyperparameterLaw, ModelZoo, match_targets, train_zoo

__all__ = [
    "symmetries",
    "trace",
    "derive",
    "certify",
    "from_axes",
    "fold_norms",
    "Folded",
    "FoldedNorm",
    "KeptNorm",
    "RootMeanSquare",
    "Example",
    "Untraceable",
    "ParameterGraph",
    "Node",
    "TensorInfo",
    "Report",
    "Check",
    "Fixed",
    "Unknown",
    "ParameterSymmetry",
    "Element",
    "Slot",
    "Face",
    "Factor",
    "Permutation",
    "PositiveScale",
    "Sign",
    "Orthogonal",
    "Conformal",
    "GeneralLinear",
    "Layout",
    "Piece",
    "Product",
    "Concat",
    "Move",
    "pieces",
    "map_blocks",
    "Assignment",
    "assign",
    "Alignment",
    "align",
    "is_running_statistic",
    "ManyAlignment",
    "align_many",
    "Transported",
    "reading_axes",
    "transport",
    "Zipped",
    "zip_models",
    "Fit",
    "Method",
    "Problem",
    "Solution",
    "Work",
    "WeightMatching",
    "identity",
    "sorted_entries",
    "ActivationMatching",
    "activations",
    "correlation",
    "covariance",
    "FrankWolfe",
    "Sinkhorn",
    "sinkhorn",
    "StraightThrough",
    "orthogonal_procrustes",
    "interpolate",
    "Curve",
    "curve",
    "Metric",
    "ModelMetric",
    "loss_metric",
    "barrier",
    "midpoint_barrier",
    "monotonicity_gap",
    "local_convexity",
    "global_convexity",
    "LayerRepair",
    "Repair",
    "Repaired",
    "repair",
    "merge",
    "FourCorners",
    "four_corners",
    "corners_over_pairs",
    "Interval",
    "confidence",
    "Repairing",
    "asymmetrize",
    "asymmetrize_like",
    "symmetrize_back",
    "Rule",
    "Place",
    "places",
    "per_root_fan_in",
    "plan_asymmetry",
    "FixedPlan",
    "PlannedWeight",
    "MaskLaw",
    "RandomRows",
    "RandomFilters",
    "Densest",
    "BoundZeros",
    "EveryEntry",
    "count_fixed",
    "fixed_mask",
    "fixed_values",
    "fixed_entries",
    "require_same_masks",
    "FixedEntries",
    "fix_entries",
    "release_entries",
    "MaskedWeight",
    "ShiftedWeight",
    "AsymmetricLinear",
    "AsymmetricConv1d",
    "AsymmetricConv2d",
    "FiGLU",
    "verify_asymmetry",
    "AsymmetryReport",
    "Guarantee",
    "mask_automorphisms",
    "label_automorphisms",
    "Automorphisms",
    "activation_equivariances",
    "Equivariances",
    "gate_is_rigid",
    "jacobian_rank",
    "JacobianRank",
    "train_many",
    "Training",
    "PerNetwork",
    "initial_many",
    "outputs_many",
    "UpdateRule",
    "Slots",
    "SGD",
    "Adam",
    "AdamW",
    "Schedule",
    "constant",
    "triangular",
    "cosine",
    "variational",
    "Variational",
    "LowRankGaussian",
    "divergence",
    "width_prior",
    "log_mean_probability",
    "calibration_error",
    "train_zoo",
    "ModelZoo",
    "HyperparameterLaw",
    "match_targets",
    "fit_metanetwork",
    "Prediction",
    "Split",
    "split_samples",
    "flattened_mlp",
    "Statistics",
    "deep_sets",
    "ConvolutionalReader",
    "GraphMetanetwork",
    "mlp_graphs",
    "fit_graph_metanetwork",
    "agreement",
    "UnitAgreement",
    "unit_agreement",
    "model_agreement",
    "leading_subspace",
    "coherence",
    "target_prices",
    "swap_costs",
    "permutation_gap",
]
