"""Select the runtime for an export: the fastest that is installed and passes the self-check."""
import importlib.util
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import SkelError, UnavailableError
from ..logs import write_line
from .artifact import ONNX
from .benchmark import measure_in_turns
from .runtime import open_runtime

logger = logging.getLogger(__name__)

# On a CPU the faster comes first (docs/performance.md). Measuring at every start would take longer than most answers.
RUNTIME_ORDER = ("onnxruntime", "paddle")


@dataclass
class Candidate:
    """A runtime that may be selected. ``problem``: why it cannot be used; ``error``: what an attempt raised."""
    kind: str
    options: object
    problem: str = None
    error: SkelError = None


def open_named(export, name, options, batch_size=1, prepare=None):
    """Open an export in a runtime.

    Args:
        export: ``ExportFolder``. options: ``RuntimeOptions``.
        name: ``paddle`` or ``onnxruntime``; ``auto``: the one that is known to be the fastest; ``fastest``: the one
            that is measured to be, with ``batch_size`` samples per answer.
        prepare: called with a runtime's name before it is imported.

    Raises:
        SkelError: see ``open_runtime``; with ``auto`` and ``fastest`` if no runtime can be used.
    """
    if name == "auto":
        return open_best(export, options, prepare)
    if name == "fastest":
        return open_measured(export, options, batch_size, prepare)
    if prepare is not None:
        prepare(name)
    return open_runtime(export, name, options)


def list_candidates(export, options):
    """The runtimes, most promising first; those that cannot be used have a ``problem``.

    Paddle comes first if it is built for a GPU or an NPU and the options do not exclude one.
    """
    device = options.use_gpu is not False and options.use_npu is not False and is_built_for_device()
    order = RUNTIME_ORDER[::-1] if device else RUNTIME_ORDER
    return [Candidate(kind, options, find_problem(export, kind)) for kind in order]


def find_problem(export, kind):
    """Why a runtime cannot be tried; None if it can."""
    if kind == "onnxruntime" and not export.file(ONNX).is_file():
        return "the export has no ONNX model (tools/paddle2onnx.py makes one)"
    if kind == "paddle" and not export.has_graph():
        return "the export has no Paddle graph"
    return None if importlib.util.find_spec(kind) else "not installed"


def is_built_for_device():
    """Whether the installed paddle is built for a GPU or an NPU, without importing it."""
    spec = importlib.util.find_spec("paddle")
    if spec is None or spec.origin is None:
        return False
    packages = Path(spec.origin).parents[1]
    return importlib.util.find_spec("paddle_custom_npu") is not None or any(packages.glob("paddlepaddle_gpu-*"))


def open_best(export, options, prepare=None):
    """Open the first runtime of ``list_candidates`` that passes the self-check."""
    found = list_candidates(export, options)
    for number, candidate in enumerate(found):
        runtime = try_open(candidate, export, prepare)
        if runtime is not None:
            why = "; ".join(map(explain_problem, found[:number])) or "the fastest known; measure with --runtime fastest"
            logger.info("Selected: %s (%s)", candidate.kind, why)
            return runtime
    raise no_runtime_error(found)


def explain_problem(candidate):
    """Why a candidate was not used."""
    return f"{candidate.kind}{' with oneDNN' if candidate.options.enable_mkldnn else ''}: {candidate.problem}"


def try_open(candidate, export, prepare):
    """The runtime of a candidate; None if it cannot be used, with the reason in the candidate."""
    if candidate.problem is not None:
        return None
    try:
        return open_named(export, candidate.kind, candidate.options, prepare=prepare)
    except SkelError as error:
        candidate.problem, candidate.error = f"cannot be used: {error}", error
        return None


def no_runtime_error(found):
    """The error of the only runtime that was tried, or one that lists all."""
    errors = [candidate.error for candidate in found if candidate.error is not None]
    if len(errors) == 1:
        return errors[0]
    return UnavailableError("--runtime", "no runtime can be used: " + "; ".join(map(explain_problem, found)),
                            "" if errors else "pip install onnxruntime")


def open_measured(export, options, batch_size, prepare=None):
    """Open all runtimes, measure them with the self-check's samples, print a table, and return the fastest.

    Paddle is measured with and without oneDNN, unless the options decide that. The other runtimes are closed.
    """
    found = list(vary_onednn(list_candidates(export, options)))
    runtimes = [runtime for runtime in (try_open(candidate, export, prepare) for candidate in found) if runtime]
    if not runtimes:
        raise no_runtime_error(found)
    array, _ = runtimes[0].selfcheck.repeated(export.batch or batch_size)
    times = measure_in_turns(runtimes, array)
    best = runtimes[int(np.argmin(times))]
    write_line(f"{'runtime':12} {'device':6} {'oneDNN':6} {'threads':>7} {f'ms, batch {len(array)}':>13} {'ratio':>6}")
    for runtime, time in zip(runtimes, times, strict=True):
        write_line(f"{runtime.kind:12} {runtime.device:6} {'yes' if runtime.onednn else 'no':6} "
                   f"{runtime.options.threads:7} {time:13.2f} {time / min(times):6.2f}{' *' * (runtime is best)}")
        if runtime is not best:
            runtime.close()
    for candidate in found:
        if candidate.problem is not None:
            write_line(explain_problem(candidate))
    logger.info("Selected: %s (fastest measured)", best.kind)
    return best


def vary_onednn(found):
    """The candidates; paddle twice, without and with oneDNN, if the options leave that open."""
    for candidate in found:
        if candidate.kind == "paddle" and candidate.options.enable_mkldnn is None and candidate.problem is None:
            for onednn in (False, True):
                yield Candidate("paddle", replace(candidate.options, enable_mkldnn=onednn))
        else:
            yield candidate
