"""Export a trained model as graph, weights, metadata and self-check, verified before the files are moved into place."""
import logging
import math
from pathlib import Path

import numpy as np
import paddle
from tqdm import tqdm

from .. import __version__
from ..build import build_pipeline, build_recognizer, input_shape
from ..checkpoints.fit import fit_main
from ..checkpoints.load import load_weights
from ..config import class_names
from ..errors import ConfigError, ExportError, SelfCheckError
from ..inference.artifact import (
    EXPORT_FORMAT,
    TOLERANCE,
    ExportFolder,
    SelfCheck,
    derive,
    is_large,
    verify,
    write_export,
)
from ..inference.paddle_runtime import PaddleRuntime, try_onednn
from ..inference.runtime import RuntimeOptions
from .minimal import minimise
from .onnx_convert import DEFAULT_OPSET, add_onnx
from .static_graph import INPUT, save_graph, save_old_graph

logger = logging.getLogger(__name__)

EXPORT_KINDS = ("ordinary", "minimal")
SELFCHECK_SEED = 20
MANY_NUMBERS = 50_000  # for samples larger than this the self-check has one sample, otherwise two


def export_checkpoint(config, weights, output, name=None, kind="ordinary", form="json", to_onnx=False,
                      opset=DEFAULT_OPSET, beside=None):
    """Export a config's model with the weights of a checkpoint.

    Args:
        config: a ``Config``; of a distillation the student is exported.
        weights: checkpoint, in any form that ``checkpoints`` reads.
        output: folder. name: save name; None: the config's ``model_name``.
        kind: ``ordinary`` or ``minimal``. form: ``json`` or ``pdmodel``. to_onnx: also convert to ONNX, at ``opset``.
        beside: additional text files for the folder, ``{name: text}``.

    Returns:
        the ``ExportFolder``.

    Raises:
        ConfigError: ``name`` is not a plain file name. OutputError: the folder cannot be written; before slow work
            starts.
        ExportError: the files disagree with the dynamic graph; none is kept.
    """
    name = name or config.section("model_name")
    with derive(output, name, replace=True) as folder:
        for file, text in (beside or {}).items():
            (folder / file).write_text(text, encoding="utf-8")
        model = fit_main(build_recognizer(config), load_weights(weights), weights)
        write_model(config, model, folder / name, kind, form, to_onnx, opset)
    return log_export(ExportFolder(Path(output) / name))


def export_model(config, model, output, name, kind="ordinary", form="json", to_onnx=False, opset=DEFAULT_OPSET):
    """Export a model that already has its weights; see ``export_checkpoint``."""
    with derive(output, name, replace=True) as folder:
        write_model(config, model, folder / name, kind, form, to_onnx, opset)
    return log_export(ExportFolder(Path(output) / name))


def write_model(config, model, stem, kind, form, to_onnx, opset):
    """Write all files of an export and verify them."""
    model.eval()
    shape = input_shape(config, model)
    selfcheck = make_selfcheck(model, shape)
    saved = minimise(model) if kind == "minimal" else model
    metadata = make_metadata(config, model, saved, shape, kind)
    with tqdm(total=2 + to_onnx, desc=f"exporting {kind}", unit="step", leave=False, disable=None) as bar:
        if form == "pdmodel":
            save_old_graph(config, model, kind, shape, stem)
        else:
            save_graph(saved, shape, stem)
        bar.update()
        export = write_export(stem, metadata, selfcheck)
        export.note(verified=verify_graph(export))
        bar.update()
        if to_onnx:
            add_onnx(export, export, opset)
            bar.update()


def log_export(export):
    """Log what was exported; returns the export."""
    metadata = export.metadata
    logger.info("Exported %s (%s, %d parameters): %s", metadata["model_name"], metadata["kind"],
                metadata["parameters"], export.stem)
    logger.info("Paddle Inference agrees with the dynamic graph: relative error %.1g",
                max(metadata["verified"]["relative_error"].values()))
    return export


