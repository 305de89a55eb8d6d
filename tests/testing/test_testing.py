"""Claims about the test kit: it measures zero on equivariant maps, finds each kind of mistake, and says where."""

from __future__ import annotations

import math

import pytest
import torch

from symfield.groups import (
    Cyclic,
    Defining,
    Dihedral,
    DirectProduct,
    Factor,
    Orthogonal,
    Planar,
    Regular,
    Representation,
    Sign,
    SignFlips,
    SpecialOrthogonal,
    Symmetric,
    Trivial,
    hom,
)
from symfield.testing import (
    assert_equivariant,
    assert_jointly_equivariant,
    assert_representation,
    equivariance_error,
    joint_equivariance_error,
    tolerance,
)


def _inputs(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(3))


EQUIVARIANT = {
    "sort of a set": (lambda x: x.sort(-1).values, Defining(Symmetric(5)), Trivial(Symmetric(5), 5)),
    "pointwise function": (torch.tanh, Defining(Dihedral(6)), Defining(Dihedral(6))),
    "odd function": (torch.sin, Defining(SignFlips(4)), Defining(SignFlips(4))),
    "vector norm": (lambda x: x.norm(dim=-1, keepdim=True), Defining(Orthogonal(3)), Trivial(Orthogonal(3))),
    "vector scaled": (lambda x: x * x.norm(dim=-1, keepdim=True), Defining(Orthogonal(3)), Defining(Orthogonal(3))),
    "outer square": (lambda x: (x[:, :, None] * x[:, None]).flatten(1), Planar(Cyclic(5)), Planar(Cyclic(5)) ** 2),
}


@pytest.mark.parametrize(("f", "rep_in", "rep_out"), EQUIVARIANT.values(), ids=EQUIVARIANT.keys())
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equivariant_maps_pass_at_round_off(f, rep_in, rep_out, dtype, generator):
    x = _inputs(2, 3, rep_in.dim, dtype=dtype)
    assert equivariance_error(f, rep_in, rep_out, x=x, generator=generator) < tolerance(dtype)
    assert_equivariant(f, rep_in, rep_out, x=x, generator=generator)


def test_error_is_the_relative_size_of_the_violation(generator):
    swap = Defining(Cyclic(2))
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    # f(Px) = 3 e_2 against P f(x) = e_2: a difference of 2, relative to the largest expected output, 1.
    f = lambda x: x * torch.tensor([1.0, 3.0], dtype=torch.float64)  # noqa: E731
    assert equivariance_error(f, swap, swap, x=x, generator=generator) == pytest.approx(2.0)


def test_a_violation_at_one_generator_only_is_found_with_a_single_random_sample(generator):
    group = Orthogonal(3)  # a chiral map commutes with rotations and fails at the reflection
    f = lambda x: torch.linalg.cross(x[:, :3], x[:, 3:])  # noqa: E731
    rotation, full = 2 * Defining(SpecialOrthogonal(3)), 2 * Defining(group)
    x = _inputs(4, 6)
    assert_equivariant(f, rotation, Defining(SpecialOrthogonal(3)), x=x, generator=generator)
    assert_equivariant(f, full, Sign(group) * Defining(group), x=x, generator=generator)
    with pytest.raises(AssertionError, match="violated by"):
        assert_equivariant(f, full, Defining(group), x=x, generator=generator, samples=1)


def test_failure_names_the_violation_the_element_and_what_to_check(generator):
    shifts = Defining(Cyclic(4))
    with pytest.raises(AssertionError, match=r"violated by \d\.\d+e[+-]\d+.*worst at g = \d.*Check"):
        assert_equivariant(lambda x: x.cumsum(-1), shifts, shifts, x=_inputs(2, 4), generator=generator)


def test_nan_never_passes(generator):
    shifts = Defining(Cyclic(4))
    nan = lambda x: torch.where(x == x.flatten()[0], torch.nan, x)  # noqa: E731
    assert math.isnan(equivariance_error(nan, shifts, shifts, x=_inputs(2, 4), generator=generator))
    with pytest.raises(AssertionError, match="nan"):
        assert_equivariant(nan, shifts, shifts, x=_inputs(2, 4), generator=generator)
    unit = lambda x, z: torch.full((len(z), len(x), 4), torch.nan)  # noqa: E731
    with pytest.raises(AssertionError, match="nan"):
        assert_jointly_equivariant(unit, shifts, shifts, shifts, generator=generator)


def test_the_zero_map_is_equivariant(generator):
    shifts = Defining(Cyclic(4))
    assert equivariance_error(torch.zeros_like, shifts, shifts, x=_inputs(2, 4), generator=generator) == 0.0


