"""TensorBoard: the curves, image grids and HParams row of one trial, in its own folder.

The horizontal axis is the number of real images shown. A trial has its HParams row from the start, with the
metrics of its last evaluation. `name_columns` sets the order of the columns once for a whole sweep.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from torch.utils.tensorboard import SummaryWriter

from skin_gan.config import TrialSpec
from skin_gan.folders import ALARMED, COMPLETED, DIVERGED, FAILED, PRUNED
from skin_gan.io import unwritable, write_atomic
from skin_gan.metrics.scores.checkerboard import against_real
from skin_gan.training.grids import Sheet
from skin_gan.training.tags import CLASSIFIER, tag_of, tag_of_sheet

# HParams has no status "pruned" or "alarmed"; such a trial ended as intended.
STATUS = {
    COMPLETED: api_pb2.STATUS_SUCCESS,
    PRUNED: api_pb2.STATUS_SUCCESS,
    ALARMED: api_pb2.STATUS_SUCCESS,
    DIVERGED: api_pb2.STATUS_FAILURE,
    FAILED: api_pb2.STATUS_FAILURE,
}


Domain = list[Any] | tuple[float, float]  # values of a setting, or the ends of a range


class Board:
    """Writes one trial's events. `close` it at the end, and `flush` it before each checkpoint."""

    def __init__(self, folder: Path, spec: TrialSpec, images: int) -> None:
        """Continue after `images` real images: TensorBoard drops earlier records beyond them."""
        self.folder = folder
        with self._disk_errors():
            join_logs(folder)
            self.writer = SummaryWriter(str(folder), purge_step=images + 1, flush_secs=30)
        # The group is the trial: TensorBoard merges rows of one group, and of equal settings without a group.
        self._write(summary_v2.hparams_pb(hparams(spec), trial_id=f"{spec.label}/{folder.name}"))
        self.flush()

    def scalars(self, values: Mapping[str, Any], images: int) -> None:
        """Record the finite numbers among `values`."""
        with self._disk_errors():
            for tag, value in values.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    self.writer.add_scalar(tag, value, images)

    def row(self, row: Mapping[str, Any]) -> None:
        """Record what `tag_of` shows of an evaluation, as in metrics.jsonl."""
        self.scalars({tag: value for name, value in row.items() if (tag := tag_of(name))}, row["images"])
        if words := against_real(row):
            self.text("checkerboard", words, row["images"])

    def grid(self, name: str, page: Sheet, images: int) -> None:
        with self._disk_errors():
            self.writer.add_image(tag_of_sheet(name), page, images, dataformats="HWC")

    def text(self, tag: str, words: str, images: int) -> None:
        with self._disk_errors():
            self.writer.add_text(tag, words, images)

    def end(self, state: str, reason: str, images: int) -> None:
        """Record a final state, one of `skin_gan.folders.STATES`."""
        self._write(session_end(STATUS[state]))
        self.text("end", f"{state}: {reason}" if reason else state, images)
        self.flush()

    def flush(self) -> None:
        with self._disk_errors():
            self.writer.flush()

    def close(self) -> None:
        with self._disk_errors():
            self.writer.close()

    def _write(self, record: Summary) -> None:
        assert self.writer.file_writer is not None  # it is set by the constructor
        with self._disk_errors():
            self.writer.file_writer.add_summary(record)

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Turn errors of the disk, also those of the writer's thread, into a SkinGanError."""
        try:
            yield
        except OSError as e:
            raise unwritable(self.folder, e) from e


def join_logs(folder: Path) -> None:
    """Join the event files of earlier sessions into the first of them: each interruption leaves one.

    A running TensorBoard only goes on to later files, so it does not read these again.
    """
    files = sorted(folder.glob("events.out.tfevents.*"))
    if others := files[1:]:
        write_atomic(files[0], b"".join(whole_records(path.read_bytes()) for path in files))
        for path in others:
            path.unlink()


def whole_records(content: bytes) -> bytes:
    """The bytes of an event file up to the first record that is incomplete or damaged, as a kill leaves it.

    A record (TFRecord) is a length, its masked CRC-32C, that many bytes, and their CRC-32C.
    """
    end = 0
    while end + 12 <= len(content):
        length, crc = struct.unpack_from("<QI", content, end)
        after = end + 16 + length
        if masked_crc32c(content[end : end + 8]) != crc or after > len(content):
            break
        end = after
    return content[:end]


def write_run(folder: Path, metrics: Mapping[str, float], loss: Sequence[tuple[int, float]] = ()) -> None:
    """Write a classifier run's metrics and loss, pairs (updates, value), in place of an earlier record.

    It has no HParams row: the table is the trials', whose settings and metrics are others.
    """
    try:
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        writer = SummaryWriter(str(folder))
        for name, value in metrics.items():
            if math.isfinite(value):
                writer.add_scalar(f"{CLASSIFIER}/{name}", value, 0)
        for step, value in loss:
            writer.add_scalar(f"{CLASSIFIER}/loss", value, step)
        writer.close()
    except OSError as e:
        raise unwritable(folder, e) from e


def name_columns(folder: Path, settings: Mapping[str, Domain], metrics: Mapping[str, str]) -> None:
    """Set the columns of the HParams table of all trials below `folder`, the most important first.

    `settings` maps each searched setting to the list of its values, empty if they are not known in advance,
    or to the (low, high) of a range; `metrics` maps tags to their meanings. Without this TensorBoard shows
    all settings in the order in which it finds them.
    """
    columns = [summary_v2.HParam(name, _domain(values)) for name, values in settings.items()]
    shown = [
        summary_v2.Metric(tag, display_name=tag.rpartition("/")[2], description=text)
        for tag, text in metrics.items()
    ]
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = EventFileWriter(str(folder))
    event = Event(wall_time=time.time(), summary=summary_v2.hparams_config_pb(columns, shown))
    writer.add_event(event)
    writer.close()


def _domain(values: Domain) -> summary_v2.Domain | None:
    if isinstance(values, tuple):
        return summary_v2.RealInterval(*map(float, values))
    if not values:
        return None
    # TensorBoard needs values of one type.
    numbers = all(isinstance(v, int | float) for v in values)
    kind = str if not numbers else float if any(isinstance(v, float) for v in values) else int
    return summary_v2.Discrete(sorted({kind(v) for v in values}))


def session_end(status: int) -> Summary:
    """The record that ends an HParams row (TensorBoard's own function needs TensorFlow)."""
    ended = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    content = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended))
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=content, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])


def hparams(spec: TrialSpec) -> dict[str, str | int | float]:
    """All settings of a trial by their dotted names, with its label, index, seed and fold."""
    groups = asdict(spec.settings)
    settings = {f"{group}.{name}": value for group in groups for name, value in groups[group].items()}
    return {"label": spec.label, "index": spec.index, "seed": spec.seed, "fold": spec.fold, **settings}
