"""The readers of exports, of what the road to the NPU is paved with, and of what runs leave.

What ``checks`` say of a value is what the reader's own documentation promises, written here once more.
"""
import json

import numpy as np
from fuzz_reader import checks, reader

from paddlevideo_skel.ascend import deploy, operators
from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.doctor import cann_version
from paddlevideo_skel.errors import ConfigError, DataError, ExportError, OutputError, SkelError
from paddlevideo_skel.inference.artifact import find_export
from paddlevideo_skel.inference.bin_comparison import compare_results
from paddlevideo_skel.inference.bin_inference import start_or_resume_results
from paddlevideo_skel.inference.bin_results import evaluate
from paddlevideo_skel.inference.bins import BinFolder, load_bin_labels
from paddlevideo_skel.inference.predict import Predictor
from paddlevideo_skel.inference.runtime import RuntimeOptions, open_runtime
from paddlevideo_skel.inference.stream import read_json_frames, to_numbers
from paddlevideo_skel.manifest import LOCK, Manifest, describe_holder
from paddlevideo_skel.training.ensemble import ensemble
from paddlevideo_skel.training.log import cut_to_whole_records

OPTIONS = RuntimeOptions(use_gpu=False, use_npu=False, cpu_threads=1)


@reader(ExportError)
def export_folder(folder):
    found = find_export(folder)
    selfcheck = found.selfcheck()
    return found.metadata, found.sample_shape, found.batch, found.num_classes, selfcheck.stored, selfcheck.logits


@checks("export_folder")
def is_export(found):
    metadata, shape, batch, classes, stored, logits = found
    assert all(type(n) is int and n > 0 for n in (*shape, classes)) and (batch is None or batch > 0)
    assert 0 < metadata["selfcheck"]["tolerance"] <= 0.05
    assert logits.shape[1:] == (classes,) and stored.dtype == logits.dtype == np.float32
    assert np.isfinite(stored).all() and np.isfinite(logits).all() and logits.any()


@reader(SkelError)
def opened_export(folder):
    """As ``predict`` uses an export: its answers are those of the self-check, or there is none."""
    found = find_export(folder)
    with open_runtime(found, "onnxruntime", OPTIONS) as runtime:
        predictor = Predictor(runtime)
        check = runtime.selfcheck
        logits = runtime.run(check.array)
        return check.logits, logits, [predictor.to_entry("x", Annotation(None, name="x"), row) for row in logits]


@checks("opened_export")
def answers_are_right(found):
    right, logits, entries = found
    assert np.abs(logits - right).max() <= 0.05 * np.abs(right).max()
    json.dumps(entries)


@reader(DataError)
def bin_folder(folder):
    found = BinFolder(folder)
    found.check()
    return found.manifest, found.names, found.labels, found.sample_names, [found.array(name) for name in found.names]


@reader(DataError)
def plain_bin_folder(folder):
    found = BinFolder(folder / "bin", (3, 4, 5, 1))
    found.check()
    return found.manifest, found.names, None, found.sample_names, [found.array(name) for name in found.names]


@checks("bin_folder")
@checks("plain_bin_folder")
def is_bin_folder(found):
    manifest, names, labels, sample_names, arrays = found
    assert len(names) == len(sample_names) == len(arrays) and (labels is None or len(labels) == len(names))
    assert all(isinstance(name, str) for name in sample_names)
    assert labels is None or all(0 <= label < manifest["num_classes"] for label in labels)


@reader(DataError)
def bin_labels(folder):
    return load_bin_labels(folder / "label.txt", ["00000", "00001", "00002"])


@reader(DataError, ConfigError)
def results(folder):
    return evaluate(folder / "results", bins=folder / "bins")


@reader(DataError, ConfigError)
def results_by_report(folder):
    return evaluate(folder / "results", label_path=folder / "bins/label.txt")


@checks("results")
@checks("results_by_report")
def is_report(report):
    json.dumps(report)
    assert report["num_samples"] == 3 and 0 <= report["top1"] <= report["top5"] <= 1


@reader(DataError, ConfigError)
def compared_results(folder):
    return compare_results(folder / "results", folder / "others")


@checks("compared_results")
def is_comparison(report):
    assert report["count"] == 3 and -1 <= report["cosine"]["min"] <= report["cosine"]["mean"] <= 1


class Opened:
    """What ``start_or_resume_results`` asks a runtime for."""

    def __init__(self, export):
        self.export, self.options, self.kind, self.device, self.files = export, OPTIONS, "onnxruntime", "cpu", []


@reader(DataError, ExportError, OutputError)
def begun_results(folder):
    runtime = Opened(find_export(folder / "export"))
    return start_or_resume_results(folder / "results", runtime, BinFolder(folder / "bins")).name


@reader(DataError, ExportError, OutputError)
def begun_road(folder):
    """What the whole road to the NPU was begun with."""
    content = deploy.fingerprint_deployment({"epochs": 1}, folder / "x.pdparams", "ordinary", 13)
    return Manifest(folder / deploy.DEPLOY_MANIFEST).start_or_resume(content)


@reader(ExportError)
def operators_of_a_model(folder):
    return operators.atc_problems(folder / "tiny.onnx", batch=1)


@checks("operators_of_a_model")
def are_problems(found):
    assert all(isinstance(problem, str) for problem in found)


@reader(DataError)
def stream_of_frames(folder):
    with open(folder / "frames.jsonl", encoding="utf-8", errors="replace") as file:
        return [to_numbers(keypoint, "coordinates", "frame") for keypoint, *_ in read_json_frames(file)]


@reader()
def cann_folder(folder):
    return cann_version(folder)


# What runs leave.

@reader(DataError, ConfigError)
def fused_results(folder):
    return ensemble([folder / "one.json", folder / "two.json"])


@checks("fused_results")
def is_ensemble(report):
    json.dumps(report)
    assert report["num_samples"] == 3


@reader()
def run_lock(folder):
    return describe_holder(folder / LOCK)


@checks("run_lock")
def is_told(text):
    assert isinstance(text, str)


@reader()
def curves(folder):
    path = folder / "vdlrecords.1.log"
    cut_to_whole_records(path)
    return path.read_bytes()


@checks("curves")
def are_whole_records(content):
    while content:
        size = int.from_bytes(content[:8], "little")
        assert len(content) >= 8 + size
        content = content[8 + size:]