def make_selfcheck(model, shape):
    """A seeded input and the model's logits for it.

    The input is normal with standard deviation 0.5, in steps of 1/64 so that it compresses well. For a large sample,
    one frame is drawn, and a different scale for each frame of each clip.

    Raises:
        ExportError: the logits are NaN, infinite or all zero.
    """
    rng = np.random.default_rng(SELFCHECK_SEED)
    stored = (1 if np.prod(shape) > MANY_NUMBERS else 2, *shape)
    scale = None
    if is_large(shape):
        # In every input format, frames are the third axis from the end; clips, if any, the fifth.
        stored = tuple(1 if axis in (len(shape) - 2, len(shape) - 4) else n for axis, n in enumerate(stored))
        axes = [n if one == 1 else 1 for n, one in zip((1, *shape), stored)]
        strength = rng.permutation(math.prod(axes)) / math.prod(axes)
        scale = (0.25 + 1.5 * strength).reshape(axes).astype("float32")
    stored = (np.round(rng.normal(0, 0.5, stored) * 64) / 64).astype("float32")
    with paddle.no_grad():
        logits = model(paddle.to_tensor(stored if scale is None else stored * scale)).numpy()
    if not np.isfinite(logits).all() or not logits.any():
        raise ExportError("the model", "the logits for a random input are NaN, infinite or all zero",
                          "Check that the checkpoint is from a finished training")
    return SelfCheck(stored, logits, scale=scale)


def make_metadata(config, model, saved, shape, kind):
    """Everything that is needed to use the files.

    Args:
        model: the recognizer. saved: the model in the form that is saved, ordinary or minimal. shape: of one sample.
    """
    top_k = config.value("INFERENCE.top_k")
    classes = model.head.num_classes
    if type(top_k) is not int or not 1 <= top_k <= classes:
        raise ConfigError(config.where("INFERENCE.top_k"), f"found {top_k!r}, expected 1 to {classes}")
    return {
        "format": EXPORT_FORMAT, "model_name": config.section("model_name"), "kind": kind,
        "backbone": type(model.backbone).__name__,
        "input": {"name": INPUT, "shape": [-1, *shape], "dtype": "float32"},
        "output": {"num_classes": classes, "dtype": "float32", "meaning": "logits"},
        "clips": shape[0] if len(shape) == 5 else 1,
        "pipeline": build_pipeline(config, "test").spec,
        "layout": model.backbone.layout.to_dict(),
        "class_names": class_names(config, classes), "top_k": top_k,
        "parameters": count_parameters(saved),
        "selfcheck": {"tolerance": TOLERANCE, "seed": SELFCHECK_SEED},
        "tools": {"paddlevideo_skel": __version__, "paddle": paddle.__version__, "numpy": np.__version__},
    }


def count_parameters(model):
    """Number of trained parameters; BatchNorm's running statistics are not counted."""
    return sum(int(np.prod(value.shape)) for name, value in model.state_dict().items()
               if not name.endswith(("._mean", "._variance")))


def verify_graph(export):
    """Verify the graph in Paddle Inference without oneDNN, then try oneDNN.

    Returns:
        what the metadata records about it.

    Raises:
        ExportError: wrong results without oneDNN; the message has the measured error.
    """
    options = RuntimeOptions(use_gpu=False, use_npu=False, enable_mkldnn=False)
    try:
        runtime, errors = verify(export, PaddleRuntime, options)
    except SelfCheckError as error:
        raise ExportError(export.stem.name, f"the exported graph is wrong: {error.problem}",
                          "No files were kept. Try the ordinary export, or report this") from error
    # oneDNN's passes for Paddle 2's graph format are different, and were not verified.
    onednn = try_onednn(runtime) if export.graph.suffix == ".json" else None
    return {"runtime": "paddle", "relative_error": errors, "onednn": onednn}
