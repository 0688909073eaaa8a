"""Which runtime answers for an export: the fastest that is installed and answers the self-check rightly."""
import importlib.util
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import SkelError, UnavailableError
from ..logs import write_line
from .benchmark import alternately
from .artifact import ONNX
from .runtime import open_runtime

logger = logging.getLogger(__name__)

# On a CPU, the faster first, as measured for CTR-GCN-Lite: docs/performance.md. To measure at every start would take
# longer than most answers; ``fastest`` does.
ORDER = ("onnxruntime", "paddle")


@dataclass
class Candidate:
    """A runtime that may be chosen. ``problem`` says why not, if so, and ``error`` is what came of the attempt."""
    kind: str
    options: object
    problem: str = None
    error: SkelError = None


def open_named(export, name, options, batch_size=1, prepare=None):
    """Open an export in a runtime.

    Args:
        export: ``ExportFolder``. options: ``RuntimeOptions``.
        name: ``paddle`` or ``onnxruntime``; ``auto``, the one that is known to be the fastest; or ``fastest``, the one
            that is found to be so here and now, with ``batch_size`` samples an answer.
        prepare: called with a runtime's name before it is imported.

    Raises:
        SkelError: see ``open_runtime``; with ``auto`` and ``fastest``, if no runtime can answer.
    """
    if name == "auto":
        return open_best(export, options, prepare)
    if name == "fastest":
        return open_measured(export, options, batch_size, prepare)
    if prepare is not None:
        prepare(name)
    return open_runtime(export, name, options)


def candidates(export, options):
    """What could answer for an export, the best guess first; runtimes that cannot be used have a ``problem``.

    Where nothing forbids a device and paddle is built for one, paddle is the best guess.
    """
    order = ORDER[::-1] if options.use_gpu is not False and options.use_npu is not False and for_a_device() else ORDER
    return [Candidate(kind, options, missing(export, kind)) for kind in order]


def missing(export, kind):
    """What a runtime lacks before it can even be tried; None: nothing."""
    if kind == "onnxruntime" and not export.file(ONNX).is_file():
        return "the export has no ONNX model (tools/paddle2onnx.py makes one)"
    if kind == "paddle" and not export.has_graph():
        return "the export has no Paddle graph"
    return None if importlib.util.find_spec(kind) else "not installed"


def for_a_device():
    """Whether the paddle that is installed is built for a GPU or an NPU; found out without importing it."""
    spec = importlib.util.find_spec("paddle")
    if spec is None or spec.origin is None:
        return False
    packages = Path(spec.origin).parents[1]
    return importlib.util.find_spec("paddle_custom_npu") is not None or any(packages.glob("paddlepaddle_gpu-*"))


def open_best(export, options, prepare=None):
    """Open the first runtime, in the order of ``candidates``, that answers the self-check rightly."""
    found = candidates(export, options)
    for number, candidate in enumerate(found):
        runtime = opened(candidate, export, prepare)
        if runtime is not None:
            why = "; ".join(told(c) for c in found[:number]) or "the fastest known; --runtime fastest measures"
            logger.info("Chosen: %s (%s)", candidate.kind, why)
            return runtime
    raise none_left(found)


def told(candidate):
    return f"{candidate.kind}{' with oneDNN' if candidate.options.enable_mkldnn else ''}: {candidate.problem}"


def opened(candidate, export, prepare):
    """The runtime of a candidate; None where it cannot be used, which the candidate then tells."""
    if candidate.problem is not None:
        return None
    try:
        return open_named(export, candidate.kind, candidate.options, prepare=prepare)
    except SkelError as error:
        candidate.problem, candidate.error = f"cannot be used: {error}", error
        return None


def none_left(found):
    """The error of the only runtime that was tried, or one that tells of all of them."""
    errors = [candidate.error for candidate in found if candidate.error is not None]
    if len(errors) == 1:
        return errors[0]
    return UnavailableError("--runtime", "no runtime can answer: " + "; ".join(map(told, found)),
                            "" if errors else "pip install onnxruntime")


def open_measured(export, options, batch_size, prepare=None):
    """Open everything that can answer, measure it on the self-check's samples, print a table, return the fastest.

    Paddle is measured with and without oneDNN, unless the options say which. The others are closed again.
    """
    found = list(variants(candidates(export, options)))
    runtimes = [runtime for runtime in (opened(candidate, export, prepare) for candidate in found) if runtime]
    if not runtimes:
        raise none_left(found)
    array, _ = runtimes[0].selfcheck.repeated(export.batch or batch_size)
    times = alternately(runtimes, array)
    best = runtimes[int(np.argmin(times))]
    write_line(f"{'runtime':12} {'device':6} {'oneDNN':6} {'threads':>7} {f'ms, batch {len(array)}':>13} {'ratio':>6}")
    for runtime, time in zip(runtimes, times, strict=True):
        write_line(f"{runtime.kind:12} {runtime.device:6} {'yes' if runtime.onednn else 'no':6} "
                   f"{runtime.options.threads:7} {time:13.2f} {time / min(times):6.2f}{' *' * (runtime is best)}")
        if runtime is not best:
            runtime.close()
    for candidate in found:
        if candidate.problem is not None:
            write_line(told(candidate))
    logger.info("Chosen: %s (the fastest here and now)", best.kind)
    return best


def variants(found):
    """The candidates; Paddle in two ways where the options leave oneDNN open."""
    for candidate in found:
        if candidate.kind == "paddle" and candidate.options.enable_mkldnn is None and candidate.problem is None:
            for onednn in (False, True):
                yield Candidate("paddle", replace(candidate.options, enable_mkldnn=onednn))
        else:
            yield candidate
