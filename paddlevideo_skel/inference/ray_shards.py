"""The shards of a long step as tasks on a Ray cluster, started again where a worker or a node died. Needs no paddle.

Every shard is the command line itself in a process of its own, with ``--shard i/n``, on a folder that all nodes share.
What is done stays done: a shard that is started again makes only what is missing.
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

LOG_LINES = 5
CONNECT = 10  # seconds
STORE = 80_000_000  # bytes; tasks give back a few lines
# The process must not outlive the Ray worker that started it: the shard will be running elsewhere by then.
CHILD = """import sys, threading
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
    done = subprocess.run([sys.executable, "-c", CHILD, str(os.getpid()), *command, "--shard", shard], cwd=folder,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    printed = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return done.returncode, " | ".join(printed[-LOG_LINES:]), time.perf_counter() - start


def run_shards(command, shards, address=None, retries=2, cpus=1, npus=0):
    """Run all shards of a command, as many at once as the cluster has room for.

    Args:
        command: ``["infer-bin", "--model", …]``, without ``--shard``. shards: how many.
        address: of a Ray cluster, ``auto`` for the one that this host belongs to; None: this host alone, for this run.
        retries: how often a shard is started again that failed, or whose worker died.
        cpus, npus: that each takes of its node.

    Returns:
        seconds from the first start to the last end.

    Raises:
        UnavailableError: no Ray, no cluster, or it lacks what a shard takes.
        OutputError: a shard failed to the last, with the end of what it printed.
    """
    for flag, value, least in (("--shards", shards, 1), ("--retries", retries, 0), ("--cpus", cpus, 1),
                               ("--npus", npus, 0)):
        if value < least:
            raise ConfigError(flag, f"found {value}, expected at least {least}")
    ray = connect(address)
    try:
        wanted = {"CPU": cpus, **({"NPU": npus} if npus else {})}
        for kind, count in wanted.items():
            there = ray.cluster_resources().get(kind, 0)
            if there < count:
                raise UnavailableError(f"--{kind.lower()}s", f"a shard takes {count}, the cluster has {there:g}")
        task = ray.remote(run_shard).options(max_retries=0, num_cpus=cpus, resources={"NPU": npus} if npus else None,
                                             scheduling_strategy="SPREAD")
        return follow(ray, lambda number: task.remote(command, f"{number}/{shards}", os.getcwd()), shards, retries)
    finally:
        ray.shutdown()


def connect(address):
    """The module ``ray``, connected to a cluster, or to one that is started on this host."""
    # Before the import: nothing is to be sent to anybody, and no page is to be served.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UnavailableError("Ray", f"is not installed ({error})", "pip install paddlevideo_skel[ray]") from error
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    own = {} if address else {"include_dashboard": False, "object_store_memory": STORE, "_node_ip_address": "127.0.0.1"}
    try:
        if colon and port.isdecimal():
            socket.create_connection((host, int(port)), CONNECT).close()  # Ray itself tries for minutes
        # "local": not a cluster that happens to be here.
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise UnavailableError(f"--address {address}", f"no connection to Ray ({' '.join(str(error).split())[:200]})",
                               "Start a cluster with 'ray start --head', or leave --address away") from error
    return ray


def follow(ray, start, shards, retries):
    """Start the shards, wait for them, start again what failed; returns the seconds of all."""
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
                logger.warning("Shard %d/%d %s; started again", number, shards, problem)
                running[start(number)] = (number, left - 1)
            else:
                for other in running:
                    ray.cancel(other, force=True)
                raise OutputError(f"shard {number}/{shards}", f"{problem} (tried {retries + 1} times)",
                                  "Run the same again when it is cured: what is done is kept")
    return time.perf_counter() - begun


def report_together(output, shards, seconds):
    """Write the report of all shards of infer-bin, with the samples a second that they came to together.

    Args:
        output: result folder. shards: how many. seconds: that they took, with starting and reading.

    Raises:
        OutputError: a shard's report is missing.
    """
    report = merge_reports(output, shards)
    if report is None:
        raise OutputError(output, f"lacks reports of the {shards} shards", "Is it a folder that all nodes share?")
    report["ray"] = {"shards": shards, "seconds": seconds, "fps": report["computed"] / seconds}
    write_json(Path(output) / REPORT, report)
    for number, shard in enumerate(report["shards"], 1):
        logger.info("Shard %d/%d: %d answers, %s", number, shards, shard["count"],
                    f"pure inference FPS {shard['fps']:.2f}" if shard["fps"] else "all there before")
    logger.info("%s: %d answers, %d of them made now in %.1f s, FPS together: %.2f", output, report["count"],
                report["computed"], seconds, report["ray"]["fps"])
