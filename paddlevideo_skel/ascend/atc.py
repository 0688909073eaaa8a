"""ATC, Ascend's compiler: models checked, compiled where ``atc`` is, its failures explained.

ATC leaves files of its own in the folder it runs in, and sometimes half an ``.om``. So it runs in a folder made for
it, and what came out well is moved to its place. None of this was tried with a real ATC: the tests use a stand-in.
"""
import logging
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from ..errors import ConfigError, ExportError, SkelError, ToolMissingError
from ..files import output_folder
from ..inference.artifact import METADATA, OM, SELFCHECK, write_metadata
from .atc_command import SOC, Job, arguments, path_problem, plan, shell_line
from .atc_errors import explain
from .operators import check
from .processes import run_logged, terminable
from .script import SET_ENV, TOOLKITS, write_script
from .soc import find_soc

logger = logging.getLogger(__name__)

TIME_LIMIT = 3600  # seconds a model; large ones compile for tens of minutes
# $0 is set_env.sh. It reads variables that may not be set, so nothing is strict here.
SOURCE = 'source "$0" >/dev/null; "$@"'


@dataclass(frozen=True)
class Result:
    """How one compilation ended: seconds, and bytes of the ``.om`` or the error."""
    job: Job
    seconds: float
    size: int = None
    error: SkelError = None

    def line(self):
        if self.error:
            return f"{self.job.om}: FAILED after {self.seconds:.0f} s"
        return f"{self.job.om}: {self.size / 1e6:.2f} MB, {self.job.describe()}, {self.seconds:.0f} s"


def compile_models(models, options, output=None, batch_sizes=(), dynamic_batch=False, script=None, set_env=None,
                   time_limit=TIME_LIMIT, ignore_check=False, say=print):
    """Compile ONNX models, or write the commands for a host that can.

    Args:
        models, output, batch_sizes, dynamic_batch: as in ``commands.plan``.
        options: ``commands.Options``; without a chip the host's own is taken.
        script: write the commands to this file instead of running them.
        set_env: CANN's environment script. time_limit: seconds a model.
        ignore_check: let ATC decide about what the check of the model found.
        say: takes the commands that somebody has to run elsewhere, a line each.

    Returns:
        a ``Result`` each; none for a script. Some may be failures: see ``raise_failures``.

    Raises:
        ExportError: a model that ATC would refuse. ToolMissingError: atc is not here.
        UnavailableError: the chip is not known. ConfigError: options that contradict each other.
    """
    jobs, absolute = plan(models, output, batch_sizes, dynamic_batch), options.with_paths(Path.resolve)
    check_paths(path for job in jobs for path in (job.onnx.name, job.stem.name))
    check_jobs(jobs, ignore_check)
    if script is not None:
        write_script(jobs, options, script)
        for job in jobs:
            place_export(job, options)
        return []
    try:
        launcher = find_atc(set_env)
    except ToolMissingError:
        for line in lines_for_elsewhere(jobs, options):
            say(line)
        raise
    check_paths(path.resolve() for job in jobs for path in (job.onnx, job.stem))
    absolute = replace(absolute, soc_version=options.soc_version or find_soc())
    with terminable():
        return compile_all(jobs, absolute, launcher, time_limit)


def lines_for_elsewhere(jobs, options):
    """The commands, a line each, for somebody to copy."""
    guard = [] if options.soc_version else [f': "${{{SOC[1:]}:?set it to the name of the chip, e.g. Ascend310P3}}"']
    return guard + [shell_line(arguments(job, options)) for job in jobs]


def check_paths(paths):
    """
    Raises:
        ConfigError: a path, or a name, that ATC does not take.
    """
    for path in paths:
        problem = path_problem(path)
        if problem:
            raise ConfigError(path, problem, "Rename it, or choose another folder: -o DIR")


def check_jobs(jobs, ignore=False):
    """Look for what ATC would refuse of the models, before it works for minutes.

    Args:
        ignore: only warn.

    Raises:
        ExportError: with all the problems of all the models.
    """
    problems = {}
    for job in jobs:
        if job.onnx not in problems:
            problems[job.onnx] = "; ".join(check(job.onnx, batch=job.batch or job.sizes[0]))
    bad = {path: found for path, found in problems.items() if found}
    for path, found in bad.items() if ignore else ():
        logger.warning("%s: ATC may refuse it: %s", path, found)
    if bad and not ignore:
        (first, found), *others = bad.items()
        raise ExportError(first, "; ".join([f"ATC would refuse it: {found}", *(f"{p}: {f}" for p, f in others)]),
                          "tools/export_onnx.py --batch N makes shapes static, --opset chooses other operators; "
                          "--ignore_check lets ATC decide")


