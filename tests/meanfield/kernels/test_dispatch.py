"""Which backend serves, and what the others say."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from symfield.meanfield.kernels import Program, advance_batched, advance_native, fastest
from symfield.meanfield.kernels.triton import advance_triton


def test_half_precision_and_very_wide_outputs_are_left_to_torch():
    assert fastest(Program("sigmoid", 2, 2), like=torch.zeros(1, dtype=torch.bfloat16)) is advance_batched
    assert fastest(Program("relu", 2, 1000, hidden=1), like=torch.zeros(1)) is advance_batched


def test_compiled_code_wants_cpu_tensors(problem):
    case = problem(Program("sigmoid", 2, 2), k=1, noisy=False)
    meta = {name: getattr(case, name).to("meta") for name in ("z", "x", "y")}
    with pytest.raises(ValueError, match="expected tensors on the CPU, received meta"):
        case.run(advance_native, **meta)


INTERPRETED = """
import sys
sys.path.insert(0, {folder!r})
import torch
from conftest import make_problem
from symfield.meanfield import kernels
from symfield.meanfield.kernels import Program, advance_batched
from symfield.meanfield.kernels.triton import advance_triton
pointwise, hidden = Program("sigmoid", 2, 2, tau=0.1), Program("tanh", 3, 2, hidden=2, bias=True)
for program in (pointwise, hidden, Program("relu", 3, 1, hidden=1)):
    case = make_problem(program, maps="FE", k=3, n=19, b=4)
    torch.testing.assert_close(case.run(advance_triton), case.run(advance_batched), rtol=1e-12, atol=1e-12)
print("agree")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_triton_kernel_agrees_when_interpreted():
    code = INTERPRETED.format(folder=str(Path(__file__).parent))
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "agree"


@pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="triton is installed")
def test_without_triton_its_backend_says_so(problem):
    case = problem(Program("sigmoid", 2, 2), k=1)
    with pytest.raises(ImportError, match="needs Triton, which is not installed; use advance_batched"):
        case.run(advance_triton)
