"""Data sets: what is accepted, what is refused, and how it is split."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from symfield import random
from symfield.discovery import dataset


def test_arrays_tensors_frames_and_lists_give_the_same_data_set():
    x = np.arange(6.0).reshape(3, 2)
    for given in (x, torch.from_numpy(x), pd.DataFrame(x), x.tolist(), x.astype(np.float32)):
        assert torch.equal(dataset(given, [1.0, 2.0, 3.0]).x, torch.from_numpy(x))


def test_words_are_classes_and_numbers_are_not_unless_said():
    assert dataset(torch.zeros(3, 1), ["b", "a", "b"]).labels.tolist() == [1, 0, 1]
    assert dataset(torch.zeros(3, 1), [0, 1, 0]).task == "regression"
    assert dataset(torch.zeros(3, 1), [0, 1, 0], classes=True).y.shape == (3, 2)


def test_a_split_is_a_partition():
    data = dataset(torch.arange(10.0)[:, None], torch.arange(10.0))
    first, second = data.split(0.3, generator=random.generator(0))
    assert len(first) == 3
    assert sorted(torch.cat([first.x, second.x])[:, 0].tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([[1.0], [float("nan")]], [0.0, 1.0], "finite inputs"),
        ([[1.0], [2.0]], [0.0, float("inf")], "finite targets"),
        ([[1.0], [2.0]], [0.0], "same b"),
        ([["a"], ["b"]], [0.0, 1.0], "numbers"),
        (np.ones((2, 1)) * 1j, [0.0, 1.0], "real"),
        (np.ones((2, 1)), np.ones(2) * 1j, "real"),
        (np.zeros((0, 2)), np.zeros(0), "b >= 1"),
    ],
)
def test_bad_data_are_refused_with_what_to_do(x, y, words):
    with pytest.raises(ValueError, match=words):
        dataset(x, y)
