"""Every annotation of symfield is checked while the tests run; tests share a few fixtures."""

from __future__ import annotations

from jaxtyping import install_import_hook

_hook = install_import_hook("symfield", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
