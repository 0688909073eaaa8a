"""Anybody's keypoints: every form of file gives the array that was written into it; what is wrong is told with its
place; and the config that is written trains."""
import csv
import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT
from raw_files import kill_an_import

from paddlevideo_skel.build import build_recognizer, check_parts, input_shape
from paddlevideo_skel.cli import run_command
from paddlevideo_skel.config import load_config
from paddlevideo_skel.data.datasets import build_dataset
from paddlevideo_skel.data.readers import read_annotations
from paddlevideo_skel.errors import ConfigError, DataError
from paddlevideo_skel.importers import keypoints
from paddlevideo_skel.importers.journal import WITHOUT_STRICT, Source
from paddlevideo_skel.importers.keypoint_files import CHANNEL_NAMES, read_keypoints
from paddlevideo_skel.importers.keypoints import (
    clean,
    find_channels,
    find_recordings,
    guess_image_size,
    import_keypoints,
    read_clean_sample,
)
from paddlevideo_skel.importers.labels import number_labels, read_class_names, read_label_list
from paddlevideo_skel.importers.ready_config import choose_clip_length
from paddlevideo_skel.skeleton import get_layout, read_layout

FIVE = {"joints": ["hip", "neck", "head", "left_hand", "right_hand"], "bones": [[0, 1], [1, 2], [1, 3], [1, 4]],
        "center": 0, "left": [3], "right": [4]}
LAYOUT = get_layout({"name": "five", **FIVE})
AXES = ("x", "y", "z", "score")


def cell(value):
    return "" if np.isnan(value) else repr(float(value))


def write_rows(path, rows, delimiter=","):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def write_wide(path, keypoint, names, first=0, order=None, delimiter=","):
    """A row a frame and person, the joints in any order."""
    order = order if order is not None else range(keypoint.shape[2])
    joints = [(j, LAYOUT.joints[j]) for j in order]
    rows = [["frame", "person", *(f"{name}_{axis}" for _, name in joints for axis in names)]]
    for m in range(keypoint.shape[0]):
        for t in range(keypoint.shape[1]):
            rows.append([t + first, m, *(cell(v) for j, _ in joints for v in keypoint[m, t, j])])
    write_rows(path, rows, delimiter)


def write_long(path, keypoint, names, first=0, numbered=False):
    rows = [["frame", "person", "joint", *names]]
    for m, t, j in np.ndindex(keypoint.shape[:3]):
        rows.append([t + first, m, j if numbered else LAYOUT.joints[j], *map(cell, keypoint[m, t, j])])
    write_rows(path, rows)


@st.composite
def sequences(draw):
    """``(M, T, 5, C)`` with missing numbers, and what its channels are."""
    channels = draw(st.sampled_from(sorted(CHANNEL_NAMES)))
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 5)), 5, len(channels.replace("s", "S"))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    keypoint = rng.normal(0, 300, shape)
    keypoint[rng.random(shape) < draw(st.sampled_from((0.0, 0.2)))] = np.nan
    return keypoint, channels


@settings(max_examples=60)
@given(sequences(), st.integers(-3, 100), st.permutations(range(5)), st.sampled_from(",;\t"))
def test_every_form_gives_back_what_was_written(tmp_path_factory, given_, first, order, delimiter):
    keypoint, channels = given_
    folder = tmp_path_factory.mktemp("forms")
    names = CHANNEL_NAMES[channels]
    np.save(folder / "a.npy", keypoint)
    (folder / "a.json").write_text(json.dumps(np.where(np.isnan(keypoint), None, keypoint.astype(object)).tolist()))
    write_wide(folder / "wide.csv", keypoint, names, first, order, delimiter)
    write_long(folder / "long.csv", keypoint, names, first)
    write_long(folder / "numbered.csv", keypoint, names, first, numbered=True)
    forms = ["a.npy", "a.json", "wide.csv", "long.csv", "numbered.csv"]
    if len(keypoint) == 1:
        np.save(folder / "one.npy", keypoint[0])
        write_rows(folder / "bare.csv", [[cell(v) for v in row.ravel()] for row in keypoint[0]])
        forms += ["one.npy", "bare.csv"]
    for form in forms:
        found, told = read_keypoints(folder / form, LAYOUT)
        np.testing.assert_array_equal(found, keypoint, form)
        assert told == (channels if form in ("wide.csv", "long.csv", "numbered.csv") else None)


