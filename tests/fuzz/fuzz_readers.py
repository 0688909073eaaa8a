"""Every reader that needs no paddle: how it is called on a folder of files, its errors, and what its values must be.

What ``check`` says of a value is what the reader's own documentation promises, written here once more.
"""
import json
import math
import os
from dataclasses import dataclass, field

import numpy as np
from compare_results import read_answers
from tipc.params import Params

from paddlevideo_skel.checkpoints import load_state, load_weights, read_weights, split_models
from paddlevideo_skel.config import TOP_LEVEL, Config, apply_override, class_names, load_config, num_classes
from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.data.datasets import AnnotationDataset, SkeletonDataset
from paddlevideo_skel.data.examination import Examination, without
from paddlevideo_skel.data.pickles import load_npy, load_pickle
from paddlevideo_skel.data.readers import read_annotations, read_sample
from paddlevideo_skel.deploy.ascend import operators, pipeline
from paddlevideo_skel.deploy.bin_comparison import compare
from paddlevideo_skel.deploy.bin_inference import begin as begin_results
from paddlevideo_skel.deploy.bin_results import evaluate
from paddlevideo_skel.deploy.bins import BinFolder, load_labels
from paddlevideo_skel.deploy.doctor import cann_version
from paddlevideo_skel.deploy.folder import find_export
from paddlevideo_skel.deploy.live import json_frames
from paddlevideo_skel.deploy.predict import Predictor
from paddlevideo_skel.deploy.runtimes import Options, open_runtime
from paddlevideo_skel.deploy.streaming import as_numbers
from paddlevideo_skel.errors import CheckpointError, ConfigError, DataError, ExportError, OutputError, SkelError
from paddlevideo_skel.importers import kinetics, ntu
from paddlevideo_skel.importers.forms import arrays_to_pickle, pickle_to_arrays
from paddlevideo_skel.importers.hrnet import join_kpfiles
from paddlevideo_skel.importers.inspection import inspect
from paddlevideo_skel.importers.keypoint_files import CHANNELS, read_keypoints
from paddlevideo_skel.importers.keypoints import clean, find_samples
from paddlevideo_skel.importers.labels import number_labels, read_class_names, read_label_list
from paddlevideo_skel.importers.layout_file import read_layout
from paddlevideo_skel.importers.ntu_format import read_bodies
from paddlevideo_skel.importers.split_files import split_array, split_pickle
from paddlevideo_skel.importers.work import Source, Work
from paddlevideo_skel.skeleton import get_layout
from paddlevideo_skel.training.curves import cut_to_whole_records
from paddlevideo_skel.training.ensemble import ensemble
from paddlevideo_skel.training.run_folder import _told
from paddlevideo_skel.weights import rename

READERS = {}
PLAIN = (dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, bool, type(None), np.ndarray, np.generic)
OPTIONS = Options(use_gpu=False, use_npu=False, cpu_threads=1)
SOURCES = [Source(f"s{i}", f"s{i}.skeleton", 10 + i, 7) for i in range(3)]


@dataclass
class Reader:
    """``read(folder)`` gives a value or raises one of ``errors``; ``check(value)`` fails where it is not right."""
    read: object
    errors: tuple
    check: object = field(default=lambda value: None)


def reader(*errors):
    """Decorator: the function is the reader of its name; the checks of its value go in ``checks``."""
    def register(function):
        READERS[function.__name__] = Reader(function, errors)
        return function
    return register


def checks(name):
    """Decorator: the function checks the value of the reader ``name``."""
    def register(function):
        READERS[name].check = function
        return function
    return register


# Pickles and arrays.

@reader(DataError)
def pickle_file(folder):
    return load_pickle(folder / "x.pkl")


@checks("pickle_file")
def is_plain(value):
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            is_plain(item)
    elif isinstance(value, np.ndarray):
        assert value.dtype.kind in "biufSU", value.dtype
        assert value.size == 0 or value.nbytes < 64 << 20
        value.tobytes()  # every number is there to be read


@reader(DataError)
def annotations(folder):
    return read_annotations(folder / "x.pkl")


