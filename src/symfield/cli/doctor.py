"""What this installation can do, and whether an output folder and its store are sound."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from symfield import __version__
from symfield.cli.show import Finding
from symfield.experiments.errors import ExperimentError
from symfield.experiments.folder import check_writable
from symfield.experiments.store import Store, repair

__all__ = ["examine", "repair_store"]


def examine(out: Path) -> list[Finding]:
    """Look at the installation, and at an output folder.

    Args:
        out: the output folder.

    Returns:
        The findings.
    """
    return [
        Finding("symfield", "ok", f"{__version__} on Python {platform.python_version()}, {platform.machine()}"),
        *_torch(),
        *_kernel(),
        *_folder(out),
    ]


def repair_store(out: Path) -> str:
    """Rebuild the store of an output folder from the cells that can be read.

    Args:
        out: the output folder.

    Returns:
        What was kept and where the old file is.

    Raises:
        StoreError: if there is no store, or it cannot be moved.
    """
    kept, old = repair(out / "store.sqlite")
    return f"{kept} cells kept; the old file is {old}"


def _torch() -> list[Finding]:
    try:
        import torch
    except ImportError as error:
        return [Finding("torch", "problem", f"cannot be imported: {error}")]
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [
        Finding("torch", "ok", torch.__version__),
        Finding("devices", "ok", ", ".join(devices)),
        Finding("threads", "ok", f"{torch.get_num_threads()} of {os.cpu_count()} cores"),
    ]


def _kernel() -> list[Finding]:
    from symfield.meanfield.kernels import status
    from symfield.weightspace.asymmetric.expansion import WORKS, compiled_functions

    found = status()
    compiler = found.compiler or "none found; everything works in plain torch, only slower"
    entries = compiled_functions().words
    return [
        Finding("compiler", "ok" if found.compiler else "note", compiler),
        Finding("fused kernel", "ok" if found.available else "note", found.detail),
        Finding("fixed entries", "ok" if entries == WORKS else "note", entries),
    ]


def _folder(out: Path) -> list[Finding]:
    was_there = out.exists()
    try:
        check_writable(out)
    except ExperimentError as error:
        return [Finding("output", "problem", str(error))]
    if not was_there:
        out.rmdir()
    findings = [Finding("output", "ok", f"{out} can be written")]
    path = out / "store.sqlite"
    if not path.exists():
        return [*findings, Finding("store", "ok", "none yet")]
    try:
        with Store(path) as store:
            problems = store.check()
            count = len(store) if not problems else 0
    except ExperimentError as error:
        problems = [str(error)]
    if problems:
        return findings + [Finding("store", "problem", problem) for problem in problems]
    return [*findings, Finding("store", "ok", f"{count} cells, each matching its checksum")]
