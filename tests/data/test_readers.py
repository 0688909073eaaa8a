"""The door: every kind of file, and every kind of wrong field, told with the sample's name."""
import pickle

import numpy as np
import pytest
from paths import SHARED

from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.data.readers import check_annotation, check_labels, check_usable, read_annotations, read_sample
from paddlevideo_skel.errors import DataError


def entry(name="a", **changes):
    keypoint = np.random.default_rng(0).random((2, 5, 17, 2)).astype("float16")
    return {"frame_dir": name, "label": 1, "keypoint": keypoint, "keypoint_score": np.ones((2, 5, 17), "float16"),
            "img_shape": (4, 6), "total_frames": 5, **changes}


@pytest.fixture
def save(tmp_path):
    def save(content):
        path = tmp_path / "set.pkl"
        path.write_bytes(pickle.dumps(content))
        return path
    return save


def test_data_set_with_splits_and_bare_forms(save):
    entries = [entry("a"), entry("b", label=0), entry("c")]
    path = save({"split": {"train": ["c", "a"], "val": ["b"]}, "annotations": entries})
    assert [a.name for a in read_annotations(path)] == ["a", "b", "c"]
    assert [a.name for a in read_annotations(path, "train")] == ["a", "c"]
    found, = read_annotations(path, "val")
    assert (found.label, found.img_shape, found.keypoint.dtype) == (0, (4, 6), np.float16)
    np.testing.assert_array_equal(found.keypoint, entries[1]["keypoint"])
    assert [a.name for a in read_annotations(save(entries))] == ["a", "b", "c"]
    assert [a.name for a in read_annotations(save(entries[0]))] == ["a"]
    other = {"filename": "clip.avi", "keypoint": np.ones((3, 25, 3))}
    found, = read_annotations(save(other))
    assert (found.name, found.keypoint.shape, found.label) == ("clip.avi", (1, 3, 25, 3), None)


def test_split_errors(save):
    path = save({"split": {"xsub_train": ["a"], "xsub_val": ["b", "z1"], "empty": []},
                 "annotations": [entry("a"), entry("b")]})
    with pytest.raises(DataError, match=r"xsub_vall.*Did you mean 'xsub_val'"):
        read_annotations(path, "xsub_vall")
    with pytest.raises(DataError, match=r"1 sequence.*without annotation.*z1"):
        read_annotations(path, "xsub_val")
    with pytest.raises(DataError, match="is empty"):
        read_annotations(path, "empty")
    with pytest.raises(DataError, match="has no splits"):
        read_annotations(save([entry("a")]), "xsub_val")
    with pytest.raises(DataError, match=r"set.pkl: a: duplicate name"):
        read_annotations(save([entry("a"), entry("a")]))


@pytest.mark.parametrize("content", [3, "text", {"a": 1}, [1, 2], {"annotations": 3}, {"annotations": [None]}, [], {},
                                     {"split": {}, "annotations": []}, [entry(3)]])
def test_other_contents(save, content):
    with pytest.raises(DataError, match=r"set.pkl"):
        read_annotations(save(content))


BAD = [
    ({"keypoint": None}, "NoneType"), ({"keypoint": "abc"}, "str"), ({"keypoint": [[1, 2], [3]]}, "list"),
    ({"keypoint": np.array(["a"])}, "<U1"), ({"keypoint": np.ones((5, 2))}, r"\(5, 2\)"),
    ({"keypoint": np.ones((1, 1, 5, 17, 2))}, r"\(1, 1, 5, 17, 2\)"),
    ({"keypoint": np.ones((2, 5, 17, 4)), "keypoint_score": None}, "4 coordinates"),
    ({"keypoint": np.ones((2, 5, 17, 1))}, "1 coordinates"), ({"keypoint": np.ones((0, 5, 17, 2))}, "shape"),
    ({"keypoint": np.ones((0, 5, 17, 2)), "keypoint_score": None}, "no person"),
    ({"keypoint": np.ones((2, 0, 17, 2)), "keypoint_score": None, "total_frames": 0}, "no frame"),
    ({"keypoint": np.ones((2, 5, 0, 2)), "keypoint_score": None}, "no joint"),
    ({"keypoint_score": np.ones((2, 4, 17))}, "keypoint_score"), ({"keypoint_score": "high"}, "keypoint_score"),
    ({"label": -1}, "label is -1"), ({"label": 1.5}, "label is 1.5"), ({"label": "run"}, "label is 'run'"),
    ({"label": True}, "label is True"), ({"label": [1, 2]}, "label"), ({"img_shape": 5}, "img_shape"),
    ({"img_shape": (0, 4)}, "img_shape"), ({"img_shape": (1, 2, 3)}, "img_shape"), ({"total_frames": 6}, "only 5"),
]


@pytest.mark.parametrize(("changes", "what"), BAD)
def test_wrong_fields(save, changes, what):
    with pytest.raises(DataError, match=r"set.pkl: wrong one.*" + what):
        read_annotations(save([entry("right"), entry("wrong one", **changes)]))