def test_rows_that_are_not_there_are_missing(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("frame,person,joint,x,y\n10,7,hip,1,2\n12,3,LEFT HAND,5,6\n")
    found, channels = read_keypoints(path, LAYOUT)
    assert found.shape == (2, 3, 5, 2) and channels == "xy"
    expected = np.full((2, 3, 5, 2), np.nan)
    expected[1, 0, 0], expected[0, 2, 3] = (1, 2), (5, 6)
    np.testing.assert_array_equal(found, expected)


def test_a_byte_order_mark_and_windows_lines_and_empty_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(("\ufeff" + "\r\n".join(["1,2,3,4,5,6,7,8,9,10", "", " 1, 2,3,4,5,6,7,8,,nan", ""])).encode())
    found, _ = read_keypoints(path, LAYOUT)
    assert found.shape == (1, 2, 5, 2)
    np.testing.assert_array_equal(found[0, 1, 4], [np.nan, np.nan])


HEADER = "hip_x,hip_y,neck_x,neck_y,head_x,head_y,left_hand_x,left_hand_y,right_hand_x,right_hand_y"
ROW = "1,2,3,4,5,6,7,8,9,10"
BAD = [
    ("a.csv", "", "has no rows"),
    ("a.csv", HEADER, "has no rows"),
    ("a.csv", f"{HEADER}\n{ROW}\n1,2,3", "row 3.*has 3 columns, expected 10"),
    ("a.csv", f"{HEADER}\n{ROW}\n1,2,3,4,five,6,7,8,9,10", r"row 3, column 5 \(head_x\): found 'five'"),
    ("a.csv", f"{ROW}\n1,2,3,4,5,6,inf,8,9,10", r"row 2, column 7: found 'inf'"),
    ("a.csv", "1,2,3,4\n", "4 unnamed columns"),
    ("a.csv", HEADER.replace("hip_y", "hip_q") + f"\n{ROW}", "column 2: found 'hip_q'"),
    ("a.csv", HEADER.replace("hip_y", "hip_x") + f"\n{ROW}", "column 2: duplicate name 'hip_x'"),
    ("a.csv", HEADER.replace("hip", "hips") + f"\n{ROW}", "missing hip; unknown hips"),
    ("a.csv", HEADER.replace("neck_y", "neck_z") + f"\n{ROW}", "'neck' has x, z, expected x, y as 'hip'"),
    ("a.csv", HEADER.replace("_y", "_z") + f"\n{ROW}", "joints have x, z, expected x, y"),
    ("a.csv", f"person,{HEADER}\n0,{ROW}", "a column 'person' but no column 'frame'"),
    ("a.csv", f"frame,{HEADER}\n0,{ROW}\n0,{ROW}", "row 3: duplicate row of frame 0, person 0"),
    ("a.csv", f"frame,{HEADER}\n0.5,{ROW}", r"row 2, column 1 \(frame\): found '0.5', expected an integer"),
    ("a.csv", f"frame,{HEADER}\n,{ROW}", "expected an integer"),
    ("a.csv", f"frame,{HEADER}\n0,{ROW}\n900000,{ROW}", "numbered from 0 to 900000, but there are only 2"),
    ("a.csv", "frame,joint,x,y\n0,knee,1,2", r"row 2, column 2 \(joint\): found the joint 'knee'"),
    ("a.csv", "frame,joint,x,y\n0,5,1,2", "found the joint '5'"),
    ("a.csv", "frame,joint,x\n0,1,2", "has no column 'y'"),
    ("a.csv", "frame,joint,x,y,w\n0,1,2,3,4", "column 5: unknown or duplicate name 'w'"),
    ("a.csv", "frame,joint,x,y\n0,1,2,3\n0,neck,4,5", "row 3: duplicate row of frame 0, person 0, joint 1"),
    ("a.csv", b"\xff\xfe\x00", "is not UTF-8 text"),
    ("a.csv", b"1,2,3,4,5,6,7,8,9,10\x00\n", "is not text: byte"),
    ("a.json", "[1, 2", "is not valid JSON"),
    ("a.json", "[" * 100000, "is not valid JSON"),
    ("a.json", '{"x": 1}', "an object with 'x', expected the key 'keypoint'"),
    ("a.json", "[[[1, 2], [3]]]", r"\[0\]\[1\]: has 1 items, expected 2"),
    ("a.json", '[[[1, "2"]]]', r"\[0\]\[0\]\[1\]: found '2', expected a number"),
    ("a.json", "[[[1, true]]]", r"found True, expected a number"),
    ("a.json", "[[[[[1]]]]]", "nested too deeply"),
    ("a.json", "[1, [2]]", r"\[0\]: found 1, expected lists"),
    ("a.json", "[1, 2]", "has shape"),
    ("a.json", "7", "the content: found 7, expected lists"),
    ("a.json", f"[[[{10**400}, 1]]]", "not form an array of numbers"),
    ("a.json", json.dumps([[[1, float("inf")]] * 5]), "at person 0, frame 0, joint 0, coordinate 1"),
    ("a.json", json.dumps([[[1, 1e39]] * 5]), "at person 0, frame 0, joint 0, coordinate 1"),
    ("a.npy", np.zeros((3, 4, 2)), "has 4 joints, the layout 'five' has 5"),
    ("a.npy", np.zeros((3, 5, 7)), "2 to 4 coordinates"),
    ("a.npy", np.zeros((0, 5, 2)), "has shape"),
    ("a.npy", np.zeros(3), "has shape"),
    ("a.npy", np.zeros((3, 5, 2), bool), "array of bool"),
    ("a.npy", b"no array", "not an .npy file"),
    ("gone.csv", None, "file not found"),
    ("gone.npy", None, "file not found"),
]


@pytest.mark.parametrize(("name", "content", "words"), BAD)
def test_bad_files_are_told_with_the_place(tmp_path, name, content, words):
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=words) as caught:
        read_keypoints(path, LAYOUT)
    assert name in str(caught.value)


