"""The theory of symmetric ensembles as facts: exact identities in float64, and what fails outside their hypotheses.

Identities are checked on random laws and data for several groups and units through the same functions that the study
``maass2024_theorems`` prints; numbers of the paper's own setting, gradients and training runs are asserted directly.

References: Maass & Fontbona 2024, arXiv 2405.19995v3.
"""

from __future__ import annotations

import pytest
import torch

from symfield import random
from symfield.equivariant import fixed_points
from symfield.groups import Cyclic, Defining, Symmetric
from symfield.meanfield import (
    Flow,
    augmented,
    averaged,
    averaged_ensemble,
    constrained,
    coupled,
    distance_to_orbit,
    distance_to_projection,
    gaussian_teacher,
    integrate,
    orbit,
    particle_loop,
    project,
    relative_measure_distance,
    sample_strongly_invariant,
    squared,
    squared_distance,
    vanilla,
    wasserstein2,
)
from symfield.quadrature import gauss_hermite
from symfield.studies._maass2024 import ACTION, GROUP, SWAP, UNIT, teacher
from symfield.studies._maass2024_claims import SETTINGS, Draw, flows, laws, optima, published, risks, setting
from symfield.symmetrize import haar, uniform
from symfield.units import HiddenUnit, PointwiseUnit, identity, sigmoid

SEEDS = (11, 12, 13)
LIKE = torch.zeros(0, dtype=torch.float64)
SPACE = fixed_points(ACTION)
TEACHERS = ("arbitrary", "WI", "SI")

in_every_setting = pytest.mark.parametrize("name", SETTINGS)


def confirm(check, name: str, *claims, seeds=SEEDS) -> None:
    """Assert claims of one check in one setting, on several random draws."""
    for seed in seeds:
        measured = check(setting(name), Draw(random.generator(seed), 6, 8, seed))
        for claim in claims or measured:
            value = measured[claim]
            if claim.outside:
                assert value >= claim.bound, f"{claim.statement}: {value:.3g} in {name}, seed {seed}"
            else:
                assert abs(value - claim.expected) <= claim.bound, f"{claim.statement}: {value:.3g} in {name}, {seed}"


def schemes() -> dict:
    return {
        "V": vanilla(UNIT, squared),
        "DA": augmented(UNIT, squared, uniform(GROUP)),
        "FA": averaged(UNIT, squared, uniform(GROUP)),
        "EA": constrained(UNIT, squared, SPACE),
    }


def batch(kind: str, seed: int, size: int = 20):
    x = random.normal((size, 2), generator=random.generator(seed), like=LIKE, std=4.0)
    return x, UNIT.mean(x, teacher(kind))


# 1. The projection on E^G.


@in_every_setting
def test_projection_on_the_fixed_space_is_orthogonal_and_absorbs_the_group(name):
    confirm(laws.fixed_space, name)


def test_swap_of_matrices_fixes_a_plane_and_moves_a_matrix_twice_its_distance():
    z = random.normal((50, 4), generator=random.generator(0), like=LIKE)
    swapped = z.flip(-1)  # P z P, row by row
    torch.testing.assert_close(ACTION.act(torch.tensor([1]), z), swapped, atol=0, rtol=0)
    assert SPACE.dim == 2
    assert abs(float(SPACE.projector().trace()) - 2) < 1e-12
    torch.testing.assert_close((z - swapped).norm(dim=-1), 2 * SPACE.distance(z), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("group", "dim"), [(Symmetric(4), 21), (Cyclic(4), 39)])
def test_layers_on_sets_and_signals_have_the_known_numbers_of_parameters(group, dim):
    n, inputs, hidden, outputs = 4, 2, 3, 1
    points = Defining(group)
    unit = HiddenUnit(sigmoid, n * inputs, n * outputs, hidden=n * hidden)
    assert fixed_points(unit.representation(inputs * points, outputs * points, hidden * points)).dim == dim


# 2. Networks of symmetric laws.


