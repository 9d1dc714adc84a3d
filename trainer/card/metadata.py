"""The metadata of a model card, which the hub reads: what kind of model it is, of which language, made from which."""

from __future__ import annotations

from huggingface_hub import EvalResult, ModelCardData

from trainer.config.schema import Config
from trainer.rundir.model_source import is_hub_id
from trainer.scoring.metrics import Units


def metadata_of(config: Config, name: str, units: Units, eval_results: list[EvalResult] | None = None) -> ModelCardData:
    """The metadata of the model `name`, trained as `config` says."""
    pretrained = config.model.pretrained
    return ModelCardData(
        language=config.corpus.language_code(),
        library_name="transformers",
        pipeline_tag="automatic-speech-recognition",
        tags=["automatic-speech-recognition", "ctc", "speech"],
        base_model=pretrained if pretrained and is_hub_id(pretrained) else None,
        metrics=list(units.metrics),
        model_name=name,
        eval_results=eval_results,
    )
