"""Measure the speed of runtimes, and report AutoLog's fields as PaddleVideo does."""
import importlib
import logging
import os
import resource
import time
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

WARMUP = 3
SLOW = 2.0  # seconds per run above which one measurement is enough
TIMED_PARTS = ("preprocess_time", "inference_time", "postprocess_time")


def measure_latency(runtime, array, repeats=20):
    """Median time of an answer in ms, after a warm-up (and the self-check at this batch size)."""
    return measure_in_turns([runtime], array, repeats)[0]


def measure_in_turns(runtimes, array, repeats=20):
    """Median time of an answer of each runtime in ms, measured in turns, so that other load affects all alike.

    A runtime that needs more than ``SLOW`` seconds per answer is measured once.
    """
    counts = []
    for runtime in runtimes:
        for _ in range(WARMUP):
            seconds = time_answer(runtime, array)
            if seconds > SLOW:
                break
        counts.append(repeats if seconds < SLOW else 1)
    times = [[] for _ in runtimes]
    for turn in range(max(counts)):
        for runtime, count, measured in zip(runtimes, counts, times, strict=True):
            if turn < count:
                measured.append(time_answer(runtime, array))
    return [float(np.median(measured) * 1000) for measured in times]


def time_answer(runtime, array):
    """Seconds of one answer."""
    start = time.perf_counter()
    runtime.run(array)
    return time.perf_counter() - start


class StepTimes:
    """Times of preprocessing, inference and postprocessing; rounds of the warm-up do not count."""

    def __init__(self):
        self.rounds, self.marks = [], []

    def start(self):
        self.marks = [time.perf_counter()]

    def stamp(self):
        self.marks.append(time.perf_counter())

    def end(self, stamp=True):
        if stamp:
            self.stamp()
        self.rounds.append(np.diff(self.marks))

    def mean(self):
        """Mean milliseconds per part."""
        return dict(zip(TIMED_PARTS, (np.mean(self.rounds[WARMUP:], axis=0) * 1000).tolist(), strict=True))


class PlainLog:
    """AutoLog's report without AutoLog."""

    def __init__(self, runtime, model_name, batch_size, shape):
        self.runtime, self.model_name, self.batch_size, self.shape = runtime, model_name, batch_size, shape
        self.times = StepTimes()

    def report(self):
        """Log the fields and return them."""
        used, mean = self.runtime.describe(), self.times.mean()
        count = (len(self.times.rounds) - WARMUP) * self.batch_size
        total = sum(mean.values()) * (len(self.times.rounds) - WARMUP) / 1000
        sections = {
            "Config info": {"runtime_device": used["device"], "ir_optim": used["ir_optim"],
                            "enable_tensorrt": used["tensorrt"], "enable_mkldnn": used["mkldnn"],
                            "cpu_math_library_num_threads": used["cpu_threads"]},
            "Model info": {"model_name": self.model_name, "precision": used["precision"]},
            "Data info": {"batch_size": self.batch_size, "input_shape": self.shape, "data_num": count},
            "Perf info": {"cpu_rss(MB)": round(resident_megabytes(), 1),
                          "gpu_rss(MB)": self.runtime.gpu_megabytes() if used["device"] == "gpu" else None,
                          "total_time_spent(s)": round(total, 4),
                          **{f"{part}(ms)": round(value, 4) for part, value in mean.items()}},
        }
        for title, fields in sections.items():
            logger.info(" %s ".center(58, "-"), title)
            for field, value in fields.items():
                logger.info("%s: %s", field, value)
        return {field: value for fields in sections.values() for field, value in fields.items()}


def open_log(runtime, model_name, batch_size, shape):
    """``auto_log.AutoLogger`` if installed and usable for the runtime, else ``PlainLog``; both have one interface."""
    config = runtime.inference_config
    if config is None or importlib.util.find_spec("auto_log") is None:
        return PlainLog(runtime, model_name, batch_size, shape)
    auto_log = importlib.import_module("auto_log")
    return auto_log.AutoLogger(
        model_name=model_name, model_precision=runtime.options.precision, batch_size=batch_size, data_shape=str(shape),
        save_path=None, inference_config=config, pids=os.getpid(), process_name=None,
        gpu_ids=0 if runtime.device == "gpu" else None, time_keys=list(TIMED_PARTS), warmup=WARMUP, logger=logger)


def resident_megabytes():
    """Memory of this process; its peak on systems without /proc."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2 ** 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