@reader(DataError)
def split_of_annotations(folder):
    return read_annotations(folder / "x.pkl", "train")


@reader(DataError)
def annotations_but_bad_ones(folder):
    bad = []
    dataset = AnnotationDataset(folder / "x.pkl", test_mode=True, bad=bad)
    assert all(isinstance(name, str) and isinstance(reason, str) for name, reason in bad)
    return [dataset[i] for i in range(len(dataset))]


@checks("annotations")
@checks("split_of_annotations")
@checks("annotations_but_bad_ones")
def are_annotations(found):
    names = [annotation.name for annotation in found]
    assert len(set(names)) == len(names)
    for annotation in found:
        is_annotation(annotation)


def is_annotation(annotation):
    assert type(annotation) is Annotation
    keypoint, score, shape = annotation.keypoint, annotation.keypoint_score, annotation.img_shape
    assert keypoint.dtype.kind in "iuf" and keypoint.ndim == 4 and all(keypoint.shape) and keypoint.shape[3] in (2, 3)
    assert np.isfinite(keypoint).all()
    assert score is None or (score.shape == keypoint.shape[:3] and score.dtype.kind in "iuf"
                             and np.isfinite(score).all())
    assert isinstance(annotation.name, str)
    assert annotation.label is None or (type(annotation.label) is int and annotation.label >= 0)
    assert shape is None or (len(shape) == 2 and all(0 < side < math.inf for side in shape))


@reader(DataError)
def sample_npy(folder):
    return [np.array(annotation.data) for annotation in read_sample(folder / "x.npy")]


@checks("sample_npy")
def are_samples(found):
    assert found
    for data in found:
        assert data.ndim == 4 and all(data.shape) and data.dtype.kind in "iuf" and data.shape[0] in (2, 3)


@reader(DataError)
def npy_in_memory(folder):
    return load_npy(folder / "x.npy", mmap=False)


@checks("npy_in_memory")
def is_array(array):
    assert array.dtype.kind in "biufSU"
    array.tobytes()


def _examined(folder, dataset, joints):
    path, data = folder / "examined.json", folder / "x_data.npy"
    if path.exists() and data.exists():
        stamp = [data.stat().st_size, data.stat().st_mtime_ns]
        path.write_bytes(path.read_bytes().replace(b"DATA", os.fsencode(data)).replace(
            b'"STAMP"', json.dumps(stamp).encode()))
    reasons, _ = Examination(path).examine(dataset, 4, joints)
    return without(dataset, reasons)


@reader(DataError)
def array_set(folder):
    dataset = SkeletonDataset(folder / "x_data.npy", folder / "x_label.pkl")
    return [(a.name, a.label, np.array(a.data)) for a in map(dataset.__getitem__, range(len(dataset)))]


@reader(DataError)
def array_set_with_npy_labels(folder):
    dataset = SkeletonDataset(folder / "x_data.npy", folder / "x_label.npy")
    return [(a.name, a.label, np.array(a.data)) for a in map(dataset.__getitem__, range(len(dataset)))]


@checks("array_set")
@checks("array_set_with_npy_labels")
def are_labelled(found):
    assert len(found) == 3
    assert all(isinstance(name, str) and type(label) is int for name, label, _ in found)
    are_samples([data for *_, data in found])


@reader(DataError)
def examined_array(folder):
    """As a training looks at its data: what is left has labels and finite numbers, and nobody is missing."""
    kept = _examined(folder, SkeletonDataset(folder / "x_data.npy", folder / "x_label.pkl"), 5)
    return [kept[i] for i in range(len(kept))]


@reader(DataError)
def examined_pickle(folder):
    kept = _examined(folder, AnnotationDataset(folder / "x.pkl", test_mode=True, bad=[]), 5)
    return [kept[i] for i in range(len(kept))]


@checks("examined_array")
@checks("examined_pickle")
def are_usable(found):
    for annotation in found:
        is_annotation(annotation)
        assert annotation.keypoint.any() and annotation.keypoint.shape[2] == 5
        assert annotation.label in (None, 0, 1, 2, 3)


