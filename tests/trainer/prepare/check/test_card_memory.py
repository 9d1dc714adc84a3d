"""Whether a run fits into a card that is not here. tests/scripts/bench/test_memory.py compares what is counted with
what torch's allocator hands out.

pytest tests/trainer/prepare/check/test_card_memory.py
"""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from models.checkpoints.lora import Lora, add_updates
from models.ctc import CTCModel
from tests.helpers.corpora import ManifestFolder
from tests.helpers.models import small_hf_model, small_model
from trainer.cli.parse import parse
from trainer.config.schema import OptimConfig
from trainer.config.validate import validate
from trainer.errors import ConfigError
from trainer.loop.optim import build_optimizer, moment_bytes, new_moments
from trainer.prepare.check.memory import CUDA_ITSELF, Peak, count_held
from trainer.run import main


def test_the_peak_is_that_of_the_tensors_that_live_together() -> None:
    """By hand: 4 kB and 8 kB together, then 8 kB and 2 kB; a view takes nothing, and 512 bytes are the least."""
    with FakeTensorMode(), Peak() as peak:
        a = torch.zeros(1024)
        b = torch.zeros(2048)
        del a
        c = torch.zeros(512)
        d = c.view(2, 256)
        e = torch.zeros(1)
        del b, c, d, e
    assert peak.bytes == 4096 + 8192


def test_a_weight_that_is_only_read_is_not_counted_again() -> None:
    layer = torch.nn.Linear(64, 64)
    with FakeTensorMode(allow_non_fake_inputs=True), Peak() as peak:
        layer(torch.zeros(2, 64))
    assert peak.bytes == 2 * 2 * 64 * 4


def test_a_model_is_as_before_after_its_step_was_played() -> None:
    model = small_model(attention_dropout=0.3, layerdrop=0.5, hidden_dropout=0.1)
    model.keep_half_copies(torch.bfloat16)
    copies, random = model.half_copies, torch.random.get_rng_state()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    held = count_held(model, "fp32", "bf16", training=(2, 4000), evaluation=(2, 4000))
    assert held.step > 0
    assert model.half_copies is copies
    assert not model.training
    assert [layer.attention.dropout for layer in model.base.encoder.layers] == [0.3, 0.3]
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("moments", ["fp32", "8bit"])
def test_moments_are_counted_as_the_optimizer_makes_them(moments: str) -> None:
    model = small_model(hidden_size=72, num_attention_heads=2, num_conv_pos_embedding_groups=2)
    optimizer = build_optimizer(model, OptimConfig(lr=1.0, moments=moments))  # type: ignore[arg-type]
    for p in model.parameters():
        assert moment_bytes(p, moments) == sum(t.nbytes for t in new_moments(optimizer, p).values())
    assert any(p.numel() > 4096 for p in model.parameters())


@pytest.mark.slow
def test_each_option_takes_what_it_saves_out_of_its_part() -> None:
    def held(updates: bool = False, **options: object) -> dict[str, int]:
        hf = small_hf_model(num_hidden_layers=4)
        if updates:
            add_updates(hf, Lora(2, 4.0, ("q_proj", "v_proj"), 0.0, 0, "x", None), 0)
        model = CTCModel(hf, freeze_feature_encoder=True, **options)  # type: ignore[arg-type]
        return vars(count_held(model, "fp32", "fp32", training=(2, 8000), evaluation=(1, 400), from_table=True))

    plain, checkpointed, frozen, updated = (
        held(), held(activation_checkpointing=True), held(freeze_layers=2), held(updates=True),
    )  # fmt: skip
    assert checkpointed["step"] < plain["step"]
    assert checkpointed | {"step": 0} == plain | {"step": 0}
    assert frozen["step"] < plain["step"]
    assert max(frozen[name] / plain[name] for name in ("gradients", "moments")) < 0.6
    assert max(updated[name] / plain[name] for name in ("gradients", "moments")) < 0.1


@pytest.mark.parametrize(("card", "code", "verdict"), [(8, 0, "it fits"), (0.5, 2, "DOES NOT FIT: try ")])
def test_check_judges_a_card_that_is_not_here(
    card: float, code: int, verdict: str, tone_corpus: ManifestFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """What CUDA takes for itself is more than the smaller card has."""
    assert CUDA_ITSELF > 0.5 * 2**30
    folder = tone_corpus.folder.parent
    options = ["--model.size", "tiny", "--device", "cpu", "--batching.batch-size", "2", "--check", "--runs-dir",
               str(folder / "runs"), "--cache-dir", str(folder / "cache"), "--card-memory", str(card)]  # fmt: skip
    assert main(["manifest", *tone_corpus.options, *options]) == code
    said = "".join(capsys.readouterr())
    line = next(line for line in said.splitlines() if line.startswith("card:"))
    assert verdict in line
    assert " in bf16: weights 0.00" in line
    assert "time:      not estimated, since the card is not here" in said
    assert ("--model.no-cuda-graphs" in line) == (code == 2)


def test_a_card_is_judged_by_check_alone() -> None:
    with pytest.raises(ConfigError, match="give --check too"):
        validate(parse(["demo", "--card-memory", "8"]))
