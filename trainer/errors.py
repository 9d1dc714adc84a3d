"""Every error that a user sees, with the exit code of the command that ends with it.

A message says what happened, in which file, line or utterance, and what to do. Whoever finds something that is the
user's to mend raises a UserError; `trainer.cli.parse.report_errors` prints it in one line. Every other exception is a
fault of this project and keeps its traceback. This module is the one that `data` and `models` import from `trainer`.
"""

from __future__ import annotations

WRONG_INPUT = 2
"""Exit code: an option, a corpus, a checkpoint or a folder cannot be used as it is."""
TRAINING_STOPPED = 3
"""Exit code: training could not go on; what it had reached is saved."""
SAVE_FAILED = 4
"""Exit code: what was reached could not be written to the disk."""
REQUEUE = 75
"""Exit code (EX_TEMPFAIL) after SIGTERM or SIGUSR1: saved, and the same command with --resume goes on."""
INTERRUPTED = 130
"""Exit code after Ctrl-C; a training run is saved first. A shell's own code for SIGINT."""
UNREAD = 141
"""Exit code when nobody reads what is printed. A shell's own code for SIGPIPE."""


class UserError(ValueError):
    """Something that is the user's to mend."""

    exit_code = WRONG_INPUT


class ConfigError(UserError):
    """An option that cannot be; the message names it and says what to do."""


class CorpusError(UserError):
    """Something in the user's data; the message names file, line or utterance and the remedy."""


class AudioError(CorpusError):
    """One utterance's audio cannot be used."""


class UnknownAudioError(AudioError):
    """Audio of a container or codec that is not read here, but perhaps by another program."""


class LoaderError(CorpusError):
    """A worker process that loads batches died or hung."""

    exit_code = TRAINING_STOPPED


class ModelError(UserError):
    """A model's checkpoint that cannot be used; the message names it, what is wrong and the remedy."""


class CheckpointError(UserError):
    """A training checkpoint that cannot be used or written; the message names it and the remedy."""


class DamagedError(UserError):
    """A sealed folder that is not as it was written; the message says what is wrong."""


class ResultsError(UserError):
    """What an evaluation left cannot be read; the message says what is wrong."""


class PushError(UserError):
    """The folder cannot be uploaded as it is; the message says why."""


class TrainingStopped(UserError):  # noqa: N818  the end of a run, by name
    """Training cannot go on; `trainer.loop.fit.fit` saves what it reached. The message says why and what to do."""

    exit_code = TRAINING_STOPPED


class SaveError(UserError):
    """What was reached could not be written; the message says what to do."""

    exit_code = SAVE_FAILED
