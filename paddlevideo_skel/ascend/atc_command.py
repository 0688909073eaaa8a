"""The ``atc`` command for a model: its options, the models and batch sizes it is for, its arguments.

Options, their values and what excludes what are those of Huawei's manual of ATC (of CANN 6.0 to 9.1).
"""
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import ConfigError, ExportError, near_miss
from ..inference.artifact import OM, ONNX, ExportFolder, metadata_path
from .operators import Input, inputs, load
from .soc import soc_version

ONNX_FRAMEWORK = 5
BATCHES = range(1, 2049)
# The manual: two to a hundred sizes, none twice.
DYNAMIC_SIZES = range(2, 101)
CHOICES = {
    "precision_mode_v2": ("fp16", "origin", "cube_fp16in_fp32out", "mixed_float16", "mixed_bfloat16", "mixed_hif8"),
    # An older CANN knows only these; the manuals have the other from 6.2 on.
    "precision_mode": ("force_fp16", "force_fp32", "cube_fp16in_fp32out", "allow_fp32_to_fp16",
                       "must_keep_origin_dtype", "allow_mix_precision", "allow_mix_precision_fp16",
                       "allow_mix_precision_bf16"),
    "op_select_implmode": ("high_precision", "high_performance", "high_precision_for_all",
                           "high_performance_for_all"),
    "log": ("debug", "info", "warning", "error", "null"),
}
# The manual, and ATC itself for the whole absolute path: letters, digits, _ - . / and Chinese characters.
PATH = re.compile(r"[A-Za-z0-9_./\u4e00-\u9fa5-]+")
SOC = "$SOC"  # what stands for the chip in commands for another host


@dataclass(frozen=True)
class Options:
    """What is the same for all models.

    Attributes:
        soc_version: the chip, ``Ascend310P3``; None: not known, ``$SOC`` stands for it.
        precision_mode_v2, precision_mode: of the two at most one; None: ATC's own default, which is half precision.
        op_select_implmode, output_type, log: as ATC has them.
        input_fp16: the device takes float16 inputs.
        insert_op_conf: file with ATC's pre-processing of inputs.
        extra: further arguments, each ``--name=value``.
    """
    soc_version: str = None
    precision_mode_v2: str = None
    precision_mode: str = None
    op_select_implmode: str = None
    output_type: str = None
    input_fp16: bool = False
    insert_op_conf: str = None
    log: str = "error"
    extra: tuple = ()

    def __post_init__(self):
        for name, values in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in values:
                raise ConfigError(f"--{name}", f"found {value!r}", near_miss(value, values))
        if self.precision_mode and self.precision_mode_v2:
            raise ConfigError("--precision_mode", "and --precision_mode_v2 exclude each other",
                              "An old CANN knows only the first, a newer one advises the second")
        if self.input_fp16 and self.insert_op_conf:
            raise ConfigError("--input_fp16", "and --insert_op_conf exclude each other for one input",
                              "Leave one of them away")
        if self.soc_version:
            object.__setattr__(self, "soc_version", soc_version(self.soc_version))
        ours = {"framework", "model", "output", "input_format", "input_shape", "dynamic_batch_size", "soc_version",
                "input_fp16_nodes", "op_select_implmode", "output_type", "insert_op_conf", *CHOICES}
        for argument in self.extra:
            name = argument.split("=")[0].lstrip("-").replace("-", "_")
            if not re.fullmatch(r"--?\w[\w-]*=.*", argument, re.DOTALL) or name in ours:
                raise ConfigError("--", f"cannot pass {argument!r} on to atc", "It takes --name=value, of options that "
                                  "this command does not set itself")


    def with_paths(self, convert):
        """The options with every file that they name as ``convert(path)``.

        Raises:
            ConfigError: the file with the pre-processing is missing.
        """
        def converted(argument):
            name, equals, value = argument.partition("=")
            return f"{name}={convert(Path(value))}" if equals and value and Path(value).exists() else argument

        if self.insert_op_conf and not Path(self.insert_op_conf).is_file():
            raise ConfigError("--insert_op_conf", f"no such file: {self.insert_op_conf}")
        conf = self.insert_op_conf and str(convert(Path(self.insert_op_conf)))
        return replace(self, insert_op_conf=conf, extra=tuple(map(converted, self.extra)))


@dataclass(frozen=True)
class Job:
    """One ``.om``: what is compiled, into what, for which batch.

    Attributes:
        onnx: the model. stem: folder and name of the ``.om``, without its ending.
        inputs: the model's, with the batch that the ``.om`` takes; -1 where it takes several sizes.
        batch: the size it takes, None for several: ``sizes``.
        export: the ``ExportFolder`` that the model belongs to, or None.
    """
    onnx: Path
    stem: Path
    inputs: tuple
    batch: int = None
    sizes: tuple = ()
    export: ExportFolder = field(default=None, compare=False)

    @property
    def om(self):
        return self.stem.with_name(self.stem.name + OM)

    @property
    def log(self):
        return self.stem.with_name(self.stem.name + ".atc.log")

    def describe(self):
        return f"batch {self.batch}" if self.batch else f"batches {', '.join(map(str, self.sizes))}"


