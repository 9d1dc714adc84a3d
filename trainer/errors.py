"""Every error that a user sees, with the exit code of the command that ends with it.

A message says what happened, in which file, line or utterance, and what to do. Code that finds something which the user
can correct raises a UserError, and `trainer.cli.parse.report_errors` prints it in one line. Every other exception is an
error of this project and keeps its traceback. `data` and `models` import this module of `trainer`, and
trainer.hub_reach, but no other.
"""

from __future__ import annotations

import re

WRONG_INPUT = 2
"""Exit code: an option, a corpus, a checkpoint or a folder cannot be used as it is."""
TRAINING_STOPPED = 3
"""Exit code: training cannot go on. The last step is saved."""
SAVE_FAILED = 4
"""Exit code: the last checkpoint, or what closes the run, could not be written to the disk."""
REQUEUE = 75
"""Exit code (EX_TEMPFAIL) after SIGTERM, SIGUSR1 or SIGHUP: the run is saved, and the same command with --resume goes
on."""
INTERRUPTED = 130
"""Exit code after Ctrl-C; a training run is saved first. Shells use this code for SIGINT."""
UNREAD = 141
"""Exit code when nobody reads what is printed. Shells use this code for SIGPIPE."""


class UserError(ValueError):
    """Something that the user can correct. The message says what to do."""

    exit_code = WRONG_INPUT
    is_told = False
    """Whether another process of the same run tells the user about it."""


class ConfigError(UserError):
    """An option has an impossible value; the message names it and says what to do."""


class CorpusError(UserError):
    """Something in the user's data is wrong; the message names file, line or utterance and the remedy."""


class AudioError(CorpusError):
    """One utterance's audio cannot be used."""


class UnknownAudioError(AudioError):
    """Audio of a container or codec that is not read here, but perhaps by another program."""


class LoaderError(CorpusError):
    """A worker process that loads batches died or hung."""

    exit_code = TRAINING_STOPPED


class StorageError(LoaderError):
    """A file of a corpus cannot be read where it lies, though the corpus was sound; the message says where and why."""


class ModelError(UserError):
    """A model's checkpoint cannot be used; the message says which, what is wrong and what to do."""


class CheckpointError(UserError):
    """A training checkpoint cannot be used or written; the message says which and what to do."""


class DamagedError(UserError):
    """A sealed folder is no longer as it was written; the message says what is wrong."""


class ResultsError(UserError):
    """The files of an evaluation cannot be read; the message says what is wrong."""


class PushError(UserError):
    """A model's folder cannot be uploaded as it is; the message says why."""


class TrainingStopped(UserError):  # noqa: N818  the end of a run, by name
    """Training cannot go on; `trainer.loop.fit.fit` saves the last step. The message says why and what to do."""

    exit_code = TRAINING_STOPPED


class PeerLost(TrainingStopped):
    """Another process of the run is gone: nothing can be computed together any more. The message names it, if known."""


class SaveError(UserError):
    """The last checkpoint or the results could not be written; the message says what to do."""

    exit_code = SAVE_FAILED


MEMORY_IS_OUT = re.compile(r"\bCUDA (driver )?error: out of memory|\bHIP error: out of memory|_ALLOC_FAILED\b")
"""What torch's RuntimeErrors say where CUDA itself or a library of it (cuBLAS, cuFFT, cuDNN) found no memory. They are
no OutOfMemoryError: that is of torch's own allocator alone, which may hold all that the libraries lack."""


HOST_MEMORY_IS_OUT = re.compile(r"can't allocate memory|^could not create a primitive$")
"""What torch's RuntimeErrors say where a host has no memory for its allocator, or for a kernel that oneDNN makes."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host had no memory left, whoever wanted it."""
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and bool(MEMORY_IS_OUT.search(said) or HOST_MEMORY_IS_OUT.search(said))
