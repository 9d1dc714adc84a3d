"""`--profile N`: where the time of N steps goes, as a trace to look into and as a table by kind of work.

runs/NAME/profile.json    the trace of torch.profiler: open it in https://ui.perfetto.dev or chrome://tracing
runs/NAME/profile.txt     the share of each kind of kernel (on CUDA) or operator (on a CPU)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

SKIPPED = 5
"""Steps before the first that is profiled: they allocate, choose kernels and compile."""
KINDS = {
    "CTC": "ctc",
    "weight norm": "weight_norm",
    "AdamW": "adam|fusedoptimizer",
    "gradient norm and clipping": r"lpnorm|foreach_norm|linalg_vector_norm|non_finite_check|foreach_mul"
    r"|multi_tensor_apply_kernel.*(BinaryOpScalar|UnaryOp)",
    "attention": "flash|fmha|attention|sdpa|compute_dot_do_o|convert_dq|softmax",
    "layer norm": "layer_norm|group_norm|batch_norm|gammabeta|rowwisemoments",
    "GELU": "gelu",
    "convolution": "conv|cudnn|wgrad|dgrad|fprop|winograd|nchw|fft",
    "matrix products": r"gemm|gemv|cublas|cutlass|\bmm\b|addmm|bmm|matmul|linear|nvjet|splitk",
    "casts and copies": r"copy|memcpy|memset|fill|zero|\bcat\b|catarray|contiguous|clone|index|gather",
    "sums, of bias gradients above all": "reduce|sum|mean|argmax",
    "element-wise": "elementwise|dropout|add|mul|div|where|mask|bernoulli|vectorized|native_",
}
"""Kind -> pattern of a kernel's or operator's name, in any case. The first that fits counts.

With the feature encoder's output from the table, the only convolution is the positional one.
"""


class StepProfiler:
    """Profiles `num_steps` steps from the SKIPPED-th of this process on. `at_step` is called at least once a step."""

    def __init__(self, run_dir: Path, num_steps: int, device: torch.device, say: Callable[[str], None]) -> None:
        self.run_dir, self.num_steps, self.device, self.say = run_dir, num_steps, device, say
        self._first_step: int | None = None
        self._steps_taken = 0
        self._profile: profile | None = None

    def at_step(self, step: int) -> Literal[False]:
        """Start or end the profile when it is time; nothing without steps to profile. It never asks to stop.

        `step` is the number of steps taken; to be called again at the same step changes nothing.
        """
        if self.num_steps == 0:
            return False
        self._first_step = step if self._first_step is None else self._first_step
        before, self._steps_taken = self._steps_taken, step - self._first_step
        if self._steps_taken == before:
            return False
        if self._steps_taken == SKIPPED:
            cuda = [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
            self._profile = profile(activities=[ProfilerActivity.CPU, *cuda])
            self._profile.start()
        elif self._steps_taken == SKIPPED + self.num_steps:
            self.finish()
        return False

    def finish(self) -> None:
        """End the profile, if one is under way, and write its files. Training may have ended before the last step."""
        if self._profile is None:
            return
        running, self._profile = self._profile, None
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        running.stop()
        num_steps = min(self.num_steps, self._steps_taken - SKIPPED)
        try:
            running.export_chrome_trace(str(self.run_dir / "profile.json"))
            kinds = by_kind(times_by_name(running.key_averages(), self.device))
            (self.run_dir / "profile.txt").write_text(table(kinds, num_steps), encoding="utf-8")
        except (OSError, RuntimeError) as error:  # a profile is no reason to end a run
            self.say(f"no profile: {error}")
            return
        self.say(f"profile of {num_steps} steps: {self.run_dir / 'profile.txt'} and profile.json")


def times_by_name(events: Iterable[FunctionEventAvg], device: torch.device) -> dict[str, float]:
    """Microseconds by the name of a kernel, copy or fill on a GPU, of an operator on a CPU.

    An operator that launches kernels has their time too, and so has an annotation around them: on a GPU only what ran
    there counts, or everything would count twice.
    """
    if device.type != "cuda":
        return {str(e.key): e.self_cpu_time_total for e in events}
    return {
        str(e.key): e.self_device_time_total
        for e in events
        if e.device_type == DeviceType.CUDA and not e.is_user_annotation
    }


def by_kind(times: Mapping[str, float]) -> Counter[str]:
    """Microseconds of each kind of KINDS, from those of each name."""
    kinds: Counter[str] = Counter()
    for name, microseconds in times.items():
        found = (kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE))
        kinds[next(found, "other")] += microseconds  # type: ignore[assignment]  # floats are counted too
    return kinds


def table(kinds: Counter[str], num_steps: int) -> str:
    """Lines of kind, milliseconds a step and share, the largest first."""
    total = sum(kinds.values())

    def lines() -> Iterable[str]:
        yield f"{'kind':33} {'ms a step':>10} {'share':>8}"
        for kind, microseconds in kinds.most_common():
            if microseconds > 0:
                yield f"{kind:33} {microseconds / 1000 / max(1, num_steps):10.2f} {100 * microseconds / total:6.1f} %"

    return "\n".join(lines()) + "\n"
