"""ATC, Ascend's compiler: checks models, compiles them if ``atc`` is installed, and explains its failures.

ATC leaves temporary files and sometimes an incomplete ``.om`` in its working folder. It therefore runs in a temporary
folder, and complete results are moved into place. **None of this has been run with a real ATC**: the tests use a
stand-in.
"""
import logging
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from ..errors import ConfigError, ExportError, SkelError, ToolMissingError
from ..inference.artifact import OM, derive, write_export
from .atc_command import SOC, Job, atc_arguments, path_problem, plan_jobs, to_shell_line
from .atc_errors import explain_output
from .operators import atc_problems
from .processes import run_logged, terminable
from .script import SET_ENV, TOOLKITS, write_script
from .soc import find_soc

logger = logging.getLogger(__name__)

ATC_TIME_LIMIT = 3600  # seconds per model; large ones take tens of minutes
# $0 is set_env.sh. It may read unset variables, so the shell is not strict.
SOURCE_AND_RUN = 'source "$0" >/dev/null; "$@"'


@dataclass(frozen=True)
class Compilation:
    """Result of one compilation: seconds, and the size of the ``.om`` in bytes or the error."""
    job: Job
    seconds: float
    size: int = None
    error: SkelError = None

    def describe(self):
        """One line for the user."""
        if self.error:
            return f"{self.job.om}: FAILED after {self.seconds:.0f} s"
        return f"{self.job.om}: {self.size / 1e6:.2f} MB, {self.job.describe_batch()}, {self.seconds:.0f} s"


def compile_models(models, options, output=None, batch_sizes=(), dynamic_batch=False, script=None, set_env=None,
                   time_limit=ATC_TIME_LIMIT, ignore_check=False, say=print):
    """Compile ONNX models, or write the commands for a host that has ATC.

    Args:
        models, output, batch_sizes, dynamic_batch: see ``plan_jobs``.
        options: ``AtcOptions``; without a chip, this host's is used.
        script: write the commands to this file instead of running them.
        set_env: CANN's environment script. time_limit: seconds per model.
        ignore_check: only warn about problems in a model, and let ATC decide.
        say: receives the commands to run on another host, one line each.

    Returns:
        one ``Compilation`` per job, some of which may have failed, see ``raise_failures``; none for a script.

    Raises:
        ExportError: ATC would refuse a model. ToolMissingError: atc is not installed.
        UnavailableError: the chip is not known. ConfigError: options contradict each other.
    """
    jobs, absolute = plan_jobs(models, output, batch_sizes, dynamic_batch), options.with_paths(Path.resolve)
    check_paths(path for job in jobs for path in (job.onnx.name, job.stem.name))
    check_jobs(jobs, ignore_check)
    if script is not None:
        write_script(jobs, options, script)
        for job in jobs:
            place_metadata(job, options)
        return []
    try:
        launcher = find_atc(set_env)
    except ToolMissingError:
        for line in commands_for_elsewhere(jobs, options):
            say(line)
        raise
    check_paths(path.resolve() for job in jobs for path in (job.onnx, job.stem))
    absolute = replace(absolute, soc_version=options.soc_version or find_soc())
    with terminable():
        return compile_all(jobs, absolute, launcher, time_limit)


def commands_for_elsewhere(jobs, options):
    """Shell commands that compile the jobs on another host, one line each."""
    guard = [] if options.soc_version else [f': "${{{SOC[1:]}:?set it to the name of the chip, e.g. Ascend310P3}}"']
    return guard + [to_shell_line(atc_arguments(job, options)) for job in jobs]


def check_paths(paths):
    """
    Raises:
        ConfigError: ATC does not accept a path.
    """
    for path in paths:
        problem = path_problem(path)
        if problem:
            raise ConfigError(path, problem, "Rename it, or choose another folder: -o DIR")


def check_jobs(jobs, ignore=False):
    """Check the models before ATC spends minutes on them.

    Args:
        ignore: only warn.

    Raises:
        ExportError: ATC would refuse some models; the message lists all problems.
    """
    problems = {}
    for job in jobs:
        if job.onnx not in problems:
            problems[job.onnx] = "; ".join(atc_problems(job.onnx, batch=job.batch or job.sizes[0]))
    bad = {path: found for path, found in problems.items() if found}
    for path, found in bad.items() if ignore else ():
        logger.warning("%s: ATC may refuse it: %s", path, found)
    if bad and not ignore:
        (first, found), *others = bad.items()
        raise ExportError(first, "; ".join([f"ATC would refuse it: {found}", *(f"{p}: {f}" for p, f in others)]),
                          "Use tools/export_onnx.py --batch N for static shapes, or --opset for other "
                          "operators; --ignore_check leaves the decision to ATC")


