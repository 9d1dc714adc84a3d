"""A frozen feature encoder's output of many utterances, row by row, in place of their audio."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureTable:
    """Features of many utterances, row by row."""

    rows: Tensor
    """float32 (1 + all frames, C), on the device or memory-mapped on the host; row 0 is zeros."""
    first_rows: tuple[int, ...]
    """Of each utterance."""

    def split(self, num_first: int) -> tuple[FeatureTable, FeatureTable]:
        """The same rows for the first utterances, and for the others."""
        first, others = self.first_rows[:num_first], self.first_rows[num_first:]
        return FeatureTable(self.rows, first), FeatureTable(self.rows, others)

    def gather(self, index: Tensor, device: torch.device) -> Tensor:
        """Features (B, T, C) on `device` for row numbers (B, T) on the host.

        Does not wait where the rows lie on the device; else the host gathers, and a CUDA device waits for the copy.
        """
        return self.rows[index.to(self.rows.device, non_blocking=True)].to(device, non_blocking=True)
