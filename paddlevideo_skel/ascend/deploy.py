"""Deploy to the NPU in one command: from a checkpoint and a data set to a table of accuracy and speed.

Each step runs one of the tools and has its own folder. Finished steps are not repeated: after an interruption, the
same command resumes. If this host cannot run a step (no atc, no NPU), the table row says why; everything else still
runs, including the accuracy of every ONNX model on this host.
"""
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, SkelError, ToolMissingError, UnavailableError
from ..files import output_folder, replacing
from ..inference.artifact import OM, ONNX, PARAMS, ExportFolder, find_export
from ..inference.bin_inference import infer_bins
from ..inference.bin_results import evaluate
from ..inference.bin_writer import write_bins
from ..inference.runtime import RuntimeOptions, open_runtime
from ..manifest import Manifest, digest_files, to_json_like
from .atc import compile_models
from .soc import find_soc

logger = logging.getLogger(__name__)

DEPLOY_MANIFEST, SCRIPT, TABLE = "deploy.json", "compile.sh", "table"
EXPORT_FOLDER, MODEL_FOLDER, BIN_FOLDER, RESULT_FOLDER = "export", "models", "bins", "results"
TABLE_COLUMNS = ("chip", "runtime", "batch", "data set", "top-1", "top-5", "loss", "FPS", "note")
HOST = "CPU"
PADDLE_BATCH = 1
FLOAT32_MODES = ("origin", "force_fp32", "must_keep_origin_dtype")  # modes in which ATC keeps float32


@dataclass
class Row:
    """One line of the table. ``loss``: top-1 loss relative to Paddle; ``note``: why the model could not run."""
    chip: str
    runtime: str
    batch: int
    top1: float = None
    top5: float = None
    loss: float = None
    fps: float = None
    note: str = ""
    failed: bool = False


def deploy(config, weights, output, batch_sizes, atc_options, kind="minimal", opset=None, set_env=None, device_id=0,
           num_workers=0):
    """Deploy a model to the NPU and measure it.

    Args:
        config: the ``Config``. weights: checkpoint. output: folder for all outputs.
        batch_sizes: one ``.om`` each. atc_options: ``AtcOptions``.
        kind: ``minimal`` or ``ordinary`` export. opset: of ONNX; None: the one that most versions of ATC accept.
        set_env: CANN's environment script. device_id: of the NPU. num_workers: processes that write the bins.

    Returns:
        the report, as written to ``table.json``.

    Raises:
        SkelError: a step that every row needs has failed. Failures of single rows are in the report.
    """
    output = output_folder(output)
    Manifest(output / DEPLOY_MANIFEST).start_or_resume(fingerprint_deployment(config, weights, kind, opset))
    export = export_once(config, weights, output / EXPORT_FOLDER, kind)
    models = convert_once(export, output / MODEL_FOLDER, batch_sizes, opset)
    write_bins(config, output / BIN_FOLDER, model=export.stem, num_workers=num_workers)
    on_cpu = RuntimeOptions(use_gpu=False, use_npu=False)
    reference = measure_row(Row(HOST, "paddle", PADDLE_BATCH), export, output, on_cpu)
    rows = [reference]
    for batch, model in zip(batch_sizes, models, strict=True):
        row = Row(HOST, "onnxruntime", batch)
        rows.append(measure_row(row, model, output, on_cpu, reference))
    missing = compile_once(models, atc_options, output, set_env)
    mode = atc_options.precision_mode_v2 or atc_options.precision_mode
    precision = "fp32" if mode in FLOAT32_MODES else "fp16"
    for batch, model in zip(batch_sizes, models, strict=True):
        row = Row(atc_options.soc_version or chip_name(), "om", batch)
        if model.stem.name in missing:
            row.note, row.failed = missing[model.stem.name]
        else:
            measure_row(row, model, output, RuntimeOptions(precision=precision, device_id=device_id), reference)
        rows.append(row)
    report = {"model": export.metadata["model_name"], "data": dataset_name(config), "rows": [vars(row) for row in rows]}
    write_table(report, output)
    return report


def fingerprint_deployment(config, weights, kind, opset):
    """Everything that the folder's content depends on."""
    from ..checkpoints.load import find_checkpoint

    return {"weights": digest_files(find_checkpoint(weights)), "kind": kind, "opset": opset,
            "config": to_json_like(dict(config))}


def export_once(config, weights, folder, kind):
    """The export; made if it does not exist yet."""
    if any(folder.glob(f"*{PARAMS}")):  # the last of its files to be moved into place
        logger.info("%s: kept", folder)
        return find_export(folder)
    from ..export.exporter import export_checkpoint

    return export_checkpoint(config, weights, folder, kind=kind)