def test_loose_tolerance_is_respected(generator):
    shifts = Defining(Cyclic(4))
    tilt = torch.tensor([1.0, 1.0, 1.0, 1.001], dtype=torch.float64)
    assert_equivariant(lambda x: x * tilt, shifts, shifts, x=_inputs(2, 4), generator=generator, atol=1e-2)
    with pytest.raises(AssertionError):
        assert_equivariant(lambda x: x * tilt, shifts, shifts, x=_inputs(2, 4), generator=generator, atol=1e-5)


def test_tolerance_follows_the_precision():
    assert tolerance(torch.float64) < 1e-10 < tolerance(torch.float32) < 1e-4 < tolerance(torch.float16) < 0.02
    with pytest.raises(TypeError, match="floating"):
        tolerance(torch.int64)


def _pointwise(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    weights = z.reshape(len(z), 2, 2)
    return torch.sigmoid(torch.einsum("noi,bi->nbo", weights, x))


def test_pointwise_unit_is_jointly_equivariant_under_permutations_and_not_under_rotations(generator):
    swap = Defining(Cyclic(2))
    assert joint_equivariance_error(_pointwise, swap, swap, hom(swap, swap), generator=generator) < 1e-14
    assert_jointly_equivariant(_pointwise, swap, swap, hom(swap, swap), generator=generator)
    like = torch.zeros(1)
    assert_jointly_equivariant(_pointwise, swap, swap, hom(swap, swap), generator=generator, like=like)
    turn = Planar(Cyclic(5))
    with pytest.raises(AssertionError, match=r"σ\(ρ_g x; M_g z\).*violated by.*activation"):
        assert_jointly_equivariant(_pointwise, turn, turn, hom(turn, turn), generator=generator)


def test_joint_equivariance_tells_a_wrong_action_on_the_parameters(generator):
    swap = Defining(Cyclic(2))
    assert joint_equivariance_error(_pointwise, swap, swap, Trivial(Cyclic(2), 4), generator=generator) > 0.01


def test_misuse_is_refused_with_what_to_do(generator):
    shifts, swap = Defining(Cyclic(4)), Defining(Cyclic(2))
    with pytest.raises(ValueError, match=r"\(\*batch, 4\)"):
        equivariance_error(torch.tanh, shifts, shifts, x=_inputs(2, 3), generator=generator)
    with pytest.raises(ValueError, match="one group"):
        equivariance_error(torch.tanh, shifts, swap, x=_inputs(2, 4), generator=generator)
    with pytest.raises(ValueError, match=r"to return shape \(2, 4\)"):
        equivariance_error(lambda x: x[:, :1], shifts, shifts, x=_inputs(2, 4), generator=generator)
    with pytest.raises(ValueError, match="samples >= 1"):
        equivariance_error(torch.tanh, shifts, shifts, x=_inputs(2, 4), generator=generator, samples=0)
    with pytest.raises(ValueError, match=r"\(n, b, o\)"):
        joint_equivariance_error(lambda x, z: x, swap, swap, swap, generator=generator)


GROUPS = DirectProduct(Symmetric(3), SpecialOrthogonal(3))
REPRESENTATIONS = [
    Regular(Dihedral(4)),
    Defining(Symmetric(4)) ** 2 + Sign(Symmetric(4)),
    hom(Defining(SignFlips(2)), Regular(SignFlips(2))),
    Planar(Dihedral(5), 2) * Planar(Dihedral(5)),
    2 * Defining(Orthogonal(3)) ** 2,
    Factor(GROUPS, 0, Defining(Symmetric(3))) * Factor(GROUPS, 1, Defining(SpecialOrthogonal(3))),
]


@pytest.mark.parametrize("rep", REPRESENTATIONS, ids=str)
def test_representations_pass(rep, generator):
    assert_representation(rep, generator=generator)


class _Broken(Representation):
    """A representation of C_4 on R^4 with one method spoilt at a time."""

    def __init__(self, spoilt: str) -> None:
        self._set(group=Cyclic(4), spoilt=spoilt)

    _fields = ("spoilt",)

    @property
    def dim(self) -> int:
        return 4

    def _matrix(self, g):
        shift = Defining(self.group).matrix(g)
        return {"matrix": shift + 1e-6, "composition": shift.mT @ shift.mT.roll(1, -1)}.get(self.spoilt, shift)

    def _act(self, g, x):
        return super()._act(self.group.inverse(g) if self.spoilt == "act" else g, x)

    def _character(self, g):
        return super()._character(g) + (self.spoilt == "character")

    def __str__(self) -> str:
        return self.spoilt


@pytest.mark.parametrize(
    ("spoilt", "law"),
    [("matrix", r"ρ\(1\) = I"), ("composition", "ρ"), ("act", r"act\(g, x\)"), ("character", "tr ρ")],
)
def test_each_broken_law_is_named(spoilt, law, generator):
    with pytest.raises(AssertionError, match=law):
        assert_representation(_Broken(spoilt), generator=generator)
