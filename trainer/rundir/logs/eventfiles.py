"""Remove from TensorBoard's event files the steps that a resumed run takes again.

    record: uint64 length, uint32 CRC, the event, uint32 CRC (little-endian, as TFRecord)

TensorBoard has its own way, SummaryWriter's `purge_step`. It hides only events in files whose names sort before that of
the new file, and names begin with the clock's time. Readers that do not know `purge_step` see the events twice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event

from trainer.loop.state import TrainState
from trainer.rundir.disk import write_bytes


def drop_events_after(run_dir: Path, state: TrainState) -> None:
    """Rewrite the event files in `run_dir` that hold more than `state` has reached, or that end in half a record."""
    for path in sorted(run_dir.glob("events.out.tfevents.*")):
        content, kept, num_told = path.read_bytes(), bytearray(), 0
        for record, event in read_events(content):
            tags = [value.tag for value in event.summary.value]
            if all(state.is_already_logged(event.step, tag) for tag in tags):
                kept += record
                num_told += len(tags)
        if not num_told:
            path.unlink()
        elif len(kept) < len(content):
            write_bytes(path, bytes(kept))


def read_events(content: bytes) -> Iterator[tuple[bytes, Event]]:
    """(Record, event) of an event file's bytes, up to where a crash cut it off."""
    position = 0
    while position + 12 <= len(content):
        (size,) = struct.unpack_from("<Q", content, position)
        end = position + 12 + size + 4
        if size == 0 or end > len(content):
            return
        try:
            event = Event.FromString(content[position + 12 : end - 4])
        except DecodeError:
            return
        yield content[position:end], event
        position = end
