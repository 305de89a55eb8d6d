"""Models, examples and checkpoints named on the command line."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from symfield import random
from symfield.experiments.catalogue import load_module
from symfield.experiments.errors import ExperimentError, unknown
from symfield.typing import Generator, Params, Tensor

__all__ = ["CheckpointError", "ModelError", "load_checkpoint", "load_model", "parse_example", "save_checkpoint"]

_EXAMPLE = re.compile(r"(?:(\w+)=)?(\d+(?:x\d+)*)(?::(\w+)(?:<(\d+))?)?")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_DTYPES = {
    "float32": torch.float32, "float64": torch.float64, "int": torch.int64, "int64": torch.int64, "int32": torch.int32,
    "bool": torch.bool,
}  # fmt: skip
_GRAMMAR = "write 8x3x32x32, 4x16:int<1000 for integers below 1000, or NAME=4x16:int<1000 for a keyword argument"


class ModelError(ExperimentError, ValueError):
    """A model or an example cannot be made from what the command line says."""


class CheckpointError(ExperimentError, ValueError):
    """A checkpoint cannot be read, written, or does not belong to the model."""


def load_model(words: str, generator: Generator) -> tuple[nn.Module, Any]:
    """A model, and the example that comes with it if one does.

    Args:
        words: ``file.py:name`` or ``package.module:name``, where the name is a module, or a function without required
            arguments that returns one, or a pair (model, example); or the ``config.json`` of a transformers model.
        generator: source of randomness of an example.

    Returns:
        The model in eval mode, and its example or None.

    Raises:
        ModelError: if there is no such model, or making it fails.
    """
    if words.endswith(".json"):
        return _from_configuration(Path(words), generator)
    place, colon, name = words.rpartition(":")
    if not colon or not name.isidentifier():
        raise ModelError(f"expected file.py:name, package.module:name or a config.json, received {words!r}")
    if place.endswith(".py"):
        module = load_module(place, f"a model or a function {name!r} that returns one")
    else:
        try:
            module = importlib.import_module(place)
        except ImportError as error:
            raise ModelError(f"{place} cannot be imported: {error}; for a file write path/to/file.py:{name}") from error
    if not hasattr(module, name):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ModelError(unknown(f"name in {place}:", name, names))
    made = getattr(module, name)
    if not isinstance(made, nn.Module) and callable(made):
        try:
            made = made()
        except Exception as error:
            why = " ".join(str(error).split())
            raise ModelError(f"{words} could not be called: {type(error).__name__}: {why}") from error
    model, example = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"expected {words} to be or return an nn.Module, or a pair (module, example), received "
            f"{type(model).__name__}"
        )
    return model.eval(), example


def _from_configuration(path: Path, generator: Generator) -> tuple[nn.Module, Any]:
    """A transformers model with random weights; its example is a few random tokens, or an image."""
    try:
        import transformers
    except ImportError as error:
        raise ModelError("a config.json needs transformers: pip install 'symfield[transformers]'") from error
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        configuration = transformers.AutoConfig.for_model(**values)
        kind = next(iter(values.get("architectures") or []), None)
        model = (
            getattr(transformers, kind)(configuration) if kind else transformers.AutoModel.from_config(configuration)
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{path} makes no transformers model: {type(error).__name__}: {error}") from error
    given = model.dummy_inputs
    if set(given) == {"input_ids"}:
        size = int(configuration.get_text_config().vocab_size)
        given = {"input_ids": random.integers(0, size, (2, 8), generator=generator)}
    return model.eval(), dict(given)


def parse_example(words: Sequence[str], generator: Generator) -> Any:
    """Random inputs of given shapes.

    Args:
        words: one for each argument, ``8x64`` or ``NAME=2x16:int<1000``.
        generator: source of randomness.

    Returns:
        A tuple of positional arguments, or a dict if all are named.

    Raises:
        ModelError: if a word is not of this form, or named and unnamed ones are mixed.
    """
    named: dict[str, Tensor] = {}
    plain: list[Tensor] = []
    for word in words:
        found = _EXAMPLE.fullmatch(word)
        kind = found and (found[3] or "float32")
        if found is None or kind not in _DTYPES:
            raise ModelError(f"expected a shape as example, received {word!r}; {_GRAMMAR}")
        tensor = _draw([int(size) for size in found[2].split("x")], _DTYPES[kind], found[4], generator)
        if found[1]:
            named[found[1]] = tensor
        else:
            plain.append(tensor)
    if named and plain:
        raise ModelError(f"expected all arguments of the example with names or none, received {' '.join(words)!r}")
    return named or tuple(plain)


def _draw(shape: list[int], dtype: torch.dtype, below: str | None, generator: Generator) -> Tensor:
    if dtype.is_floating_point:
        return random.normal(shape, generator=generator, like=torch.zeros(0, dtype=dtype))
    return random.integers(0, int(below or 2), shape, generator=generator).to(dtype)


def load_checkpoint(path: Path) -> Params:
    """Parameters and buffers from a file.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote: a state dict, or a dict with one under ``state_dict`` or
            ``model``. Nothing but tensors is unpickled.

    Returns:
        Tensors by name.

    Raises:
        CheckpointError: if the file is missing, damaged, or holds no tensors by name.
    """
    if not path.is_file():
        raise CheckpointError(f"no such file: {path}")
    try:
        if path.suffix == ".safetensors":
            held: Any = _safetensors("read").load_file(path)
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:
        words = " ".join(_COLOURS.sub("", str(error)).split())[:200]
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {type(error).__name__}: {words}") from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise CheckpointError(f"{path} holds no tensors by name; save model.state_dict()")
    return dict(held)


def save_checkpoint(params: Mapping[str, Tensor], path: Path) -> None:
    """Write parameters and buffers, by a temporary name.

    Args:
        params: tensors by name.
        path: ``.safetensors``, or any other name for ``torch.save``.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    values = {name: tensor.detach().clone().contiguous() for name, tensor in params.items()}
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            _safetensors("written").save_file(values, partial)
        else:
            torch.save(values, partial)
        partial.replace(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error
    finally:
        with contextlib.suppress(OSError):  # where the folder is none, there is nothing to remove
            partial.unlink(missing_ok=True)


def _safetensors(done: str) -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise CheckpointError(
            f"a .safetensors file cannot be {done}: pip install 'symfield[transformers]', or use a .pt file"
        ) from error
    return safetensors.torch
