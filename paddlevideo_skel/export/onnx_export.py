"""Export folder → ONNX models for a device: for any batch size or fixed ones, simplified, each verified.

Needs no paddle except for the conversion, which runs in a child process.
"""
import importlib.metadata
import itertools
import logging
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ..errors import ConfigError, ExportError, OutputError, SelfCheckError
from ..inference.artifact import GRAPHS, ONNX, ExportFolder, derive, relative_error, verify, write_export
from ..inference.runtime import RuntimeOptions
from .onnx_convert import INSTALL, check_onnx, require_packages, run_paddle2onnx

logger = logging.getLogger(__name__)

# The order in which opsets are tried. CANN 5 and 6 document opsets 9 to 13 for ATC, CANN 7 and later 9 to 18. So the
# lower the opset, the more versions of ATC accept the model, and all models here convert correctly at 11.
EXPORTED_OPSETS = range(11, 18)
# paddle2onnx can write a sum over an axis at 13, but aborts on it at 11 and 12.
LOWERED_OPSET = 13
ANY_BATCH = "dynamic"


@dataclass(frozen=True)
class Route:
    """How a model gets its opset: converted at one opset, then lowered to another if necessary."""
    opset: int
    converted_at: int

    def __str__(self):
        return f"opset {self.opset}" + ("" if self.opset == self.converted_at else f" from {self.converted_at}")


def list_routes(opset=None):
    """The routes to try, in order; with an ``opset``, only those to this opset.

    Raises:
        ConfigError: the opset is out of range.
    """
    if opset is not None and opset not in EXPORTED_OPSETS:
        raise ConfigError("--opset", f"found {opset}, expected {EXPORTED_OPSETS.start} to {EXPORTED_OPSETS.stop - 1}")
    routes = []
    for number in EXPORTED_OPSETS if opset is None else (opset,):
        routes.append(Route(number, number))
        if number < LOWERED_OPSET:
            routes.append(Route(number, LOWERED_OPSET))
    return routes


def parse_batches(text):
    """``"1,4,dynamic"`` as ``[1, 4, None]``.

    Raises:
        ConfigError: anything else.
    """
    batches = []
    for word in text.split(","):
        word = word.strip()
        if word != ANY_BATCH and not (word.isascii() and word.isdigit() and int(word)):
            raise ConfigError("--batch", f"found {word!r}, expected {ANY_BATCH!r} or positive integers, as in 1,4,8")
        batches.append(None if word == ANY_BATCH else int(word))
    return list(dict.fromkeys(batches))


def export_onnx(export, output, batches=(None,), opset=None, simplified=True, instead=()):
    """Convert an export to ONNX models. All of them are made, or none.

    Args:
        export: ``ExportFolder`` with a Paddle graph.
        output: folder. The model for batch size B is named ``<name>_bsB.onnx``, the one for any size ``<name>.onnx``;
            each has its own metadata and self-check.
        batches: batch sizes; None is any size.
        opset: 11 to 17; no other is tried. None: the first of 11, 12, … that gives a correct model.
        simplified: whether onnxslim simplifies the models.
        instead: further exports of the same model, tried if this one cannot be converted.

    Returns:
        one ``ExportFolder`` per batch size.

    Raises:
        ConfigError: a wrong opset or batch size. UnavailableError: a package is missing.
        ExportError: there is no Paddle graph, or no route gave a correct model; the message has the problem of each
            route.
        OutputError: the folder cannot be written.
    """
    routes = list_routes(opset)
    check_request(export, output, batches, simplified, instead)
    failures = []
    for source, route in itertools.product((export, *instead), routes):
        try:
            names = convert_batches(source, route, batches, simplified, output, export.stem.name)
            break
        except (ExportError, SelfCheckError) as error:
            failures.append(f"{route}{f' of {source.stem}' if instead else ''}: {error.problem}")
            logger.warning("Not converted, %s", failures[-1])
    else:
        raise ExportError(export.stem, f"was not converted, nothing was written. {'; '.join(failures)}",
                          "Try without --opset" if opset else "Try the other kind of export (ordinary, minimal)")
    models = [ExportFolder(output / name) for name in names]
    for model in models:
        log_model(model)
    return models


def check_request(export, output, batches, simplified, instead):
    """Raise the errors that can be found before slow work starts; see ``export_onnx``."""
    for batch in batches:
        if batch is not None and (type(batch) is not int or batch < 1):
            raise ConfigError("--batch", f"found {batch!r}, expected positive integers")
    require_packages("conversion to ONNX", "paddle2onnx", "onnx", "onnxruntime")
    if simplified:
        require_packages("simplification", "onnxslim", hint=f"{INSTALL}, or add --no_simplify")
    right = export.selfcheck()
    for source in (export, *instead):
        # Reading them raises an error if they are missing.
        source.graph, source.params  # noqa: B018
        other = source.selfcheck()
        if (other.shape != right.shape or relative_error(other.array, right.array)
                or relative_error(other.logits, right.logits) > right.tolerance):
            raise ExportError(source.stem, f"is an export of a different model or different weights than {export.stem}",
                              "Export the same checkpoint")
    target = output / export.stem.name
    taken = any(target.with_name(target.name + ending).is_file() for ending in GRAPHS)
    if None in batches and taken and (instead or target.resolve() != export.stem.resolve()):
        raise OutputError(target, "is a Paddle export, whose metadata would be overwritten", "Choose another folder")


