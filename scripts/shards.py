"""Pack a corpus into shards: a few large tar files in WebDataset's layout, with an index (docs/howto-shards.md).

    python -m scripts.shards train.jsonl --out shards/train
    python -m scripts.shards a.jsonl b.csv --out shards/train --corpus.text-field sentence
    python -m scripts.shards hub --corpus.dataset FOLDER_OR_ID --split train --out shards/train
    python -m scripts.shards --verify shards/train

Manifests are packed in their order as one split. In their place a preset names any other corpus, with the options that
training has for it, and --split says which of its splits. The same command goes on where it was stopped.

    --out DIR          folder of the shards
    --split NAME       split of a preset's corpus (default: its training split)
    --per-shard N      utterances of a shard (default: 2048)
    --processes N      processes that pack (default: one a core)
    --on-bad RULE      audio that does not decode: error, or drop (left out, counted and named); default: error
    --verify SHARDS    read every byte of finished shards, a folder or an address, and compare it with its digest
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli.arguments import ArgumentParser, count, split_words
from trainer.cli.parse import parse, report_errors
from trainer.errors import ConfigError

if TYPE_CHECKING:
    from data.utterance import Utterance
    from trainer.cli.console import Console

OWN = ("--out", "--split", "--per-shard", "--processes", "--on-bad", "--verify")
"""Options of this command; each takes one value. All others are training's."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 packed or verified, 2 something in options, corpus or shards is wrong."""
    argv = list(sys.argv[1:] if argv is None else argv)
    return report_errors(lambda: run(*read(argv)), "The same command goes on where this one ended.")


def read(argv: Sequence[str]) -> tuple[Namespace, list[str], list[str]]:
    """(Options of this command, manifests or a preset, training's options); ConfigError when they are impossible."""
    if not argv or "-h" in argv or "--help" in argv:
        print((__doc__ or "").strip())
        raise SystemExit(0 if argv else 2)
    own, rest = split_words(argv, OWN)
    parser = ArgumentParser(prog="python -m scripts.shards", description="")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--per-shard", type=count, default=2048)
    parser.add_argument("--processes", type=count)
    parser.add_argument("--on-bad", choices=["error", "drop"], default="error")
    parser.add_argument("--verify")
    args = parser.parse_args(own)
    first_option = next((i for i, word in enumerate(rest) if word.startswith("-")), len(rest))
    inputs, options = rest[:first_option], rest[first_option:]
    if args.verify is not None:
        if rest or args.out is not None:
            raise ConfigError("--verify SHARDS stands alone: it names a folder or an address of finished shards.")
    elif not inputs:
        raise ConfigError(
            "nothing to pack: name manifests, or a preset such as hub. python -m scripts.shards --help tells more."
        )
    elif args.out is None:
        raise ConfigError("--out DIR is missing: the folder that the shards are written to.")
    return args, inputs, options


def run(args: Namespace, inputs: Sequence[str], options: Sequence[str]) -> int:
    """Pack, or verify."""
    from trainer.cli.console import Console

    console = Console()
    if args.verify is not None:
        return verify(args.verify, console)

    from data.machine.limits import num_cores
    from data.shards.building import build
    from data.shards.index import in_words
    from data.shards.shard import Packing

    utterances = read_inputs(inputs, options, args.split, console)
    packing = Packing(utterances, args.out, args.per_shard, args.on_bad == "drop")
    processes = min(args.processes or num_cores(), packing.num_shards)
    console.say(
        f"{len(utterances)} utterances into {in_words(packing.num_shards)} in {args.out}, "
        f"{processes} {'process' if processes == 1 else 'processes'}"
    )
    seal = build(
        packing, processes, lambda items, total: console.progress(items, total, "packing", "shard"), console.say
    )
    for id, why in seal.dropped[:3]:
        console.warn(f"left out {id}: {why}")
    if len(seal.dropped) > 3:
        console.warn(f"{len(seal.dropped)} utterances were left out; all stand in {args.out / 'shards.json'}")
    num_bytes = sum(shard.bytes for shard in seal.shards)
    console.say(
        f"{args.out}: {in_words(len(seal.shards))}, {seal.utterances} utterances, "
        f"{seal.samples / 16_000 / 3600:.2f} h, {num_bytes / 1e6:.1f} MB"
    )
    return 0


def read_inputs(
    inputs: Sequence[str], options: Sequence[str], split: str | None, console: Console
) -> Sequence[Utterance]:
    """The utterances to pack, ids unique over all inputs."""
    from data.chain import chain_utterances
    from data.corpora.manifest import ManifestConfig, ManifestCorpus
    from data.corrections.corpus import CorrectedCorpus, corrected
    from data.examples.prepare import read_split
    from trainer.config.presets import PRESETS
    from trainer.prepare.corpus import open_corpus, tell_corrections

    is_preset = inputs[0] in PRESETS and not Path(inputs[0]).exists()
    prog = "python -m scripts.shards"
    if is_preset:
        if len(inputs) > 1:
            raise ConfigError(f"{inputs[1]} stands behind the preset {inputs[0]}: give one preset, or manifests alone.")
        config = parse([*inputs, *options], prog=prog)
        corpus = open_corpus(config, console)
        known = list(dict.fromkeys([corpus.splits.train, corpus.splits.monitor, *corpus.splits.closing]))
        name = split or corpus.splits.train
        if split is not None and split not in known:
            raise ConfigError(f"--split {split}: this corpus has {', '.join(known)}.")
        missing = [what for what, given in config.corpus.required(name == corpus.splits.train) if not given]
        if missing and not (split and getattr(config.corpus, split, "")):
            raise ConfigError(f"Preset {inputs[0]} needs {'; '.join(missing)}.")
        utterances = read_split(corpus, name)
        if isinstance(corpus, CorrectedCorpus):
            tell_corrections(corpus, [name], config, console, training=name == corpus.splits.train)
        return utterances
    if split is not None:
        raise ConfigError(f"--split {split} is for a preset's corpus; manifests are packed as they are.")
    config = parse(["manifest", *options], prog=prog)
    base = config.corpus
    assert isinstance(base, ManifestConfig)
    read, met = [], set[str]()
    for manifest in inputs:
        plain = ManifestCorpus(replace(base, train=manifest))
        mended = corrected(plain, base, met)
        read.append(read_split(mended or plain, "train"))
        for note in plain.notes:
            console.say(note)
        if mended and (done := mended.describe("train")):
            console.say(f"{manifest}: {done}")
    if mended:
        tell_corrections(mended, [], config, console, training=True)
    return chain_utterances(read)


def verify(url: str, console: Console) -> int:
    """Read everything; one line for each file that is not as it was packed."""
    from data.shards.checking import find_damage
    from data.shards.index import SEAL, in_words, read_seal
    from data.shards.storage import open_storage

    storage = open_storage(url)
    seal = read_seal(storage.read_whole(SEAL).decode("utf-8", "replace"), f"{storage.url}/{SEAL}")
    damage = []
    for found in find_damage(storage, seal, lambda items, n: console.progress(items, n, "verifying", "shard")):
        damage.append(found)
        console.warn(found)
    if damage:
        raise ConfigError(
            f"{url}: {len(damage)} of {len(seal.shards) + 1} files are not as they were packed (above). Bring those "
            "back, or pack the corpus again."
        )
    console.say(f"{url}: {in_words(len(seal.shards))}, {seal.utterances} utterances: every byte is as it was packed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