def test_no_keypoint():
    with pytest.raises(DataError, match=r"place: has no 'keypoint', only 'label'"):
        check_annotation({"label": 1}, "place")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_number_is_told_with_frame_and_joint(value):
    keypoint = np.ones((2, 5, 17, 2), "float16")
    keypoint[1, 3, 7, 0] = value
    with pytest.raises(DataError, match=r"place: found the coordinate -?(nan|inf) at person 1, frame 3, joint 7"):
        check_annotation({"keypoint": keypoint}, "place")
    score = np.ones((2, 5, 17))
    score[0, 2, 4] = value
    with pytest.raises(DataError, match=r"the score .* person 0, frame 2, joint 4"):
        check_annotation({"keypoint": np.ones((2, 5, 17, 2)), "keypoint_score": score}, "place")


def test_total_frames_cuts():
    found = check_annotation(entry(total_frames=np.int64(3)), "place")
    assert (found.keypoint.shape, found.keypoint_score.shape) == ((2, 3, 17, 2), (2, 3, 17))


def test_score_forms():
    assert check_annotation(entry(keypoint_score=np.ones((2, 5, 17, 1))), "p").keypoint_score.shape == (2, 5, 17)
    alone = check_annotation({"keypoint": np.ones((5, 17, 2)), "keypoint_score": np.ones((5, 17))}, "p")
    assert (alone.keypoint.shape, alone.keypoint_score.shape) == ((1, 5, 17, 2), (1, 5, 17))


def test_nobody_is_an_error_at_use():
    check_usable(Annotation(np.ones((1, 2, 3, 2)), name="x"))
    with pytest.raises(DataError, match="x: has no person"):
        check_usable(Annotation(np.zeros((1, 2, 3, 2)), name="x"))
    with pytest.raises(DataError, match="x: has no person"):
        check_usable(Annotation(np.zeros((0, 2, 3, 2)), name="x"))


def test_labels():
    check_labels([0, 4], 5, "file", ["a", "b"])
    with pytest.raises(DataError, match=r"file: b: its label is 5, expected 0\.\.4 for 5 classes"):
        check_labels([0, 5], 5, "file", ["a", "b"])
    with pytest.raises(DataError, match="file: x: its label is -1"):
        check_labels([-1], 5, "file", ["x"])


def test_read_sample(tmp_path):
    data = np.random.default_rng(1).random((4, 3, 6, 5, 2)).astype("float32")
    np.save(tmp_path / "many.npy", data)
    np.save(tmp_path / "one.npy", data[0])
    many, (one,) = read_sample(tmp_path / "many.npy"), read_sample(tmp_path / "one.npy")
    assert [a.name for a in many] == [f"many.npy[{i}]" for i in range(4)]
    assert one.name == "one.npy"
    for found, expected in zip([*many, one], [*data, data[0]], strict=True):
        np.testing.assert_array_equal(found.data, expected)
        assert found.keypoint[1, 2, 3, 0] == expected[0, 2, 3, 1]
    assert isinstance(many[0].keypoint, np.memmap)


@pytest.mark.parametrize("shape", [(3, 5), (4, 6, 5, 2), (1, 6, 5, 2), (3, 0, 5, 2), (3, 6, 5, 0), (0, 3, 6, 5, 2)])
def test_wrong_shapes_of_npy(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.ones(shape))
    with pytest.raises(DataError, match=r"x.npy"):
        read_sample(tmp_path / "x.npy")


def test_other_kinds_of_sample(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    np.save(tmp_path / "x.npy", np.array(["a"] * 16).reshape(2, 2, 2, 2))
    for name in ("x.txt", "absent.mp4", "absent.npy", "absent.pkl", "x.npy"):
        with pytest.raises(DataError, match=name):
            read_sample(tmp_path / name)


@pytest.mark.skipif(not SHARED.joinpath("data").is_dir(), reason="the real samples are not here")
@pytest.mark.parametrize(("file", "split", "count", "first", "shape"), [
    ("msr_action3d.pkl", "xsub_train", 284, "a01_s01_e01", (1, 54, 20, 3)),
    ("msr_action3d.pkl", "xsub_val", 273, "a01_s02_e01", None),
    ("utkinect.pkl", None, 199, "s01_e01_walk", (1, 44, 20, 3)),
    ("mini_ntu60_hrnet.pkl", "xview_val", 3, "S001C001P001R001A001", None),
    ("example_ntu60_skeleton.pkl", None, 1, "S001C001P001R001A001", (1, 103, 17, 2)),
    ("example_ucf101_skeleton.pkl", None, 1, "v_ApplyEyeMakeup_g01_c01", (2, 163, 17, 2)),
])
def test_real_files(file, split, count, first, shape):
    found = read_annotations(SHARED / "data" / file, split)
    assert (len(found), found[0].name) == (count, first)
    assert shape in (None, found[0].keypoint.shape)
    for annotation in found:
        check_usable(annotation)
