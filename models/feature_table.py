"""The output of a frozen feature encoder for many utterances, in one table. It stands in for their audio."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureTable:
    """Features of many utterances, a row for each frame."""

    rows: Tensor
    """float32 (1 + all frames, C), on the device or memory-mapped on the host; row 0 is zeros."""
    first_rows: tuple[int, ...]
    """The row of each utterance's first frame."""

    def split(self, num_first: int) -> tuple[FeatureTable, FeatureTable]:
        """Two tables with the same rows: one for the first utterances, one for the others."""
        first, others = self.first_rows[:num_first], self.first_rows[num_first:]
        return FeatureTable(self.rows, first), FeatureTable(self.rows, others)

    def host_rows(self, device: torch.device) -> Tensor | None:
        """The rows, if they lie on the host and `device` is a GPU: whoever makes a batch then gathers them."""
        return self.rows if device.type == "cuda" and not self.rows.is_cuda else None

    def gather(self, index: Tensor, device: torch.device) -> Tensor:
        """Features (B, T, C) on `device` for row numbers (B, T) on the host.

        If the rows lie on the device, the host does not wait. Otherwise the host gathers them, and a CUDA device waits.
        """
        return self.rows[index.to(self.rows.device, non_blocking=True)].to(device, non_blocking=True)
