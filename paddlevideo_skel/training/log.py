"""What a run reports: its position, log lines in PaddleVideo's format, and curves for VisualDL."""
import datetime
import logging
import os
from pathlib import Path

from ..files import output_folder
from .metrics import Mean, Throughput

logger = logging.getLogger(__name__)

MEASURED = ("loss", "top1", "top5", "batch_cost", "reader_cost")


def new_record():
    """Means of one epoch of training or validation, by name."""
    return {key: Mean() for key in MEASURED}


class Progress:
    """The position of a run and its running statistics.

    Args:
        skip: steps that the throughput leaves out.

    Attributes:
        epoch: from 1; one more than the config's ``epochs`` when the run is finished.
        step: training steps done in this epoch; if all of them, the epoch is trained, but not yet validated and saved.
        best: top-1 of the best epoch so far, None before a validation; ``best_path``: its checkpoint.
        record: means of this epoch's training.
        counted: the throughput's samples and seconds at the epoch's beginning.
        step_time: mean seconds per step, over the run.
    """

    def __init__(self, skip):
        self.epoch, self.step, self.best, self.best_path = 1, 0, None, None
        self.record, self.step_time, self.throughput, self.counted = new_record(), Mean(), Throughput(skip), (0, 0.0)

    def next_epoch(self):
        """Move to the next epoch: this one is trained, validated and saved."""
        self.epoch, self.step, self.record = self.epoch + 1, 0, new_record()
        self.counted = self.throughput.samples, self.throughput.seconds

    def state(self):
        """All of it in plain containers."""
        return {"epoch": self.epoch, "step": self.step, "best": self.best, "best_path": self.best_path,
                "counted": self.counted, "step_time": dict(vars(self.step_time)),
                "record": {key: dict(vars(mean)) for key, mean in self.record.items()},
                "throughput": dict(vars(self.throughput))}

    def load(self, state):
        """Continue from what ``state`` returned."""
        for key in ("epoch", "step", "best", "best_path"):
            setattr(self, key, state[key])
        self.counted = tuple(state["counted"])
        vars(self.step_time).update(state["step_time"])
        vars(self.throughput).update(state["throughput"])
        for key, mean in self.record.items():
            vars(mean).update(state["record"][key])


class RunLog:
    """Lines of the log and points of the curves.

    Args:
        epochs: of the run; ``iterations``: per epoch.
        interval: steps between two lines.
        world_size: number of processes.
    """

    def __init__(self, epochs, iterations, interval, world_size):
        self.epochs, self.iterations, self.interval, self.world_size = epochs, iterations, interval, world_size
        self.curves = None  # set by the first process while it trains

    def step(self, progress, rate, size):
        """Log a line every ``interval`` steps, and a point of the curves every step.

        Args:
            progress: ``Progress``, after the step.
            rate: the step's learning rate.
            size: number of samples in the step, of all processes.
        """
        last = {key: value.last for key, value in progress.record.items()}
        progress.step_time.add(last["batch_cost"])
        done = (progress.epoch - 1) * self.iterations + progress.step
        remaining = (self.epochs * self.iterations - done) * progress.step_time.mean
        if (progress.step - 1) % self.interval == 0:
            logger.info("epoch:[%3d/%-3d] train step:%-4d loss: %.5f lr: %.6f top1: %.5f top5: %.5f "
                        "batch_cost: %.5f sec, reader_cost: %.5f sec, ips: %.5f instance/sec, eta: %s",
                        progress.epoch, self.epochs, progress.step - 1, last["loss"], rate, last["top1"], last["top5"],
                        last["batch_cost"], last["reader_cost"], size / last["batch_cost"],
                        datetime.timedelta(seconds=int(remaining)))
        if self.curves:
            self.curves.add("train", done, lr=rate, eta=remaining, **last)

    def epoch(self, record, epoch, phase):
        """Log the line at the end of an epoch's training or validation."""
        seconds = record["batch_cost"].total
        logger.info("END epoch:%-3d %s loss_avg: %.5f top1_avg: %.5f top5_avg: %.5f avg_batch_cost: %.5f sec, "
                    "avg_reader_cost: %.5f sec, batch_cost_sum: %.5f sec, avg_ips: %.5f instance/sec.", epoch, phase,
                    record["loss"].mean, record["top1"].mean, record["top5"].mean, record["batch_cost"].mean,
                    record["reader_cost"].mean, seconds, record["loss"].weight / max(seconds, 1e-9))
        if self.curves and phase == "val":
            self.curves.add("val", epoch, **{key: record[key].mean for key in ("loss", "top1", "top5")})

    def fps(self, what, fps):
        """Log the throughput, under the name that benchmarks of devices use."""
        if fps is not None:
            logger.info("%s FPS: %.3f (samples per second, %d device%s, without the run's first steps)", what, fps,
                        self.world_size, "s" * (self.world_size > 1))

    def close(self):
        """Flush and close the curves."""
        if self.curves:
            self.curves.close()
            self.curves = None


class Curves:
    """Scalars for ``visualdl --logdir <output_dir>/vdl``; without VisualDL it logs that no curves are written.

    Args:
        folder: for the file of records.
        resumed: append to the existing file, as VisualDL shows only one file per folder.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder, resumed=False):
        self.writer = None
        try:
            from visualdl import LogWriter
        except ImportError:
            logger.info("VisualDL is not installed; no curves are written (pip install paddlevideo_skel[curves])")
            return
        except OSError as error:  # it creates a folder in the user's home, which may not be writable
            logger.warning("VisualDL cannot be used; no curves are written (%s: %s)", error.filename, error.strerror)
            return
        # Otherwise VisualDL would silently write nothing.
        output_folder(folder)
        files = sorted(Path(folder).glob("vdlrecords.*"), key=lambda path: path.stat().st_mtime) if resumed else []
        if files:
            cut_to_whole_records(files[-1])
        self.writer = LogWriter(logdir=str(folder), file_name=files[-1].name if files else "")

    def add(self, phase, step, **values):
        """Add one point to each curve ``<phase>/<name>``."""
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(tag=f"{phase}/{name}", value=float(value), step=step)

    def close(self):
        if self.writer:
            self.writer.close()


def cut_to_whole_records(path):
    """Remove an incomplete last record that a killed process left: nothing after it could be read.

    A record is its length in 8 bytes, little-endian, followed by that many bytes.
    """
    size, whole = os.path.getsize(path), 0
    with open(path, "rb+") as file:
        while len(head := file.read(8)) == 8 and (end := whole + 8 + int.from_bytes(head, "little")) <= size:
            file.seek(end)
            whole = end
        file.truncate(whole)