@in_every_setting
def test_averaged_network_is_the_network_of_the_symmetrised_law(name):
    confirm(laws.networks, name)


def test_logistic_unit_is_jointly_equivariant_under_the_swap_and_averages_over_ten_particles():
    g = random.generator(1)
    z, x = (random.normal((5, p), generator=g, like=LIKE) for p in (4, 2))
    torch.testing.assert_close(UNIT(x.flip(-1), z.flip(-1)), UNIT(x, z).flip(-1), atol=1e-12, rtol=0)
    ten = torch.cat([z, z.flip(-1)])
    average = averaged_ensemble(UNIT, x, z, frame=uniform(GROUP), rep_in=SWAP, rep_out=SWAP)
    torch.testing.assert_close(average, UNIT.mean(x, ten), atol=1e-12, rtol=0)


# 3. Risks.


@in_every_setting
def test_risks_of_moved_and_symmetrised_laws(name):
    confirm(risks.risks, name)


@in_every_setting
def test_augmentation_costs_the_equivariance_gap_more_than_averaging(name):
    confirm(risks.augmentation_gap, name)


@in_every_setting
def test_convexity_makes_symmetrised_laws_better_for_invariant_risks(name):
    confirm(risks.convexity, name)


@pytest.mark.parametrize("kind", TEACHERS)
def test_risk_is_invariant_on_orbit_closed_samples_just_for_equivariant_teachers(kind):
    z = random.normal((7, 4), generator=random.generator(2), like=LIKE)
    x, _ = batch(kind, 3)
    closed = torch.cat([x, x.flip(-1)])
    y = UNIT.mean(closed, teacher(kind))
    v, da = schemes()["V"], schemes()["DA"]
    here, there = v.risk(z, closed, y), v.risk(z.flip(-1), closed, y)
    if kind == "arbitrary":
        assert abs(here - there) > 1e-3 * here
        assert abs(here - da.risk(z, closed, y)) > 1e-3 * here
    else:
        assert abs(here - there) < 1e-12
        assert abs(here - da.risk(z, closed, y)) < 1e-12


@in_every_setting
def test_particle_gradients_are_those_of_autograd_and_of_the_formulas(name):
    confirm(risks.gradients, name)


@in_every_setting
def test_risks_decompose_along_the_equivariant_functions(name):
    confirm(risks.decompositions, name)
    confirm(risks.conditional_mean, name)


@in_every_setting
def test_optima_over_all_weakly_and_strongly_invariant_laws(name):
    confirm(optima.infima, name)
    confirm(optima.minimisers, name)
    confirm(optima.universality, name)
    confirm(optima.entropic, name, seeds=SEEDS[:1])


# 4. Lemma 1 and Proposition 16.


@in_every_setting
def test_projected_and_symmetrised_laws_forget_group_elements(name):
    confirm(laws.laws, name)


@in_every_setting
def test_units_linear_in_their_parameters_do_not_tell_projection_from_symmetrisation(name):
    confirm(laws.linear_units, name)


def test_logistic_units_tell_projection_from_symmetrisation():
    g = random.generator(4)
    z, x = (random.normal((7, p), generator=g, like=LIKE) for p in (4, 2))
    for unit, tells in ((UNIT, True), (PointwiseUnit(identity, 2, 2), False)):
        difference = (unit.mean(x, orbit(z, ACTION)) - unit.mean(x, project(z, SPACE))).abs().max()
        assert (difference > 1e-3) == tells
        assert tells or difference < 1e-12


# 5. Distances.


@in_every_setting
def test_relative_measure_distance_is_a_relative_distance_with_a_closed_form_to_projections(name):
    confirm(laws.distances, name)


def test_weakly_invariant_teacher_is_at_a_known_distance_from_the_fixed_space():
    cloud = teacher("WI")
    assert abs(float(distance_to_projection(cloud, SPACE, squared=True)) - 0.122395) < 1e-6
    assert float(distance_to_orbit(cloud, ACTION)) == 0.0
    exact = relative_measure_distance(cloud, project(cloud, SPACE), squared=True)
    assert abs(float(exact - distance_to_projection(cloud, SPACE, squared=True))) < 1e-12


