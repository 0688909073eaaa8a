"""Export folder → ONNX models for a device: a batch of any size or fixed ones, simplified, each compared before it is
written. Needs no paddle but for the conversion itself, which runs in a child process.
"""
import importlib.util
import itertools
import logging
import os
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ..errors import ConfigError, ExportError, OutputError, SelfCheckError, UnavailableError
from ..files import temporary_folder
from ..inference.artifact import GRAPHS, METADATA, ONNX, SELFCHECK, ExportFolder, relative_error, write_metadata
from ..inference.runtime import RuntimeOptions
from .onnx_convert import check_model, need_packages, run_paddle2onnx, version

logger = logging.getLogger(__name__)

# The order in which opsets are tried. CANN 5 and 6 document ONNX opsets 9 to 13 for ATC, CANN 7 and later 9 to 18, so
# the lower the opset, the more versions of ATC take the model; and all models here convert rightly at 11.
OPSETS = range(11, 18)
# paddle2onnx writes a sum over an axis at 13, but aborts on it at 11 and 12.
LOWERED = 13
DYNAMIC = "dynamic"


@dataclass(frozen=True)
class Way:
    """How a model is made: converted at one opset, and written in another's operators where that differs."""
    opset: int
    converted_at: int

    def __str__(self):
        return f"opset {self.opset}" + ("" if self.opset == self.converted_at else f" from {self.converted_at}")


def ways(opset=None):
    """What is tried, in order; with an ``opset`` only what gives a model of that opset.

    Raises:
        ConfigError: no such opset.
    """
    if opset is not None and opset not in OPSETS:
        raise ConfigError("--opset", f"found {opset}, expected {OPSETS.start} to {OPSETS.stop - 1}")
    found = []
    for number in OPSETS if opset is None else (opset,):
        found.append(Way(number, number))
        if number < LOWERED:
            found.append(Way(number, LOWERED))
    return found


def parse_batches(text):
    """``"1,4,dynamic"`` as ``[1, 4, None]``.

    Raises:
        ConfigError: something else.
    """
    batches = []
    for word in text.split(","):
        word = word.strip()
        if word != DYNAMIC and not (word.isascii() and word.isdigit() and int(word)):
            raise ConfigError("--batch", f"found {word!r}, expected {DYNAMIC!r} or whole numbers from 1, as in 1,4,8")
        batches.append(None if word == DYNAMIC else int(word))
    return list(dict.fromkeys(batches))


def export_onnx(export, output, batches=(None,), opset=None, simplified=True, instead=()):
    """Make ONNX models of an export. All of them are made, or none.

    Args:
        export: ``ExportFolder`` with a Paddle graph.
        output: folder. A model for batch size B becomes ``<name>_bsB.onnx``, one for any size ``<name>.onnx``, each
            with metadata and a self-check of its own.
        batches: batch sizes; None is any size.
        opset: 11 to 17, and only this one is tried; None: the first of 11, 12, … that is right.
        simplified: whether onnxslim simplifies them.
        instead: further exports of the same model, converted where this one cannot be.

    Returns:
        the ``ExportFolder`` of each model.

    Raises:
        ConfigError: an opset or a batch size that cannot be. UnavailableError: a package is missing.
        ExportError: no Paddle graph; or no way was right, with the problem of each. OutputError: not writable.
    """
    tries = list(itertools.product((export, *instead), ways(opset)))
    check_before(export, output, batches, simplified, instead)
    failures, name = [], export.stem.name
    with temporary_folder(output, name) as temporary:
        for number, (source, way) in enumerate(tries):
            folder = temporary / str(number)
            folder.mkdir()
            try:
                made = attempt(source, way, batches, simplified, folder, name)
                break
            except (ExportError, SelfCheckError) as error:
                failures.append(f"{way}{f' of {source.stem}' if instead else ''}: {error.problem}")
                logger.warning("Not converted, %s", failures[-1])
        else:
            raise ExportError(export.stem, f"was not converted, nothing was written. {'; '.join(failures)}",
                              "Try without --opset" if opset else "Try an export of the other kind (ordinary, minimal)")
        for path in sorted(folder.glob(f"{name}*")):
            os.replace(path, temporary.parent / path.name)
    for model in made:
        report(model)
    return [ExportFolder(temporary.parent / model.stem.name) for model in made]


def check_before(export, output, batches, simplified, instead):
    """What can be told before anything long begins."""
    for batch in batches:
        if batch is not None and (type(batch) is not int or batch < 1):
            raise ConfigError("--batch", f"found {batch!r}, expected positive whole numbers")
    need_packages()
    if simplified and importlib.util.find_spec("onnxslim") is None:
        raise UnavailableError("simplification", "onnxslim is not installed",
                               "pip install paddlevideo-skel[onnx], or add --no_simplify")
    right = export.selfcheck()
    for source in (export, *instead):
        # Reading them raises an error where they are missing.
        source.graph, source.params  # noqa: B018
        other = source.selfcheck()
        if (other.shape != right.shape or relative_error(other.array, right.array)
                or relative_error(other.logits, right.logits) > right.tolerance):
            raise ExportError(source.stem, f"is an export of another model or other weights than {export.stem}",
                              "Export the same checkpoint")
    there = output / export.stem.name
    taken = any(there.with_name(there.name + ending).is_file() for ending in GRAPHS)
    if None in batches and taken and (instead or there.resolve() != export.stem.resolve()):
        raise OutputError(there, "is a Paddle export already, whose metadata would be overwritten",
                          "Choose another folder")


