"""Spread a model over the processes of a run, so that each keeps a share of every weight, gradient and moment (FSDP2).

A unit is a part of the model whose weights come together for its pass, forward or backward, and leave again:

    each layer of the encoder       its weights are gathered before its pass, in half precision if training uses that
    WavLM's table of position bias  it is read before the first layer
    all the rest                    gathered before the forward pass, kept until the end of the backward pass, in fp32

A frozen feature encoder belongs to no unit: every process has all of it. Gradients are summed over the processes, never
averaged. trainer.parallel.lockstep keeps the processes' passes in step.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers import MODEL_FOR_CTC_MAPPING

from models.ctc import CTCModel
from models.layers.lora import is_updated
from models.layers.transformer import SHARDED, run_layer


def shard(model: CTCModel, device: torch.device, half: torch.dtype | None = None) -> None:
    """Spread `model`, which may lie on the host, over all processes of torch.distributed; the shares are on `device`.

    All processes have the same weights before. No device ever holds more than one unit and the shares. `half` is the
    precision in which the layers' weights are gathered, as models.layers.half_copies rounds them. Their gradients are
    summed in the weights' own precision.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    dtype = next(model.parameters()).dtype
    # autocast casts what a layer reads; a cast of all its inputs would round WavLM's position bias too
    whole = MixedPrecisionPolicy(cast_forward_inputs=False)
    halved = MixedPrecisionPolicy(half, dtype, cast_forward_inputs=False) if half is not None else whole
    for layer in model.base.encoder.layers:
        if isinstance(table := getattr(layer.attention, "rel_attn_embed", None), nn.Module):
            fully_shard(table, mesh=mesh, mp_policy=whole)
        setattr(layer, SHARDED, types.MethodType(run_layer, layer))
        fully_shard(layer, mesh=mesh, mp_policy=halved)
        register_fsdp_forward_method(layer, SHARDED)
    frozen = {p for p in model.base.feature_extractor.parameters() if not p.requires_grad}
    for parameter in frozen:
        if not parameter.is_meta:
            parameter.data = parameter.data.to(device)
    fully_shard(model, mesh=mesh, mp_policy=whole, ignored_params=frozen)
    for unit in units(model):
        unit.set_gradient_divide_factor(1.0)  # torch's own is the number of processes
        unit.set_force_sum_reduction_for_comms(True)
    model.is_sharded = True
    # Logits are a view of a product; nobody writes into them
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)


def why_not_sharded(model: CTCModel) -> str | None:
    """Why `model` cannot be spread; None if it can. What is exported in the end is a model of its configuration."""
    if any(is_updated(module) for module in model.modules()):
        return "low-rank updates (--model.lora-rank) are not spread over processes"
    own, plain = model.state_dict().keys(), _without_weights(model).state_dict().keys()
    if added := sorted(own - plain) or sorted(plain - own):
        return f"this model is not the one of its configuration ({added[0]})"
    return None


def units(model: nn.Module) -> list[FSDPModule]:
    """The units of a model that was spread, the whole model first; none for one that was not."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def local(tensor: Tensor) -> Tensor:
    """This process's share of a tensor that is spread, in the same memory; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """(Name, whole tensor) one after the other. All processes must go through all of them, in the same order."""
    for name, tensor in tensors.items():
        yield name, tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_model(model: CTCModel, *, keep: bool) -> CTCModel | None:
    """A copy of a spread model with all of its weights, on the host of a process that will `keep` it.

    All processes must call this. A device holds one whole tensor at a time.
    """
    state = {}
    for name, tensor in gathered(model.state_dict()):
        if keep:
            state[name] = tensor.detach().to("cpu", copy=True)
    return twin(model, state) if keep else None


def twin(model: CTCModel, state: Mapping[str, Tensor]) -> CTCModel:
    """A model like `model`, which is not spread, with the weights of `state`."""
    copy = _without_weights(model)
    copy.load_state_dict(state, assign=True)
    return copy.eval()


def spread_again(model: CTCModel, device: torch.device) -> CTCModel:
    """A copy of a spread model that is spread in the same way; its weights are gathered in their own precision."""
    copy = _without_weights(model)
    shard(copy, device)
    copy.to_empty(device=device)
    copy.load_state_dict(model.state_dict())
    return copy.eval()


def _without_weights(model: CTCModel) -> CTCModel:
    with torch.device("meta"):  # no memory, and nothing is drawn
        hf = MODEL_FOR_CTC_MAPPING[type(model.hf.config)](model.hf.config)
    return CTCModel(hf, freeze_feature_encoder=model.freeze_feature_encoder)
