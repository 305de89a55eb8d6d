"""The estimators keep scikit-learn's contract, and use the symmetry they are given."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from symfield.discovery import SymmetricClassifier, SymmetricRegressor
from symfield.groups import Cyclic, Defining, Placed, SpecialOrthogonal

SHIFTS = Defining(Cyclic(3))


def samples(n=120, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, 3))
    return x, (x * np.roll(x, 1, axis=1)).sum(1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SymmetricRegressor, SymmetricClassifier])
def test_the_estimators_pass_the_checks_of_scikit_learn(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(kind(width=32, steps=200, random_state=0))


@pytest.mark.parametrize("scheme", ["FA", "frame", "EA"])
def test_predictions_have_the_symmetry(scheme):
    x, y = samples()
    model = SymmetricRegressor(SHIFTS, scheme=scheme, width=30, steps=60, random_state=0).fit(x, y)
    np.testing.assert_allclose(model.predict(np.roll(x, 1, axis=1)), model.predict(x), atol=1e-4)
    assert model.scheme_ == f"{scheme} C_3"


def test_equivariant_targets_move_along():
    x, _ = samples()
    model = SymmetricRegressor(SHIFTS, SHIFTS, width=30, steps=60, random_state=0).fit(x, np.tanh(x))
    np.testing.assert_allclose(model.predict(np.roll(x, 1, axis=1)), np.roll(model.predict(x), 1, axis=1), atol=1e-4)


def test_pipelines_cross_validation_grids_and_clones_work():
    x, y = samples()
    model = SymmetricRegressor(SHIFTS, width=16, steps=60, random_state=0)
    assert np.isfinite(cross_val_score(make_pipeline(StandardScaler(), model), x, y, cv=2)).all()
    search = GridSearchCV(model, {"scheme": ["none", "FA"]}, cv=2).fit(x, y)
    assert search.best_params_["scheme"] in ("none", "FA")
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(width=8).width == 8


def test_the_same_seed_gives_the_same_model_also_after_pickling():
    x, y = samples()
    group = Defining(SpecialOrthogonal(3))  # averaged over elements that are kept
    first, second = (SymmetricRegressor(group, width=16, steps=30, random_state=3).fit(x, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict(x), second.predict(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(first)).predict(x), first.predict(x))
    np.testing.assert_allclose(first.predict(x[:5]), first.predict(x)[:5], atol=1e-5)


def test_classes_have_names_and_probabilities():
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    swap = Placed(Defining(Cyclic(2)), (0, 1), 4)
    model = SymmetricClassifier(swap, width=32, steps=200, random_state=0).fit(x, names)
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    np.testing.assert_allclose(model.predict_proba(x).sum(1), 1, atol=1e-6)
    assert model.score(x, names) > 0.9


def test_the_recommended_scheme_can_be_used():
    x, _ = samples(150)
    model = SymmetricRegressor(SHIFTS, scheme="advise", width=16, steps=60, random_state=0).fit(x, x[:, 0])
    assert model.scheme_ == "none"
    assert model.advice_.findings[0].status == "contradicted"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheme": "both"}, "expected a scheme among"),
        ({"group": Defining(Cyclic(4))}, "dim 3 on the inputs"),
        ({"group": SHIFTS, "group_out": SHIFTS}, "dim 1 on the targets"),
        ({"group": Defining(SpecialOrthogonal(3)), "scheme": "EA"}, "EA is not known for SO"),
    ],
)
def test_what_does_not_fit_is_refused(options, words):
    x, y = samples(30)
    with pytest.raises(ValueError, match=words):
        SymmetricRegressor(steps=5, **options).fit(x, y)
