"""Export: graph, weights, metadata and self-check in one folder, which is there only if its answers are right."""
import logging
import math
import os
from contextlib import contextmanager
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
from ..files import temporary_folder
from ..inference.artifact import (
    FORMAT,
    GRAPHS,
    METADATA,
    OLD_METADATA,
    ONNX,
    PARAMS,
    SELFCHECK,
    ExportFolder,
    SelfCheck,
    is_large,
    write_metadata,
)
from ..inference.paddle_runtime import PaddleRuntime, try_onednn
from ..inference.runtime import RuntimeOptions
from . import onnx_convert
from .minimal import minimal
from .static_graph import INPUT, save_graph, save_old_graph

logger = logging.getLogger(__name__)

KINDS = ("ordinary", "minimal")
FORMATS = ("json", "pdmodel")
SEED = 20
MANY_NUMBERS = 50_000  # a self-check of large samples holds one of them, otherwise two


def export(config, weights, output, name=None, kind="ordinary", form="json", to_onnx=False, opset=onnx_convert.OPSET,
           beside=None):
    """Export a config's model with a checkpoint.

    Args:
        config: a ``Config``; of several models that learn together the student is exported.
        weights: checkpoint, in any of the forms of ``checkpoints``.
        output: folder. name: the files' name; None: the config's ``model_name``.
        kind: ``ordinary`` or ``minimal``. form: ``json`` or ``pdmodel``. to_onnx: convert too, with ``opset``.
        beside: further files for the folder, a dict name → text.

    Returns:
        the ``ExportFolder``.

    Raises:
        OutputError: the folder cannot be written, told before anything long begins.
        ExportError: the files answer otherwise than the dynamic graph; none of them is kept then.
    """
    name = name or config.section("model_name")
    if Path(name).name != name or name in ("", ".", ".."):
        raise ConfigError("--save_name", f"{name!r} is no plain file name")
    with staging(output, name) as stage:
        for file, text in (beside or {}).items():
            (stage.temporary / file).write_text(text, encoding="utf-8")
        model = fit_main(build_recognizer(config), load_weights(weights), weights)
        return _export(config, model, stage, kind, form, to_onnx, opset)


def export_model(config, model, output, name, kind="ordinary", form="json", to_onnx=False, opset=onnx_convert.OPSET):
    """The same for a model that has its weights already."""
    with staging(output, name) as stage:
        return _export(config, model, stage, kind, form, to_onnx, opset)


def _export(config, model, stage, kind, form, to_onnx, opset):
    model.eval()
    shape = input_shape(config, model)
    selfcheck = make_selfcheck(model, shape)
    slim = minimal(model) if kind == "minimal" else model
    metadata = make_metadata(config, model, slim, shape, kind, stage.name)
    with tqdm(total=2 + to_onnx, desc=f"exporting {kind}", unit="step", leave=False, disable=None) as bar:
        if form == "pdmodel":
            save_old_graph(config, model, kind, shape, stage.stem)
        else:
            save_graph(slim, shape, stage.stem)
        bar.update()
        selfcheck.save(f"{stage.stem}{SELFCHECK}")
        write_metadata(metadata, f"{stage.stem}{METADATA}")
        metadata["verified"] = verify(stage.stem)
        write_metadata(metadata, f"{stage.stem}{METADATA}")
        bar.update()
        if to_onnx:
            onnx_convert.convert_in_place(ExportFolder(stage.stem), opset)
            bar.update()
    folder = stage.finish()
    errors = metadata["verified"]["relative_error"]
    logger.info("Exported %s (%s, %d parameters): %s", metadata["model_name"], kind, metadata["parameters"],
                folder.stem)
    logger.info("Paddle Inference agrees with the dynamic graph: relative error %.1g", max(errors.values()))
    return folder


