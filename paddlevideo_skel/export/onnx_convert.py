"""Conversion to ONNX with paddle2onnx, which is believed only after ONNX Runtime gave the right answers.

paddle2onnx may convert wrongly without a word, abort the whole process, or return and leave an empty file. So it runs
in a child process, and what it left is looked at, run, and compared with the export's self-check.
"""
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..errors import ConfigError, ExportError, SelfCheckError, UnavailableError
from ..files import temporary_folder
from ..inference.artifact import METADATA, ONNX, PARAMS, SELFCHECK, ExportFolder, write_metadata
from ..inference.runtime import RuntimeOptions, open_runtime

logger = logging.getLogger(__name__)

OPSET = 13
OPSETS = range(7, 21)
TIME_LIMIT = 600  # seconds
LOG_LINES = 4
# The current folder is taken off the path: tools/ has a script called paddle2onnx.py too.
CHILD = """import sys
sys.path = [p for p in sys.path if p]
import paddle2onnx
graph, params, path, opset = sys.argv[1:]
paddle2onnx.export(graph, params, path, opset_version=int(opset), auto_upgrade_opset=False)
"""


def convert(folder, opset=OPSET, save_file=None):
    """Convert an export to ONNX.

    Args:
        folder: the ``ExportFolder``. opset: version of the operator set.
        save_file: where the model goes; None: ``<stem>.onnx``. Elsewhere it gets the metadata and the self-check
            beside it, so that it is an export of its own.

    Returns:
        the ``ExportFolder`` of the ONNX model.

    Raises:
        ExportError: it was not converted, or wrongly; nothing is left then.
    """
    target = Path(save_file) if save_file else folder.file(ONNX)
    if target.suffix != ONNX:
        raise ConfigError("--save_file", f"{target} does not end in .onnx")
    with temporary_folder(target.parent, target.stem) as temporary:
        stage = _copy(folder, temporary / target.stem)
        convert_in_place(stage, opset)
        stage.graph.unlink()
        stage.file(PARAMS).unlink()
        for path in stage.stem.parent.iterdir():
            os.replace(path, target.parent / path.name)
    return ExportFolder(target.with_suffix(""))


def _copy(folder, stem):
    """The export's files under another stem."""
    metadata = {**folder.metadata, "selfcheck": {**folder.metadata["selfcheck"], "file": f"{stem.name}{SELFCHECK}"}}
    for source, ending in ((folder.graph, folder.graph.suffix), (folder.params, PARAMS)):
        shutil.copyfile(source, stem.with_name(stem.name + ending))
    folder.selfcheck().save(stem.with_name(stem.name + SELFCHECK))
    write_metadata(metadata, stem.with_name(stem.name + METADATA))
    return ExportFolder(stem)


def convert_in_place(folder, opset=OPSET):
    """Convert an export that nobody uses yet: the model is written to its place at once, and then examined."""
    if opset not in OPSETS:
        raise ConfigError("--opset", f"found {opset}, expected {OPSETS.start} to {OPSETS.stop - 1}")
    need_packages()
    path = folder.file(ONNX)
    run_paddle2onnx(folder.graph, folder.params, path, opset)
    check_model(path, opset)
    rewrites = rewrite_file(folder, path, opset)
    try:
        runtime = open_runtime(folder, "onnxruntime", RuntimeOptions(use_gpu=False, use_npu=False))
        runtime.check(folder.other_batch)
    except SelfCheckError as error:
        raise ExportError(path.name, f"paddle2onnx converted the model wrongly at opset {opset}: {error.problem}",
                          "Nothing was kept. Try another --opset") from error
    folder.metadata["onnx"] = {"file": path.name, "opset": opset, "paddle2onnx": version("paddle2onnx"),
                               "onnxruntime": runtime.version, "rewrites": rewrites,
                               "relative_error": {f"batch {n}": e for n, e in runtime.errors.items()}}
    write_metadata(folder.metadata, folder.file(METADATA))
    logger.info("Converted to ONNX, opset %d: ONNX Runtime agrees with the dynamic graph, relative error %.1g",
                opset, max(runtime.errors.values()))


def rewrite_file(folder, path, opset):
    """Rewrite the ONNX model of a minimal export for ONNX Runtime; that of an ordinary one stays as it was converted.

    Returns:
        how often each rewrite was applied.
    """
    import onnx

    from .ort_rewrites import rewrite

    if folder.metadata.get("kind") != "minimal":
        return {}
    model = onnx.load(path)
    done = rewrite(model)
    onnx.save(model, path)
    check_model(path, opset)
    return done


def need_packages():
    """What a conversion needs is installed."""
    for package in ("paddle2onnx", "onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UnavailableError("conversion to ONNX", f"{package} is not installed", "pip install "
                                   "paddlevideo-skel[onnx]")


def run_paddle2onnx(graph, params, path, opset):
    """paddle2onnx in a child process.

    Raises:
        ExportError: it failed, took too long or left no model; with the end of what it printed.
    """
    command = [sys.executable, "-c", CHILD, str(graph), str(params), str(path), str(opset)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, errors="replace")
    except subprocess.TimeoutExpired:
        raise ExportError(graph, f"paddle2onnx took more than {TIME_LIMIT} s") from None
    printed = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode:
        how = f"was ended by signal {-done.returncode}" if done.returncode < 0 else f"failed ({done.returncode})"
    elif not path.is_file() or not path.stat().st_size:
        how = "left no model"
    else:
        return
    raise ExportError(graph, f"paddle2onnx {how} at opset {opset}; it printed: {' | '.join(printed[-LOG_LINES:])}",
                      "Try another --opset")


def check_model(path, opset):
    """The file is a valid ONNX model of the opset asked for."""
    import onnx

    try:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # protobuf, the checker and shape inference raise unrelated classes
        raise ExportError(path.name, f"paddle2onnx left no valid ONNX model: {error}") from error
    made = {entry.domain: entry.version for entry in model.opset_import}
    if made.get("", made.get("ai.onnx")) != opset:
        raise ExportError(path.name, f"paddle2onnx made opset {made}, {opset} was asked for")


def version(package):
    """The installed version of a package."""
    from importlib.metadata import version as installed

    return installed(package)
