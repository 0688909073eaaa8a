"""``paddlevideo-skel demo``: run everything from training to prediction on generated samples, and print a table."""
import importlib.util
import logging
import time
from pathlib import Path

import numpy as np

from ..config import load_config
from ..errors import ExportError
from . import load_paddle

logger = logging.getLogger(__name__)

ACTIONS = ("wave", "squat", "jump", "bow", "walk", "throw", "sit_down", "stand_up", "handshake", "high_five")
CONFIGS = "configs/recognition/ctrgcn/"
KINDS = ("ordinary", "minimal")
NAME = "inference"
TOLERANCE = 1e-4
HEADER = ("model", "runtime", "top-1", "top-5", "size MB", "ms / sample", "max. rel. error", "same class")


def add_arguments(parser):
    parser.add_argument("-o", "--output", default="output/demo", metavar="FOLDER", help="default output/demo")
    parser.add_argument("-n", "--samples_per_class", type=int, default=30, metavar="N", help="default 30")
    parser.add_argument("--epochs", type=int, default=12, metavar="N", help="epochs of each training, default 12")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")


def run(args):
    load_paddle()
    start, folder = time.time(), Path(args.output)
    samples, checkpoint = train_models(args, folder)
    config = student_config(args, folder)
    exports = export_models(config, checkpoint, folder)
    example = next(path for path in samples if path.name == "example_ntu.npy")
    rows = [*compare(config, checkpoint, exports, example)]
    print(table(rows))
    print(f"The demo took {(time.time() - start) / 60:.1f} minutes. All outputs are in {folder}")
    wrong = [f"{kind} in {runtime}" for kind, runtime, *_, error, same in rows[1:] if error > TOLERANCE or same < 1]
    if wrong:
        raise ExportError("demo", f"these disagree with the dynamic graph: {', '.join(wrong)}")


def overrides(args, folder, name):
    """Overrides that adapt a config of the sample set to the demo's folder, classes and length."""
    data = folder / "data"
    files = [f"DATASET.{split}.{key}_path={data}/ntu/xsub/{part}_{ending}"
             for split, part in (("train", "train"), ("valid", "val"), ("test", "val"))
             for key, ending in (("file", "data.npy"), ("label", "label.pkl"))]
    return [*files, f"class_names={data}/class_names.txt", f"output_dir={folder / name}", f"epochs={args.epochs}",
            f"save_interval={args.epochs}", f"OPTIMIZER.learning_rate.max_epoch={args.epochs}"]


def student_config(args, folder):
    models = [f"MODEL.models.{i}.{name}.head.num_classes={len(ACTIONS)}"
              for i, name in enumerate(("Teacher", "Student"))]
    return load_config(CONFIGS + "ctrgcn_lite_samples_dml.yaml", [*overrides(args, folder, "student"), *models])


def train_models(args, folder):
    """Generate the samples, train the teacher and then the student; returns the samples and the student's file."""
    from ..data.synthetic.samples import write_sample_set
    from ..training.test import test
    from ..training.trainer import TrainOptions, train

    step("Generating samples")
    samples = write_sample_set(folder / "data", args.samples_per_class, args.seed, ACTIONS)
    step("Training the teacher: CTR-GCN")
    teacher = load_config(CONFIGS + "ctrgcn_samples.yaml", [*overrides(args, folder, "teacher"),
                                                            f"MODEL.head.num_classes={len(ACTIONS)}"])
    teacher_file = train(teacher, TrainOptions(validate=True, seed=args.seed, overwrite=True))["best_path"]
    step("Training the student: CTR-GCN-Lite, with deep mutual learning from the teacher and mixup")
    config = student_config(args, folder)
    best = train(config, TrainOptions(teacher_file, validate=True, seed=args.seed, overwrite=True))["best_path"]
    step("Testing the student")
    test(config, best, folder / "results.json")
    return samples, best.replace("_best.pdparams", "_best_student.pdparams")


def export_models(config, checkpoint, folder):
    """Export ordinary and minimal, with ONNX where possible; kind → ``ExportFolder``."""
    from ..export.exporter import export_checkpoint

    missing = [p for p in ("paddle2onnx", "onnx", "onnxruntime") if importlib.util.find_spec(p) is None]
    if missing:
        logger.warning("The table omits ONNX: %s not installed (paddle2onnx has no release for Python 3.13)",
                       " and ".join(missing))
    exports = {}
    for kind in KINDS:
        step(f"Exporting: {kind}")
        exports[kind] = export_checkpoint(config, checkpoint, folder / kind, NAME, kind, to_onnx=not missing)
    return exports


def compare(config, checkpoint, exports, example):
    """Rows of the table: the dynamic graph, then each export in each runtime, over the whole test set."""
    import paddle

    from ..build import build_recognizer
    from ..checkpoints.fit import fit_main
    from ..checkpoints.load import load_weights
    from ..evaluation import hits
    from ..inference.benchmark import measure_latency
    from ..inference.predict import Predictor, predict
    from ..inference.runtime import open_runtime
    from ..training.data import make_loader

    model = fit_main(build_recognizer(config), load_weights(checkpoint), checkpoint)
    model.eval()
    with make_loader(config, "test", model.head.num_classes) as loader:
        batches = list(loader.batches(0))
    label = np.concatenate([batch.label for batch in batches])

    class Dynamic:
        @staticmethod
        @paddle.no_grad()
        def run(array):
            return model(paddle.to_tensor(array)).numpy()

    def row(kind, name, runtime, size, right):
        logits = np.concatenate([runtime.run(batch.array) for batch in batches])
        right = logits if right is None else right
        error = np.abs(logits - right).max() / np.abs(right).max()
        same = (logits.argmax(axis=1) == right.argmax(axis=1)).mean()
        return logits, (kind, name, hits(logits, label, 1).mean(), hits(logits, label, 5).mean(), size,
                        measure_latency(runtime, batches[0].array[:1]), error, same)

    right, first = row("dynamic graph", "Paddle", Dynamic, None, None)
    yield first
    for kind, export in exports.items():
        for runtime_kind, name in (("paddle", "Paddle Inference"), ("onnxruntime", "ONNX Runtime")):
            if runtime_kind == "onnxruntime" and "onnx" not in export.metadata:
                continue
            step(f"Predicting one sample: {kind} export, {name}")
            runtime = open_runtime(export, runtime_kind)
            predict(Predictor(runtime), example)
            graph = (export.file(".onnx"),) if runtime_kind == "onnxruntime" else (export.graph, export.params)
            beside = (export.file(".metadata.json"), export.file(".selfcheck.npz"))
            size = sum(path.stat().st_size for path in (*graph, *beside)) / 1e6
            yield row(kind, name, runtime, size, right)[1]


def table(rows):
    """The rows as text."""
    def text(row):
        kind, runtime, top1, top5, size, ms, error, same = row
        return (kind, runtime, f"{top1:.2%}", f"{top5:.2%}", "" if size is None else f"{size:.2f}", f"{ms:.1f}",
                f"{error:.1e}", f"{same:.0%}")
    lines = [HEADER, *map(text, rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    formatted = ["  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
                 for line in lines]
    return "\n".join(["", formatted[0], "  ".join("-" * w for w in widths), *formatted[1:], ""])


def step(text):
    logger.info("=== %s", text)
