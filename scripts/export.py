"""Write a model folder from any checkpoint of a run: `pipeline`, `AutoModelForCTC` and every command here can use it.

    python -m scripts.export runs/NAME [--step 400|best] [--out FOLDER]

Without --step it takes the best weights if there are any, else those of the newest checkpoint. The folder is
runs/NAME/model-best or runs/NAME/model-step-400 unless --out names another. Its model card says which weights it holds
and which figures of training belong to them. The run itself is left as it is, and may still be training.
"""

from __future__ import annotations

import re
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 written, 2 something in options, run or disk is wrong."""
    return report_errors(lambda: export(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.export", description=(__doc__ or "").strip())
    parser.add_argument("run", metavar="runs/NAME", type=Path, help="the run's folder")
    parser.add_argument("--step", type=step, metavar="STEP",
                        help="a checkpoint's step, or best (default: best if it is there)")  # fmt: skip
    parser.add_argument("--out", type=Path, help="the folder to write (default: runs/NAME/model-STEP)")
    return parser.parse_args(argv)


def step(word: str) -> str:
    """The folder of a checkpoint, from `best`, `400` or `step-400`."""
    if word == "best":
        return word
    match = re.fullmatch(r"(?:step-)?(\d+)", word)
    if match is None:
        raise ArgumentTypeError(f"{word} is neither a step nor best")
    return f"step-{int(match[1]):08d}"


def export(args: Namespace) -> int:
    """Write the folder and print where it is."""
    from trainer.card.checkpoint_card import write_checkpoint_card
    from trainer.recognize.transcribe import load_recognizer
    from trainer.rundir.disk import sync
    from trainer.rundir.model_source import find_model, is_run, short_name
    from trainer.rundir.reading import checkpoints

    run_dir: Path = args.run
    if not is_run(run_dir):
        raise ConfigError(f"{run_dir} holds no run: it has no config.json of one.")
    there = {folder.name: folder for _, folder in checkpoints(run_dir)}
    if (best := run_dir / "checkpoints" / "best").is_dir():
        there["best"] = best
    if not there:
        raise ConfigError(f"{run_dir} has no checkpoint yet. --train.save-every says when the run writes its next one.")
    name = args.step or list(there)[-1]
    if name not in there:
        names = ", ".join(short_name(folder).removeprefix("step-") for folder in there.values())
        raise ConfigError(f"{run_dir} has no checkpoint {short_name(Path(name))}; there are {names}.")
    out: Path = args.out or run_dir / f"model-{short_name(there[name])}"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists already. Remove it, or name another folder with --out.")

    from models.checkpoints.export import save_huggingface
    from models.checkpoints.lora import adapter_folder, save_updates
    from models.checkpoints.training_checkpoint import read_state, read_trained_model

    recognizer = load_recognizer(find_model(str(there[name])), device="cpu")
    hf, vocab = recognizer.model.hf, recognizer.vocab
    trained = read_trained_model(there[name])
    save_huggingface(
        hf, vocab.tokens, vocab.special, recognizer.do_normalize, out, vocab.reading, language=trained.language
    )
    if trained.lora is not None:
        beside = adapter_folder(out)
        save_updates(read_state(there[name]), trained.lora, hf.config.num_hidden_layers, beside)
        sync(beside)
    write_checkpoint_card(out, run_dir, there[name])
    sync(out)
    print(f"{out} holds the weights of {there[name]} and a model card")
    return 0


if __name__ == "__main__":
    sys.exit(main())
