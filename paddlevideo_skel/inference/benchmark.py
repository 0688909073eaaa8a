"""How long a runtime takes, and the fields that PaddleVideo's users know from AutoLog."""
import importlib
import logging
import os
import resource
import time
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

WARMUP = 3
SLOW = 2.0  # seconds an answer, from which one measurement tells enough
PARTS = ("preprocess_time", "inference_time", "postprocess_time")


def latency(runtime, array, repeats=20):
    """Median time of one answer in ms, after a warm-up (and the self-check at this batch size)."""
    return alternately([runtime], array, repeats)[0]


def alternately(runtimes, array, repeats=20):
    """Median time of one answer of each runtime in ms, measured in turns: what else runs here disturbs all alike.

    A runtime whose warm-up shows that it needs seconds an answer is asked less often.
    """
    wanted = []
    for runtime in runtimes:
        for _ in range(WARMUP):
            seconds = taken(runtime, array)
            if seconds > SLOW:
                break
        wanted.append(repeats if seconds < SLOW else 1)
    times = [[] for _ in runtimes]
    for turn in range(max(wanted)):
        for runtime, count, measured in zip(runtimes, wanted, times, strict=True):
            if turn < count:
                measured.append(taken(runtime, array))
    return [float(np.median(measured) * 1000) for measured in times]


def taken(runtime, array):
    """Seconds of one answer."""
    start = time.perf_counter()
    runtime.run(array)
    return time.perf_counter() - start


class StepTimes:
    """Times of pre-processing, inference and post-processing; the warm-up's rounds are not counted."""

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
        """Mean milliseconds of each part."""
        return dict(zip(PARTS, (np.mean(self.rounds[WARMUP:], axis=0) * 1000).tolist(), strict=True))


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
                          "gpu_rss(MB)": gpu_megabytes() if used["device"] == "gpu" else None,
                          "total_time_spent(s)": round(total, 4),
                          **{f"{part}(ms)": round(value, 4) for part, value in mean.items()}},
        }
        for title, fields in sections.items():
            logger.info(" %s ".center(58, "-"), title)
            for field, value in fields.items():
                logger.info("%s: %s", field, value)
        return {field: value for fields in sections.values() for field, value in fields.items()}


def open_log(runtime, model_name, batch_size, shape):
    """``auto_log.AutoLogger`` where it is installed and can be used, else ``PlainLog``; both time in the same way."""
    config = getattr(runtime, "config", None)
    if config is None or importlib.util.find_spec("auto_log") is None:
        return PlainLog(runtime, model_name, batch_size, shape)
    auto_log = importlib.import_module("auto_log")
    return auto_log.AutoLogger(
        model_name=model_name, model_precision=runtime.options.precision, batch_size=batch_size, data_shape=str(shape),
        save_path=None, inference_config=config, pids=os.getpid(), process_name=None,
        gpu_ids=0 if runtime.device == "gpu" else None, time_keys=list(PARTS), warmup=WARMUP, logger=logger)


def resident_megabytes():
    """Memory of this process now; its peak where the system does not tell."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2 ** 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gpu_megabytes():
    """Memory that paddle has reserved on the GPU."""
    import paddle

    return round(paddle.device.cuda.max_memory_reserved() / 2 ** 20, 1)
