"""Trainings of two processes under ``paddle.distributed.launch`` on the CPU, and tests that end one of them."""
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from paths import ROOT


def launch(folder, *command, options=(), meanwhile=None, **environment):
    """Run a script in two processes on the CPU; returns (exit status, each process's log).

    ``meanwhile(process)`` is called with the launcher's ``Popen`` while they run.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PADDLE", "FLAGS"))}
    environment = {**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    logs = folder / "log"
    call = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", logs, *options,
            *command]
    with subprocess.Popen([str(part) for part in call], cwd=folder, env=environment, start_new_session=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            if meanwhile:
                meanwhile(process)
            shown, _ = process.communicate(timeout=600)
        except BaseException:
            os.killpg(process.pid, 9)
            raise
    deadline = time.monotonic() + 10
    while remaining_processes(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not remaining_processes(folder)
    found = [(logs / f"workerlog.{i}").read_text() for i in range(2)]
    assert "Computing on" in found[0] or process.returncode, shown
    return process.returncode, found


def remaining_processes(folder):
    """Command lines of processes that still run and name the folder; the launcher gives each a group of its own."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [line for line in lines if str(folder) in line]


def main_process(folder, rank):
    """Process number of the main process of a rank, whose command line names the folder."""
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            command, status = ((entry.parent / name).read_text() for name in ("cmdline", "stat"))
            variables = entry.read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        parent = status.rsplit(")", 1)[1].split()[1]
        if str(folder) in command and f"PADDLE_TRAINER_ID={rank}" in variables and "launch" not in command:
            try:
                above = Path(f"/proc/{parent}/environ").read_text().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if f"PADDLE_TRAINER_ID={rank}" not in above:  # else it is a data loader's worker
                return int(entry.parent.name)
    raise AssertionError(f"no process of rank {rank}")


def wait_for(path, pattern, process):
    deadline = time.monotonic() + 120
    while not (path.exists() and re.search(pattern, path.read_text())):
        assert process.poll() is None and time.monotonic() < deadline, path.exists() and path.read_text()
        time.sleep(0.02)


def endless(config, folder):
    """``main.py``'s command for a training that goes on until it is ended."""
    overrides = [f"output_dir={folder / 'out'}", "DATASET.batch_size=4", "DATASET.num_workers=1", "epochs=2000",
                 "save_interval=2000", "save_every=1"]
    return [ROOT / "main.py", "-c", config, "--seed", "5", *(part for o in overrides for part in ("-o", o))]
