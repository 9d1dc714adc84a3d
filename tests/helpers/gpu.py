"""The device of the tests that need CUDA, and their marks."""

from __future__ import annotations

import os

import pytest
import torch

CUDA = torch.device(os.environ.get("GPU_TESTS_DEVICE", "cuda"))
"""GPU_TESTS_DEVICE=cpu shows that these tests run at all, where there is no GPU."""
CPU = torch.device("cpu")
ON_CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(CUDA.type == "cuda" and not torch.cuda.is_available(), reason="needs CUDA"),
]
"""The `pytestmark` of such a module."""
