"""One small case for each way in which a reader once stumbled over a file; ``tests/fuzz`` looks for more."""
import io
import json
import os
import pickle
import struct

import numpy as np
import pytest
import torch_writer
import yaml

from paddlevideo_skel.checkpoints.load import load_weights, read_weights
from paddlevideo_skel.config import class_names, load_config
from paddlevideo_skel.data.checks import SampleChecker
from paddlevideo_skel.data.datasets import SkeletonDataset
from paddlevideo_skel.data.readers import read_annotations
from paddlevideo_skel.errors import CheckpointError, ConfigError, DataError, ExportError, near_miss
from paddlevideo_skel.files import is_file, parse_json
from paddlevideo_skel.importers.journal import Journal, Source
from paddlevideo_skel.importers.keypoint_files import read_keypoints
from paddlevideo_skel.importers.kinetics_hrnet import join_kpfiles
from paddlevideo_skel.importers.labels import number_labels
from paddlevideo_skel.inference.artifact import read_arrays, read_metadata
from paddlevideo_skel.inference.bin_results import read_report
from paddlevideo_skel.inference.bins import BinFolder
from paddlevideo_skel.inference.stream import read_json_frames
from paddlevideo_skel.safe_pickle import load_npy, load_pickle
from paddlevideo_skel.skeleton import get_layout, read_layout
from paddlevideo_skel.yaml_reader import parse_yaml

PLAIN = {"descr": "<f4", "fortran_order": False, "shape": (2, 2)}
METADATA = {"format": 1, "model_name": "m", "input": {"name": "x", "shape": [-1, 3]}, "output": {"num_classes": 2},
            "selfcheck": {"file": "m.npz", "tolerance": 1e-4}, "pipeline": {}, "class_names": None, "top_k": 1}
BINS = {"format": 1, "model_name": "m", "shape": [2], "type": "float32", "count": 1, "num_classes": 2,
        "class_names": None, "labels": True, "average": "logits", "source": {}, "pipeline": {}}


