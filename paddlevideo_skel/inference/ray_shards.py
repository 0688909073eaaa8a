"""Run the shards of a command as tasks on a Ray cluster; a shard is restarted if it fails or its worker or node dies.

A shard runs the command with ``--shard i/n`` in a process of its own, on a folder that all nodes share. A restarted
shard computes only what is missing.
"""
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from ..errors import ConfigError, OutputError, UnavailableError
from .bin_inference import merge_reports, write_json
from .bin_results import REPORT

logger = logging.getLogger(__name__)

MAX_OUTPUT_LINES = 5
CONNECT_TIMEOUT = 10  # seconds
OBJECT_STORE = 80_000_000  # bytes; tasks return a few lines
# The process must not outlive the Ray worker that started it: by then the shard runs elsewhere.
SHARD_PROGRAM = """import sys, threading
from paddlevideo_skel.cli import main
from paddlevideo_skel.workers import exit_with_parent
threading.Thread(target=exit_with_parent, args=(int(sys.argv[1]),), daemon=True).start()
sys.exit(main(sys.argv[2:]))
"""


def run_shard(command, shard, folder):
    """Run one shard in a child process; called in a Ray worker.

    Args:
        command: the command and its arguments. shard: ``"2/4"``. folder: the working folder.

    Returns:
        exit status, the end of what it printed, seconds.
    """
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", SHARD_PROGRAM, str(os.getpid()), *command, "--shard", shard],
                          cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace")
    printed = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return done.returncode, " | ".join(printed[-MAX_OUTPUT_LINES:]), time.perf_counter() - start


def run_shards(command, shards, address=None, retries=2, cpus=1, npus=0):
    """Run all shards of a command, as many at a time as the cluster can.

    Args:
        command: ``["infer-bin", "--model", …]``, without ``--shard``. shards: their number.
        address: of a Ray cluster, ``auto`` for the one of this host; None: a cluster of this host for this run.
        retries: restarts of a shard that fails or whose worker dies.
        cpus, npus: resources of a shard.

    Returns:
        seconds from the first start to the last end.

    Raises:
        UnavailableError: Ray or the cluster is not available, or the cluster lacks the resources for a shard.
        OutputError: a shard failed on its last retry; the message has the end of its output.
    """
    for flag, value, least in (("--shards", shards, 1), ("--retries", retries, 0), ("--cpus", cpus, 1),
                               ("--npus", npus, 0)):
        if value < least:
            raise ConfigError(flag, f"expected at least {least}, got {value}")
    ray = connect(address)
    try:
        wanted = {"CPU": cpus, **({"NPU": npus} if npus else {})}
        for kind, count in wanted.items():
            there = ray.cluster_resources().get(kind, 0)
            if there < count:
                raise UnavailableError(f"--{kind.lower()}s", f"a shard needs {count}, but the cluster has {there:g}")
        task = ray.remote(run_shard).options(max_retries=0, num_cpus=cpus, resources={"NPU": npus} if npus else None,
                                             scheduling_strategy="SPREAD")
        return follow(ray, lambda number: task.remote(command, f"{number}/{shards}", os.getcwd()), shards, retries)
    finally:
        ray.shutdown()


def connect(address):
    """The module ``ray``, connected to a cluster, or to a new one on this host."""
    # Before the import: no usage statistics.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UnavailableError("Ray", f"not installed ({error})", "pip install paddlevideo_skel[ray]") from error
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    own = {} if address else {"include_dashboard": False, "object_store_memory": OBJECT_STORE,
                              "_node_ip_address": "127.0.0.1"}
    try:
        if colon and port.isdecimal():
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()  # Ray itself retries for minutes
        # "local": not a cluster that already runs on this host.
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise UnavailableError(f"--address {address}", f"no connection to Ray ({' '.join(str(error).split())[:200]})",
                               "Start a cluster with 'ray start --head', or omit --address") from error
    return ray


def follow(ray, start, shards, retries):
    """Start the shards, wait for them, restart what failed; returns the seconds of all."""
    begun = time.perf_counter()
    running = {start(number): (number, retries) for number in range(1, shards + 1)}
    with tqdm(total=shards, desc="shards", unit="shard", leave=False, disable=None) as bar:
        while running:
            (task,), _ = ray.wait(list(running))
            number, left = running.pop(task)
            try:
                status, printed, seconds = ray.get(task)
                problem = f"ended with status {status}; it printed: {printed}" if status else ""
            except ray.exceptions.RayError as error:
                problem = f"lost its worker ({type(error).__name__})"
            if not problem:
                bar.update()
                logger.info("Shard %d/%d done in %.1f s", number, shards, seconds)
            elif left:
                logger.warning("Shard %d/%d %s; restarted", number, shards, problem)
                running[start(number)] = (number, left - 1)
            else:
                for other in running:
                    ray.cancel(other, force=True)
                raise OutputError(f"shard {number}/{shards}", f"{problem} (tried {retries + 1} times)",
                                  "Fix the cause and run the same command again; finished work is kept")
    return time.perf_counter() - begun


def write_common_report(output, shards, seconds):
    """Write the report of all shards of infer-bin, with their common throughput.

    Args:
        output: result folder. shards: their number. seconds: wall time of all, including starts and reading.

    Raises:
        OutputError: a shard's report is missing.
    """
    report = merge_reports(output, shards)
    if report is None:
        raise OutputError(output, f"the reports of some of the {shards} shards are missing",
                          "Do all nodes share this folder?")
    report["ray"] = {"shards": shards, "seconds": seconds, "fps": report["computed"] / seconds}
    write_json(Path(output) / REPORT, report)
    for number, shard in enumerate(report["shards"], 1):
        logger.info("Shard %d/%d: %d answers, %s", number, shards, shard["count"],
                    f"pure inference FPS {shard['fps']:.2f}" if shard["fps"] else "all existed")
    logger.info("%s: %d results, %d of them computed now in %.1f s, total FPS: %.2f", output, report["count"],
                report["computed"], seconds, report["ray"]["fps"])