def find_atc(set_env=None):
    """How ``atc`` is started on this host.

    Args:
        set_env: CANN's environment script; None: none if ``atc`` is on PATH, else the one in the usual places.

    Returns:
        words that go before ``atc`` and its arguments.

    Raises:
        ConfigError: ``set_env`` is no script that makes atc available. ToolMissingError: atc is not here.
    """
    if set_env is None and shutil.which("atc"):
        return []
    if set_env is not None and not Path(set_env).is_file():
        raise ConfigError("--set_env", f"no such file: {set_env}", "CANN's installer makes it: "
                          "…/Ascend/ascend-toolkit/set_env.sh")
    home = os.environ.get("ASCEND_TOOLKIT_HOME")
    places = [Path(folder).expanduser() / SET_ENV for folder in ([home] if home else []) + list(TOOLKITS)]
    for script in [Path(set_env)] if set_env else places:
        launcher = ["bash", "-c", SOURCE, str(script.resolve())]
        asked = script.is_file() and subprocess.run([*launcher, "command", "-v", "atc"], capture_output=True)
        if asked and asked.returncode == 0:
            logger.info("atc with the environment of %s", script)
            return launcher
    if set_env is not None:
        raise ConfigError("--set_env", f"{set_env} puts no atc on PATH", "Give the set_env.sh of CANN's toolkit; the "
                          "one of its runtime (nnrt) has no atc")
    raise ToolMissingError("atc", "is not on this host, neither on PATH nor in CANN's usual places", "Run the commands "
                           "above where CANN's toolkit is installed (it needs no NPU), --dry_run FILE.sh writes them "
                           "as a script; or give its set_env.sh: --set_env PATH")


def compile_all(jobs, options, launcher=(), time_limit=TIME_LIMIT):
    """Compile every job; one that fails does not stop the others.

    Returns:
        a ``Result`` each.
    """
    results = []
    for job in tqdm(jobs, desc="atc", unit="model", leave=False, disable=None):
        logger.info("%s", shell_line(arguments(job, options)))
        start = time.monotonic()
        try:
            size, error = compile_om(job, options, launcher, time_limit), None
        except SkelError as failure:
            size, error = None, failure
            logger.error("%s", failure)
        results.append(Result(job, time.monotonic() - start, size, error))
    return results


def compile_om(job, options, launcher=(), time_limit=TIME_LIMIT):
    """Compile one ``.om``, with its log beside it and, for an export, its metadata and self-check.

    ``options`` name files by their absolute paths, for atc runs in a folder of its own.

    Returns:
        its size in bytes.

    Raises:
        ExportError: atc failed, took too long or left no model. Nothing is left then but the log.
    """
    output_folder(job.om.parent)
    with tempfile.TemporaryDirectory(prefix=f".{job.stem.name}.", dir=job.om.parent) as folder:
        work, made = Path(folder).resolve(), Path(folder).resolve() / "made"
        made.mkdir()
        words = arguments(replace(job, onnx=job.onnx.resolve(), stem=made / job.stem.name), options)
        status = run_logged([*launcher, *words], work, job.log, time_limit)
        models = list(made.glob(f"{job.stem.name}*{OM}"))
        if status != 0 or len(models) != 1 or not models[0].stat().st_size:
            how = (f"took more than {time_limit:g} s (--time_limit)" if status is None
                   else f"failed (status {status})" if status else "ended well, but left no model")
            text = job.log.read_text(encoding="utf-8", errors="replace").partition("\n")[2]
            raise ExportError(job.om, f"atc {how}: {explain(text, status)}", f"Its log: {job.log}")
        if models[0].name != job.om.name:
            # By the manual: a model with parts of its own for the host is named …_linux_x86_64.om.
            logger.warning("atc made %s: it runs only on hosts of this kind", models[0].name)
            models[0] = models[0].rename(made / job.om.name)
        write_export(job, options, made)
        size = models[0].stat().st_size
        for path in sorted(made.iterdir(), key=lambda path: path.suffix == OM):
            os.replace(path, job.om.parent / path.name)
    return size


def place_export(job, options):
    """Metadata and self-check for an ``.om`` that is compiled elsewhere, where it would have none."""
    if job.export is None or job.stem.resolve() == job.export.stem.resolve():
        return
    output_folder(job.om.parent)
    with tempfile.TemporaryDirectory(prefix=f".{job.stem.name}.", dir=job.om.parent) as folder:
        write_export(job, options, folder)
        for path in Path(folder).iterdir():
            os.replace(path, job.om.parent / path.name)


def write_export(job, options, folder):
    """Metadata and self-check of the ``.om``, for one that an export was made into."""
    if job.export is None:
        return
    stem, metadata = Path(folder) / job.stem.name, job.export.metadata
    shape = [job.batch or -1, *metadata["input"]["shape"][1:]]
    selfcheck = f"{stem.name}{SELFCHECK}"
    write_metadata({**metadata, "input": {**metadata["input"], "shape": shape},
                    "selfcheck": {**metadata["selfcheck"], "file": selfcheck},
                    "om": {"file": job.om.name, "batch_sizes": [job.batch] if job.batch else list(job.sizes),
                           "soc_version": options.soc_version,
                           "precision": options.precision_mode_v2 or options.precision_mode,
                           "input_fp16": options.input_fp16}},
                   stem.with_name(stem.name + METADATA))
    source = job.export.stem.with_name(metadata["selfcheck"]["file"])
    if (job.om.parent / selfcheck).resolve() != source.resolve():
        job.export.selfcheck().save(stem.with_name(selfcheck))


def raise_failures(results):
    """
    Raises:
        ExportError: some compilations failed; the only one's own error, or one that names them all.
    """
    failed = [result for result in results if result.error]
    if failed and len(results) == 1:
        raise failed[0].error
    if failed:
        raise ExportError(", ".join(str(result.job.om) for result in failed), f"{len(failed)} of {len(results)} models "
                          "were not compiled", f"See above, and the logs: {', '.join(str(r.job.log) for r in failed)}")
