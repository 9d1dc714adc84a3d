"""From the device to the host without waiting."""

from __future__ import annotations

import torch
from torch import Tensor


class HostCopy:
    """Tensors on their way into pinned host memory. On a CPU they are there already."""

    def __init__(self, *tensors: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._tensors = tensors
        if tensors[0].is_cuda:
            self._tensors = tuple(torch.empty_like(t, device="cpu", pin_memory=True) for t in tensors)
            for on_host, on_device in zip(self._tensors, tensors, strict=True):
                on_host.copy_(on_device, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def wait(self) -> tuple[Tensor, ...]:
        """The tensors on the host, once they are there."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensors
