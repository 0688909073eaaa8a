"""Rows are run one after the other; the outcome of each is printed, written and counted."""
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import ROOT

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
STATUS = {PASSED: "Run successfully with command", FAILED: "Run failed with command", SKIPPED: "Skipped"}


@dataclass
class Row:
    """The outcome of one command. ``log`` is None if it was skipped; ``reason``: why it failed or was skipped."""
    status: str
    command: str
    seconds: float = 0.0
    log: str = None
    reason: str = ""


class Chain:
    """One run of a chain.

    Args:
        model: its name in the printed lines.
        folder: for the logs, one per command.
        name: file of the printed lines; an older one is replaced.
    """

    def __init__(self, model, folder, name="results_python.log"):
        self.model, self.folder, self.rows = model, folder, []
        folder.mkdir(parents=True, exist_ok=True)
        self.results = folder / name
        self.results.write_text("")

    def run(self, argv, log, environment=None):
        """Run a command in the checkout's folder; show its output and write it to ``<folder>/<log>.log``.

        Args:
            argv: list of words.
            environment: of the command; None for this process's.

        Returns:
            the ``Row``.
        """
        path = self.folder / f"{log}.log"
        start = time.perf_counter()
        command = shlex.join(map(str, argv))
        print(f"$ {command}", flush=True)
        try:
            status = _run(argv, path, environment)
        except OSError as error:
            path.write_text(f"error: {argv[0]}: {error.strerror}\n")
            status = 127
        seconds = time.perf_counter() - start
        row = Row(FAILED if status else PASSED, command, seconds, shown(path))
        if status:
            row.reason = f"status {status}: {last_words(path)}"
        return self._add(row)

    def skip(self, argv, reason):
        """Report a command that is not run, and why."""
        return self._add(Row(SKIPPED, shlex.join(map(str, argv)), reason=reason))

    def fail(self, argv, log, reason):
        """Report a command as failed because of what its log says."""
        return self._add(Row(FAILED, shlex.join(map(str, argv)), log=shown(self.folder / f"{log}.log"), reason=reason))

    def _add(self, row):
        self.rows.append(row)
        line = f"{STATUS[row.status]} - {self.model} - {row.command} - {row.log or row.reason}"
        print(line, flush=True)
        with open(self.results, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        return row

    def count(self, status):
        return sum(row.status == status for row in self.rows)

    def finish(self):
        """Print the table of all rows; returns the exit status.

        0: everything that was run passed; 1: something failed; 3: everything was skipped.
        """
        print("\n" + self.table(), flush=True)
        if self.count(FAILED):
            return 1
        return 0 if self.count(PASSED) else 3

    def table(self):
        """Status, seconds, log and command of every row, with the reason below those that did not pass."""
        logs = [Path(row.log).name if row.log else "-" for row in self.rows]
        width = max(map(len, [*logs, "log"]))
        lines = [f"{'status':8} {'seconds':>8}  {'log':{width}}  command"]
        for row, log in zip(self.rows, logs):
            lines.append(f"{row.status:8} {f'{row.seconds:.1f}' if row.log else '-':>8}  {log:{width}}  {row.command}")
            if row.reason:
                lines.append(f"{'':17}  ({row.reason})")
        counts = ", ".join(f"{self.count(status)} {status}" for status in (PASSED, FAILED, SKIPPED))
        return "\n".join([*lines, f"{self.model}: {counts}; logs in {shown(self.folder)}"])


def _run(argv, log, environment):
    with open(log, "w", encoding="utf-8") as file, subprocess.Popen(
            argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8", errors="replace") as process:
        for line in process.stdout:
            sys.stdout.write(line)
            file.write(line)
    return process.returncode


def shown(path):
    """A path as it is printed: relative to the checkout, with ``./``."""
    return f"./{path.relative_to(ROOT)}" if path.is_relative_to(ROOT) else str(path)


def last_words(log):
    """The error of a failed command, else the last line of its log."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"error: |\w*(Error|Exception): ", line)]
    return (errors or lines or ["no output"])[-1]
