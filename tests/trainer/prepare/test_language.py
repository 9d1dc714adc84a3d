"""--corpus.language, from the command line to what is learned and scored."""

from __future__ import annotations

import io
from typing import Any

import pytest

from models.checkpoints.pretrained import read_encoder
from tests.helpers.corpora import ManifestFolder
from trainer.cli.console import Console
from trainer.cli.parse import parse
from trainer.config.validate import resolve, validate
from trainer.prepare.corpus import prepare_corpus, read_corpus

OPTIONS = ["--model.size", "tiny", "--corpus.no-store"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--corpus.language", "tr"], "istanbul ısı"),
        (["--corpus.language", "az-Latn"], "istanbul ısı"),
        ([], "istanbul isi"),
        (["--corpus.language", "en"], "istanbul isi"),
        (["--corpus.language", "tr", "--corpus.normalizer", "plain-upper"], "İSTANBUL ISI"),
        (["--corpus.normalizer", "plain-upper"], "ISTANBUL ISI"),
    ],
)
def test_transcripts_of_both_splits_follow_the_language(
    tone_corpus: ManifestFolder, tmp_path: Any, options: list[str], expected: str
) -> None:
    for rows in tone_corpus.rows.values():
        rows[0]["text"] = "İstanbul, ISI!"
    tone_corpus.write()
    argv = ["manifest", *tone_corpus.options, *OPTIONS, *options, "--cache-dir", str(tmp_path)]
    config, console = resolve(validate(parse(argv))), Console(io.StringIO())
    data = prepare_corpus(config, read_corpus(config, console), read_encoder(config.model), console)
    assert data.train[0].text == expected
    assert next(iter(data.evaluation.values()))[0].text == expected
    assert set(expected) - {" "} <= set(data.vocab.tokens)