def convert_batches(source, route, batches, simplified, output, name):
    """Convert by one route, verify every model, and move them to ``output``.

    Returns:
        the models' names.

    Raises:
        ExportError, SelfCheckError: the first thing that went wrong.
    """
    from .onnx_graph import fix_batch, simplify

    names, steps = [], 1 + len(batches) * (1 + simplified)
    with (derive(output, name) as folder,
          tqdm(total=steps, desc=f"{name}, {route}", unit="step", leave=False, disable=None) as bar):
        work = folder / "work"
        work.mkdir()
        model = convert_graph(source, route, work / f"{name}{ONNX}")
        # Running it one sample at a time gives the correct results for a batch of different samples.
        reference, _ = verify_onnx(write_onnx(source, route, model, 1, work / name), "before simplification")
        bar.update()
        for batch in batches:
            names.append(name if batch is None else f"{name}_bs{batch}")
            fixed = model if batch is None else fix_batch(model, batch)
            rows = different_rows(reference, batch or source.other_batch)
            plain = write_onnx(source, route, fixed, batch, (work if simplified else folder) / names[-1])
            compare_rows(plain, rows, "before simplification", model)
            bar.update()
            if simplified:
                slim = write_onnx(source, route, simplify(fixed), batch, folder / names[-1])
                compare_rows(slim, rows, "after simplification", model)
                slim.note(onnx={**slim.metadata["onnx"], "onnxslim": importlib.metadata.version("onnxslim")})
                bar.update()
    return names


def convert_graph(source, route, path):
    """The ONNX model of an export, of the route's opset."""
    import onnx

    from .onnx_graph import lower_opset, pad_with_zeros

    run_paddle2onnx(source.graph, source.params, path, route.converted_at)
    model = onnx.load(path)
    if route.opset != route.converted_at:
        lower_opset(model, route.opset)
    pad_with_zeros(model)
    return model


def write_onnx(source, route, model, batch, stem):
    """Write a model with metadata and self-check; returns its ``ExportFolder``."""
    import onnx

    path = stem.with_name(stem.name + ONNX)
    onnx.save(model, path)
    check_onnx(path, route.opset)
    metadata = {
        **source.metadata,
        "input": {**source.metadata["input"], "shape": [batch or -1, *source.sample_shape]},
        "output": {**source.metadata["output"], "name": model.graph.output[0].name},
        "onnx": {"file": path.name, "opset": route.opset, "paddle2onnx": importlib.metadata.version("paddle2onnx"),
                 "converted_at_opset": route.converted_at, "onnxslim": None}}
    return write_export(stem, metadata, source.selfcheck())


def verify_onnx(export, when):
    """``verify`` in ONNX Runtime on the CPU; errors say ``when``."""
    from ..inference.onnx_runtime import OnnxRuntime

    try:
        return verify(export, OnnxRuntime, RuntimeOptions(use_gpu=False, use_npu=False))
    except SelfCheckError as error:
        raise SelfCheckError(error.where, f"{error.problem} ({when})", error.hint) from error


def different_rows(reference, batch):
    """An input of ``batch`` different samples, and the correct logits for it.

    The self-check repeats one or two samples, so a model that mixes up the samples of a batch might pass it.
    """
    array, _ = reference.selfcheck.repeated(batch)
    array = array * np.linspace(1, 0.5, batch, dtype="float32").reshape(-1, *[1] * (array.ndim - 1))
    return array, np.concatenate([reference.compute(row[None]) for row in array])


def compare_rows(export, rows, when, converted):
    """Verify a model, also on different samples, and record the errors in its metadata.

    Args:
        rows: see ``different_rows``. when: for errors. converted: the ONNX model before any change.

    Raises:
        SelfCheckError: with the measured error and the tolerance.
    """
    import onnx

    runtime, errors = verify_onnx(export, when)
    array, right = rows
    error = relative_error(runtime.compute(array), right)
    if not error <= runtime.tolerance:
        raise SelfCheckError(runtime.label, f"gives different results for {len(array)} samples in one batch than one "
                             f"by one: relative error {error:.2g}, allowed {runtime.tolerance:.0e} ({when})")
    export.note(onnx={**export.metadata["onnx"], "onnxruntime": runtime.version,
                      "nodes": len(onnx.load(export.file(ONNX)).graph.node),
                      "nodes_converted": len(converted.graph.node),
                      "relative_error": {**errors, "different samples": error}})


def log_model(model):
    """Log one line about a model that was written."""
    made = model.metadata["onnx"]
    logger.info("%s: opset %d, batch %s, %d of %d nodes: ONNX Runtime agrees with the dynamic graph, relative error "
                "%.1g", made["file"], made["opset"], model.batch or "of any size", made["nodes"],
                made["nodes_converted"], max(made["relative_error"].values()))