def saved(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def billion():
    """Lists in lists that stand for 10^10 numbers, in a hundred bytes of a pickle."""
    value = [0] * 10
    for _ in range(9):
        value = [value] * 10
    return value


@pytest.mark.parametrize("key", ["keypoint", "label", "img_shape", "other"])
def test_references_that_stand_for_billions(tmp_path, key):
    path = saved(tmp_path / "x.pkl", pickle.dumps([{"frame_dir": "a", "keypoint": np.ones((2, 3, 2)), key: billion()}]))
    with pytest.raises(DataError, match="many times its"):
        read_annotations(path)


@pytest.mark.parametrize("content", [b"\x80\x02]q\x00h\x00a.", b"\x80\x02" + b"]" * 200 + b"a" * 199 + b"."])
def test_lists_within_themselves_and_deep_ones(tmp_path, content):
    with pytest.raises(DataError, match="nested too deeply"):
        load_pickle(saved(tmp_path / "x.pkl", content))


def test_what_many_samples_share_is_no_bomb(tmp_path):
    shape, name = (1080, 1920), "a name that all of them have"
    content = [{"frame_dir": f"{i}", "img_shape": shape, "modality": name} for i in range(1000)]
    assert load_pickle(saved(tmp_path / "x.pkl", pickle.dumps(content))) == content


def test_whole_numbers_that_cannot_be_written_out(tmp_path):
    with pytest.raises(DataError, match="whole number of 2077 bytes"):
        read_annotations(saved(tmp_path / "x.pkl", pickle.dumps([{"frame_dir": "a", "label": 10 ** 5000}])))


def test_keys_whose_hashes_are_all_one(tmp_path):
    keys = {i * ((1 << 61) - 1): None for i in range(1, 100)}
    with pytest.raises(DataError, match="more than 64 bits as a key"):
        load_pickle(saved(tmp_path / "x.pkl", pickle.dumps(keys)))


@pytest.mark.parametrize("key", ["label", "img_shape", "total_frames"])
def test_lists_of_unequal_lengths_in_any_field(tmp_path, key):
    entry = {"frame_dir": "a", "keypoint": np.ones((2, 3, 2)), key: [[1, 2], [3]]}
    with pytest.raises(DataError, match=f"a: {key}"):
        read_annotations(saved(tmp_path / "x.pkl", pickle.dumps([entry])))


def test_a_split_that_is_one_text_in_an_array(tmp_path):
    content = {"split": {"train": np.array("a")}, "annotations": [{"frame_dir": "a", "keypoint": np.ones((2, 3, 2))}]}
    with pytest.raises(DataError, match="'train' is a ndarray, expected a list"):
        read_annotations(saved(tmp_path / "x.pkl", pickle.dumps(content)), "train")


def npy(header, version=1, length=None, body=bytes(16)):
    header = header if isinstance(header, bytes) else repr(header).encode()
    size = struct.pack("<H" if version == 1 else "<I", len(header) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + body


@pytest.mark.parametrize("content", [
    npy(b"{'descr': '<f4', ("), npy(b"-" * 9000 + b"1"), npy(PLAIN, 2, 0xFFFFFFF0), npy(b"(" * 9000),
    npy({**PLAIN, "shape": (1 << 28,)}), npy({**PLAIN, "shape": (-1, 2)}), npy({**PLAIN, "descr": [("a", "<f4")]})])
@pytest.mark.parametrize("mmap", [True, False])
def test_headers_of_arrays(tmp_path, content, mmap):
    with pytest.raises(DataError, match=r"x\.npy"):
        load_npy(saved(tmp_path / "x.npy", content), mmap)


def legacy(code):
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in parts) + b"\x80\x04" + code


TEXT = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000


@pytest.mark.parametrize("code", [
    b"(" + b"N" * 50_000 + b"lq\x000(ctorch\nSize\nq\x010" + b"h\x01h\x00\x85R" * 1000 + b"l.",
    TEXT + b"q\x000(" + b"h\x00h\x00\x93" * 1000 + b"l."], ids=["sizes", "names"])
def test_what_a_checkpoint_repeats_is_counted(tmp_path, code):
    with pytest.raises(CheckpointError, match="many times its"):
        read_weights(saved(tmp_path / "x.pth", legacy(code)))


def test_texts_among_the_weights(tmp_path):
    path = saved(tmp_path / "x.pdparams", pickle.dumps({"backbone.w": np.ones(2), "head.b": np.array(["a"])}))
    with pytest.raises(CheckpointError, match=r"'head\.b' is an array of <U1, expected an array of numbers"):
        load_weights(path)


def test_the_name_of_a_tensor_of_a_tensor_does_not_grow(tmp_path):
    nested = torch_writer.Name("a", "b")
    for _ in range(20):
        nested = torch_writer.Name("torch._utils", "_rebuild_tensor_v2")(nested, 0, (1,), (1,), False, None)
    path = torch_writer.save({"w": nested}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="'w'") as caught:
        read_weights(path)
    assert len(caught.value.problem) < 200


YAML = {
    "a: !!int ''": "IndexError", "a: !!bool maybe": "KeyError", "a: !!timestamp x": "AttributeError",
    "a: !!map [b]": "TypeError", "? [a]\n: b": "cannot be a key", "a: 2026-01-01": "found a date", "a: \x07": "YAML",
    "a: " + "[" * 60: "nested brackets", "&a [*a]": "its own parent",
    "a: (" + "-" * 5000 + "1)": "expected a tuple",
    "a: 0x" + "f" * 5000: "number of 20000 bits", "a: " + "x" * 70_000: "70003 characters",
}


@pytest.mark.parametrize("text", YAML)
def test_yaml_that_is_too_much(tmp_path, text):
    for read, name in ((load_config, "x.yaml"), (read_layout, "y.yaml")):
        with pytest.raises(ConfigError, match=f"{name}.*{YAML[text]}"):
            read(str(saved(tmp_path / name, text)))


def test_merged_mappings_do_not_multiply(tmp_path):
    """Ten times ten times … the same key: PyYAML merges each key once from 6.0.4 on, before that it is refused here."""
    text = "a: &a {x: y}\n" + "".join(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 10)}]}}\n"
                                      for a, b in zip("abcdefgh", "bcdefghi"))
    if tuple(map(int, yaml.__version__.split(".")[:3])) >= (6, 0, 4):
        assert parse_yaml(text, "x.yaml") == {name: {"x": "y"} for name in "abcdefghi"}
    else:
        with pytest.raises(ConfigError, match=r"x\.yaml.*merged keys"):
            parse_yaml(text, "x.yaml")


