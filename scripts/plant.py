"""Plant faults in a corpus: a copy of it of which one knows what is wrong, to see what finds it and what it costs.

    python -m scripts.plant demo --out planted
    python -m scripts.plant manifest --corpus.train tr.jsonl --corpus.eval dev.jsonl --corpus.test test.jsonl --out planted
    python -m trainer.run manifest --corpus.train planted/train.jsonl --corpus.eval planted/eval.jsonl ...

Any preset's corpus is taken, with the options that training has for it. The copy is three manifests: train.jsonl, in
which a share of the utterances is wrong, and eval.jsonl and test.jsonl, in which none is. In planted/audio lie links to
the sound files, and those that are altered. planted.json says of each altered utterance what was done, where, and what
its transcript should be. The same corpus, options and seed give the same files.

    --out DIR          folder of the copy; it must not exist, or be empty
    --share S          of the training utterances that are altered (default: 0.03); 0 copies the corpus as it is
    --kinds K,K,...    kinds of faults, as many of one as of another; a kind named twice comes twice as often
                       (default: swapped, word-lost, word-added, cut, band, speed, clipped, silence, noise)
    --seed N           which utterances, and what exactly (default: 0)

The other kinds are offset, dropout and twice: see trainer/signs/planting.py.
"""  # noqa: E501

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli.arguments import ArgumentParser, split_words
from trainer.cli.parse import parse, report_errors
from trainer.errors import ConfigError

if TYPE_CHECKING:
    from data.utterance import Corpus

OWN = ("--out", "--share", "--kinds", "--seed")
"""Options of this command; each takes one value. All others are training's."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 planted, 2 something in options, corpus or disk is wrong."""
    argv = list(sys.argv[1:] if argv is None else argv)
    return report_errors(lambda: run(*read(argv)))


def read(argv: Sequence[str]) -> tuple[Namespace, list[str]]:
    """(Options of this command, the preset and training's options); ConfigError when they are impossible."""
    if not argv or "-h" in argv or "--help" in argv:
        print((__doc__ or "").strip())
        raise SystemExit(0 if argv else 2)
    own, rest = split_words(argv, OWN)
    parser = ArgumentParser(prog="python -m scripts.plant", description="")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--share", type=float, default=0.03)
    parser.add_argument("--kinds", type=lambda text: tuple(text.split(",")))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(own)
    if args.out is None:
        raise ConfigError(
            "--out DIR is missing, the folder that the copy is written to: python -m scripts.plant --help tells more."
        )
    if not rest or rest[0].startswith("-"):
        raise ConfigError("name the corpus first: a preset, as demo or manifest, and its options.")
    return args, rest


def run(args: Namespace, options: Sequence[str]) -> int:
    """Write the copy, and say what was planted and how to train on it."""
    from collections import Counter

    from trainer.signs.planting import DEFAULT_KINDS, plant

    corpus = open_corpus(options)
    planted = plant(corpus, args.out, share=args.share, kinds=args.kinds or DEFAULT_KINDS, seed=args.seed)
    counts = Counter(fault.kind for fault in planted)
    told = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    print(f"{args.out}: {len(planted)} training utterances altered{f': {told}' if told else ''}")
    manifests = " ".join(
        f"--corpus.{split} {args.out / f'{split}.jsonl'}"
        for split in ("train", "eval", "test")
        if (args.out / f"{split}.jsonl").exists()
    )
    print(f"train on it: python -m trainer.run manifest {manifests} --model.pretrained HUB_ID_OR_FOLDER")
    return 0


def open_corpus(options: Sequence[str]) -> Corpus:
    """The corpus of a preset and its options."""
    from trainer.cli.console import Console
    from trainer.prepare.corpus import synthesis_bar

    config = parse([*options], prog="python -m scripts.plant")
    missing = [what for what, given in config.corpus.required(True) if not given]
    if missing:
        raise ConfigError(f"Preset {options[0]} needs {'; '.join(missing)}.")
    with synthesis_bar(Console()) as progress:
        return config.corpus.open(Path(config.cache_dir), progress)


if __name__ == "__main__":
    sys.exit(main())
