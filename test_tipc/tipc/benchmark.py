"""Speed of training: ``benchmark_train.sh``.

The section ``train_benchmark_params`` of a params file of ``train_infer`` has the lines batch_size, fp_items, epoch,
--profiler_options, flags, and and max_iters, which is optional.
"""
import itertools
import json
import os
import re
import subprocess
import time
from pathlib import Path

from paddlevideo_skel.errors import ConfigError

from . import FOLDER, ROOT
from .chain import PASSED, Chain, shown
from .host import Host, interpreter
from .params import NULL, Params
from .train_infer import HEADERS, LITE_ITERATIONS

SKIP_STEPS = 5  # a run's first steps are slower
CASE = re.compile(r"(?:(?P<kind>[^_]+)_)?bs(?P<batch>\d+)_(?P<precision>fp32|fp16|null)_(?P<mode>DP)_N(?P<nodes>\d+)"
                  r"C(?P<cards>\d+)")
IPS = re.compile(r"loss: (\S+) .*ips: (\S+) instance/sec")


def run(path, mode, case=None):
    """Measure one case, such as ``dynamic_bs8_fp32_DP_N1C1``, or all of the params file; returns the exit status."""
    if mode != "benchmark_train":
        raise ConfigError("mode", f"found {mode!r}, expected benchmark_train")
    params = Params(path, HEADERS)
    header = params.section("train_benchmark_params")
    if header is None:
        raise ConfigError(path, "has no section train_benchmark_params", "PaddleVideo's files have it for some models")
    return Benchmark(params, header, case).run()


class Benchmark:
    """The benchmark of one params file. ``BENCHMARK_LOG_DIR`` may name another folder for what it writes."""

    def __init__(self, params, header, case):
        self.params, self.header = params, header
        self.cases = [read_case(case)] if case else [
            (batch, precision, 1, 1) for batch, precision in itertools.product(
                params.options(header + 1), params.options(header + 2))]
        self.python = interpreter(params.python)
        self.host = Host(self.python)
        given = os.environ.get("BENCHMARK_LOG_DIR")
        self.folder = Path(given).resolve() if given else FOLDER / "output" / params.model / "benchmark_train"
        self.chain = Chain(params.model, self.folder / "train_log", "results.log")

    def optional(self, offset, default="null"):
        """The value of a line of the section that need not be there."""
        number = self.header + offset
        lines = self.params.lines
        return default if number > len(lines) or lines[number - 1].startswith("=") else self.params.value(number)

    def run(self):
        """All cases; a line of JSON for each that was run; returns the exit status."""
        for batch, precision, nodes, cards in self.cases:
            name = f"{self.params.model}_bs{batch}_{precision}_DP_N{nodes}C{cards}"
            command = self.command(batch, precision, cards, self.folder / "runs" / name)
            reason = self.reason_to_skip(precision, nodes, cards)
            if reason:
                self.chain.skip(command, reason)
                continue
            flags = dict(flag.split("=", 1) for flag in self.optional(5).split(";") if "=" in flag)
            if os.environ.get("PROFILING_TIMER_ONLY", "no") != "no" and self.optional(4) not in NULL:
                self.chain.run([*command, *self.params.arguments(self.header + 4)], f"{name}_profiling",
                               {**os.environ, **flags})
            start = time.time()
            row = self.chain.run(command, f"{name}_log", {**os.environ, **flags})
            if row.status == PASSED:
                self.report(name, command, batch, precision, f"N{nodes}C{cards}", time.time() - start)
        return self.chain.finish()

    def command(self, batch, precision, cards, output):
        """The training of one case, without validation, every step logged."""
        params = self.params
        line = next((n for n in (16, 20) if params.key(n) in params.options(15) and params.command(n)), 16)
        if params.command(line) is None:
            raise ConfigError(params.where(line), "is null, expected a command to measure")
        words = [word for word in params.command(line) if word != "--validate"]
        limit = self.optional(6, str(LITE_ITERATIONS))
        settings = [params.arguments(8, shown(output)), params.arguments(7, self.optional(3)), params.arguments(10),
                    params.arguments(13), params.arguments(9, batch), ["-o", "log_interval=1"],
                    [f"--max_iters={limit}"], ["--amp"] * (precision == "fp16" and "--amp" not in words)]
        launcher = ["-B", "-m", "paddle.distributed.launch", "--gpus=" + ",".join(map(str, range(cards)))] * (cards > 1)
        return [self.python, *launcher, *words, *itertools.chain(*settings)]

    def reason_to_skip(self, precision, nodes, cards):
        if nodes > 1:
            return "training on several machines is not supported"
        if cards > 1 and self.host.lacks("gpu", cards):
            return self.host.lacks("gpu", cards)
        return self.host.lacks_half() if precision == "fp16" else None

    def report(self, name, command, batch, precision, device_num, seconds):
        """Read the log, print and write its line of JSON; a log without a speed is a failure."""
        log = self.chain.folder / f"{name}_log.log"
        steps = [(float(loss), float(ips)) for loss, ips in IPS.findall(log.read_text(encoding="utf-8"))]
        if len(steps) <= SKIP_STEPS:
            self.chain.fail(command, f"{name}_log", f"{len(steps)} steps were logged, expected more than "
                            f"{SKIP_STEPS}: raise epoch or max_iters")
            return
        speeds = [ips for _, ips in steps[SKIP_STEPS:]]
        line = json.dumps({
            "model_branch": git("rev-parse", "--abbrev-ref", "HEAD"), "model_commit": git("rev-parse", "HEAD"),
            "model_name": f"{self.params.model}_bs{batch}_{precision}_DP", "batch_size": int(batch),
            "fp_item": precision, "run_mode": "DP",
            "run_process_type": "SingleP" if device_num == "N1C1" else "MultiP", "convergence_value": steps[-1][0],
            "convergence_key": "loss:", "ips": round(sum(speeds) / len(speeds), 3), "speed_unit": "instance/sec",
            "device_num": device_num, "model_run_time": str(round(seconds)),
            "frame_commit": self.host.facts["paddle_commit"], "frame_version": self.host.facts["paddle"]})
        index = self.folder / "index"
        index.mkdir(parents=True, exist_ok=True)
        (index / f"{name}_speed").write_text(line + "\n", encoding="utf-8")
        print(line, flush=True)


def read_case(text):
    """``(batch, precision, machines, cards)`` of ``dynamic_bs8_fp32_DP_N1C1``."""
    found = CASE.fullmatch(text)
    if not found:
        raise ConfigError("case", f"found {text!r}, expected for example dynamic_bs8_fp32_DP_N1C1")
    if found["kind"] not in (None, "dynamic"):
        raise ConfigError("case", f"found {found['kind']!r}, only dynamic training is supported")
    precision = "fp32" if found["precision"] == "null" else found["precision"]
    return found["batch"], precision, int(found["nodes"]), int(found["cards"])


def git(*words):
    """The answer of a git command about this checkout; empty if it is not a repository."""
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""