def arguments(job, options):
    """The command as a list of words, ``atc`` first."""
    shapes = ";".join(f"{item.name}:{','.join(map(str, item.shape))}" for item in job.inputs)
    words = ["atc", f"--framework={ONNX_FRAMEWORK}", f"--model={job.onnx}", f"--output={job.stem}",
             "--input_format=ND", f"--input_shape={shapes}", f"--soc_version={options.soc_version or SOC}"]
    if job.sizes:
        words.append(f"--dynamic_batch_size={','.join(map(str, job.sizes))}")
    for name in ("precision_mode_v2", "precision_mode", "op_select_implmode", "output_type", "insert_op_conf"):
        if getattr(options, name):
            words.append(f"--{name}={getattr(options, name)}")
    if options.input_fp16:
        words.append(f"--input_fp16_nodes={';'.join(item.name for item in job.inputs)}")
    return [*words, f"--log={options.log}", *options.extra]


def shell_line(words):
    """The command as one line for a shell; ``$SOC`` stays a variable."""
    return " ".join(f'--soc_version="{SOC}"' if word == f"--soc_version={SOC}" else shlex.quote(word)
                    for word in words)


def plan(models, output=None, batch_sizes=(), dynamic_batch=False):
    """What has to be compiled.

    Args:
        models: ONNX files and folders of them.
        output: folder of the ``.om`` files; None: beside each model.
        batch_sizes: sizes for models with an open batch, an ``.om`` each; of the others it must be one of these.
        dynamic_batch: one ``.om`` for all the sizes.

    Raises:
        ConfigError: sizes, names or options contradict each other. ExportError: no model, or none that can be
            compiled for a batch.
    """
    sizes = tuple(batch_sizes)
    if len(set(sizes)) != len(sizes) or any(size not in BATCHES for size in sizes):
        raise ConfigError("--batch_sizes", f"found {sizes}, expected sizes from {BATCHES.start} to "
                          f"{BATCHES.stop - 1}, each once")
    if dynamic_batch and len(sizes) not in DYNAMIC_SIZES:
        raise ConfigError("--dynamic_batch", f"needs at least 2 and at most {DYNAMIC_SIZES.stop - 1} batch sizes, "
                          f"found {len(sizes)}", "Give them: --batch_sizes 1,4,8")
    jobs = [job for path in _files(models) for job in _jobs(path, output, sizes, dynamic_batch)]
    stems = [job.stem for job in jobs]
    for stem in stems:
        if stems.count(stem) > 1:
            raise ConfigError("--output", f"two models would become {stem}{OM}", "Compile them into different folders")
    return jobs


def path_problem(path):
    """What of a path ATC would not take, None if it takes it."""
    bad = sorted(set(PATH.sub("", str(path))))
    return f"holds {' '.join(map(repr, bad))}, and ATC takes paths of letters, digits, _ - . / only" if bad else None


def _files(models):
    for path in map(Path, models):
        found = sorted(path.glob("*" + ONNX)) if path.is_dir() else [path]
        if not found:
            raise ExportError(path, "holds no ONNX model", "tools/export_onnx.py makes one of an export")
        yield from found


def _jobs(path, output, sizes, dynamic):
    """The jobs of one model."""
    if path.suffix != ONNX:
        raise ExportError(path, "is no .onnx file", "Give ONNX models, or folders that hold some")
    fed = tuple(inputs(load(path)))
    if not fed or any(item.shape is None or None in item.shape[1:] for item in fed):
        raise ExportError(path, f"its inputs have no static shapes: {_shapes(fed)}",
                          "Only the batch axis may be open; tools/export_onnx.py makes such models")
    export = _export(path, fed)
    stem = (Path(output) if output else path.parent) / path.stem
    batches = {item.shape[0] for item in fed if item.shape}
    if -1 not in batches:
        batch = next(iter(batches))
        if dynamic or (sizes and batch not in sizes):
            raise ConfigError("--dynamic_batch" if dynamic else "--batch_sizes", f"{path} takes batch {batch} only",
                              "Give the ONNX model with an open batch: tools/export_onnx.py --batch dynamic")
        return [Job(path, stem, fed, batch, export=export)]
    if not sizes:
        raise ConfigError("--batch_sizes", f"{path} has an open batch, and the chip needs sizes",
                          "Give them, e.g. --batch_sizes 1,4,8")
    if dynamic:
        return [Job(path, stem, fed, None, sizes, export)]
    jobs = []
    for batch in sizes:
        own = stem.with_name(f"{stem.name}_bs{batch}")
        if own.with_name(own.name + ONNX).exists():
            raise ConfigError("--batch_sizes", f"{own}{OM} would stand beside {own.name}{ONNX}, another model",
                              f"Compile {own.name}{ONNX}, or choose another folder with -o")
        fixed = tuple(Input(item.name, (batch, *item.shape[1:]) if item.shape[:1] == (-1,) else item.shape)
                      for item in fed)
        jobs.append(Job(path, own, fixed, batch, export=export))
    return jobs


def _export(path, fed):
    """The export that the model belongs to, by the metadata beside it."""
    if not metadata_path(path.with_suffix("")).is_file():
        return None
    export = ExportFolder(path.with_suffix(""))
    wanted = [Input(export.metadata["input"]["name"], tuple(export.metadata["input"]["shape"]))]
    if list(fed) != wanted:
        raise ExportError(path, f"takes {_shapes(fed)}, its metadata says {_shapes(wanted)}",
                          "The files do not belong together: export the model again")
    export.selfcheck()  # it goes with the .om, so what is wrong with it is told now
    return export


def _shapes(items):
    return ", ".join(f"{item.name} {item.shape}" for item in items) or "none"
