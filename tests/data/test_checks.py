"""Every bad sample of a training is listed before its first step; with --skip_bad it trains without them."""
import csv
import os
import pickle
import re

import numpy as np
import pytest
from small_config import run
from training_runs import assert_same_end

from paddlevideo_skel.data.checks import BadSample, SampleChecker, drop_samples, write_bad_samples
from paddlevideo_skel.data.datasets import build_dataset
from paddlevideo_skel.errors import DataError

JOINTS, CLASSES = 25, 4


def array(count=7):
    return np.random.default_rng(0).normal(size=(count, 3, 5, JOINTS, 2)).astype("float32")


def save(folder, data, labels):
    np.save(folder / "data.npy", data)
    np.save(folder / "label.npy", labels)
    return build_dataset({"format": "SkeletonDataset", "file_path": str(folder / "data.npy"),
                          "label_path": str(folder / "label.npy")}, "DATASET.train")


def examine(folder, dataset):
    return SampleChecker(folder / "examined.json", True).check(dataset, CLASSES, JOINTS)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["float32", "float64", "float16"])
def test_bad_samples_of_an_array(tmp_path, kind, order, monkeypatch):
    data, labels = array(), np.array([0, 1, 2, 3, 0, 1, 2])
    data[1, 2, 3, 4, 1], data[2, 0, 0, 0, 0], data[3], labels[4], data[6, 0, 1, 2, 0] = np.nan, -np.inf, 0, 4, np.inf
    labels[6] = -1
    monkeypatch.setattr("paddlevideo_skel.data.checks.BLOCK_BYTES", 2 * data[0].nbytes)
    dataset = save(tmp_path, np.asarray(data.astype(kind), order=order), labels)
    reasons, _ = examine(tmp_path, dataset)
    assert {i: re.sub(r" \(\d+ in all\)", "", reason) for i, reason in reasons.items()} == {
        1: "found the coordinate nan at person 1, frame 3, joint 4",
        2: "found the coordinate -inf at person 0, frame 0, joint 0",
        3: "has no person: all coordinates are 0", 4: "its label is 4, expected 0..3 for 4 classes",
        6: "found the coordinate inf at person 0, frame 1, joint 2"}
    rest = drop_samples(dataset, reasons)
    assert rest.names == [f"{tmp_path}/data.npy[{i}]" for i in (0, 5)]
    assert rest.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(rest[1].data, data[5].astype(kind))
    assert rest[1].label == 1


def test_the_digest_tells_contents_apart_and_a_file_is_read_once(tmp_path, monkeypatch):
    data, labels = array(), np.zeros(7, int)
    first = examine(tmp_path, save(tmp_path, data, labels))[1]
    assert examine(tmp_path, save(tmp_path, data, labels))[1] == first
    dataset = save(tmp_path, data, labels)
    assert examine(tmp_path, dataset)[1] == first

    def again(*_):
        raise AssertionError("read again")

    with monkeypatch.context() as patched:
        for name in ("_scan", "_digest"):
            patched.setattr(f"paddlevideo_skel.data.checks.{name}", again)
        assert examine(tmp_path, dataset) == ({}, first)
        os.utime(tmp_path / "data.npy", ns=(0, 0))
        with pytest.raises(AssertionError, match="read again"):
            examine(tmp_path, dataset)
    data[3, 0, 0, 0, 0] += 1
    assert examine(tmp_path, save(tmp_path, data, labels))[1] != first
    data[3, 0, 0, 0, 0] -= 1
    assert examine(tmp_path, save(tmp_path, data, labels))[1] != examine(tmp_path, save(tmp_path, data, labels + 1))[1]
    (tmp_path / "examined.json").write_text("{damaged")
    assert examine(tmp_path, save(tmp_path, data, labels))[1] == first


def test_other_joints(tmp_path):
    dataset = save(tmp_path, array(), np.zeros(7, int))
    with pytest.raises(DataError, match="has 25 joints, but the model takes 17"):
        SampleChecker(tmp_path / "examined.json", True).check(dataset, CLASSES, 17)


def annotations(folder, change):
    entries = [{"frame_dir": f"s{i}", "label": i % CLASSES, "keypoint": person} for i, person in enumerate(
        np.random.default_rng(0).normal(size=(6, 1, 5, JOINTS, 3)).astype("float32"))]
    change(entries)
    (folder / "data.pkl").write_bytes(pickle.dumps(entries))
    bad = []
    dataset = build_dataset({"format": "NTUCSSkeletonDataset", "file_path": str(folder / "data.pkl"),
                             "repeat_times": 2}, "DATASET.train", bad=bad)
    return dataset, bad