def test_missing_joints_become_zeros_and_are_counted():
    nan = np.nan
    keypoint = np.array([[[[1, 2, 0.9], [nan, 2, 0.9], [3, 4, 0.1], [0, 0, 0.9], [5, 6, nan]]]])
    coordinates, score, lost = clean(keypoint, "xys", 0.2)
    np.testing.assert_array_equal(lost[0, 0], [False, True, True, True, True])
    np.testing.assert_array_equal(coordinates[0, 0], [[1, 2], [0, 0], [0, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(score[0, 0], np.float32([0.9, 0, 0, 0, 0]))
    spatial = np.array([[[[1, 2, 3, 0.9], [1, 2, 3, 0.1]]]])
    coordinates, score, lost = clean(spatial, "xyzs", 0.2)
    assert score is None and coordinates.dtype == np.float32
    np.testing.assert_array_equal(coordinates[0, 0], [[1, 2, 3], [0, 0, 0]])


@pytest.mark.parametrize(("name", "text"), [
    ("l.csv", "file,label\nb.csv,walk\na.csv,run\n"), ("l.csv", "b.csv;walk\na.csv;run\n"),
    ("l.txt", "b.csv walk\na.csv run\n"), ("l.txt", "b.csv,walk\n\na.csv,run"), ("l.tsv", "b.csv\twalk\na.csv\trun"),
    ("l.json", '{"b.csv": "walk", "a.csv": "run"}'), ("l.json", '[["b.csv", "walk"], ["a.csv", "run"]]')])
def test_label_lists(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_label_list(tmp_path / name) == [("b.csv", "walk"), ("a.csv", "run")]


@pytest.mark.parametrize(("name", "text", "words"), [
    ("l.csv", "a.csv,1\na.csv,2", "lists 'a.csv' twice"), ("l.csv", "a.csv,1,2", "row 1: has 3 columns"),
    ("l.csv", "a.csv,", "without file or label"), ("l.csv", "file,label", "has no"), ("l.csv", "", "has no"),
    ("l.json", "{}", "has no labels"), ("l.json", "[1]", "entry 0"), ("l.json", '{"a": true}', "entry 0"),
    ("l.json", "{", "not valid JSON"), ("l.txt", "a b c", "row 1: has 3 columns")])
def test_bad_label_lists(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        read_label_list(tmp_path / name)


def test_numbers_and_names_of_classes(tmp_path):
    assert number_labels(["2", "0", "2"], "l") == ([2, 0, 2], ["class 0", "class 1", "class 2"])
    assert number_labels(["walk", "run"], "l") == ([1, 0], ["run", "walk"])
    assert number_labels(["walk", "run"], "l", ["walk", "run", "sit"]) == ([0, 1], ["walk", "run", "sit"])
    assert number_labels(["1", "0"], "l", ["walk", "run"]) == ([1, 0], ["walk", "run"])
    for labels, names, words in ((["3"], ["a"], "the label 3, expected 0..0"), (["1.5"], None, "expected integers"),
                                 (["-1", "0"], None, "expected integers"), (["99999999"], None, "the label 99999999"),
                                 (["wlk"], ["walk"], "Did you mean 'walk'")):
        with pytest.raises(DataError, match=words):
            number_labels(labels, "l", names)
    (tmp_path / "names.txt").write_text("walk\nrun\n\n")
    assert read_class_names(tmp_path / "names.txt") == ["walk", "run"]
    (tmp_path / "names.txt").write_text("walk\nwalk\n")
    with pytest.raises(DataError, match="2 class names, but only 1 are distinct"):
        read_class_names(tmp_path / "names.txt")


def test_layouts_by_name_and_in_files(tmp_path):
    assert read_layout("coco") is get_layout("coco")
    for name, content in (("five.yaml", yaml.safe_dump(FIVE)), ("five.json", json.dumps(FIVE)),
                          ("any.yaml", yaml.safe_dump({"LAYOUT": {"five": FIVE}}))):
        (tmp_path / name).write_text(content)
        assert read_layout(str(tmp_path / name)) == LAYOUT
    for content, words in (("LAYOUT: {a: {}, b: {}}", "expected one name"),
                           ("- 1", "expected joints, bones and center"), ("joints: 3", "needs 'bones'"),
                           ("a: [", "is not valid YAML"),
                           ("!!python/object/apply:os.system [id]", "is not valid YAML")):
        (tmp_path / "bad.yaml").write_text(content)
        with pytest.raises(ConfigError, match=words):
            read_layout(str(tmp_path / "bad.yaml"))
    with pytest.raises(ConfigError, match="unknown layout 'cocoa'"):
        read_layout("cocoa")


@pytest.fixture
def folder(tmp_path):
    """Ten sequences in 3D, of two actions by five persons, that differ in length."""
    rng, place = np.random.default_rng(0), tmp_path / "raw"
    place.mkdir()
    rows = []
    for i in range(10):
        keypoint = rng.normal(0, 1, (1, 14 + i, 5, 3)) + (i % 2) * np.linspace(0, 3, 14 + i)[None, :, None, None]
        keypoint[0, 3, 2, 1] = np.nan
        if i % 3:
            np.save(place / f"p{i // 2}_{i % 2}.npy", keypoint)
        else:
            write_long(place / f"p{i // 2}_{i % 2}.csv", keypoint, ("x", "y", "z"))
        rows.append((f"p{i // 2}_{i % 2}", ("fall", "rise")[i % 2]))
    write_rows(place / "labels.csv", rows)
    (tmp_path / "five.yaml").write_text(yaml.safe_dump(FIVE))
    return tmp_path


def test_where_samples_and_labels_are_found(folder, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo_skel"), "propagate", True)
    raw = folder / "raw"
    found = find_recordings(raw, raw / "labels.csv")
    assert found.names[:3] == ["p0_0", "p0_1", "p1_0"] and found.labels[:2] == ["fall", "rise"]
    assert [file.suffix for file in found.files[:2]] == [".csv", ".npy"]
    write_rows(folder / "list.csv", [("raw/p0_0.csv", "fall"), ("raw/p0_1.npy", "rise")])
    assert find_recordings(folder / "list.csv").names == ["raw/p0_0", "raw/p0_1"]
    (raw / "some.csv").write_text("p0_0,fall\np1_1.csv,rise\n")
    (raw / "labels.csv").unlink()
    assert find_recordings(raw, raw / "some.csv").names == ["p0_0", "p1_1"]
    assert f"8 files of {raw} have no label and are omitted" in caplog.text
    (raw / "some.csv").unlink()
    (raw / "fall").mkdir()
    (raw / "p0_0.csv").rename(raw / "fall" / "p0_0.csv")
    with pytest.raises(DataError, match="has no label: without --labels"):
        find_recordings(raw)
    for file in [*raw.glob("*.csv"), *raw.glob("*.npy")]:
        file.unlink()
    assert find_recordings(raw).labels == ["fall"]


def test_wrong_sources(folder):
    raw = folder / "raw"
    with pytest.raises(ConfigError, match="is a list that already has labels"):
        find_recordings(raw / "labels.csv", raw / "labels.csv")
    with pytest.raises(DataError, match="file not found"):
        find_recordings(raw / "labels.csv")
    (folder / "other.csv").write_text("p0_0,fall\np0_0.csv,fall")
    with pytest.raises(DataError, match="twice, with and without its suffix"):
        find_recordings(raw, folder / "other.csv")
    (folder / "other.csv").write_text("p9_9,fall\n")
    with pytest.raises(DataError, match="which is not in"):
        find_recordings(raw, folder / "other.csv")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no \.csv, \.tsv"):
        find_recordings(folder / "empty")
    (folder / "twins").mkdir()
    for suffix in ("npy", "json"):
        (folder / "twins" / f"a.{suffix}").write_text("")
    (folder / "twins.csv").write_text("twins/a.npy,1\ntwins/a.json,2")
    with pytest.raises(DataError, match="two files named 'twins/a'"):
        find_recordings(folder / "twins.csv")


def test_what_the_third_number_is_must_be_known(folder):
    file, named = folder / "raw" / "p0_1.npy", folder / "raw" / "p0_0.csv"
    with pytest.raises(ConfigError, match="x, y, z or x, y, score"):
        find_channels(file, LAYOUT)
    assert find_channels(named, LAYOUT) == "xyz"

    def read(channels, file=file):
        return read_clean_sample(Source.of("a", file), LAYOUT, channels, min_score=-9)

    array, facts = read("xyz")
    assert array.shape[3] == 3 and facts == {"missing": 1}
    keypoint = read_keypoints(file, LAYOUT)[0]
    keypoint[0, 3, 2] = 0
    np.testing.assert_array_equal(read("xys")[0], keypoint.astype("float32"))
    with pytest.raises(DataError, match="3 numbers per joint"):
        read("xy")
    with pytest.raises(DataError, match=r"\(xyz\), expected xys"):
        read("xys", named)
    np.save(file, np.full((3, 5, 3), np.nan))
    with pytest.raises(DataError, match="every joint is missing"):
        read("xyz")


def test_the_data_set_holds_what_the_files_held(folder):
    raw = folder / "raw"
    lines = import_keypoints(raw, folder / "mine.pkl", LAYOUT, raw / "labels.csv", channels="xyz",
                             subject=r"p(\d)_", shares=("0.6", "0.4"))
    annotations = {a.name: a for a in read_annotations(folder / "mine.pkl")}
    assert len(annotations) == 10 and "10 samples of 2 classes" in lines[0]
    for name, annotation in annotations.items():
        file = next(raw.glob(f"{name}.*"))
        expected, _ = read_keypoints(file, LAYOUT)
        expected[np.isnan(expected).any(axis=-1)] = 0
        np.testing.assert_array_equal(annotation.keypoint, expected.astype("float32"))
        assert annotation.label == int(name[-1])
    train, val = ({a.name[:2] for a in read_annotations(folder / "mine.pkl", split)} for split in ("train", "val"))
    assert len(train) == 3 and len(val) == 2 and not train & val
    assert any("missing joints: 10 of" in line for line in lines)
    lines = import_keypoints(raw, folder / "mine.pkl", LAYOUT, raw / "labels.csv", ["trip", "fall", "rise"], "xyz")
    assert "classes without samples: trip" in lines


def test_processes_read_the_same(folder):
    argv = folder / "raw", folder / "mine.pkl", LAYOUT, folder / "raw" / "labels.csv", None, "xyz"
    told = import_keypoints(*argv)
    alone = content(folder)
    assert import_keypoints(*argv, workers=2) == told and content(folder) == alone
    (folder / "raw" / "p3_1.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"p3_1\.npy: "):
        import_keypoints(*argv, workers=2)
    with pytest.raises(DataError, match=r"gone\.npy: cannot be read \(No such file"):
        Source.of("gone", folder / "gone.npy")


# Interrupted


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """120 CSV files, a joint a row, which take a second or two to read; and the arguments of their import."""
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    for i in range(120):
        (folder / "raw" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        keypoint = rng.normal(0, 1, (1, 12 + i % 5, 5, 3))
        keypoint[rng.random(keypoint.shape) < 0.02] = np.nan
        write_long(folder / "raw" / "ab"[i % 2] / f"{i}.csv", keypoint, ("x", "y", "score"))
    (folder / "five.yaml").write_text(yaml.safe_dump(FIVE))
    return ["--input", str(folder / "raw"), "--layout", str(folder / "five.yaml"), "--workers", "2"]


def content(folder):
    """What stands in the files of a folder, by their names; also in hidden ones."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_an_import_that_was_killed_goes_on(many, tmp_path):
    """Killed while it reads: the same bytes as without a break, nothing else left, and what was read not read again."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [sys.executable, str(ROOT / "tools/data/keypoints.py"), *many, "--out", "mine.pkl"]
    for folder in (whole, broken):
        folder.mkdir()
    first = subprocess.run(command, cwd=whole, capture_output=True, text=True, timeout=300)
    assert first.returncode == 0, first.stderr
    kill_an_import(command, broken / ".import-mine.pkl" / "journal.jsonl", broken)
    assert not (broken / "mine.pkl").exists()
    (broken / ".mine.pkl.0a1b2c3d.tmp").touch()  # as if an earlier one had been killed while it wrote
    done = subprocess.run(command, cwd=broken, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "of 120 files were read before" in done.stdout and done.stdout.endswith(first.stdout)
    assert content(broken) == content(whole)
    assert sorted(path.name for path in broken.iterdir()) == ["mine.pkl", "mine.yaml"]


@pytest.mark.parametrize(("change", "known"), [
    ([], 7), (["--seed", "3", "--img_shape", "9", "9"], 7), (["--min_score", "0.1"], 0), (["--channels", "xyz"], 0),
    (["--layout", "six.yaml"], 0)])
def test_what_was_read_otherwise_is_read_again(tmp_path, capsys, monkeypatch, change, known):
    """Split and picture are not part of what is read; channels, scores and the skeleton are."""
    rng, names = np.random.default_rng(0), [f"{'ab'[i > 4]}/{i}" for i in range(10)]
    for name in names:
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "raw" / f"{name}.npy", rng.normal(0, 1, (12, 5, 3)))
    for name, layout in (("five", FIVE), ("six", {**FIVE, "left": [], "right": []})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(layout))
    bad = tmp_path / "raw" / f"{names[7]}.npy"
    good = bad.read_bytes()
    bad.write_bytes(good[:200])
    monkeypatch.chdir(tmp_path)
    argv = ["--input", "raw", "--out", "mine.pkl", "--layout", "five.yaml", "--channels", "xys", "--workers", "0"]
    assert run_command("import-keypoints", argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: raw/{names[7]}.npy: ") and WITHOUT_STRICT not in error  # there is no such flag
    bad.write_bytes(good)
    read = []
    monkeypatch.setattr(keypoints, "read_clean_sample",
                        lambda source, **how: read.append(source.name) or read_clean_sample(source, **how))
    assert run_command("import-keypoints", [*argv, *change]) == 0
    assert read == names[known:]


def test_pixels_get_a_picture_and_scores_stay_apart(tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "raw" / "a").mkdir(parents=True)
    (tmp_path / "raw" / "b").mkdir()
    for i in range(6):
        keypoint = rng.uniform(0, 1, (2, 22, 17, 3)) * (640, 480, 1)
        np.save(tmp_path / "raw" / "ab"[i % 2] / f"{i}.npy", keypoint)
    lines = import_keypoints(tmp_path / "raw", tmp_path / "mine.pkl", get_layout("coco"))
    annotations = read_annotations(tmp_path / "mine.pkl")
    height, width = annotations[0].img_shape
    assert 470 < height <= 480 and 630 < width <= 640 and any(line.startswith("image: assumed") for line in lines)
    assert (height, width) == guess_image_size(annotations)
    assert annotations[0].keypoint_score.shape == (2, 22, 17)
    import_keypoints(tmp_path / "raw", tmp_path / "mine.pkl", get_layout("coco"), img_shape=(480, 640))
    assert read_annotations(tmp_path / "mine.pkl")[0].img_shape == (480, 640)
    config = load_config(tmp_path / "mine.yaml")
    check_parts(config, ("train", "valid", "test"))
    model = build_recognizer(config)
    assert input_shape(config, model, "train") == (1, 2, 24, 17, 3)
    assert len(build_dataset(config["DATASET"]["train"], "train", 2)) == 4  # 3 of a class: 2.4, so 2


def test_the_clip_is_about_as_long_as_the_sequences():
    lengths = [5], [30, 34], [44], [300, 400], [20, 22, 90]
    assert list(map(choose_clip_length, lengths)) == [16, 32, 48, 100, 24]


def test_the_written_config_trains(folder, capsys):
    """The command that the importer prints, word for word but for the folder and fewer epochs."""
    argv = ["--input", folder / "raw", "--labels", folder / "raw" / "labels.csv", "--layout", folder / "five.yaml",
            "--out", folder / "mine.pkl", "--channels", "xyz", "--split", "0.6"]
    assert run_command("import-keypoints", list(map(str, argv))) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == f"next: python main.py --validate -c {folder / 'mine.yaml'}"
    config = load_config(folder / "mine.yaml")
    assert config["class_names"] == ["fall", "rise"] and config["MODEL"]["backbone"]["layout"]["center"] == 0
    assert run_command("train", [
        "--validate", "-c", str(folder / "mine.yaml"), "-o", f"output_dir={folder / 'out'}", "-o", "epochs=2",
        "-o", "OPTIMIZER.learning_rate.max_epoch=2"]) == 0
    said = capsys.readouterr().out
    assert "training STGCN_PlusPlus_own finished" in said
    assert (folder / "out" / "STGCN_PlusPlus_own_best.pdparams").is_file()


def test_the_command_tells_what_is_wrong_in_one_line(folder, capsys):
    good = ["--input", folder / "raw", "--labels", folder / "raw" / "labels.csv", "--layout", folder / "five.yaml",
            "--out", folder / "mine.pkl", "--channels", "xyz"]

    def error(*changes):
        status = run_command("import-keypoints", [str(part) for part in (*good, *changes)])
        captured = capsys.readouterr()
        assert status == 2 and captured.err.count("\n") == 1 and not list(folder.glob("*.pkl"))
        return captured.err

    assert "--layout" in error("--layout", "coca")
    assert "expected a path that ends with .pkl" in error("--out", folder / "mine.npy")
    assert "--split" in error("--split", "1.5") and "--split" in error("--split", "much")
    assert "--seed" in error("--seed", "-1") and "--workers" in error("--workers", "-1")
    assert "--img_shape" in error("--img_shape", "0", "5")
    assert "not a regular expression" in error("--split_by", "(")
    assert "does not match" in error("--split_by", r"q(\d)")


def test_the_data_tools_need_no_paddle(folder):
    """From files to a data set, looked at, split again, converted there and back: where paddle cannot be imported."""
    mine, argv = str(folder / "mine.pkl"), ["--input", folder / "raw", "--labels", folder / "raw" / "labels.csv",
                                            "--layout", folder / "five.yaml", "--out", folder / "mine.pkl"]
    commands = [("import-keypoints", [*map(str, argv), "--channels", "xyz"]), ("inspect-data", [mine]),
                ("split-data", [mine, "-o", mine, "--parts", "a=0.5", "b=0.5"]),
                ("convert-data", [mine, "-o", str(folder / "npy"), "--split", "a", "b"]),
                ("convert-data", [str(folder / "npy" / "a_data.npy"), "-o", str(folder / "a.pkl")])]
    code = ("import sys\nsys.modules['paddle'] = None\nfrom paddlevideo_skel.cli import run_command\n"
            f"sys.exit(max(run_command(*command) for command in {commands!r}))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(read_annotations(folder / "a.pkl", "a")) == len(read_annotations(folder / "mine.pkl", "a")) > 3