@reader(DataError)
def inspected_pickle(folder):
    return inspect(folder / "x.pkl")


@reader(DataError)
def inspected_array(folder):
    return inspect(folder / "x_data.npy", labels=folder / "x_label.pkl")


@checks("inspected_pickle")
@checks("inspected_array")
def is_json(report):
    json.loads(json.dumps(report))


# Importers.

@reader(DataError, OutputError)
def kpfiles(folder):
    output = folder / "out.pkl"
    join_kpfiles(folder / "x.pkl", folder / "kp", output, splits=["train"])
    return read_annotations(output, "train")


@checks("kpfiles")
def are_few_annotations(found):
    are_annotations(found)
    assert all(len(a.keypoint) <= 2 for a in found)


@reader(DataError, ConfigError, OutputError)
def pickle_as_arrays(folder):
    shapes = pickle_to_arrays(folder / "x.pkl", folder / "out", allow_loss=True)
    return {name: (shape, load_npy(folder / "out" / (f"{name}_data.npy" if name else "data.npy"), mmap=False))
            for name, shape in shapes.items()}


@checks("pickle_as_arrays")
def shapes_are_those_told(found):
    assert all(shape == array.shape for shape, array in found.values())


@reader(DataError, ConfigError, OutputError)
def arrays_as_pickle(folder):
    arrays_to_pickle([folder / "x_data.npy"], folder / "out.pkl", [folder / "x_label.pkl"])
    return read_annotations(folder / "out.pkl", "x")


@checks("arrays_as_pickle")
def are_three_annotations(found):
    are_annotations(found)
    assert len(found) == 3


@reader(DataError, ConfigError, OutputError)
def pickle_split_anew(folder):
    split_pickle(folder / "x.pkl", folder / "out.pkl", {"one": "0.5", "two": "0.5"}, by="random")
    return read_annotations(folder / "out.pkl", "one"), read_annotations(folder / "out.pkl", "two")


@checks("pickle_split_anew")
def are_two_parts(found):
    one, two = found
    are_annotations(one + two)


@reader(DataError, ConfigError, OutputError)
def array_split_anew(folder):
    split_array(folder / "x_data.npy", folder / "out", {"one": "0.5", "two": "0.5"}, folder / "x_label.pkl",
                replace=True, by="random")
    return [load_npy(folder / "out" / f"{part}_data.npy", mmap=False) for part in ("one", "two")]


@checks("array_split_anew")
def are_three_in_two_parts(found):
    assert sum(map(len, found)) == 3


@reader(DataError)
def ntu_skeleton(folder):
    return ntu.read_persons(Source("S001C001P001R001A050", str(folder / "x.skeleton"), 0, 0), False)[0]


@checks("ntu_skeleton")
def are_persons(persons):
    assert persons.dtype == np.float32 and persons.ndim == 4 and persons.shape[2:] == (25, 3) and len(persons) in (1, 2)
    assert persons.shape[1] and (np.abs(persons) <= 1000).all()


@reader(DataError)
def ntu_bodies(folder):
    return [(body.frames, body.joints) for body in read_bodies(folder / "x.skeleton")]


@checks("ntu_bodies")
def are_bodies(bodies):
    assert bodies
    for frames, joints in bodies:
        assert joints.shape == (len(frames), 25, 3) and joints.dtype == np.float32 and (np.abs(joints) <= 1000).all()
        assert (np.diff(frames) > 0).all()


@reader(DataError)
def ntu_missing(folder):
    return ntu.load_missing(folder / "missing.txt")


@checks("ntu_missing")
def are_recordings(names):
    assert names and all(ntu.Recording.of(name) for name in names)


@reader(DataError)
def kinetics_clip(folder):
    return kinetics.read_clip(Source("clip", str(folder / "clip.json"), 0, 0), {"clip": 2})


@checks("kinetics_clip")
def is_clip(found):
    array, facts = found
    assert array.shape == (3, 300, 18, 2) and array.dtype == np.float32 and (np.abs(array) <= 11).all() and array.any()
    assert facts["persons"] in (1, 2) and 1 <= facts["frames"] <= 300


