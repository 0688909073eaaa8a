"""The ``atc`` command: its options, the jobs for a set of models and batch sizes, the arguments of a job.

Options, their values and which exclude each other are from Huawei's manuals of ATC (CANN 6.0 to 9.1).
"""
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import ConfigError, ExportError, near_miss
from ..export.onnx_model import ModelInput, load_onnx, model_inputs
from ..inference.artifact import OM, ONNX, ExportFolder, metadata_path
from .soc import normalise_soc

ONNX_FRAMEWORK = 5
ATC_BATCHES = range(1, 2049)
DYNAMIC_SIZES = range(2, 101)  # batch sizes per .om, from the manual
ATC_CHOICES = {
    "precision_mode_v2": ("fp16", "origin", "cube_fp16in_fp32out", "mixed_float16", "mixed_bfloat16", "mixed_hif8"),
    # The only precision option of CANN before 6.2.
    "precision_mode": ("force_fp16", "force_fp32", "cube_fp16in_fp32out", "allow_fp32_to_fp16",
                       "must_keep_origin_dtype", "allow_mix_precision", "allow_mix_precision_fp16",
                       "allow_mix_precision_bf16"),
    "op_select_implmode": ("high_precision", "high_performance", "high_precision_for_all",
                           "high_performance_for_all"),
    "log": ("debug", "info", "warning", "error", "null"),
}
# What ATC accepts in absolute paths: letters, digits, _ - . / and Chinese characters.
ATC_PATH = re.compile(r"[A-Za-z0-9_./\u4e00-\u9fa5-]+")
SOC = "$SOC"  # placeholder for the chip in commands for another host


@dataclass(frozen=True)
class AtcOptions:
    """ATC options that apply to all models.

    Attributes:
        soc_version: the chip, ``Ascend310P3``; None: unknown, ``$SOC`` takes its place.
        precision_mode_v2, precision_mode: at most one of the two; None: ATC's default, which is half precision.
        op_select_implmode, output_type, log: as in ATC.
        input_fp16: the device takes float16 inputs.
        insert_op_conf: file that configures ATC's pre-processing of inputs.
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
        for name, values in ATC_CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in values:
                raise ConfigError(f"--{name}", f"found {value!r}", near_miss(value, values))
        if self.precision_mode and self.precision_mode_v2:
            raise ConfigError("--precision_mode", "and --precision_mode_v2 exclude each other",
                              "CANN before 6.2 has only the first, later versions recommend the second")
        if self.input_fp16 and self.insert_op_conf:
            raise ConfigError("--input_fp16", "and --insert_op_conf exclude each other for one input",
                              "Omit one of them")
        if self.soc_version:
            object.__setattr__(self, "soc_version", normalise_soc(self.soc_version))
        own = {"framework", "model", "output", "input_format", "input_shape", "dynamic_batch_size", "soc_version",
                "input_fp16_nodes", "op_select_implmode", "output_type", "insert_op_conf", *ATC_CHOICES}
        for argument in self.extra:
            name = argument.split("=")[0].lstrip("-").replace("-", "_")
            if not re.fullmatch(r"--?\w[\w-]*=.*", argument, re.DOTALL) or name in own:
                raise ConfigError("--", f"cannot pass {argument!r} on to atc", "Expected --name=value, with an option "
                                  "that this command does not set itself")

    def with_paths(self, convert):
        """The options with ``convert(path)`` applied to every file they name.

        Raises:
            ConfigError: the file ``insert_op_conf`` is missing.
        """
        def convert_argument(argument):
            name, equals, value = argument.partition("=")
            return f"{name}={convert(Path(value))}" if equals and value and Path(value).exists() else argument

        if self.insert_op_conf and not Path(self.insert_op_conf).is_file():
            raise ConfigError("--insert_op_conf", f"file not found: {self.insert_op_conf}")
        conf = self.insert_op_conf and str(convert(Path(self.insert_op_conf)))
        return replace(self, insert_op_conf=conf, extra=tuple(map(convert_argument, self.extra)))


@dataclass(frozen=True)
class Job:
    """One ``.om`` to compile.

    Attributes:
        onnx: the model. stem: path of the ``.om`` without its extension.
        inputs: the model's inputs, with the batch size of the ``.om``; -1 if it takes several sizes.
        batch: the batch size; None for several, ``sizes``.
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

    def describe_batch(self):
        return f"batch {self.batch}" if self.batch else f"batches {', '.join(map(str, self.sizes))}"


def atc_arguments(job, options):
    """The command as a list of words, beginning with ``atc``."""
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


def to_shell_line(words):
    """The command as one shell line; ``$SOC`` stays a variable."""
    return " ".join(f'--soc_version="{SOC}"' if word == f"--soc_version={SOC}" else shlex.quote(word)
                    for word in words)