def make_selfcheck(model, shape):
    """A seeded input, normal with deviation 0.5 in steps of 1/64 (which compresses well), and its logits.

    Of a large sample one frame is drawn, and another strength of it for each frame of each clip.
    """
    rng = np.random.default_rng(SEED)
    stored = (1 if np.prod(shape) > MANY_NUMBERS else 2, *shape)
    scale = None
    if is_large(shape):
        # In every form of input the frames are the last axis but two; clips, where there are any, the last but four.
        stored = tuple(1 if axis in (len(shape) - 2, len(shape) - 4) else n for axis, n in enumerate(stored))
        axes = [n if one == 1 else 1 for n, one in zip((1, *shape), stored)]
        strength = rng.permutation(math.prod(axes)) / math.prod(axes)
        scale = (0.25 + 1.5 * strength).reshape(axes).astype("float32")
    stored = (np.round(rng.normal(0, 0.5, stored) * 64) / 64).astype("float32")
    with paddle.no_grad():
        logits = model(paddle.to_tensor(stored if scale is None else stored * scale)).numpy()
    if not np.isfinite(logits).all() or not logits.any():
        raise ExportError("the model", "answers a random input with NaN, infinity or zeros only",
                          "Is the checkpoint of a finished training?")
    return SelfCheck(stored, logits, scale=scale)


def make_metadata(config, model, saved, shape, kind, name):
    """Everything that somebody who uses the files has to know."""
    top_k = config.value("INFERENCE.top_k")
    classes = model.head.num_classes
    if type(top_k) is not int or not 1 <= top_k <= classes:
        raise ConfigError(config.where("INFERENCE.top_k"), f"found {top_k!r}, expected 1 to {classes}")
    return {
        "format": FORMAT, "model_name": config.section("model_name"), "kind": kind,
        "backbone": type(model.backbone).__name__,
        "input": {"name": INPUT, "shape": [-1, *shape], "dtype": "float32"},
        "output": {"num_classes": classes, "dtype": "float32", "meaning": "logits"},
        "clips": shape[0] if len(shape) == 5 else 1,
        "pipeline": build_pipeline(config, "test").spec,
        "layout": model.backbone.layout.to_dict(),
        "class_names": class_names(config, classes), "top_k": top_k,
        "parameters": count_parameters(saved),
        "selfcheck": {"file": f"{name}{SELFCHECK}", "tolerance": 1e-4, "seed": SEED},
        "tools": {"paddlevideo_skel": __version__, "paddle": paddle.__version__, "numpy": np.__version__},
    }


def count_parameters(model):
    """How many numbers a model has learned; BatchNorm's running statistics are not among them."""
    return sum(int(np.prod(value.shape)) for name, value in model.state_dict().items()
               if not name.endswith(("._mean", "._variance")))


def verify(stem):
    """Load the files that were written and compare their answers with the dynamic graph's, at two batch sizes.

    Raises:
        ExportError: with the measured error.
    """
    try:
        export = ExportFolder(stem)
        runtime = PaddleRuntime(export, RuntimeOptions(use_gpu=False, use_npu=False, enable_mkldnn=False))
        runtime.check(export.other_batch)
    except SelfCheckError as error:
        raise ExportError(Path(stem).name, f"the exported files were refused: {error.problem}",
                          "Nothing was kept. Try the ordinary export, or report this") from error
    # Not in Paddle 2's form, for which oneDNN has other rewrites, which nobody has looked at here.
    onednn = try_onednn(runtime) if export.graph.suffix == ".json" else None
    return {"runtime": "paddle", "relative_error": {f"batch {n}": e for n, e in runtime.errors.items()},
            "onednn": onednn}


class Stage:
    """Where an export is made before it is moved to its place.

    Attributes:
        stem: folder and name for the files meanwhile. name: the save name.
    """

    def __init__(self, output, temporary, name):
        self.output, self.temporary, self.name = Path(output), Path(temporary), name
        self.stem = self.temporary / name

    def finish(self):
        """Move the files in place of an earlier export of this name."""
        made = {path.name for path in self.temporary.iterdir()}
        for ending in (METADATA, OLD_METADATA, *GRAPHS, PARAMS, ONNX, SELFCHECK):
            if f"{self.name}{ending}" not in made:
                (self.output / f"{self.name}{ending}").unlink(missing_ok=True)
        for name in sorted(made):
            os.replace(self.temporary / name, self.output / name)
        return ExportFolder(self.output / self.name)


@contextmanager
def staging(output, name):
    """A ``Stage`` for the folder ``output``; on an error nothing of it is left, nor the folder if it is new.

    Raises:
        OutputError: the folder cannot be written.
    """
    with temporary_folder(output, name) as temporary:
        yield Stage(output, temporary, name)
