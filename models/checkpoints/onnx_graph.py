"""A CTC model as an ONNX graph: raw waveforms and their lengths in, logits and frame lengths out.

    waveforms (batch, samples) float32, mono at 16 kHz, not normalised; values behind an utterance's end are ignored
    waveform_lengths (batch) int64
      -> logits (batch, frames, units) float32, frame_lengths (batch) int64

The graph contains normalisation and masks. So a padded batch gives each utterance the logits that it has alone. With
group norm this holds only if all lengths in a batch are equal.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.ctc import CTCModel
from models.geometry import convolved_length

INPUTS, OUTPUTS = ["waveforms", "waveform_lengths"], ["logits", "frame_lengths"]


class OnnxGraph(nn.Module):
    """The module that is exported."""

    def __init__(self, model: CTCModel, do_normalize: bool) -> None:
        super().__init__()
        self.model, self.do_normalize = copy.deepcopy(model).cpu().float().eval(), do_normalize

    def forward(self, waveforms: Tensor, waveform_lengths: Tensor) -> tuple[Tensor, Tensor]:
        is_real = torch.arange(waveforms.shape[1], device=waveforms.device) < waveform_lengths[:, None]
        waveforms = torch.where(is_real, waveforms, 0.0)
        if self.do_normalize:  # data.audio.decode.normalize over the samples of each utterance
            # in float64: onnxruntime adds one by one, and in fp32 long sums lose a digit that shows in the logits
            num_samples, exact = waveform_lengths[:, None].double(), waveforms.double()
            centred = torch.where(is_real, exact - exact.sum(1, keepdim=True) / num_samples, 0.0)
            waveforms = (centred / torch.sqrt(centred.square().sum(1, keepdim=True) / num_samples + 1e-7)).float()
        frame_lengths = waveform_lengths
        for kernel, stride in self.model.geometry.layers:
            frame_lengths = convolved_length(frame_lengths, kernel, stride)
        return self.model(waveforms, frame_lengths), frame_lengths


def write_onnx(model: CTCModel, do_normalize: bool, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the graph with its weights into one file. Batch size and length stay variable."""
    graph = OnnxGraph(model, do_normalize)
    example = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    batch, samples = torch.export.Dim("batch"), torch.export.Dim("samples", min=400)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph, (example, torch.tensor([16_000, 12_000])), dynamo=True, verbose=False,
            input_names=INPUTS, output_names=OUTPUTS,
            dynamic_shapes={"waveforms": {0: batch, 1: samples}, "waveform_lengths": {0: batch}},
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(path, external_data=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's log messages and warnings. Its errors are exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
