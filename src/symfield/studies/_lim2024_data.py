"""Data of the studies on asymmetric networks: digits, clusters in a subspace, and tensors that a user brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from symfield import random
from symfield.experiments.errors import StudyError
from symfield.typing import Tensor

__all__ = ["Splits", "digits_splits", "read_arrays", "subspace_clusters", "user_task"]

_HELD_OUT = 500
_SUFFIXES = (".npz", ".pt", ".pth")


class Splits(NamedTuple):
    """Samples, and which of them each group of networks is trained and tested on.

    Attributes:
        x: all inputs, shape ``(n, ...)``.
        y: their classes.
        train: rows for training, shape ``(groups, m)``.
        test: rows for testing, shape ``(groups, k)``.
        classes: number of classes.
    """

    x: Tensor
    y: Tensor
    train: Tensor
    test: Tensor
    classes: int


def digits_splits(seeds: Sequence[int], *, like: Tensor) -> Splits:
    """The 1797 digits of scikit-learn with one mean and deviation; 500 are held out, all classes in proportion.

    Args:
        seeds: of the splits, one for each group.
        like: gives dtype and device.

    Returns:
        The splits, inputs ``(1797, 64)``.

    Raises:
        StudyError: if scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise StudyError("the digits come with scikit-learn: pip install 'symfield[datasets]'") from error
    held = load_digits()
    rows = [
        train_test_split(np.arange(len(held.target)), test_size=_HELD_OUT, stratify=held.target, random_state=seed)
        for seed in seeds
    ]
    x = torch.from_numpy(held.data.astype(np.float64))
    x = ((x - x.mean()) / x.std()).to(like)
    train, test = (torch.from_numpy(np.stack(part)).to(like.device) for part in zip(*rows, strict=True))
    return Splits(x, torch.from_numpy(held.target).long().to(like.device), train, test, 10)


def subspace_clusters(
    dim: int, seeds: Sequence[int], *, like: Tensor, ambient: int = 64, train: int = 1300, test: int = 500
) -> Splits:
    """Ten round Gaussian clusters in a random subspace, of deviation 1/2 around centres of deviation 2 a coordinate.

    Args:
        dim: k, dimension of the subspace that holds all inputs.
        seeds: of the samples of each group; subspace and centres follow from the first.
        like: gives dtype and device.
        ambient: d, inputs of the network.
        train: samples of a group for training.
        test: samples of a group for testing.

    Returns:
        The splits, inputs with mean square 1.
    """
    generator = random.generator(seeds[0])
    wide = torch.zeros((), dtype=torch.float64)
    basis = torch.linalg.qr(random.normal((ambient, dim), generator=generator, like=wide))[0]
    centres = random.normal((10, dim), generator=generator, like=wide, std=2.0)
    each = train + test
    y = torch.arange(each * len(seeds)) % 10
    points = centres[y] + random.normal((len(y), dim), generator=generator, like=wide, std=0.5)
    x = points @ basis.mT
    rows = torch.arange(len(y)).reshape(len(seeds), each).to(like.device)
    x = (x / x.square().mean().sqrt()).to(like)
    return Splits(x, y.to(like.device), rows[:, :train], rows[:, train:], 10)


def read_arrays(folder: str, name: str, needed: tuple[str, ...]) -> dict[str, Tensor]:
    """Tensors that a user keeps in a folder: ``name.npz`` of numpy, or ``name.pt`` with a dict of tensors.

    Args:
        folder: where to look.
        name: of the file, without its ending.
        needed: names of the arrays.

    Returns:
        The arrays as tensors, on the CPU.

    Raises:
        StudyError: if the folder, the file or an array is missing; the message says what to put where.
    """
    what = f"{name}.npz or {name}.pt with the arrays {', '.join(needed)}"
    if not folder:
        raise StudyError(f"data={name} is read from a folder of yours: pass folder=PATH, where {what} lies")
    files = [Path(folder).expanduser() / f"{name}{suffix}" for suffix in _SUFFIXES]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise StudyError(f"nothing to read in folder {folder!r}: expected {what}")
    try:
        held: Mapping[str, object]
        if found.suffix == ".npz":
            with np.load(found, allow_pickle=False) as archive:
                held = {key: torch.from_numpy(archive[key]) for key in archive.files}
        else:
            held = torch.load(found, map_location="cpu", weights_only=True)
    except Exception as error:
        raise StudyError(f"{found} cannot be read as {what}: {error}") from error
    missing = [key for key in needed if not isinstance(held.get(key), torch.Tensor)]
    if missing:
        raise StudyError(f"{found} has no array {', '.join(missing)}; it has {', '.join(sorted(held))}")
    return {key: value for key, value in held.items() if isinstance(value, torch.Tensor)}


def user_task(folder: str, name: str, shape: tuple[int, ...], groups: int, *, like: Tensor) -> Splits:
    """Images that a user brings, as ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

    Bytes are divided by 255; images with channels last are turned; then each channel of the training images gets mean 0
    and deviation 1. Nothing is downloaded.

    Args:
        folder: where ``name.npz`` or ``name.pt`` lies.
        name: ``"mnist"`` or ``"cifar10"``.
        shape: of one input of the network, such as ``(784,)`` or ``(3, 32, 32)``.
        groups: of networks; all share the split that the user brings.
        like: gives dtype and device.

    Returns:
        The splits.

    Raises:
        StudyError: as :func:`read_arrays`, and if images and labels do not fit.
    """
    held = read_arrays(folder, name, ("x_train", "y_train", "x_test", "y_test"))
    parts = []
    for split in ("train", "test"):
        x, y = held[f"x_{split}"], held[f"y_{split}"].reshape(-1).long()
        if len(shape) == 3 and x.ndim == 4 and x.shape[-1] == shape[0] != x.shape[1]:
            x = x.movedim(-1, 1)
        if len(x) != len(y) or not len(x) or x[0].numel() != int(np.prod(shape)):
            raise StudyError(
                f"expected x_{split} of shape (n, {', '.join(map(str, shape))}) with n labels y_{split}, received "
                f"{tuple(x.shape)} and {tuple(y.shape)}"
            )
        if int(y.min()) < 0:
            raise StudyError(f"expected classes from 0 in y_{split}, received {int(y.min())}")
        parts.append((x.reshape(len(x), *shape).double() / (255 if x.dtype == torch.uint8 else 1), y))
    (x, y), (x_test, y_test) = parts
    axes = (0, 2, 3) if x.ndim == 4 else (0, 1)
    mean, deviation = x.mean(axes, keepdim=True), x.std(axes, keepdim=True).clamp_min(1e-12)
    classes = int(torch.cat([y, y_test]).max()) + 1
    x = torch.cat([(part - mean) / deviation for part in (x, x_test)])
    rows = torch.arange(len(x), device=like.device).expand(groups, -1)
    y_all = torch.cat([y, y_test]).to(like.device)
    return Splits(x.to(like), y_all, rows[:, : len(y)], rows[:, len(y) :], classes)
