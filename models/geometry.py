"""Which samples each frame of an encoder stands for, from its convolutions' kernels and strides (without padding)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any


def convolved_length(length: Any, kernel: int, stride: int) -> Any:
    """Frames after one convolution without padding: floor((length - kernel) / stride) + 1.

    `length` is an int, or an int64 tensor of lengths. If it is shorter than the kernel, there is no frame, and the
    result is below 1.

    >>> convolved_length(400, 10, 5)
    79
    """
    return (length - kernel) // stride + 1


@dataclass(frozen=True)
class FrameGeometry:
    """A stack of convolutions: frame t sees samples [t * stride, t * stride + receptive_field)."""

    layers: tuple[tuple[int, int], ...]
    """(Kernel, stride) of each convolution, the first one first."""

    @classmethod
    def of(cls, kernels: Sequence[int], strides: Sequence[int]) -> FrameGeometry:
        """The geometry of convolutions with these kernels and strides, in the order in which they are applied.

        >>> geometry = FrameGeometry.of((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
        >>> geometry.stride, geometry.receptive_field, geometry.num_frames(16_000)
        (320, 400, 49)
        """
        return cls(tuple(zip(kernels, strides, strict=True)))

    @classmethod
    def of_config(cls, config: Any) -> FrameGeometry:
        """The geometry of an encoder, from its transformers configuration."""
        return cls.of(config.conv_kernel, config.conv_stride)

    @cached_property
    def stride(self) -> int:
        """Samples from one frame to the next."""
        stride = 1
        for _, step in self.layers:
            stride *= step
        return stride

    @cached_property
    def receptive_field(self) -> int:
        """Samples that the convolutions see for one frame."""
        stride, receptive_field = 1, 1
        for kernel, step in self.layers:
            receptive_field += (kernel - 1) * stride
            stride *= step
        return receptive_field

    def num_frames(self, num_samples: int) -> int:
        """The number of frames of `num_samples` samples, exact for every length; 0 below the receptive field."""
        for kernel, stride in self.layers:
            num_samples = max(0, convolved_length(num_samples, kernel, stride))
        return num_samples

    def num_samples(self, num_frames: int) -> int:
        """The most samples that give `num_frames` frames.

        >>> geometry = FrameGeometry.of((10, 3), (5, 2))
        >>> geometry.num_frames(geometry.num_samples(7)), geometry.num_frames(geometry.num_samples(7) + 1)
        (7, 8)
        """
        return num_frames * self.stride + self.receptive_field - 1

    def seen(self, first: int, last: int) -> slice:
        """The samples that give frames [first, last) and no other frame."""
        return slice(first * self.stride, (last - 1) * self.stride + self.receptive_field)

    def boundary(self, frame: int) -> int:
        """The sample at which the stretch of `frame` begins and that of the previous frame ends.

        The stretch of a frame is the `stride` samples in the middle of those that it sees.
        """
        return frame * self.stride + (self.receptive_field - self.stride) // 2
