"""Every annotation of symfield is checked while the tests run; tests share a few fixtures."""

from __future__ import annotations

import sys
import types

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

# An int is welcome where a float is expected, as in all of Python (PEP 484).
_checker = types.ModuleType("checker")
_checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # type: ignore[attr-defined]
sys.modules["checker"] = _checker
_hook = install_import_hook("symfield", "checker.check")

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
