"""Ensembles of many units as laws of particles: how symmetry acts on training when networks are wide.

- laws: :func:`orbit` (μ^G), :func:`project` (μ^E), samplers of weakly and strongly invariant laws;
- objectives: :func:`vanilla`, :func:`augmented` (DA), :func:`averaged` (FA), :func:`constrained` (EA), :func:`coupled`;
- training: :class:`Flow`, :func:`step`, :func:`integrate`;
- the population itself: :func:`sampled_population`, :func:`gaussian_erf_population`,
  :func:`gaussian_relu_population`, :func:`population_flow`, :func:`transverse_stability`;
- distances and risks: :func:`wasserstein2`, :func:`relative_measure_distance`, :func:`equivariance_gap`.

References:
    Maass Martínez & Fontbona 2024, *Symmetries in Overparametrized Neural Networks: A Mean-Field View*,
    arXiv 2405.19995v3.
"""

from symfield.meanfield.data import Arrays, Data, Fresh, gaussian_teacher, stream
from symfield.meanfield.distances import (
    distance_to_orbit,
    distance_to_projection,
    relative_measure_distance,
    wasserstein2,
)
from symfield.meanfield.flow import Diverged, Flow, State, integrate, inverse_width, step
from symfield.meanfield.gaussian_erf import erf_kernel, gaussian_erf_population
from symfield.meanfield.gaussian_population import GaussianPopulation
from symfield.meanfield.gaussian_relu import gaussian_relu_population
from symfield.meanfield.gradient_flow import Trajectory, energy, population_flow, velocity
from symfield.meanfield.inner import Block, Inner, fused_loop, inner_loop, particle_loop
from symfield.meanfield.laws import (
    Sampler,
    gaussian,
    orbit,
    project,
    sample_strongly_invariant,
    sample_weakly_invariant,
)
from symfield.meanfield.losses import AutogradLoss, Loss, Squared, half_squared, loss_of, squared
from symfield.meanfield.objective import Objective, Virtual
from symfield.meanfield.population import Population, SampledPopulation, sampled_population
from symfield.meanfield.risks import averaged_ensemble, equivariance_gap, squared_distance
from symfield.meanfield.schemes import Coupled, augmented, averaged, constrained, coupled, vanilla
from symfield.meanfield.stability import (
    StabilityReport,
    TransverseGrowth,
    transverse_growth,
    transverse_operator,
    transverse_stability,
)
from symfield.meanfield.transverse_noise import transverse_variance

__all__ = [
    "orbit",
    "project",
    "sample_weakly_invariant",
    "sample_strongly_invariant",
    "gaussian",
    "Sampler",
    "vanilla",
    "augmented",
    "averaged",
    "constrained",
    "coupled",
    "Objective",
    "Coupled",
    "Virtual",
    "squared",
    "half_squared",
    "Squared",
    "AutogradLoss",
    "Loss",
    "loss_of",
    "Flow",
    "State",
    "Diverged",
    "step",
    "integrate",
    "inverse_width",
    "Inner",
    "Block",
    "inner_loop",
    "fused_loop",
    "particle_loop",
    "Data",
    "Arrays",
    "Fresh",
    "gaussian_teacher",
    "stream",
    "wasserstein2",
    "relative_measure_distance",
    "distance_to_projection",
    "distance_to_orbit",
    "averaged_ensemble",
    "equivariance_gap",
    "squared_distance",
    "Population",
    "sampled_population",
    "SampledPopulation",
    "gaussian_erf_population",
    "gaussian_relu_population",
    "GaussianPopulation",
    "erf_kernel",
    "population_flow",
    "Trajectory",
    "velocity",
    "energy",
    "transverse_stability",
    "StabilityReport",
    "transverse_operator",
    "transverse_growth",
    "TransverseGrowth",
    "transverse_variance",
]
