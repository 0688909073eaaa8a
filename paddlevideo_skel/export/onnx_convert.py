"""Conversion to ONNX with paddle2onnx, verified in ONNX Runtime.

paddle2onnx may convert wrongly without reporting it, abort the whole process, or leave an empty file. Therefore it runs
in a child process, and its model is checked, run, and compared with the export's self-check.
"""
import importlib.metadata
import importlib.util
import logging
import subprocess
import sys
from pathlib import Path

from ..errors import ConfigError, ExportError, SelfCheckError, UnavailableError
from ..inference.artifact import ONNX, ExportFolder, derive, verify, write_export
from ..inference.runtime import RuntimeOptions

logger = logging.getLogger(__name__)

DEFAULT_OPSET = 13
CONVERTED_OPSETS = range(7, 21)
CONVERSION_TIME_LIMIT = 600  # seconds
INSTALL = "pip install 'paddlevideo-skel[onnx]'"
LAST_LINES = 4  # of paddle2onnx's output, in an error
CONVERSION = """import sys
import paddle2onnx
graph, params, path, opset = sys.argv[1:]
paddle2onnx.export(graph, params, path, opset_version=int(opset), auto_upgrade_opset=False)
"""


def convert_to_onnx(source, opset=DEFAULT_OPSET, save_file=None):
    """Convert an export to ONNX.

    Args:
        source: the ``ExportFolder``. opset: version of the operator set.
        save_file: path of the model; None: ``<stem>.onnx``. At another path it becomes an export of its own, with a
            copy of the metadata and the self-check.

    Returns:
        the ``ExportFolder`` of the ONNX model.

    Raises:
        ExportError: the conversion failed, or its answers are wrong; nothing is left then.
    """
    target = Path(save_file) if save_file else source.file(ONNX)
    if target.suffix != ONNX:
        raise ConfigError("--save_file", f"found {target}, expected a path that ends in .onnx")
    with derive(target.parent, target.stem) as folder:
        add_onnx(source, write_export(folder / target.stem, source.metadata, source.selfcheck()), opset)
    return ExportFolder(target.with_suffix(""))


def add_onnx(source, export, opset=DEFAULT_OPSET):
    """Convert the graph of ``source``, add the model to ``export``, verify it there, and record how it was made.

    Args:
        source, export: ``ExportFolder``s, possibly the same. ``export`` is not in use yet.
    """
    if opset not in CONVERTED_OPSETS:
        raise ConfigError("--opset", f"found {opset}, expected {CONVERTED_OPSETS.start} to {CONVERTED_OPSETS.stop - 1}")
    require_packages("conversion to ONNX", "paddle2onnx", "onnx", "onnxruntime")
    from ..inference.onnx_runtime import OnnxRuntime

    path = export.file(ONNX)
    run_paddle2onnx(source.graph, source.params, path, opset)
    rewrites = rewrite_file(path, opset) if source.metadata.get("kind") == "minimal" else {}
    try:
        runtime, errors = verify(export, OnnxRuntime, RuntimeOptions(use_gpu=False, use_npu=False))
    except SelfCheckError as error:
        raise ExportError(path.name, f"paddle2onnx converted the model wrongly at opset {opset}: {error.problem}",
                          "No files were kept. Try another --opset") from error
    export.note(onnx={"file": path.name, "opset": opset, "paddle2onnx": importlib.metadata.version("paddle2onnx"),
                      "onnxruntime": runtime.version, "rewrites": rewrites, "relative_error": errors})
    logger.info("Converted to ONNX, opset %d: ONNX Runtime agrees with the dynamic graph, relative error %.1g",
                opset, max(errors.values()))


def rewrite_file(path, opset):
    """Rewrite the ONNX model of a minimal export for ONNX Runtime.

    Returns:
        how often each rewrite was applied.
    """
    import onnx

    from .ort_rewrites import rewrite_for_ort

    model = onnx.load(path)
    applied = rewrite_for_ort(model)
    onnx.save(model, path)
    check_onnx(path, opset)
    return applied


def require_packages(purpose, *packages, hint=INSTALL):
    """
    Raises:
        UnavailableError: one of the packages is not installed.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UnavailableError(purpose, f"{package} is not installed", hint)


def run_paddle2onnx(graph, params, path, opset):
    """Convert a Paddle graph in a child process.

    Raises:
        ExportError: paddle2onnx failed, took too long, or left no valid model of this opset; with the end of its
            output.
    """
    files = [str(Path(file).resolve()) for file in (graph, params, path)]
    command = [sys.executable, "-c", CONVERSION, *files, str(opset)]
    try:
        # Not in the current folder, from which Python would import: tools/ has a script named paddle2onnx.py.
        done = subprocess.run(command, cwd=Path(path).parent, capture_output=True, text=True,
                              timeout=CONVERSION_TIME_LIMIT, errors="replace")
    except subprocess.TimeoutExpired:
        raise ExportError(graph, f"paddle2onnx took more than {CONVERSION_TIME_LIMIT} s") from None
    printed = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode:
        how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else f"failed ({done.returncode})"
    elif not path.is_file() or not path.stat().st_size:
        how = "left no model"
    else:
        check_onnx(path, opset)
        return
    raise ExportError(graph, f"paddle2onnx {how} at opset {opset}; it printed: {' | '.join(printed[-LAST_LINES:])}",
                      "Try another --opset")


def check_onnx(path, opset):
    """
    Raises:
        ExportError: the file is not a valid ONNX model of this opset.
    """
    import onnx

    try:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # protobuf, the checker and shape inference raise unrelated exception classes
        raise ExportError(path.name, f"paddle2onnx did not write a valid ONNX model: {error}") from error
    made = {entry.domain: entry.version for entry in model.opset_import}
    if made.get("", made.get("ai.onnx")) != opset:
        raise ExportError(path.name, f"paddle2onnx made a model of opset {made}, expected {opset}")
