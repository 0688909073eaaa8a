"""Training processes for tests that end them, forked from a server that has imported everything, so that they start
at once. Each runs the command line as ``main.py`` does, with its output in a file.
"""
import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from paths import ROOT

from paddlevideo_skel.checkpoints.load import load_state

PATIENCE = 120  # seconds

SCRIPT = """
import json, os, signal, sys
from paddlevideo_skel.cli import load_paddle, run_command
load_paddle()
import paddlevideo_skel.training.trainer, paddlevideo_skel.cli.train

def arm(name, count, when):
    # The process kills itself before or after its count-th call of os.<name>.
    real, left = getattr(os, name), [count]
    def deadly(*arguments, **keywords):
        left[0] -= 1
        if not left[0] and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **keywords)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(os, name, deadly)

for line in sys.stdin:
    arguments, output, death, prelude = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        if death:
            arm(*death)
        exec(prelude)
        status = run_command("train", arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class TrainingRunner:
    """A context that makes training processes."""

    def __enter__(self):
        environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(ROOT)}
        self.server = subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment, text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.last = None
        return self

    def __exit__(self, *exception):
        self.server.stdin.close()
        self.server.wait(30)
        self.server.stdout.close()

    def start(self, config, folder, *arguments, overrides=(), death=None, prelude=""):
        """Start a training; returns a ``TrainingRun``.

        Args:
            config, folder: of the run.
            arguments: of the command line; ``overrides`` without their ``-o``.
            death: (name, count, when): the process kills itself before or after its count-th call of ``os.<name>``.
            prelude: Python that runs in the process first.
        """
        if self.last and not self.last.ended:  # a test failed before it was
            self.last.signal(signal.SIGKILL)
            self.last.end()
        words = ["-c", config, "--seed", "5", *arguments]
        for override in (f"output_dir={folder}", *overrides):
            words += ["-o", override]
        output = Path(folder).with_name(f"{Path(folder).name}.output")
        print(json.dumps([list(map(str, words)), str(output), death, prelude]), file=self.server.stdin, flush=True)
        self.last = TrainingRun(self, int(self.server.stdout.readline()), output)
        return self.last

    def run(self, *arguments, **keywords):
        """Train to the end; returns ``(exit status, output)``."""
        return self.start(*arguments, **keywords).end()


class TrainingRun:
    """One training process; ``pid``."""

    def __init__(self, runner, pid, output):
        self.runner, self.pid, self.output, self.ended = runner, pid, output, False
        self.before = len(self.text())

    def text(self):
        """Its output so far, after that of earlier runs in the same folder."""
        return self.output.read_text() if self.output.exists() else ""

    def wait_for(self, pattern):
        """Wait until its own output matches a pattern; an error if it ends before."""
        while not re.search(pattern, self.text()[self.before:]):
            if not Path(f"/proc/{self.pid}").exists():
                raise AssertionError(f"{pattern!r} did not come: {self.text()}")
            time.sleep(0.01)

    def signal(self, number):
        """Send it a signal, unless it has ended by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end(self):
        """Wait for its end; returns ``(exit status, output)``. The status is negative after a deadly signal."""
        if not select.select([self.runner.server.stdout], [], [], PATIENCE)[0]:
            self.signal(signal.SIGKILL)
            self.ended = bool(self.runner.server.stdout.readline())
            raise AssertionError(f"it did not end: {self.text()}")
        self.ended = True
        return int(self.runner.server.stdout.readline()), self.text()[self.before:]


def same(a, b):
    """Whether two nests of containers, numbers and arrays are equal to the bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b


def content(folder):
    """The content of every checkpoint of a folder; of the state, without times and places.

    Names that number the layers of a process are left out, of .pdopt all names: its arrays keep their order.
    """
    found = {}
    for path in sorted(Path(folder).glob("*.pd*")):
        state = found[path.name] = load_state(path)
        state.pop("StructuredToParameterName@@", None)
        if path.suffix == ".pdopt":
            found[path.name] = [state["LR_Scheduler"],
                                *(value for value in state.values() if isinstance(value, np.ndarray))]
        if path.suffix == ".pdstate":
            progress = state["progress"]
            found[path.name] = {
                **{key: state[key] for key in ("weights", "optimizer", "scaler", "random")}, "best": progress["best"],
                "at": (progress["epoch"], progress["step"])}
    return found


def metrics(folder):
    """(epoch, phase) → the last metrics of it in the log."""
    lines = re.findall(r"END epoch:(\d+) +(\w+) (loss_avg: \S+ top1_avg: \S+ top5_avg: \S+)",
                       (Path(folder) / "train.log").read_text())
    return {(epoch, phase): text for epoch, phase, text in lines}


def assert_same_end(folder, other):
    """Two runs ended with the same files, to the bit, and the same metrics of every epoch."""
    assert metrics(folder) == metrics(other) and metrics(other)
    one, two = content(folder), content(other)
    assert one.keys() == two.keys()
    assert not [name for name in one if not same(one[name], two[name])]
    # Nothing half-written is left.
    assert not [path for path in Path(folder).iterdir() if path.name.endswith(".tmp")]
