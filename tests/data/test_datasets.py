"""Data sets and their labels."""
import pickle

import numpy as np
import pytest

from paddlevideo_skel.data.datasets import build_dataset, read_labels
from paddlevideo_skel.errors import ConfigError, DataError


@pytest.fixture
def files(tmp_path):
    data = np.random.default_rng(0).random((5, 3, 6, 4, 2)).astype("float32")
    np.save(tmp_path / "data.npy", data)
    np.save(tmp_path / "label.npy", np.array([0, 1, 2, 1, 0]))
    (tmp_path / "label.pkl").write_bytes(pickle.dumps((["a", "b", "c", "d", "e"], [0, 1, 2, 1, 0])))
    entries = [{"frame_dir": f"s{i}", "label": i % 3, "keypoint": np.ones((1, 4 + i, 5, 2), "float16")}
               for i in range(6)]
    (tmp_path / "set.pkl").write_bytes(pickle.dumps({"split": {"train": ["s0", "s3", "s5"]}, "annotations": entries}))
    return tmp_path, data


def skeletons(folder, num_classes=3, **changes):
    spec = {"format": "SkeletonDataset", "file_path": str(folder / "data.npy"),
            "label_path": str(folder / "label.pkl")}
    return build_dataset({**spec, **changes}, "c.yaml: DATASET.train", num_classes)


def annotations(folder, num_classes=3, **changes):
    spec = {"format": "NTUCSSkeletonDataset", "file_path": str(folder / "set.pkl")}
    return build_dataset({**spec, **changes}, "c.yaml: DATASET.train", num_classes)


def test_skeleton_dataset(files):
    folder, data = files
    dataset = skeletons(folder)
    assert len(dataset) == 5 and dataset.names == ["a", "b", "c", "d", "e"]
    assert dataset.labels.dtype == np.int64 and dataset.labels.tolist() == [0, 1, 2, 1, 0]
    for i in range(5):
        np.testing.assert_array_equal(dataset[i].data, data[i])
        assert (dataset[i].name, dataset[i].label) == ("abcde"[i], [0, 1, 2, 1, 0][i])
    assert isinstance(dataset.data, np.memmap)
    plain = skeletons(folder, label_path=str(folder / "label.npy"))
    assert plain.labels.tolist() == [0, 1, 2, 1, 0] and plain.names[1].endswith("data.npy[1]")
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[3].keypoint, dataset[3].keypoint)


def test_without_labels(files):
    folder, _ = files
    dataset = skeletons(folder, label_path=None, test_mode=True)
    assert dataset.labels is None and dataset[0].label is None
    with pytest.raises(DataError, match=r"data.npy.*label_path"):
        skeletons(folder, label_path=None)


def test_relative_paths_count_from_the_working_directory(files, monkeypatch):
    folder, _ = files
    monkeypatch.chdir(folder)
    spec = {"format": "SkeletonDataset", "file_path": "data.npy", "label_path": "./label.npy"}
    assert len(build_dataset(spec, "w")) == 5


def test_annotation_dataset(files):
    folder, _ = files
    dataset = annotations(folder, split="train", repeat_times=3)
    assert len(dataset) == 9 and dataset.names == ["s0", "s3", "s5"] * 3
    assert dataset.labels.tolist() == [0, 0, 2] * 3
    assert [dataset[i].name for i in range(9)] == dataset.names
    assert dataset[4].keypoint.shape == (1, 7, 5, 2)
    assert len(annotations(folder, format="UCF101SkeletonDataset")) == 6
    with pytest.raises(IndexError):
        dataset[9]


def test_labels_outside_the_classes(files):
    folder, _ = files
    with pytest.raises(DataError, match=r"data.npy: c: its label is 2, expected 0\.\.1 for 2 classes"):
        skeletons(folder, num_classes=2)
    with pytest.raises(DataError, match=r"set.pkl: s2: its label is 2, expected 0\.\.1"):
        annotations(folder, num_classes=2)
    np.save(folder / "label.npy", np.array([0, 1, -1, 1, 0]))
    with pytest.raises(DataError, match=r"data.npy\[2\]: its label is -1"):
        skeletons(folder, label_path=str(folder / "label.npy"))