@reader(DataError)
def kinetics_labels(folder):
    return kinetics.load_labels(folder / "kinetics_train_label.json")


@checks("kinetics_labels")
def are_kinetics_labels(labels):
    for name, about in labels.items():
        assert isinstance(name, str) and about["label_index"] >= 0 and about["has_skeleton"] in (True, False)


def _keypoints(folder, name):
    keypoint, channels = read_keypoints(folder / name, get_layout("coco"))
    cleaned = clean(keypoint, channels or {2: "xy", 3: "xys", 4: "xyzs"}[keypoint.shape[3]])
    return keypoint, channels, cleaned


for _kind in ("csv", "tsv", "npy", "json"):
    READERS[f"keypoints_{_kind}"] = Reader(lambda folder, kind=_kind: _keypoints(folder, f"x.{kind}"), (DataError,))
READERS["keypoints_long_csv"] = Reader(lambda folder: _keypoints(folder, "long.csv"), (DataError,))


def _is_keypoints(found):
    keypoint, channels, (coordinates, score, lost) = found
    assert keypoint.ndim == 4 and keypoint.shape[2] == 17 and channels in (None, *CHANNELS)
    assert coordinates.dtype == np.float32 and np.isfinite(coordinates).all() and lost.shape == keypoint.shape[:3]
    assert score is None or np.isfinite(score).all()


for _name in [name for name in READERS if name.startswith("keypoints_")]:
    READERS[_name].check = _is_keypoints


def _labels(folder, name):
    pairs = read_label_list(folder / name)
    numbers, names = number_labels([label for _, label in pairs], name)
    return pairs, numbers, names


for _kind in ("csv", "txt", "json"):
    READERS[f"label_list_{_kind}"] = Reader(lambda folder, kind=_kind: _labels(folder, f"list.{kind}"), (DataError,))


@checks("label_list_csv")
@checks("label_list_txt")
@checks("label_list_json")
def are_labels(found):
    pairs, numbers, names = found
    assert all(isinstance(text, str) and text for pair in pairs for text in pair)
    assert len(numbers) == len(pairs) and all(0 <= number < len(names) for number in numbers)


@reader(DataError)
def listed_samples(folder):
    return find_samples(folder / "list.csv").names


@reader(DataError)
def class_names_file(folder):
    return read_class_names(folder / "names.txt")


@checks("class_names_file")
def are_names(names):
    assert names and len(set(names)) == len(names) and all(name.strip() == name != "" for name in names)


@reader(DataError, ConfigError)
def layout_file(folder):
    return read_layout(str(folder / "layout.yaml"))


@checks("layout_file")
def is_layout(layout):
    joints = range(layout.num_joints)
    assert layout.num_joints and all(a in joints and b in joints and a != b for a, b in layout.bones)
    assert layout.center in joints and len(layout.left) == len(layout.right)


@reader(OutputError)
def import_journal(folder):
    """What an interrupted import had read is used again only as it was written: the results and their samples."""
    with Work(folder, {"format": 1}, SOURCES) as work:
        if len(work.results) < len(SOURCES):
            rest = SOURCES[len(work.results):]
            work.append([{"shape": [1, 2]} for _ in rest], [np.ones((1, 2), "<f4") for _ in rest])
        good, bad = work.outcome()
        return good, bad, [array for *_, array in work.samples()]


@checks("import_journal")
def are_results(found):
    good, bad, arrays = found
    assert len(good) + len(bad) == 3 and len(arrays) == len(good)
    assert all(isinstance(reason, str) for _, reason in bad)
    assert all(list(array.shape) == result["shape"] for (_, result), array in zip(good, arrays))


# Configs, and the params files of the chains.

@reader(ConfigError)
def config(folder):
    found = load_config(folder / "x.yaml")
    return dict(found), class_names(found, num_classes(found))


@checks("config")
def is_config(found):
    content, names = found
    assert set(content) <= set(TOP_LEVEL)
    assert names is None or all(isinstance(name, str) for name in names)
    assert _values(content) <= 100_000


