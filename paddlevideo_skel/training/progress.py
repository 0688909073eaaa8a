"""Where a run is, and what it has measured on the way."""
import re

from ..errors import ConfigError
from .metrics import Mean, Throughput

MEASURED = ("loss", "top1", "top5", "batch_cost", "reader_cost")
SECONDS = {"s": 1, "m": 60, "h": 3600}


def new_record():
    """Means of one epoch of training or validation, by name."""
    return {key: Mean() for key in MEASURED}


class Progress:
    """The position of a run and its running numbers.

    Args:
        skip: steps that the throughput leaves out.

    Attributes:
        epoch: from 1; one more than there are when the run is finished.
        step: training steps done in this epoch; all of them: trained, but not yet validated and saved.
        best: top-1 of the best epoch so far, None before a validation; ``best_path``: its checkpoint.
        record: means of this epoch's training.
        counted: the throughput's samples and seconds at the epoch's beginning.
        step_time: mean seconds of a step, over the run.
    """

    def __init__(self, skip):
        self.epoch, self.step, self.best, self.best_path = 1, 0, None, None
        self.record, self.step_time, self.throughput, self.counted = new_record(), Mean(), Throughput(skip), (0, 0.0)

    def next_epoch(self):
        """The epoch is trained, validated and saved."""
        self.epoch, self.step, self.record = self.epoch + 1, 0, new_record()
        self.counted = self.throughput.samples, self.throughput.seconds

    def state(self):
        """All of it in plain containers."""
        return {"epoch": self.epoch, "step": self.step, "best": self.best, "best_path": self.best_path,
                "counted": self.counted, "step_time": dict(vars(self.step_time)),
                "record": {key: dict(vars(mean)) for key, mean in self.record.items()},
                "throughput": dict(vars(self.throughput))}

    def load(self, state):
        """Go on from what ``state`` gave."""
        for key in ("epoch", "step", "best", "best_path"):
            setattr(self, key, state[key])
        self.counted = tuple(state["counted"])
        vars(self.step_time).update(state["step_time"])
        vars(self.throughput).update(state["throughput"])
        for key, mean in self.record.items():
            vars(mean).update(state["record"][key])


def parse_interval(value, where):
    """``(steps, seconds)``, one of them None, from ``200`` steps, ``90s``, ``10m`` or ``1h``."""
    found = re.fullmatch(r"([1-9]\d{0,8})([smh]?)", str(value))
    if not found or isinstance(value, bool):
        raise ConfigError(where, f"found {value!r}, expected a number of steps, or a time such as 90s, 10m or 1h")
    count, unit = int(found[1]), found[2]
    return (None, count * SECONDS[unit]) if unit else (count, None)