def convert_once(export, folder, batch_sizes, opset):
    """The ONNX models for fixed batch sizes; missing ones are made."""
    from ..export.onnx_export import export_onnx

    stems = [folder / f"{export.stem.name}_bs{batch}" for batch in batch_sizes]
    missing = [batch for batch, stem in zip(batch_sizes, stems) if not stem.with_name(stem.name + ONNX).is_file()]
    if missing:
        export_onnx(export, folder, missing, opset)
    return [ExportFolder(stem) for stem in stems]


def compile_once(models, options, output, set_env):
    """Compile the models that have no ``.om`` yet.

    Returns:
        ``{name: (why it has no .om, whether that is a failure)}``
    """
    todo = [model for model in models if not model.file(OM).is_file()]
    if not todo:
        return {}
    paths = [model.file(ONNX) for model in todo]
    try:
        results = compile_models(paths, options, set_env=set_env, say=lambda line: None)
    except UnavailableError as error:
        compile_models(paths, options, script=output / SCRIPT)
        why = "atc is not installed" if isinstance(error, ToolMissingError) else f"{error.where}: {error.problem}"
        logger.warning("Not compiled: %s. Run %s on a host with CANN's toolkit", why, output / SCRIPT)
        return {model.stem.name: (f"{why}; {SCRIPT} contains the commands", False) for model in todo}
    except SkelError as error:
        return {model.stem.name: (str(error), True) for model in todo}
    return {result.job.stem.name: (str(result.error), True) for result in results if result.error}


def chip_name():
    """The name of this host's chip; ``NPU`` if it is unknown."""
    try:
        return find_soc()
    except SkelError:
        return "NPU"


def measure_row(row, model, output, options, reference=None):
    """Run a model on all samples and fill its row; an error becomes the row's note.

    Args:
        reference: Paddle's row; None: this is Paddle's row, and errors are raised.
    """
    name = row.runtime if reference is None else f"{row.runtime}_bs{row.batch}"
    folder = output / RESULT_FOLDER / name
    try:
        with open_runtime(model, row.runtime, options) as runtime:
            report = infer_bins(runtime, output / BIN_FOLDER, folder, row.batch)
        accuracy = evaluate(folder, bins=output / BIN_FOLDER, out=output / RESULT_FOLDER / f"{name}.json")
    except UnavailableError as error:
        if reference is None:
            raise
        row.note = str(error)
        return row
    except SkelError as error:
        if reference is None:
            raise
        logger.error("%s", error)
        row.note, row.failed = str(error), True
        return row
    row.fps, row.top1, row.top5 = report["fps"], accuracy["top1"], accuracy["top5"]
    right = row.top1 if reference is None else reference.top1
    row.loss = (right - row.top1) / right if right and row.top1 is not None else None
    return row


def dataset_name(config):
    """The data set's name in the table."""
    section = config.section("DATASET.test")
    return " ".join(str(part) for part in (Path(section["file_path"]).stem, section.get("split")) if part)


def write_table(report, output):
    """Write ``table.json`` and ``table.md``."""
    with replacing(output / f"{TABLE}.json") as temporary:
        temporary.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    with replacing(output / f"{TABLE}.md") as temporary:
        temporary.write_text(f"# {report['model']}\n\n" + "\n".join(format_table(report)) + "\n", encoding="utf-8")


def format_table(report):
    """The lines of the table, in Markdown."""
    lines = [TABLE_COLUMNS, ["---"] * len(TABLE_COLUMNS)]
    for row in report["rows"]:
        shares = [format_number(row[key], "{:.2%}") for key in ("top1", "top5", "loss")]
        note = " ".join(row["note"].replace("|", "/").split())
        lines.append([row["chip"], row["runtime"], str(row["batch"]), report["data"], *shares,
                      format_number(row["fps"], "{:.2f}"), f"failed: {note}" if row["failed"] else note])
    return ["| " + " | ".join(line) + " |" for line in lines]


def format_number(value, form):
    """A formatted number, or a dash for None."""
    return "–" if value is None else form.format(value)


def exit_status(report):
    """The command's exit status: 0; 2 if a row failed; 3 if one could not run on this host."""
    if any(row["failed"] for row in report["rows"]):
        return 2
    return 3 if any(row["note"] for row in report["rows"]) else 0


def parse_batch_sizes(sizes):
    """``"1,4,8"`` as ``[1, 4, 8]``.

    Raises:
        ConfigError: not different positive integers.
    """
    parts = [part.strip() for part in str(sizes).split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts) or len(set(map(int, parts))) != len(parts):
        raise ConfigError("--batch_sizes", f"found {sizes!r}, expected different positive integers, e.g. 1,4,8")
    return [int(part) for part in parts]