@pytest.mark.parametrize(("key", "value"), [("joints", 10 ** 9), ("bones", 3), ("left", 3), ("bone_parents", {})])
def test_descriptions_of_layouts(key, value):
    spec = {"joints": 3, "bones": [[0, 1], [1, 2]], "center": 0, "bone_parents": [0, 0, 1], key: value}
    if key == "bone_parents":
        assert get_layout(spec).bone_parents is None
        return
    with pytest.raises(ConfigError, match=f"layout.{key}"):
        get_layout(spec)
    with pytest.raises(ConfigError, match="unknown layout"):
        get_layout([1])


@pytest.mark.parametrize("name", ["/dev/zero", "n" * 5000, "a\0b", "..", "absent.txt"])
def test_names_of_a_file_of_class_names(tmp_path, name):
    config = load_config(saved(tmp_path / "x.yaml", "epochs: 1"))
    config["class_names"] = name
    with pytest.raises(ConfigError, match=r"class_names: file not found"):
        class_names(config, 3)


def test_json_that_is_nested_too_deeply(tmp_path):
    for text in ("[" * 100_000, '{"a":' * 100_000):
        with pytest.raises(ValueError, match="too deeply"):
            parse_json(text)
        with pytest.raises(ExportError, match="not valid metadata"):
            read_metadata(saved(tmp_path / "m.metadata.json", text).with_name("m"))
        with pytest.raises(DataError, match="is damaged"):
            read_report(saved(tmp_path / "results.json", text))
        with pytest.raises(DataError, match="not valid JSON"):
            list(read_json_frames(io.StringIO(text)))


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b", "\ud800"])
def test_names_that_no_file_can_have(tmp_path, name):
    assert not is_file(tmp_path / name)
    entry = {"frame_dir": "v", "raw_file": name, "total_frames": 1}
    with pytest.raises(DataError, match="v: its keypoint file"):
        join_kpfiles(saved(tmp_path / "x.pkl", pickle.dumps([entry])), tmp_path, tmp_path / "out.pkl")


@pytest.mark.parametrize("content", [[], 3, {"PATH": 3}, {"PATH": {}}, {"PATH": {"stamp": [0, 0]}},
                                     {"PATH": {"stamp": "STAMP", "digest": "0", "reasons": []}},
                                     {"PATH": {"stamp": "STAMP", "digest": 3, "reasons": {}}},
                                     {"PATH": {"stamp": "STAMP", "digest": "0", "reasons": {"x": "bad"}}}])
def test_a_damaged_list_of_examined_files_is_made_anew(tmp_path, content):
    np.save(tmp_path / "x.npy", np.ones((2, 3, 4, 5, 1), "f4"))
    saved(tmp_path / "y.pkl", pickle.dumps(["a", "b"]))
    data, about = str(tmp_path / "x.npy"), os.stat(tmp_path / "x.npy")
    text = json.dumps(content).replace("PATH", data).replace('"STAMP"', json.dumps([about.st_size, about.st_mtime_ns]))
    checker = SampleChecker(saved(tmp_path / "examined.json", text))
    assert checker.check(SkeletonDataset(data, test_mode=True), 2, 5)[0] == {}
    assert set(checker.known[data]) == {"stamp", "digest", "reasons"}