def test_bad_annotations(tmp_path):
    def change(entries):
        entries[0]["keypoint"] = entries[0]["keypoint"][..., :20, :]
        entries[1]["keypoint"][0, 1, 2] = np.nan
        entries[2]["keypoint"][:] = 0
        entries[3]["keypoint"] = entries[3]["keypoint"][..., :2]
        del entries[4]["label"]
    dataset, bad = annotations(tmp_path, change)
    assert [name for name, _ in bad] == ["s1", "s4"]
    assert "frame 1, joint 2" in bad[0][1] and bad[1][1] == "has no label"
    reasons, digest = examine(tmp_path, dataset)
    assert [dataset.names[i] for i in reasons] == ["s0", "s2", "s3"]
    assert list(reasons.values()) == [
        "has 20 joints, but the model takes 25", "has no person: all coordinates are 0",
        "has 2 coordinates without scores, but most others have 3 without"]
    rest = drop_samples(dataset, reasons)
    assert rest.names == ["s5", "s5"] and [rest[i].name for i in range(2)] == ["s5", "s5"]
    assert digest != examine(tmp_path, annotations(tmp_path, lambda entries: None)[0])[1]


def test_nothing_bad(tmp_path):
    dataset, bad = annotations(tmp_path, lambda entries: None)
    assert not bad
    reasons, _ = examine(tmp_path, dataset)
    assert drop_samples(dataset, reasons) is dataset


def test_a_file_cut_short_while_it_is_used(tmp_path):
    dataset = save(tmp_path, array(), np.zeros(7, int))
    os.truncate(tmp_path / "data.npy", 4000)
    with pytest.raises(DataError, match=r"samples 6 to 6 can no longer be read"):
        dataset[6]
    with pytest.raises(IndexError):
        dataset[7]


@pytest.fixture
def spoilt(sample_set, tmp_path):
    """The sample set with three bad samples: two for training, one for validation; and their names."""
    content = pickle.loads((sample_set / "ntu_3d.pkl").read_bytes())
    by_name = {entry["frame_dir"]: entry for entry in content["annotations"]}
    train, valid = content["split"]["xsub_train"], content["split"]["xsub_val"]
    by_name[train[3]]["keypoint"][0, 0, 0] = np.nan
    by_name[train[5]]["label"] = 9
    by_name[valid[1]]["keypoint"][:] = 0
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(content))
    return tmp_path / "bad.pkl", [train[3], train[5], valid[1]]


def overrides(path):
    return [f"DATASET.{split}.file_path={path}" for split in ("train", "valid")]


def test_a_run_stops_before_its_first_step_with_the_whole_list(shared_config, spoilt, tmp_path):
    path, names = spoilt
    with pytest.raises(DataError) as caught:
        run(shared_config, tmp_path / "out", *overrides(path))
    message = str(caught.value)
    for part in ("3 samples cannot be used", *names, "its label is 9", "frame 0, joint 0", "has no person",
                 "bad_samples.csv", "--skip_bad"):
        assert part in message
    with open(tmp_path / "out" / "bad_samples.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["sample"]) for row in rows] == list(zip(("train", "train", "valid"), names))
    assert {row["file"] for row in rows} == {str(path)}
    assert "train step" not in (tmp_path / "out" / "train.log").read_text()


def test_skipping_them_is_training_on_the_others(shared_config, spoilt, sample_set, tmp_path):
    path, names = spoilt
    run(shared_config, tmp_path / "out", *overrides(path), skip_bad=True)
    assert "3 samples cannot be used and are omitted" in (tmp_path / "out" / "train.log").read_text()
    content = pickle.loads((sample_set / "ntu_3d.pkl").read_bytes())
    content["annotations"] = [entry for entry in content["annotations"] if entry["frame_dir"] not in names]
    content["split"] = {key: [name for name in split if name not in names] for key, split in content["split"].items()}
    (tmp_path / "good.pkl").write_bytes(pickle.dumps(content))
    run(shared_config, tmp_path / "good", *overrides(tmp_path / "good.pkl"))
    assert_same_end(tmp_path / "out", tmp_path / "good")
    assert not (tmp_path / "good" / "bad_samples.csv").exists()


def test_no_sample_is_left(shared_config, tmp_path, sample_set):
    with pytest.raises(DataError, match=r"32 samples cannot be used: .*; and 29 more.*no other samples are left"):
        content = pickle.loads((sample_set / "ntu_3d.pkl").read_bytes())
        for entry in content["annotations"]:
            entry["keypoint"] = np.zeros_like(entry["keypoint"])
        (tmp_path / "bad.pkl").write_bytes(pickle.dumps(content))
        run(shared_config, tmp_path / "out", f"DATASET.train.file_path={tmp_path}/bad.pkl", skip_bad=True)


def test_the_list_goes_when_nothing_is_bad_any_more(tmp_path):
    path = tmp_path / "bad_samples.csv"
    write_bad_samples([BadSample("train", "a.pkl", "x, \"y\"", "is bad")], path)
    with open(path, encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["split", "file", "sample", "reason"], ["train", "a.pkl", 'x, "y"', "is bad"]]
    write_bad_samples([], path)
    assert not path.exists()