def test_distance_from_a_law_to_laws_with_vanishing_projections_is_one_half():
    z = random.normal((9, 4), generator=random.generator(5), like=LIKE)
    off = z - z.flip(-1)
    assert abs(float(distance_to_projection(off, SPACE, squared=True)) - 0.5) < 1e-12
    assert float(distance_to_projection(torch.zeros(3, 4), SPACE)) == 0.0  # 0/0 is 0: everything is at the origin
    assert float(wasserstein2(z, z)) == 0.0


# 6. The paper's teachers.


@pytest.mark.parametrize(
    ("kind", "size", "asymmetry", "zero_risk"),
    [("arbitrary", 0.4405, 0.0331, 0.0503), ("WI", 0.4405, 0.0, 0.01725), ("SI", 0.2285, 0.0, 0.0194)],
)
def test_teachers_have_the_published_constants(kind, size, asymmetry, zero_risk):
    cloud, nodes = teacher(kind), gauss_hermite(2, 60, std=4.0)
    assert abs(float(cloud.square().sum(-1).mean()) - size) < 1e-9

    def average(x):
        return averaged_ensemble(UNIT, x, cloud, frame=uniform(GROUP), rep_in=SWAP, rep_out=SWAP)

    gap = float(squared_distance(UNIT, nodes.x, cloud, average, weight=nodes.weight))
    assert abs(gap - asymmetry) < (3e-4 if asymmetry else 1e-28)
    zero = torch.zeros(1, 4, dtype=torch.float64)
    risk = float(squared_distance(UNIT, nodes.x, zero, lambda x: UNIT.mean(x, cloud), weight=nodes.weight))
    assert risk == pytest.approx(zero_risk, rel=0.01)


# 7. and 8. Training from strongly invariant clouds.


def start(n: int, seed: int) -> torch.Tensor:
    return sample_strongly_invariant((n,), SPACE, generator=random.generator(seed), like=LIKE)


def trained(kind: str, n: int, seeds, *, noise=SPACE, inner=None, horizon=20.0, **chosen) -> dict:
    objectives = chosen or schemes()
    z0 = torch.stack([start(n, seed) for seed in seeds])
    joint = coupled(*objectives.values())
    *_, last = integrate(
        z0.expand(len(objectives), *z0.shape),
        joint,
        flow=Flow(noise=noise, records=1, horizon=horizon),
        data=gaussian_teacher(UNIT, teacher(kind), std=4.0),
        generator=[random.generator(seed) for seed in seeds],
        inner=inner and inner(joint.objectives),
    )
    return dict(zip(objectives, last.z, strict=True))


def off(z: torch.Tensor) -> float:
    return float(distance_to_projection(z, SPACE, squared=True).max())


@pytest.mark.parametrize("kind", TEACHERS)
@pytest.mark.parametrize(("n", "horizon", "tolerance"), [(5, 5.0, 1e-15), (10, 20.0, 1e-12), (50, 20.0, 1e-15)])
def test_symmetric_schemes_keep_strongly_invariant_clouds_and_are_one_run(kind, n, horizon, tolerance):
    clouds = trained(kind, n, SEEDS, horizon=horizon)
    assert off(clouds["EA"]) <= 1e-28
    assert off(clouds["DA"]) <= 1e-15
    assert off(clouds["FA"]) <= tolerance
    for a, b in (("DA", "FA"), ("DA", "EA"), ("FA", "EA")):
        assert float(relative_measure_distance(clouds[a], clouds[b], squared=True).max()) <= tolerance
    assert float((clouds["EA"][0] - start(n, SEEDS[0])).abs().max()) > 0.1, "the runs went nowhere"


