"""Load a checkpoint's weights into a model, and say what was loaded from where.

Weights are read as safetensors, or as .bin through torch.load(weights_only=True): no pickle. What a checkpoint says of
itself is in `pretrained`, beside this file.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import MODEL_FOR_CTC_MAPPING, AutoModelForCTC, PreTrainedConfig, PreTrainedModel

from models.checkpoints.adapter import draw_adapter, load_adapter
from models.checkpoints.elsewhere import in_place_of_weights
from models.checkpoints.pretrained import Pretrained
from models.checkpoints.quiet import first_line
from models.checkpoints.reach import within_reach
from models.checkpoints.training_checkpoint import is_training_checkpoint, read_weights
from models.checkpoints.trust import refuse_non_finite
from trainer.errors import ModelError


@dataclass(frozen=True)
class LoadReport:
    """Which parameters came from where."""

    num_loaded: int
    new: tuple[str, ...]
    """Initialised afresh: the head, when its vocabulary is new."""
    unused: tuple[str, ...]
    """In the checkpoint, without a place in this model (pre-training heads)."""
    adapter: str = ""
    """The file that a language's adapter came from."""
    misfit: str = ""
    """A head that is there and does not fit, in words."""

    def describe(self) -> str:
        """One line for the terminal and the card."""
        new = f"; new: {_summary(self.new)}" if self.new else ""
        new += f" ({self.misfit})" if self.misfit else ""
        unused = f"; not used: {_summary(self.unused)}" if self.unused else ""
        what = "adapter" if "lm_head.weight" in self.new else "adapter and head"
        adapter = f", {what} from {self.adapter}" if self.adapter else ""
        return f"{self.num_loaded} tensors loaded{adapter}{new}{unused}"


def refuse_new_head(source: str, report: LoadReport) -> None:
    """ModelError when the head was not loaded: one drawn at random writes nonsense."""
    if head := [name for name in report.new if name.startswith("lm_head")]:
        if report.misfit:
            raise ModelError(f"{source}: {report.misfit}. Give config.json and tokenizer of these weights.")
        others = f" It has {_summary(report.unused)}." if report.unused else ""
        raise ModelError(f"{source}: has no {head[0]}, so it writes nothing yet.{others} Fine-tune it first.")


def load_pretrained(
    pretrained: Pretrained, config: PreTrainedConfig, seed: int, *, keep_head: bool
) -> tuple[PreTrainedModel, LoadReport]:
    """The checkpoint's weights in a model of `config`, and what was loaded; ModelError on a partial load.

    Only the head (and the mask embedding) may be missing or of another shape: they are then drawn from `seed`.
    So is the head without `keep_head`: for other units, a head that happens to have their number means nothing.
    """
    with torch.random.fork_rng(devices=[]), within_reach(pretrained.source, pretrained.commit):
        torch.manual_seed(seed)
        try:
            is_ours = is_training_checkpoint(Path(pretrained.source))
            of_family = MODEL_FOR_CTC_MAPPING[type(config)] if is_ours else AutoModelForCTC
            model, info = of_family.from_pretrained(
                None if is_ours else pretrained.source,
                state_dict=read_weights(Path(pretrained.source)) if is_ours else None,
                revision=pretrained.commit,
                config=config,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
                trust_remote_code=False,
            )
        except pickle.UnpicklingError:
            if known := in_place_of_weights(Path(pretrained.source)):
                raise ModelError(f"{pretrained.source}: {known}.") from None
            raise ModelError(
                f"{pretrained.source}: its .bin file is damaged or holds more than tensors, which could run code: "
                "it is not read. Give a checkpoint in safetensors."
            ) from None
        except Exception as error:  # what a damaged file makes torch, safetensors and transformers raise has no bounds
            why = in_place_of_weights(Path(pretrained.source)) or f"its weights do not load ({first_line(error)})"
            raise ModelError(f"{pretrained.source}: {why}.") from error
        if not keep_head:
            torch.nn.init.normal_(model.lm_head.weight, std=config.initializer_range)
            torch.nn.init.zeros_(model.lm_head.bias)
        drawn = draw_adapter(model) if pretrained.has_no_such_language else set()
    adapter = pretrained.adapter
    from_adapter = load_adapter(pretrained.source, model, adapter, keep_head=keep_head) if adapter else set()
    mismatched = {entry[0]: entry[1:] for entry in info["mismatched_keys"]}
    head = {"lm_head.weight", "lm_head.bias"}
    new = {*info["missing_keys"], *mismatched, *(() if keep_head else head), *drawn} - from_adapter
    may_be_new = {*head, f"{model.base_model_prefix}.masked_spec_embed", *drawn}
    if bad := sorted(new - may_be_new):
        shapes = [f"{k} {tuple(mismatched[k][0])} for {tuple(mismatched[k][1])}" for k in bad if k in mismatched]
        what = f"of the wrong shape: {shapes[0]}" if shapes else f"missing: {_summary(bad)}"
        if not shapes and (others := sorted(info["unexpected_keys"])):
            what += f". What it has instead: {_summary(others)}"
        raise ModelError(
            f"{pretrained.source}: {len(bad)} of the encoder's {len(model.state_dict())} tensors are {what}. "
            "A partly loaded encoder would train, badly and silently; is config.json that of these weights?"
        )
    unexpected = sorted(info["unexpected_keys"])
    # A checkpoint of the encoder alone has keys without the prefix
    parts_of_encoder = ("encoder.", "feature_extractor.", "feature_projection.")
    if misplaced := [
        k for k in unexpected if k.removeprefix(f"{model.base_model_prefix}.").startswith(parts_of_encoder)
    ]:
        raise ModelError(
            f"{pretrained.source}: {len(misplaced)} of its encoder's tensors have no place in this model "
            f"({_summary(misplaced)}); is config.json that of these weights?"
        )
    refuse_non_finite(pretrained.source, model)
    misfit = ""
    if keep_head and (shapes_of_head := mismatched.get("lm_head.weight")) and "lm_head.weight" in new:
        misfit = (
            f"its weights have a CTC head of {shapes_of_head[0][0]} outputs, its config.json one of {config.vocab_size}"
        )
    report = LoadReport(
        len(model.state_dict()) - len(new),
        tuple(sorted(new)),
        tuple(unexpected),
        adapter.file if adapter else "",
        misfit,
    )
    return model, report


def _summary(keys: Sequence[str]) -> str:
    """`quantizer.* (3), project_q.weight` and the like: keys grouped by their first two parts."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(".".join(key.split(".")[:2]), []).append(key)
    return ", ".join(k[0] if len(k) == 1 else f"{g}.* ({len(k)})" for g, k in list(groups.items())[:6]) + (
        ", ..." if len(groups) > 6 else ""
    )