def test_numbers_of_labels_and_samples(files):
    folder, _ = files
    np.save(folder / "label.npy", np.arange(4))
    with pytest.raises(DataError, match=r"4 labels for the 5 samples"):
        skeletons(folder, label_path=str(folder / "label.npy"))
    (folder / "label.pkl").write_bytes(pickle.dumps((["a"], [0, 1, 2, 3, 4])))
    with pytest.raises(DataError, match="1 names and 5 labels"):
        skeletons(folder)


@pytest.mark.parametrize(("content", "expected"), [
    ([3, 1, 2], [3, 1, 2]), ((["a", "b"], (0, 4)), [0, 4]), ((["a", "b"], np.array([0, 4], "int8")), [0, 4]),
    (np.array([[1], [2]]), [1, 2]), (np.array([1.0, 2.0]), [1, 2]), ([5, 6], [5, 6])])
def test_forms_of_labels(tmp_path, content, expected):
    (tmp_path / "label.pkl").write_bytes(pickle.dumps(content, 2))
    labels = read_labels(tmp_path / "label.pkl")[1]
    assert labels.tolist() == expected and labels.dtype == np.int64


@pytest.mark.parametrize("content", ["text", {"a": 1}, [[1, 2, 3], [3]], 3, [0.5, 1], ["a", "b"], None, [True, False],
                                     np.zeros((2, 3), int)])
def test_what_are_no_labels(tmp_path, content):
    (tmp_path / "label.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r"label.pkl"):
        read_labels(tmp_path / "label.pkl")


def test_annotations_with_and_without_labels(files):
    folder, _ = files
    keypoint = np.ones((1, 4, 5, 2))
    (folder / "set.pkl").write_bytes(pickle.dumps([{"frame_dir": "x", "keypoint": keypoint}]))
    assert annotations(folder, test_mode=True).labels is None
    with pytest.raises(DataError, match=r"set.pkl: x: has no label"):
        annotations(folder)
    (folder / "set.pkl").write_bytes(pickle.dumps([{"frame_dir": "x", "keypoint": keypoint},
                                                   {"frame_dir": "y", "label": 0, "keypoint": keypoint}]))
    with pytest.raises(DataError, match=r"x: has no label"):
        annotations(folder, test_mode=True)


@pytest.mark.parametrize("shape", [(3, 6, 4, 2), (5, 4, 6, 4, 2), (0, 3, 6, 4, 2), (5, 3, 0, 4, 2)])
def test_wrong_shapes(files, shape):
    folder, _ = files
    np.save(folder / "data.npy", np.ones(shape))
    with pytest.raises(DataError, match=r"data.npy"):
        skeletons(folder)


@pytest.mark.parametrize(("spec", "what"), [
    ({"format": "SkeletonDatset", "file_path": "x"}, "Did you mean 'SkeletonDataset'"),
    ({}, "format"), (None, "format"),
    ({"format": "SkeletonDataset"}, "needs the argument 'file_path'"),
    ({"format": "NTUCSSkeletonDataset", "file_path": "x", "repeat_times": 0}, "repeat_times is 0"),
    ({"format": "NTUCSSkeletonDataset", "file_path": "x", "split": ["a"]}, "split is"),
    ({"format": "NTUCSSkeletonDataset", "file_path": "x", "label_path": "y"}, "no argument 'label_path'"),
    ({"format": "SkeletonDataset", "file_path": "x", "test_mode": "Fasle"}, "test_mode is 'Fasle'"),
])
def test_wrong_specs(spec, what):
    with pytest.raises(ConfigError, match=what):
        build_dataset(spec, "c.yaml: DATASET.train")


def test_missing_files():
    with pytest.raises(DataError, match=r"absent.npy: file not found"):
        build_dataset({"format": "SkeletonDataset", "file_path": "absent.npy", "test_mode": True}, "w")
    with pytest.raises(DataError, match=r"absent.pkl: file not found"):
        build_dataset({"format": "UCF101SkeletonDataset", "file_path": "absent.pkl"}, "w")