def test_round_off_leaves_an_unstable_fixed_space_under_averaging_first():
    clouds = trained("arbitrary", 5, tuple(range(12)))
    assert off(clouds["EA"]) <= 1e-28
    assert off(clouds["DA"]) <= 1e-15
    assert off(clouds["FA"]) > 1e-15, "more than half of the seeds do"


def test_the_loop_over_particles_keeps_strongly_invariant_clouds_too():
    clouds = trained("arbitrary", 10, SEEDS[:1], inner=particle_loop)
    assert max(off(clouds[scheme]) for scheme in ("DA", "FA", "EA")) <= 1e-12


def test_free_schemes_leave_strongly_invariant_clouds():
    sampled = trained("arbitrary", 10, SEEDS, V=vanilla(UNIT, squared), DA=augmented(UNIT, squared, haar(GROUP)))
    assert off(sampled["V"]) > 1e-2, "a teacher that is not equivariant"
    assert off(sampled["DA"]) > 1e-3, "one random image a sample instead of full orbits"
    assert off(trained("WI", 10, SEEDS, noise=None, DA=schemes()["DA"])["DA"]) > 1e-4, "noise that is not projected"


@pytest.mark.parametrize("kind", TEACHERS)
@pytest.mark.parametrize("n", [1, 5, 50])
def test_at_strongly_invariant_clouds_symmetric_gradients_are_the_projected_vanilla_gradient(kind, n):
    x, y = batch(kind, n)
    z = start(n, 6)
    gradients = {scheme: f.gradient(z, x, y) for scheme, f in schemes().items()}
    expected = SPACE.project(gradients["V"])
    for scheme in ("DA", "FA", "EA"):
        torch.testing.assert_close(gradients[scheme], expected, atol=1e-14, rtol=0)
    free = random.normal((n, 4), generator=random.generator(7), like=LIKE)
    difference = schemes()["DA"].gradient(free, x, y) - SPACE.project(schemes()["V"].gradient(free, x, y))
    assert float(difference.abs().max()) > 1e-4, "the cloud must be strongly invariant"


# 9. and 10. Single gradients.


@pytest.mark.parametrize("kind", TEACHERS)
def test_vanilla_gradient_on_an_orbit_closed_batch_is_the_augmented_gradient(kind):
    x, y = batch(kind, 8)
    z = random.normal((3, 7, 4), generator=random.generator(9), like=LIKE)
    closed = schemes()["V"].gradient(z, torch.cat([x, x.flip(-1)]), torch.cat([y, y.flip(-1)]))
    torch.testing.assert_close(closed, schemes()["DA"].gradient(z, x, y), atol=1e-14, rtol=0)


@pytest.mark.parametrize("kind", ["WI", "SI"])
def test_vanilla_leaves_the_fixed_space_on_one_batch_but_not_on_average(kind):
    z = start(10, 10)
    x, y = batch(kind, 11, 20 * 4000)
    batches = x.unflatten(0, (4000, 20)), y.unflatten(0, (4000, 20))
    gradient = schemes()["V"].gradient(z.expand(4000, 10, 4), *batches)
    outward = gradient - SPACE.project(gradient)
    one = float(outward[0].abs().mean())
    assert 3e-3 < one < 0.2
    assert float(outward.mean(0).abs().mean()) < 3 * one / 4000**0.5


@pytest.mark.parametrize("name", ["swap", "sets", "turns"])
def test_single_gradients_for_other_groups(name):
    confirm(flows.steps, name, seeds=SEEDS[:1])


@pytest.mark.parametrize("name", ["swap", "turns"])
def test_exact_flows_preserve_symmetric_laws_and_coincide_on_them(name):
    confirm(flows.weak_flows, name, seeds=SEEDS[:1])
    confirm(flows.strong_flows, name, seeds=SEEDS[:1])


@pytest.mark.parametrize("name", ["swap", "turns"])
def test_exact_flows_dissipate_energy_at_the_squared_gradient(name):
    confirm(flows.dissipation, name, seeds=SEEDS[:1])


def test_strongly_invariant_laws_can_be_strictly_worse():
    confirm(published.counterexample, "turns")
