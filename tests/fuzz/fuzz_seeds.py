"""Small valid files of every format, made by the package's own writers and by those of the other tests."""
import hashlib
import io
import json
import pickle
import re
import struct
import zipfile
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
import tiny_export
import torch_writer
from fuzz_road_readers import Opened
from paths import GOLDEN as GOLDEN_FOLDER
from paths import ROOT
from raw_files import HAND_WRITTEN, clip, name_of, recording, skeleton_text

from paddlevideo_skel.data.synthetic.samples import generate
from paddlevideo_skel.importers.journal import _with_checksum
from paddlevideo_skel.inference.artifact import find_export
from paddlevideo_skel.inference.bin_inference import describe_inference
from paddlevideo_skel.inference.bins import BinFolder

GOLDEN = GOLDEN_FOLDER


@dataclass
class Seed:
    """A reader's files, and which of them is to be changed.

    Attributes:
        reader: its name. files: name → bytes. target: one of the names.
        cases: how many changed files the suite reads.
        form: what tells it from another seed of the same reader and target.
        inside: None, or how to take bytes out of the target and put others in: files with a checksum inside.
        whole: whether a file that lacks its end is always an error, or reads as the whole one.
    """
    reader: str
    files: dict
    target: str
    cases: int
    form: str = ""
    inside: tuple = None
    whole: bool = False

    @property
    def name(self):
        return f"{self.reader}: {self.target} {self.form}".rstrip()

    def part(self):
        """The bytes that are to be changed."""
        content = self.files[self.target]
        return self.inside[0](content) if self.inside else content

    def with_part(self, part):
        """The target with other bytes in the place of ``part()``."""
        return self.inside[1](self.files[self.target], part) if self.inside else part


def numbers(seed=0, shape=(2, 6, 5, 3), dtype="f4"):
    return np.random.default_rng(seed).uniform(0.1, 1, shape).astype(dtype)


def entry(i, **changes):
    return {"frame_dir": f"s{i}", "label": i % 4, "total_frames": 6, "img_shape": (48, 64),
            "keypoint": numbers(i, (2, 6, 5, 2), "f2"), "keypoint_score": numbers(i + 9, (2, 6, 5), "f2"), **changes}


def annotation_set(protocol=4):
    return pickle.dumps({"split": {"train": ["s0", "s1"], "val": ["s2"]}, "annotations": [entry(i) for i in range(3)]},
                        protocol)


