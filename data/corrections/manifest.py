"""A corrected copy of a manifest: rows left out, transcripts replaced, every other byte as it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from data.audio.files import open_regular
from data.corpora.manifest import ManifestConfig, ManifestCorpus, RowReader, line_of
from data.corpora.tables import Row, decode, encoding_of, open_table
from data.corrections.corpus import corrected
from data.utterance import Utterance
from trainer.errors import CorpusError

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")


def write_corrected(manifest: Path, out: Path, config: ManifestConfig) -> str:
    """Write `manifest` to `out` as the files of `config.exclude` and `config.patch` correct it; returns what was done.

    Lines that are not corrected stay byte for byte, in their encoding; of a corrected one, the transcript alone is
    another. CorpusError where the manifest or a correction is faulty, where nothing is corrected, where rows are not
    lines, and where `out` would name other audio: the paths in a manifest are relative to it.
    """
    if out.exists():
        raise CorpusError(f"{out}: is there already. Give another name.")
    if out.parent.resolve() != manifest.parent.resolve() or out.suffix.lower() != manifest.suffix.lower():
        raise CorpusError(
            f"{out}: the corrected manifest belongs into {manifest.parent}, under a name that ends in "
            f"{manifest.suffix}: the paths in it are relative to its folder."
        )
    corpus = ManifestCorpus(replace(config, train=str(manifest)))
    before: dict[int, Utterance] = {}
    for reading in corpus.readings("train"):
        if not isinstance(reading, Utterance):
            raise reading
        before[line_of(reading)] = reading
    mended = corrected(corpus, config)
    after = {} if mended is None else {line_of(u): u.text for u in mended.utterances("train")}
    new = {line: after.get(line) for line, utterance in before.items() if after.get(line) != utterance.text}
    if mended is None or not new:
        raise CorpusError(f"{manifest}: no correction meets an utterance of it. Name corrections of its utterances.")
    with open_regular(manifest) as file:
        content = file.read()
    encoding, mark = encoding_of(content)
    text = _rewrite(manifest, decode(content, manifest, "the manifest"), new, config)
    out.write_bytes(content[:mark] + text.encode(encoding))
    unmet = mended.describe_unmet(training=True)
    return f"{out}: {mended.describe('train')}" + (f"; {unmet}" if unmet else "")


def _rewrite(manifest: Path, text: str, new: Mapping[int, str | None], config: ManifestConfig) -> str:
    """`text` with other transcripts, by line; None leaves the row out."""
    reader = RowReader(config, manifest)
    table = open_table(manifest, reader.has_columns)
    rows = {number: row for number, row in table.rows if isinstance(row, dict)}
    if table.with_value is None:
        raise CorpusError(
            f"{manifest}: is one JSON array, and a copy is made line by line. Save it as JSON lines, or train with "
            "--corpus.exclude and --corpus.patch, which need no copy."
        )
    lines = []
    for number, match in enumerate(_LINE.finditer(text), 1):
        line = match[0]
        if number not in new:
            lines.append(line)
        elif (transcript := new[number]) is not None:
            bare = line.rstrip("\r\n")
            try:
                written = table.with_value(bare, _text_column(rows[number], reader), transcript)
            except CorpusError as error:
                raise CorpusError(f"{manifest}:{number}: the corrected transcript {error}") from None
            lines.append(written + line[len(bare) :])
    return "".join(lines)


def _text_column(row: Row, reader: RowReader) -> str:
    return reader.columns_of(tuple(row)).text