def plan_jobs(models, output=None, batch_sizes=(), dynamic_batch=False):
    """The ``Job``s for a set of models.

    Args:
        models: ONNX files and folders of them.
        output: folder for the ``.om`` files; None: next to each model.
        batch_sizes: sizes for models with a dynamic batch, one ``.om`` per size. A fixed batch size must be one of
            them.
        dynamic_batch: make a single ``.om`` for all sizes.

    Raises:
        ConfigError: sizes, names or options contradict each other. ExportError: a model is missing or cannot be
            compiled for a batch size.
    """
    sizes = tuple(batch_sizes)
    if len(set(sizes)) != len(sizes) or any(size not in ATC_BATCHES for size in sizes):
        raise ConfigError("--batch_sizes", f"found {sizes}, expected different sizes from {ATC_BATCHES.start} to "
                          f"{ATC_BATCHES.stop - 1}")
    if dynamic_batch and len(sizes) not in DYNAMIC_SIZES:
        raise ConfigError("--dynamic_batch", f"found {len(sizes)} batch sizes, expected at least 2 and at most "
                          f"{DYNAMIC_SIZES.stop - 1}", "Pass them: --batch_sizes 1,4,8")
    jobs = [job for path in _files(models) for job in _jobs(path, output, sizes, dynamic_batch)]
    stems = [job.stem for job in jobs]
    for stem in stems:
        if stems.count(stem) > 1:
            raise ConfigError("--output", f"two models would be compiled into {stem}{OM}", "Use different folders")
    return jobs


def path_problem(path):
    """A message that lists the characters of a path that ATC does not accept; None if it accepts the path."""
    bad = sorted(set(ATC_PATH.sub("", str(path))))
    if not bad:
        return None
    return f"contains {' '.join(map(repr, bad))}, but ATC accepts only letters, digits, _ - . / in paths"


def _files(models):
    for path in map(Path, models):
        found = sorted(path.glob("*" + ONNX)) if path.is_dir() else [path]
        if not found:
            raise ExportError(path, "contains no ONNX model", "tools/export_onnx.py converts an export")
        yield from found


def _jobs(path, output, sizes, dynamic):
    """The jobs of one model."""
    if path.suffix != ONNX:
        raise ExportError(path, "is not an .onnx file", "Pass ONNX models, or folders that contain them")
    fed = tuple(model_inputs(load_onnx(path)))
    if not fed or any(item.shape is None or None in item.shape[1:] for item in fed):
        raise ExportError(path, f"its input shapes are not static: {_shapes(fed)}",
                          "Only the batch axis may be dynamic; tools/export_onnx.py writes such models")
    export = _export(path, fed)
    stem = (Path(output) if output else path.parent) / path.stem
    batches = {item.shape[0] for item in fed if item.shape}
    if -1 not in batches:
        batch = next(iter(batches))
        if dynamic or (sizes and batch not in sizes):
            raise ConfigError("--dynamic_batch" if dynamic else "--batch_sizes",
                              f"{path} only takes batch size {batch}",
                              "Use an ONNX model with a dynamic batch: tools/export_onnx.py --batch dynamic")
        return [Job(path, stem, fed, batch, export=export)]
    if not sizes:
        raise ConfigError("--batch_sizes", f"{path} has a dynamic batch, but the chip needs fixed sizes",
                          "Pass them, e.g. --batch_sizes 1,4,8")
    if dynamic:
        return [Job(path, stem, fed, None, sizes, export)]
    jobs = []
    for batch in sizes:
        own = stem.with_name(f"{stem.name}_bs{batch}")
        if own.with_name(own.name + ONNX).exists():
            raise ConfigError("--batch_sizes", f"{own}{OM} would be next to {own.name}{ONNX}, which is a different "
                              "model",
                              f"Compile {own.name}{ONNX}, or choose another folder with -o")
        fixed = tuple(ModelInput(item.name, (batch, *item.shape[1:]) if item.shape[:1] == (-1,) else item.shape)
                      for item in fed)
        jobs.append(Job(path, own, fixed, batch, export=export))
    return jobs


def _export(path, fed):
    """The export that the model belongs to, if its metadata is next to it."""
    if not metadata_path(path.with_suffix("")).is_file():
        return None
    export = ExportFolder(path.with_suffix(""))
    wanted = [ModelInput(export.metadata["input"]["name"], tuple(export.metadata["input"]["shape"]))]
    if list(fed) != wanted:
        raise ExportError(path, f"takes {_shapes(fed)}, but its metadata says {_shapes(wanted)}",
                          "The files do not belong together: export the model again")
    export.selfcheck()  # it is copied with the .om, so it must be valid
    return export


def _shapes(items):
    return ", ".join(f"{item.name} {item.shape}" for item in items) or "none"
