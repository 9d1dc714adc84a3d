"""Which samples each frame of an encoder stands for, from its convolutions' kernels and strides (without padding)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FrameGeometry:
    """Frame t sees samples [t * stride, t * stride + receptive_field)."""

    stride: int
    """Samples from one frame to the next."""
    receptive_field: int
    """Samples that the convolutions see for one frame."""

    @classmethod
    def of(cls, kernels: Sequence[int], strides: Sequence[int]) -> FrameGeometry:
        """The geometry of a stack of convolutions, in the order in which they are applied.

        >>> FrameGeometry.of((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
        FrameGeometry(stride=320, receptive_field=400)
        """
        stride, receptive_field = 1, 1
        for kernel, step in zip(kernels, strides, strict=True):
            receptive_field += (kernel - 1) * stride
            stride *= step
        return cls(stride, receptive_field)

    def seen(self, first: int, last: int) -> slice:
        """The samples that give frames [first, last) and no other frame."""
        return slice(first * self.stride, (last - 1) * self.stride + self.receptive_field)

    def boundary(self, frame: int) -> int:
        """The sample at which the stretch of `frame` begins and that of the previous frame ends.

        The stretch of a frame is the `stride` samples in the middle of those that it sees.
        """
        return frame * self.stride + (self.receptive_field - self.stride) // 2
