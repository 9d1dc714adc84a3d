"""Score a model that somebody else trained, or that another run left, as the end of a run scores its own."""

from __future__ import annotations

from typing import Any

from data.utterance import Corpus
from trainer.cli.console import Console
from trainer.closing import headline_results, score_closing
from trainer.config.as_json import to_json
from trainer.config.given import with_given
from trainer.config.schema import Config
from trainer.config.validate import resolve, validate
from trainer.decoding.decoder import build_decoder
from trainer.decoding.scores import development_split, score_decoding
from trainer.decoding.settings import Decoding
from trainer.device import choose_device
from trainer.prepare.build import prepare_scoring
from trainer.report.run import MediaSource, report_or_warn
from trainer.rundir.calibration import (
    NAME,
    calibration_of,
    calibration_record,
    describe_calibration,
    read_calibration,
    write_calibration,
)
from trainer.rundir.disk import write_text
from trainer.rundir.results import describe, split_record, write_hypotheses, write_json
from trainer.scoring.reliability import with_confidences
from trainer.scoring.subsets import score_splits


def score_model(
    config: Config, corpus: Corpus | None = None, decoding: Decoding | None = None, *, is_tuned: bool = False
) -> dict[str, Any]:
    """Score the checkpoint `config.model.pretrained` on every closing split. Returns the content of results.json.

    `corpus` is one that a program hands over, as trainer.session.train takes it. With `decoding` the splits are scored
    a second time with a beam, whose weights are tuned first if `is_tuned`. UserError tells what is wrong.
    """
    config = resolve(validate(with_given(config, corpus), training=False))
    console, run_dir = Console(), config.run_dir
    given = prepare_scoring(config, choose_device(config.device), config.batching.num_workers or 0, console, corpus)
    if given.load_report is not None:
        console.say(f"{config.model.pretrained}: {given.load_report.describe()}")
    splits = given.data.corpus.splits
    if is_tuned:
        development_split(splits)  # refused before anything is computed, as a model or a word that does not fit
    decoder = None if decoding is None else build_decoder(given.data.vocab, decoding, given.device)
    for note in decoder.notes if decoder is not None else ():
        console.say(note)
    scored = score_splits(
        splits,
        [*splits.closing, *splits.unselected],
        given.eval_sets,
        lambda one: score_closing(given.model, one, given.device, console),
    )
    for scores in scored:
        console.say(describe(scores))
    size, why_none = len(given.data.vocab), ""
    calibration = read_calibration(str(config.model.pretrained), config.model.revision)
    run_dir.mkdir(parents=True, exist_ok=True)
    part: Any = getattr(config.corpus, "part", "")
    if calibration is None and part:
        why_none = "the model has no calibration, and a part of a corpus makes none"
    elif calibration is None:
        calibration, why_none = calibration_of(scored, splits, size)
        write_calibration(run_dir, calibration)
        if calibration is not None:
            console.say(f"{run_dir / NAME}: copy it into the model's folder, and its confidences are calibrated")
    console.say(describe_calibration(calibration, why_none))
    scored = with_confidences(scored, calibration, size)
    noted = {s.split: given.data.with_corrections(s.split, splits.unselected.get(s.split, "")) for s in scored}
    records = {s.split: split_record(s, "given", noted[s.split]) for s in scored}
    results = headline_results(records, splits.headline, "given", given.model, given.device)
    results |= calibration_record(calibration, why_none)
    if given.data.corrections:
        results["corrections"] = given.data.corrections
    if decoder is not None:
        results["beam"] = score_decoding(
            decoder, is_tuned=is_tuned, model=given.model, eval_sets=given.eval_sets, splits=splits, greedy=scored,
            device=given.device, run_dir=run_dir, console=console,
        )  # fmt: skip
    write_text(run_dir / "config.json", to_json(config))
    write_hypotheses(run_dir / "hypotheses.jsonl", scored)
    write_json(run_dir / "results.json", results)
    console.say(f"{run_dir} holds results.json and hypotheses.jsonl")
    if config.report:
        report_or_warn(run_dir, config.name, MediaSource(given.model, given.eval_sets, given.device), console)
    return results