def test_a_journal_with_another_shape_in_it_is_not_believed(tmp_path):
    sources = [Source(f"s{i}", f"s{i}.skeleton", 1, 2) for i in range(3)]
    with Journal(tmp_path / "work", {}, sources) as journal:
        journal.append([{"shape": [2, 2]}] * 3, [np.ones((2, 2), "f4")] * 3)
    lines = tmp_path / "work" / "journal.jsonl"
    first, *rest = lines.read_bytes().splitlines(keepends=True)
    lines.write_bytes(b"".join([first.replace(b"[2, 2]", b"[2, 1]"), *rest]))
    with Journal(tmp_path / "work", {}, sources) as journal:
        assert journal.results == []


def test_persons_and_frames_that_no_memory_holds(tmp_path):
    header = "frame,person," + ",".join(f"{joint}_{axis}" for joint in range(17) for axis in "xy")
    rows = "\n".join(f"{i},{i}" + ",1" * 34 for i in range(2000))
    with pytest.raises(DataError, match="2000 frames with 2000 persons"):
        read_keypoints(saved(tmp_path / "x.csv", f"{header}\n{rows}"), get_layout("coco"))


def test_labels_of_thousands_of_digits(tmp_path):
    with pytest.raises(DataError, match="expected integers >= 0, or names"):
        number_labels(["0", "9" * 5000], "list")
    (tmp_path / "bins.json").write_text(json.dumps(BINS))
    (tmp_path / "label.txt").write_text("00000.bin " + "9" * 5000)
    with pytest.raises(DataError, match=r"label\.txt: line 1"):
        BinFolder(tmp_path)


@pytest.mark.parametrize(("changes", "what"), [
    ({"count": 10 ** 12}, "has no line for 00001"), ({"class_names": ["a"]}, "class_names"),
    ({"class_names": [1, 2]}, "class_names"), ({"average": "median"}, "average"), ({"shape": [1 << 40] * 3}, "missing"),
    ({"labels": False, "sample_names": [1]}, "sample_names")])
def test_manifests_of_bin_folders(tmp_path, changes, what):
    (tmp_path / "bins.json").write_text(json.dumps({**BINS, **changes}))
    (tmp_path / "label.txt").write_text("00000.bin 0\n")
    with pytest.raises(DataError, match=what):
        BinFolder(tmp_path).check()


@pytest.mark.parametrize("bins", [3, [], "x", {"path": 3}, {"digest": [1]}])
def test_reports_that_name_no_bin_folder(tmp_path, bins):
    with pytest.raises(DataError, match="is damaged"):
        read_report(saved(tmp_path / "results.json", json.dumps({"bins": bins})))


@pytest.mark.parametrize("changes", [
    {"class_names": ["a"]}, {"class_names": [1, 2]}, {"class_names": "ab"}, {"top_k": "x"}, {"top_k": 0}, {"onnx": [1]},
    {"verified": "x"}, {"input": {"name": 3, "shape": [-1, 3]}}, {"input": {"name": "x", "shape": [10 ** 9, 10 ** 9]}},
    {"selfcheck": {"file": "", "tolerance": 1e-4}}, {"selfcheck": {"file": "../x", "tolerance": 1e-4}}])
def test_metadata(tmp_path, changes):
    path = tmp_path / "m.metadata.json"
    assert read_metadata(saved(path, json.dumps(METADATA)).with_name("m")) == METADATA
    with pytest.raises(ExportError, match="not valid metadata"):
        read_metadata(saved(path, json.dumps({**METADATA, **changes})).with_name("m"))


def test_archives_of_arrays_that_swell(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", input=np.zeros(20 << 20, "f4"))
    assert (tmp_path / "x.npz").stat().st_size < 1 << 20
    with pytest.raises(ValueError, match="bytes when unpacked"):
        read_arrays(tmp_path / "x.npz", ["input"])
    np.savez(tmp_path / "x.npz", input=np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    array, none = read_arrays(tmp_path / "x.npz", ["input", "scale"])
    np.testing.assert_array_equal(array, np.arange(6.0).reshape(2, 3))
    assert none is None and array.flags.writeable


def test_a_near_miss_among_many_names_is_found_soon():
    assert "did" not in near_miss("x" * 10 ** 6, ("y" * 1000 + str(i) for i in range(100_000)))