def npy(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def array_set():
    return {"x_data.npy": npy(numbers(0, (3, 3, 6, 5, 2))), "x_label.npy": npy(np.array([0, 1, 3])),
            "x_label.pkl": pickle.dumps((["a", "b", "c"], [0, 1, 3]), 2)}


def examined():
    """What was found in ``DATA``, for which the reader puts the file's path, as for ``STAMP`` its size and date."""
    return json.dumps({"DATA": {"stamp": "STAMP", "digest": "0", "reasons": {"0": "bad"}}}).encode()


def kpfiles():
    entries = [{"frame_dir": f"v{i}", "label": i, "img_shape": (48, 64), "total_frames": 4, "raw_file": f"{i % 2}.pkl",
                "frame_inds": np.array([0, 0, 1, 2, 3]), "box_score": np.full(5, 0.9, "f4")} for i in range(3)]
    files = {f"kp/{i}.pkl": pickle.dumps({f"v{j}": {"keypoint": numbers(j, (5, 17, 3), "f2")} for j in range(3)
                                          if j % 2 == i}, 4) for i in range(2)}
    return {"x.pkl": pickle.dumps({"split": {"train": ["v0", "v1"]}, "annotations": entries}, 4), **files}


def skeleton():
    persons = next(iter(generate(1, actions=("handshake",), frames=(14, 15), missing=0))).keypoint
    return skeleton_text(recording(persons)).encode()


def journal():
    lines = [["s0", 10, 7, {"shape": [1, 2], "persons": 1}], ["s1", 11, 7, {"skipped": "damaged: it"}],
             ["s2", 12, 7, {"shape": [2, 2]}]]
    return {"manifest.json": b'{"format": 1}',
            "journal.jsonl": b"".join(_with_checksum(json.dumps(line).encode()) for line in lines),
            "samples.bin": np.arange(6, dtype="<f4").tobytes()}


def keypoints():
    array = numbers(3, (1, 4, 17, 3), "f8")
    rows = array[0].reshape(4, -1)
    header = ["frame"] + [f"{j}_{axis}" for j in range(17) for axis in ("x", "y", "score")]
    table = [header] + [[str(t), *(f"{x:.4f}" for x in row)] for t, row in enumerate(rows)]
    long = [["frame", "person", "joint", "x", "y", "score"]] + [
        [str(t), "0", f"joint_{j}", *(f"{x:.4f}" for x in array[0, t, j])] for t in range(4) for j in range(17)]

    def text(lines, mark):
        return "".join(mark.join(line) + "\n" for line in lines).encode()

    return {"x.csv": text(table, ","), "x.tsv": text([row[1:] for row in table[1:]], "\t"), "long.csv": text(long, ","),
            "x.npy": npy(array), "x.json": json.dumps({"keypoint": array.round(3).tolist()}).encode()}


LAYOUT = b"""LAYOUT:
  mine: &mine
    joints: [hip, neck, head, left, right]
    bones: [[1, 0], [2, 1], [3, 1], [4, 1]]
    center: 1
    left: [3]
    right: [4]
"""
CONFIG = LAYOUT + b"""MODEL:
  framework: RecognizerGCN
  backbone: {name: STGCNPlusPlus, layout: mine, num_person: 1, dropout: 5e-1}
  head: {name: STGCNPlusPlusHead, in_channels: 24, num_classes: 3}
DATASET:
  batch_size: 8
  train: &data {format: NTUCSSkeletonDataset, file_path: data/x.pkl, split: xsub_train}
  valid: &valid {<<: *data, split: xsub_val, test_mode: True}
  test: *valid
PIPELINE:
  test:
    transform: &test
      - Resize: {scale: "(-1, 64)", keep: Fasle}
      - UniformSampleFrames: {clip_len: 16}
OPTIMIZER:
  name: Momentum
  learning_rate: {name: CustomCosineAnnealingDecay, learning_rate: 0.05, max_epoch: 2}
  weight_decay: {name: L2, value: 5e-4}
class_names: [wave, squat, "sit down"]
model_name: small
epochs: 2
"""


def params():
    path = ROOT / "test_tipc/configs/STGCN/train_infer_python.txt"
    return path.read_bytes()


ANSWERS = b"""Current video file: data/a.npy
\ttop-2 class: [3 1]
\ttop-2 score: [0.9 0.05
 0.01]
"""


def state_dict():
    return {"backbone.conv.weight": numbers(1, (4, 3, 1, 1)), "backbone.bn._mean": numbers(2, (4,)),
            "head.fc.weight": numbers(3, (4, 5)), "head.fc.bias": numbers(4, (5,), "f8")}


def torch_file(tmp, form, obj=None, **options):
    path = torch_writer.save(obj or {"state_dict": state_dict(), "epoch": 3, "meta": {"config": "x: 1"}}, tmp / "x.pth",
                             form, **options)
    return path.read_bytes()


def entry_of_zip(name):
    """Take an entry's bytes out of a zip archive and put others in, with right checksums: ``Seed.inside``."""
    def take(content):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read(name)

    def put(content, new):
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(file, "w") as changed:
            for info in archive.infolist():
                changed.writestr(info.filename, new if info.filename == name else archive.read(info))
        return file.getvalue()

    return take, put


# Models of the golden files: a layout, and how another project calls what is there.
FOREIGN = {
    "stgcn_kinetics": ("openpose", {"^backbone\\.": "", "^head\\.": ""}),
    "stgcn_plusplus_coco": ("coco", {"^head\\.": "cls_head."}),
    "ctrgcn_lite": ("ntu-rgb+d", {"^backbone\\.": "", "^head\\.": ""}),
    "posec3d_hmdb51": (None, {
        "^head\\.fc\\.": "cls_head.fc_cls.", "\\._conv\\.": ".conv.", "\\._batch_norm\\.": ".bn."}),
}


def foreign_shapes(model):
    """Names and shapes of a model's tensors as another project has them."""
    layout, rules = FOREIGN[model]
    found = {}
    for name, shape in json.loads((GOLDEN / f"{model}.json").read_text())["state_dict"].items():
        for pattern, theirs in {**rules, "_mean$": "running_mean", "_variance$": "running_var"}.items():
            name = re.sub(pattern, theirs, name)
        found[name] = shape[::-1] if name.endswith("weight") and len(shape) == 2 else shape
        if model == "stgcn_plusplus_coco" and name.endswith(".gcn.conv.weight"):
            # PaddleVideo's checkpoints lack the adjacency that pyskl's have.
            found[name.replace("conv.weight", "A")] = [3, 17, 17]
    return {"layout": layout, "shapes": found}


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def npu_folders(tmp):
    """An export, a bin folder of three samples, and two result folders for it."""
    tiny_export.write_export(tmp / "export")
    samples = tiny_export.samples(3)
    tiny_export.write_bin_folder(tmp / "bins", samples)
    for name, offset in (("results", 0), ("others", 0.001)):
        (tmp / name).mkdir()
        for i, row in enumerate(tiny_export.logits(samples).astype("f4") + np.float32(offset)):
            (tmp / name / f"{i:05d}_0.bin").write_bytes(row.tobytes())
        (tmp / name / "results.json").write_text(json.dumps({"answer_shape": [tiny_export.CLASSES], "model": "tiny",
                                                             "bins": {"path": "bins"}}))
    (tmp / "results/begun.json").write_bytes(begun(tmp))
    return {name: files_of(tmp / name) for name in ("export", "bins", "results", "others")}


def fused(seed):
    scores = np.random.default_rng(seed).dirichlet(np.ones(4), 3).round(4)
    return json.dumps({"num_samples": 3, "class_names": ["a", "b", "c", "d"], "samples": [
        {"name": f"s{i}", "label": i, "scores": row.tolist()} for i, row in enumerate(scores)]}).encode()


def records():
    return b"".join(struct.pack("<Q", n) + bytes(range(n)) for n in (5, 0, 17, 200))


def begun(tmp):
    """``begun.json`` as an inference writes it."""
    content = describe_inference(Opened(find_export(tmp / "export")), BinFolder(tmp / "bins"))
    return json.dumps(content).encode()


def begun_road(weights):
    return json.dumps({"weights": hashlib.sha256(weights).hexdigest()[:16], "kind": "ordinary", "opset": 13,
                       "config": {"epochs": 1}}).encode()


def under(name, files):
    return {f"{name}/{key}": value for key, value in files.items()}


def pickles(tmp):
    pickled, arrays = annotation_set(), array_set()
    yield Seed("pickle_file", {"x.pkl": pickled}, "x.pkl", 180, whole=True)
    yield Seed("pickle_file", {"x.pkl": annotation_set(2)}, "x.pkl", 120, "in protocol 2", whole=True)
    yield Seed("annotations", {"x.pkl": pickled}, "x.pkl", 180, whole=True)
    yield Seed("annotations", {"x.pkl": annotation_set(0)}, "x.pkl", 120, "in protocol 0", whole=True)
    yield Seed("split_of_annotations", {"x.pkl": annotation_set(5)}, "x.pkl", 120, whole=True)
    yield Seed("annotations_but_bad_ones", {"x.pkl": pickled}, "x.pkl", 100, whole=True)
    yield Seed("examined_pickle", {"x.pkl": pickled}, "x.pkl", 70)
    yield Seed("inspected_pickle", {"x.pkl": pickled}, "x.pkl", 70)
    yield Seed("array_set", arrays, "x_label.pkl", 100, whole=True)


def arrays(tmp):
    whole = array_set()
    yield Seed("sample_npy", {"x.npy": npy(numbers(0, (3, 6, 5, 2)))}, "x.npy", 120, whole=True)
    yield Seed("sample_npy", {"x.npy": npy(numbers(0, (2, 3, 6, 5, 2), "f8"), (3, 0))}, "x.npy", 100, "version 3",
               whole=True)
    yield Seed("npy_in_memory", {"x.npy": npy(np.asfortranarray(numbers(0, (4, 5))))}, "x.npy", 120, whole=True)
    yield Seed("array_set", whole, "x_data.npy", 100, whole=True)
    yield Seed("array_set_with_npy_labels", whole, "x_label.npy", 100, whole=True)
    yield Seed("examined_array", {**whole, "examined.json": examined()}, "examined.json", 100)
    yield Seed("examined_array", whole, "x_data.npy", 70)
    yield Seed("inspected_array", whole, "x_data.npy", 70)


def converters(tmp):
    joined, pickled, whole = kpfiles(), annotation_set(), array_set()
    yield Seed("kpfiles", joined, "x.pkl", 100)
    yield Seed("kpfiles", joined, "kp/0.pkl", 100)
    yield Seed("pickle_as_arrays", {"x.pkl": pickled}, "x.pkl", 100)
    yield Seed("arrays_as_pickle", whole, "x_data.npy", 70)
    yield Seed("pickle_split_anew", {"x.pkl": pickled}, "x.pkl", 70)
    yield Seed("array_split_anew", whole, "x_label.pkl", 70)
    yield Seed("import_journal", journal(), "journal.jsonl", 120)
    yield Seed("import_journal", journal(), "samples.bin", 50)
    yield Seed("import_journal", journal(), "manifest.json", 50)


def raw_files(tmp):
    coordinates = keypoints()
    clip_file = json.dumps(clip(np.random.default_rng(0), 12, label=2)).encode()
    labels = json.dumps({f"k{i}": {"has_skeleton": True, "label": "x", "label_index": i} for i in range(3)}).encode()
    missing = b"302 missing\n" + b"\n".join(name_of(i, 3).encode() for i in range(4)) + b"\n"
    yield Seed("ntu_skeleton", {"x.skeleton": skeleton()}, "x.skeleton", 120)
    yield Seed("ntu_bodies", {"x.skeleton": HAND_WRITTEN.encode()}, "x.skeleton", 120)
    yield Seed("ntu_missing", {"missing.txt": missing}, "missing.txt", 70)
    yield Seed("kinetics_clip", {"clip.json": clip_file}, "clip.json", 120, whole=True)
    yield Seed("kinetics_labels", {"kinetics_train_label.json": labels}, "kinetics_train_label.json", 100, whole=True)
    for name in ("x.csv", "x.tsv", "x.npy", "x.json"):
        yield Seed(f"keypoints_{name[2:]}", coordinates, name, 100, whole=name in ("x.npy", "x.json"))
    yield Seed("keypoints_long_csv", coordinates, "long.csv", 100)


def texts(tmp):
    text = {"list.csv": b"file,label\na.csv,wave\nb.csv,squat\nc.csv,wave\n",
            "list.txt": b"a 0\nb 1\nc 1\n", "list.json": b'{"a": "wave", "b": "squat", "c": 3}'}
    for kind in ("csv", "txt", "json"):
        yield Seed(f"label_list_{kind}", text, f"list.{kind}", 100)
    yield Seed("listed_samples", {**text, "a.csv": b"", "b.csv": b"", "c.csv": b""}, "list.csv", 100)
    yield Seed("class_names_file", {"names.txt": b"wave\nsquat\nsit down\n"}, "names.txt", 70)
    yield Seed("layout_file", {"layout.yaml": LAYOUT}, "layout.yaml", 120)
    yield Seed("config", {"x.yaml": CONFIG}, "x.yaml", 150)
    yield Seed("config_override", {"x.yaml": CONFIG, "override.txt": b"MODEL.head.num_classes={a: [1, 5e-4]}"},
               "override.txt", 70)
    yield Seed("tipc_params", {"params.txt": params()}, "params.txt", 120)
    yield Seed("recorded_answers", {"log.txt": ANSWERS}, "log.txt", 70)


def checkpoints(tmp):
    weights = pickle.dumps(state_dict(), 4)
    zipped, legacy = (torch_file(tmp, form) for form in ("zip", "legacy"))
    yield Seed("state", {"x.pdparams": weights}, "x.pdparams", 120, whole=True)
    yield Seed("weights", {"x.pdparams": weights}, "x.pdparams", 120, whole=True)
    yield Seed("weights", {"x.pdparams": safetensors.numpy.save(state_dict(), {"format": "pd"})}, "x.pdparams", 150,
               "safetensors", whole=True)
    yield Seed("torch_weights", {"x.pth": zipped}, "x.pth", 120, whole=True)
    yield Seed("torch_weights", {"x.pth": zipped}, "x.pth", 150, "data.pkl", entry_of_zip("archive/data.pkl"))
    yield Seed("torch_weights", {"x.pth": legacy}, "x.pth", 150, "legacy form", whole=True)


def road(tmp):
    """An export, and the files of the road to the NPU."""
    npu, weights = npu_folders(tmp / "npu"), pickle.dumps(state_dict(), 4)
    results = {**under("results", npu["results"]), **under("bins", npu["bins"]), **under("others", npu["others"])}
    yield Seed("export_folder", npu["export"], "tiny.metadata.json", 120, whole=True)
    yield Seed("export_folder", npu["export"], "tiny.selfcheck.npz", 70)
    yield Seed("export_folder", npu["export"], "tiny.selfcheck.npz", 100, "input.npy", entry_of_zip("input.npy"))
    yield Seed("opened_export", npu["export"], "tiny.metadata.json", 100)
    yield Seed("opened_export", npu["export"], "tiny.onnx", 120)
    yield Seed("operators_of_a_model", npu["export"], "tiny.onnx", 100)
    yield Seed("bin_folder", npu["bins"], "bins.json", 120, whole=True)
    yield Seed("bin_folder", npu["bins"], "label.txt", 100)
    yield Seed("bin_folder", npu["bins"], "bin/00001.bin", 50)
    yield Seed("plain_bin_folder", npu["bins"], "bin/00001.bin", 50)
    yield Seed("bin_labels", npu["bins"], "label.txt", 70)
    yield Seed("results", results, "results/results.json", 100)
    yield Seed("results", results, "results/00001_0.bin", 50)
    yield Seed("results", results, "bins/bins.json", 100)
    yield Seed("results_by_report", results, "bins/label.txt", 70)
    yield Seed("compared_results", results, "results/00001_0.bin", 50)
    yield Seed("begun_results", {**results, **under("export", npu["export"])}, "results/begun.json", 70)
    yield Seed("begun_road", {"x.pdparams": weights, "deploy.json": begun_road(weights)}, "deploy.json", 70)
    frame = json.dumps(numbers(0, (2, 5, 3)).round(3).tolist()).encode()
    yield Seed("stream_of_frames", {"frames.jsonl": frame + b"\n" + frame + b"\n"}, "frames.jsonl", 70)
    yield Seed("cann_folder", {"version.cfg": b"runtime_running_version=[7.6.0.1.220:8.0.0]\n"}, "version.cfg", 50)


def runs(tmp):
    """What runs leave."""
    holder = b'{"pid": 17, "host": "here", "since": "2026-01-01 00:00:00"}'
    yield Seed("fused_results", {"one.json": fused(1), "two.json": fused(2)}, "one.json", 120, whole=True)
    yield Seed("run_lock", {".run.lock": holder}, ".run.lock", 70)
    yield Seed("curves", {"vdlrecords.1.log": records()}, "vdlrecords.1.log", 70)


GROUPS = {group.__name__: group for group in (pickles, arrays, converters, raw_files, texts, checkpoints, road, runs)}