def _values(value):
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_values, items))


@reader(ConfigError)
def config_override(folder):
    found = Config(load_config(folder / "x.yaml"))
    apply_override(found, (folder / "override.txt").read_text(encoding="utf-8", errors="replace"))
    return dict(found)


@reader(ConfigError)
def tipc_params(folder):
    params = Params(folder / "params.txt", {1: "train_params"})
    for number in range(2, len(params.lines) + 1):
        if ":" in params.lines[number - 1]:
            params.key(number), params.options(number), params.arguments(number), params.command(number)
    return params.model


@reader()
def recorded_answers(folder):
    return read_answers(folder / "log.txt")


# Checkpoints.

@reader(CheckpointError)
def state(folder):
    return load_state(folder / "x.pdparams")


@checks("state")
def is_plain_dict(value):
    assert isinstance(value, dict)
    is_plain(value)


@reader(CheckpointError)
def weights(folder):
    return split_models(load_weights(folder / "x.pdparams"))


@reader(CheckpointError)
def torch_weights(folder):
    return read_weights(folder / "x.pth")[0]


@checks("weights")
def are_models(models):
    for entries in models.values():
        are_arrays(entries)


@checks("torch_weights")
def are_arrays(entries):
    assert entries
    for name, array in entries.items():
        assert isinstance(name, str) and isinstance(array, np.ndarray) and array.dtype.kind in "biuf", array.dtype
        array.tobytes()


@reader(CheckpointError, ConfigError)
def foreign_weights(folder):
    """Names and shapes from a JSON file, with ones for numbers: the tensors under our names."""
    told = json.loads((folder / "shapes.json").read_text())
    state = {name: np.broadcast_to(np.float32(1), shape) for name, shape in told["shapes"].items()}
    return rename(state, "checkpoint", told["layout"])[0]


READERS["foreign_weights"].check = are_arrays


# Exports and the road to the NPU.

@reader(ExportError)
def export_folder(folder):
    found = find_export(folder)
    selfcheck = found.selfcheck()
    return found.contract, found.sample_shape, found.batch, found.num_classes, selfcheck.stored, selfcheck.logits


@checks("export_folder")
def is_export(found):
    contract, shape, batch, classes, stored, logits = found
    assert all(type(n) is int and n > 0 for n in (*shape, classes)) and (batch is None or batch > 0)
    assert 0 < contract["selfcheck"]["tolerance"] <= 0.05
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
        return check.logits, logits, [predictor.result("x", Annotation(None, name="x"), row) for row in logits]


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
    return load_labels(folder / "label.txt", ["00000", "00001", "00002"])


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
    return compare(folder / "results", folder / "others")


@checks("compared_results")
def is_comparison(report):
    assert report["count"] == 3 and -1 <= report["cosine"]["min"] <= report["cosine"]["mean"] <= 1


class Opened:
    """What ``begin_results`` asks a runtime for."""

    def __init__(self, export):
        self.export, self.options, self.kind, self.device, self.files = export, OPTIONS, "onnxruntime", "cpu", []


@reader(DataError, ExportError, OutputError)
def begun_results(folder):
    return begin_results(folder / "results", Opened(find_export(folder / "export")), BinFolder(folder / "bins")).name


@reader(DataError, ExportError, OutputError)
def begun_road(folder):
    """What the whole road to the NPU was begun with."""
    return pipeline.begin(folder, {"epochs": 1}, folder / "x.pdparams", "ordinary", 13)


@reader(ExportError)
def operators_of_a_model(folder):
    return operators.check(folder / "tiny.onnx", batch=1)


@checks("operators_of_a_model")
def are_problems(found):
    assert all(isinstance(problem, str) for problem in found)


@reader(DataError)
def stream_of_frames(folder):
    with open(folder / "frames.jsonl", encoding="utf-8", errors="replace") as file:
        return [as_numbers(keypoint, "coordinates", "frame") for keypoint, *_ in json_frames(file)]


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
    with open(folder / ".run.lock", encoding="utf-8") as file:
        return _told(file)


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