def attempt(source, way, batches, simplified, folder, name):
    """Make and compare all models in one way.

    Returns:
        the ``ExportFolder``s, whose files are in ``folder``.

    Raises:
        ExportError, SelfCheckError: what went wrong first.
    """
    from .onnx_graph import fix_batch, simplify

    work = folder / "work"
    work.mkdir()
    made, steps = [], 1 + len(batches) * (1 + simplified)
    with tqdm(total=steps, desc=f"{name}, {way}", unit="step", leave=False, disable=None) as bar:
        model = converted(source, way, work / f"{name}{ONNX}")
        # Its rows, one at a time, are what a batch of different samples has to give.
        whole = stage(source, way, model, None, work / name)
        reference = open_here(whole, "before simplification")
        bar.update()
        for batch in batches:
            label = name if batch is None else f"{name}_bs{batch}"
            fixed = model if batch is None else fix_batch(model, batch)
            plain = stage(source, way, fixed, batch, (folder if not simplified else work) / label)
            rows = different_rows(reference, batch or source.other_batch)
            compare(plain, rows, "before simplification", len(model.graph.node))
            bar.update()
            if simplified:
                plain = stage(source, way, simplify(fixed), batch, folder / label)
                compare(plain, rows, "after simplification", len(model.graph.node))
                plain.metadata["onnx"]["onnxslim"] = version("onnxslim")
                write_metadata(plain.metadata, plain.file(METADATA))
                bar.update()
            made.append(plain)
    return made


def converted(source, way, path):
    """What paddle2onnx made, as a valid ONNX model of the way's opset."""
    import onnx

    from .onnx_graph import lower_opset, pad_with_zeros

    run_paddle2onnx(source.graph, source.params, path, way.converted_at)
    check_model(path, way.converted_at)
    model = onnx.load(path)
    if way.opset != way.converted_at:
        lower_opset(model, way.opset)
    pad_with_zeros(model)
    return model


def stage(source, way, model, batch, stem):
    """Write a model with metadata and self-check under a stem that nobody uses yet; returns its ``ExportFolder``."""
    import onnx

    path = stem.with_name(stem.name + ONNX)
    onnx.save(model, path)
    check_model(path, way.opset)
    metadata = {**source.metadata}
    metadata["input"] = {**metadata["input"], "shape": [batch or -1, *source.sample_shape]}
    metadata["output"] = {**metadata["output"], "name": model.graph.output[0].name}
    metadata["selfcheck"] = {**metadata["selfcheck"], "file": f"{stem.name}{SELFCHECK}"}
    metadata["onnx"] = {"file": path.name, "opset": way.opset, "paddle2onnx": version("paddle2onnx"),
                        "converted_at_opset": way.converted_at, "onnxslim": None}
    source.selfcheck().save(stem.with_name(stem.name + SELFCHECK))
    write_metadata(metadata, stem.with_name(stem.name + METADATA))
    return ExportFolder(stem)


def open_here(export, when):
    """The model in ONNX Runtime on the CPU, which has answered its self-check."""
    from ..inference.onnx_runtime import OnnxRuntime

    try:
        return OnnxRuntime(export, RuntimeOptions(use_gpu=False, use_npu=False))
    except SelfCheckError as error:
        raise SelfCheckError(error.where, f"{error.problem} ({when})", error.hint) from error


def different_rows(reference, batch):
    """An input of ``batch`` samples of which no two are alike, and the right logits for it.

    The self-check repeats a sample or two: a model that mixes the samples of a batch up could pass it.
    """
    array, _ = reference.selfcheck.repeated(batch)
    array = array * np.linspace(1, 0.5, batch, dtype="float32").reshape(-1, *[1] * (array.ndim - 1))
    return array, np.concatenate([reference.compute(row[None]) for row in array])


def compare(export, rows, when, nodes):
    """Compare a model's answers and note the errors in its metadata.

    Raises:
        SelfCheckError: with the measured error and the tolerance.
    """
    import onnx

    runtime = open_here(export, when)
    if export.batch is None:
        runtime.check(export.other_batch)
    array, right = rows
    error = relative_error(runtime.compute(array), right)
    if not error <= runtime.tolerance:
        raise SelfCheckError(runtime.label, f"answers {len(array)} different samples otherwise together than one by "
                             f"one: relative error {error:.2g}, allowed {runtime.tolerance:.0e} ({when})")
    export.metadata["onnx"].update(
        onnxruntime=runtime.version, nodes=len(onnx.load(export.file(ONNX)).graph.node), nodes_converted=nodes,
        relative_error={**{f"batch {n}": e for n, e in runtime.errors.items()}, "different samples": error})
    write_metadata(export.metadata, export.file(METADATA))


def report(model):
    """A line about a model that was written."""
    made = model.metadata["onnx"]
    logger.info("%s: opset %d, batch %s, %d of %d nodes: ONNX Runtime agrees with the dynamic graph, relative error "
                "%.1g", made["file"], made["opset"], model.batch or "of any size", made["nodes"],
                made["nodes_converted"], max(made["relative_error"].values()))