def find_atc(set_env=None):
    """Find out how to start ``atc`` on this host.

    Args:
        set_env: CANN's environment script; None: none if ``atc`` is on PATH, else the first in CANN's usual places.

    Returns:
        the command prefix: words that precede ``atc`` and its arguments.

    Raises:
        ConfigError: ``set_env`` does not make atc available. ToolMissingError: atc is not installed.
    """
    if set_env is None and shutil.which("atc"):
        return []
    if set_env is not None and not Path(set_env).is_file():
        raise ConfigError("--set_env", f"file not found: {set_env}", "CANN's installer creates it: "
                          "…/Ascend/ascend-toolkit/set_env.sh")
    home = os.environ.get("ASCEND_TOOLKIT_HOME")
    places = [Path(folder).expanduser() / SET_ENV for folder in ([home] if home else []) + list(TOOLKITS)]
    for script in [Path(set_env)] if set_env else places:
        launcher = ["bash", "-c", SOURCE_AND_RUN, str(script.resolve())]
        asked = script.is_file() and subprocess.run([*launcher, "command", "-v", "atc"], capture_output=True)
        if asked and asked.returncode == 0:
            logger.info("atc with the environment of %s", script)
            return launcher
    if set_env is not None:
        raise ConfigError("--set_env", f"{set_env} does not put atc on PATH", "Pass the set_env.sh of CANN's toolkit; "
                          "CANN's runtime (nnrt) does not include atc")
    raise ToolMissingError("atc", "is not on this host, neither on PATH nor in CANN's usual places", "Run the commands "
                           "above on a host with CANN's toolkit (it needs no NPU), or write them as a script with "
                           "--dry_run FILE.sh; if CANN is installed here, pass its set_env.sh: --set_env PATH")


def compile_all(jobs, options, launcher=(), time_limit=ATC_TIME_LIMIT):
    """Compile every job; a failed job does not stop the others.

    Returns:
        one ``Compilation`` per job.
    """
    results = []
    for job in tqdm(jobs, desc="atc", unit="model", leave=False, disable=None):
        logger.info("%s", to_shell_line(atc_arguments(job, options)))
        start = time.monotonic()
        try:
            size, error = compile_om(job, options, launcher, time_limit), None
        except SkelError as failure:
            size, error = None, failure
            logger.error("%s", failure)
        results.append(Compilation(job, time.monotonic() - start, size, error))
    return results


def compile_om(job, options, launcher=(), time_limit=ATC_TIME_LIMIT):
    """Compile one ``.om``. Its log is written next to it and, for an export, its metadata and self-check too.

    Args:
        options: with absolute file paths, because atc runs in a temporary folder.

    Returns:
        its size in bytes.

    Raises:
        ExportError: atc failed, took too long or produced no model; only the log is kept.
    """
    with derive(job.om.parent, job.stem.name) as folder:
        work = folder / "work"
        work.mkdir()
        made = folder.resolve()
        words = atc_arguments(replace(job, onnx=job.onnx.resolve(), stem=made / job.stem.name), options)
        status = run_logged([*launcher, *words], work, job.log, time_limit)
        models = list(made.glob(f"{job.stem.name}*{OM}"))
        if status != 0 or len(models) != 1 or not models[0].stat().st_size:
            how = (f"exceeded the time limit of {time_limit:g} s (--time_limit)" if status is None
                   else f"failed (status {status})" if status else "ended without an error but produced no model")
            text = job.log.read_text(encoding="utf-8", errors="replace").partition("\n")[2]
            raise ExportError(job.om, f"atc {how}: {explain_output(text, status)}", f"Its log: {job.log}")
        if models[0].name != job.om.name:
            # The manual: a model that contains parts for the host's CPU is named …_linux_x86_64.om.
            logger.warning("atc wrote %s: it runs only on hosts with the same CPU architecture", models[0].name)
            models[0] = models[0].rename(made / job.om.name)
        describe_om(job, options, folder)
        return models[0].stat().st_size


def place_metadata(job, options):
    """Write metadata and self-check for an ``.om`` that will be compiled on another host."""
    if job.export is not None and job.stem.resolve() != job.export.stem.resolve():
        with derive(job.om.parent, job.stem.name) as folder:
            describe_om(job, options, folder)


def describe_om(job, options, folder):
    """Write metadata and self-check of an ``.om`` to a folder, if its ONNX model belongs to an export."""
    if job.export is None:
        return
    metadata = job.export.metadata
    om = {"file": job.om.name, "batch_sizes": [job.batch] if job.batch else list(job.sizes),
          "soc_version": options.soc_version, "precision": options.precision_mode_v2 or options.precision_mode,
          "input_fp16": options.input_fp16}
    shape = [job.batch or -1, *metadata["input"]["shape"][1:]]
    write_export(folder / job.stem.name, {**metadata, "input": {**metadata["input"], "shape": shape}, "om": om},
                 job.export.selfcheck())


def raise_failures(results):
    """
    Raises:
        ExportError: compilations failed. For a single job it is that job's own error.
    """
    failed = [result for result in results if result.error]
    if failed and len(results) == 1:
        raise failed[0].error
    if failed:
        logs = ", ".join(str(result.job.log) for result in failed)
        raise ExportError(", ".join(str(result.job.om) for result in failed), f"{len(failed)} of {len(results)} models "
                          "were not compiled", f"See the errors above and the logs: {logs}")
