"""Many tensors with a table about them, as one folder: a format that any language reads.

A bundle is a folder of three files:

- ``tensors.safetensors``: tensors by name, leading axis n, in the `safetensors` format;
- ``table.parquet``: columns of length n, as Apache Parquet;
- ``about.json``: ``format`` (the number of this format), ``rows`` (n), ``about`` (what the maker said of it) and
  ``sha256`` of the two other files.

A folder is written beside its place and then moved there, so that one that exists is complete. :func:`collect` makes a
large bundle in pieces and skips those that are there: what was interrupted goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import safetensors
import safetensors.torch
import torch

from symfield.experiments.errors import StoreError

__all__ = ["Bundle", "collect", "load", "save"]

FORMAT = 1
_TENSORS, _TABLE, _ABOUT = "tensors.safetensors", "table.parquet", "about.json"


@dataclass(frozen=True)
class Bundle:
    """Tensors and columns with one row for each of n things.

    Attributes:
        tensors: by name, leading axis n.
        table: columns of length n.
        about: what is common to all; anything that JSON holds.
    """

    tensors: Mapping[str, torch.Tensor] = field(repr=False)
    table: Mapping[str, np.ndarray] = field(repr=False)
    about: Mapping[str, Any]

    def __post_init__(self) -> None:
        counts = {name: len(value) for name, value in self.tensors.items()}
        counts |= {name: len(value) for name, value in self.table.items()}
        if not self.tensors or not self.table or len(set(counts.values())) != 1:
            raise StoreError(f"expected tensors and columns of one length, received {counts}")


def save(bundle: Bundle, path: Path | str) -> None:
    """Write a bundle.

    Args:
        bundle: what to write.
        path: of the folder, which must not exist.

    Raises:
        StoreError: if the folder exists, or ``about`` is not made for JSON.
    """
    path = Path(path)
    if path.exists():
        raise StoreError(f"{path} exists; remove it, or choose another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        # safetensors refuses tensors that share memory: a copy has memory of its own
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in bundle.tensors.items()}
        safetensors.torch.save_file(tensors, room / _TENSORS)
        pyarrow.parquet.write_table(
            pyarrow.table({name: np.asarray(v) for name, v in bundle.table.items()}), room / _TABLE
        )
        rows = len(next(iter(tensors.values())))
        sums = {name: _checksum(room / name) for name in (_TENSORS, _TABLE)}
        content = {"format": FORMAT, "rows": rows, "about": dict(bundle.about), "sha256": sums}
        try:
            text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise StoreError(f"'about' of a bundle must fit into JSON: {error}") from error
        (room / _ABOUT).write_text(text + "\n", encoding="utf-8")
        os.replace(room, path)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def load(path: Path | str) -> Bundle:
    """Read a bundle, and check it against its checksums.

    Args:
        path: of the folder.

    Returns:
        The bundle, tensors on the CPU.

    Raises:
        StoreError: if there is none, it is of a later format, or it is damaged.
    """
    path = Path(path)
    try:
        content = json.loads((path / _ABOUT).read_text(encoding="utf-8"))
        if content["format"] > FORMAT:
            raise StoreError(f"{path} has format {content['format']}, this version reads {FORMAT}; update symfield")
        for name, wanted in content["sha256"].items():
            if _checksum(path / name) != wanted:
                raise StoreError(f"{path / name} has changed since it was written; make it again, or restore a copy")
        tensors = safetensors.torch.load_file(path / _TENSORS)
        table = pyarrow.parquet.read_table(path / _TABLE)
    except FileNotFoundError as error:
        raise StoreError(f"{path} is no bundle: {Path(error.filename).name} is missing") from error
    except (json.JSONDecodeError, KeyError, safetensors.SafetensorError, pyarrow.ArrowInvalid) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    columns = {name: table[name].to_numpy() for name in table.column_names}
    return Bundle(tensors, columns, content["about"])


def collect(folder: Path | str, pieces: Mapping[str, Callable[[], Bundle]]) -> list[Bundle]:
    """Pieces of a large bundle: those that are in the folder are read, the others made and written, one by one.

    Args:
        folder: where pieces lie, each in a folder of its own.
        pieces: by name, how to make each. A name must say all that a piece depends on.

    Returns:
        All pieces, in order.

    Raises:
        StoreError: if a piece is damaged, or the name of one is no name of a folder.
    """
    folder = Path(folder)
    found = []
    for name, make in pieces.items():
        if not re.fullmatch(r"[\w-][\w.-]*", name):
            raise StoreError(f"expected letters, digits, '.', '_' and '-' in the name of a piece, received {name!r}")
        if not (folder / name).exists():
            save(make(), folder / name)
        found.append(load(folder / name))
    return found


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
