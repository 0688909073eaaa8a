"""Annotation pickles ↔ arrays: bit for bit there and back, and nothing is lost without a word."""
import logging
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.data.datasets import read_labels
from paddlevideo_skel.data.readers import read_annotations
from paddlevideo_skel.data.writers import save_pickle, writing_annotations, writing_npy
from paddlevideo_skel.errors import ConfigError, DataError
from paddlevideo_skel.importers.convert import arrays_to_pickle, label_file, pickle_to_arrays, trimmed


def annotation(name, rng, label=0, persons=1, frames=4, joints=5, channels=3, dtype="float32", **more):
    keypoint = rng.normal(0, 1, (persons, frames, joints, channels)).astype(dtype)
    return {"frame_dir": name, "label": label, "total_frames": frames, "keypoint": keypoint, **more}


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@st.composite
def data_sets(draw):
    """Annotations of one kind in one or two splits, some samples in both."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scored = draw(st.booleans())
    kind = {"joints": draw(st.integers(1, 6)), "channels": 2 if scored else draw(st.sampled_from((2, 3))),
            "dtype": draw(st.sampled_from(("float16", "float32", "float64")))}
    entries = [annotation(f"v{i}", rng, int(rng.integers(0, 9)), int(rng.integers(1, 4)), int(rng.integers(1, 7)),
                          **kind) for i in range(draw(st.integers(1, 6)))]
    for entry in entries:
        # Holes within, and persons who come late or leave early; but not at the very end.
        keep = rng.random(entry["keypoint"].shape[:3]) > 0.3
        keep[-1, -1] = True
        entry["keypoint"] *= keep[..., None].astype(entry["keypoint"].dtype)
        if scored:
            entry["keypoint_score"] = rng.random(keep.shape).astype(kind["dtype"])
    names = [entry["frame_dir"] for entry in entries]
    cut = draw(st.integers(1, len(names)))
    splits = {"xsub_train": names[:cut], "val": names[draw(st.integers(0, cut)):] or names[:1]}
    return entries, splits, scored


@settings(max_examples=60)
@given(data_sets(), st.integers(0, 3), st.integers(0, 2))
def test_pickle_to_arrays_and_back_bit_for_bit(tmp_path_factory, given_, more_frames, more_persons):
    entries, splits, scored = given_
    folder = tmp_path_factory.mktemp("forms")
    save_pickle({"split": splits, "annotations": entries}, folder / "a.pkl")
    used = {name for names in splits.values() for name in names}
    frames = max(e["total_frames"] for e in entries) + more_frames
    persons = max(len(e["keypoint"]) for e in entries) + more_persons
    shapes = pickle_to_arrays(folder / "a.pkl", folder / "npy", None, frames, persons, scored,
                              allow_loss=len(used) < len(entries))
    by_name = {entry["frame_dir"]: entry for entry in entries}
    for split, names in splits.items():
        data = np.load(folder / "npy" / f"{split}_data.npy")
        assert data.shape == shapes[split] and data.shape[2::2] == (frames, persons)
        assert read_labels(folder / "npy" / f"{split}_label.pkl")[0] == names
        for row, name in zip(data, names, strict=True):
            keypoint = by_name[name]["keypoint"]
            expected = np.zeros((persons, frames, *keypoint.shape[2:]), keypoint.dtype)
            expected[:len(keypoint), :keypoint.shape[1]] = keypoint
            assert same_bits(np.ascontiguousarray(row[:keypoint.shape[3]].transpose(3, 1, 2, 0)), expected)
    arrays_to_pickle([folder / "npy" / f"{split}_data.npy" for split in splits], folder / "b.pkl", with_score=scored)
    before = {a.name: a for a in read_annotations(folder / "a.pkl")}
    after = {a.name: a for a in read_annotations(folder / "b.pkl")}
    assert set(after) == used
    for name, found in after.items():
        assert same_bits(found.keypoint, before[name].keypoint) and found.label == before[name].label
        assert (found.keypoint_score is None) == (not scored)
        assert not scored or same_bits(found.keypoint_score, before[name].keypoint_score)
    for split, names in splits.items():
        assert pickle.loads((folder / "b.pkl").read_bytes())["split"][split] == names


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from(("<f2", "<f4", ">f4", "<f8", "<i4")), st.booleans())
def test_arrays_to_pickle_and_back_bit_for_bit(tmp_path_factory, seed, dtype, fortran):
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("forms")
    data = (rng.normal(0, 9, (5, 3, 8, 4, 2))).astype(dtype)
    for sample in data:
        sample[:, rng.integers(0, 9):] = 0
        sample[..., rng.integers(0, 3):] = 0
    np.save(folder / "val_data.npy", np.asfortranarray(data) if fortran else data)
    names, labels = [f"n{i}" for i in range(5)], rng.integers(0, 9, 5).tolist()
    save_pickle((names, labels), folder / "val_label.pkl")
    arrays_to_pickle([folder / "val_data.npy"], folder / "a.pkl")
    lengths = {a.name: a.total_frames for a in read_annotations(folder / "a.pkl", "val")}
    for name, sample in zip(names, data):
        filled = [t for t in range(8) if np.ascontiguousarray(sample[:, t]).tobytes().strip(b"\0")]
        assert lengths[name] == (filled[-1] + 1 if filled else 1)
    pickle_to_arrays(folder / "a.pkl", folder / "back", allow_loss=True)
    back = np.load(folder / "back" / "val_data.npy")
    assert back.dtype == data.dtype.newbyteorder("=") and back.shape == data.shape
    assert back.astype(dtype).tobytes() == data.tobytes()
    assert read_labels(folder / "back" / "val_label.pkl")[0] == names
    assert read_labels(folder / "back" / "val_label.pkl")[1].tolist() == labels


def test_a_minus_zero_is_padding_and_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("paddlevideo_skel"), "propagate", True)
    data = np.ones((2, 3, 6, 4, 1), "float32")
    data[0, :, 4:] = -0.0
    np.save(tmp_path / "a_data.npy", data)
    np.save(tmp_path / "a_label.npy", np.zeros(2, int))
    arrays_to_pickle([tmp_path / "a_data.npy"], tmp_path / "a.pkl")
    assert [a.total_frames for a in read_annotations(tmp_path / "a.pkl")] == [4, 6]
    assert "1 samples have -0.0 in their padding" in caplog.text


def test_what_is_trimmed():
    sample = np.zeros((3, 5, 4, 2), "float32")
    assert trimmed(sample).shape == (3, 1, 4, 1)
    sample[1, 2, 3, 1] = 1
    assert trimmed(sample).shape == (3, 3, 4, 2)
    sample[0, 4, 0, 0] = np.nan
    assert trimmed(sample).shape == (3, 5, 4, 2)


RNG = np.random.default_rng(0)
PLAIN = annotation("a", RNG)
EMPTY_END = annotation("b", RNG)
EMPTY_END["keypoint"][:, -1] = 0
LOSSES = [
    ({"annotations": [{**PLAIN, "img_shape": (3, 4)}]}, "img_shape of 1 samples"),
    ({"annotations": [{**PLAIN, "original_shape": (3, 4), "fps": 3}]}, "original_shape of 1 samples; fps of 1 samples"),
    ({"annotations": [annotation("a", RNG, channels=2, keypoint_score=np.ones((1, 4, 5)))]},
     "keypoint_score of 1 samples"),
    ({"annotations": [PLAIN, annotation("b", RNG, dtype="float16")]}, "the types float16 and float32"),
    ({"annotations": [EMPTY_END, PLAIN]}, "frames of zeros at the end of 1 samples"),
    ({"annotations": [PLAIN, annotation("b", RNG)], "split": {"x": ["a"]}}, "1 samples without a split"),
    ({"annotations": [PLAIN], "classes": ["walk"]}, "the entry 'classes'"),
    ({"annotations": [{**PLAIN, "label": None}]}, "the samples' names"),
    ({"annotations": [{**PLAIN, "keypoint": np.pad(PLAIN["keypoint"], ((0, 1), (0, 0), (0, 0), (0, 0)))}]},
     "persons of zeros at the end of 1 samples"),
]


@pytest.mark.parametrize(("content", "words"), LOSSES)
def test_what_an_array_cannot_hold_is_refused_and_told(tmp_path, content, words, caplog):
    save_pickle(content, tmp_path / "a.pkl")
    with pytest.raises(DataError, match=words) as caught:
        pickle_to_arrays(tmp_path / "a.pkl", tmp_path / "out")
    assert "--allow_loss" in str(caught.value) and not (tmp_path / "out").exists()
    pickle_to_arrays(tmp_path / "a.pkl", tmp_path / "out", allow_loss=True)
    assert list((tmp_path / "out").glob("*data.npy"))


def test_cutting_is_a_loss_too(tmp_path):
    save_pickle([annotation("a", RNG, frames=6), annotation("b", RNG, persons=3)], tmp_path / "a.pkl")
    with pytest.raises(DataError, match="more than 5 frames or 3 persons of 1 samples"):
        pickle_to_arrays(tmp_path / "a.pkl", tmp_path / "out", frames=5)
    with pytest.raises(DataError, match="more than 6 frames or 2 persons of 1 samples"):
        pickle_to_arrays(tmp_path / "a.pkl", tmp_path / "out", persons=2)
    assert pickle_to_arrays(tmp_path / "a.pkl", tmp_path / "out") == {"": (2, 3, 6, 5, 3)}
    assert pickle_to_arrays(tmp_path / "a.pkl", tmp_path / "cut", frames=5, allow_loss=True)[""] == (2, 3, 5, 5, 3)


@pytest.mark.parametrize(("content", "words"), [
    ([PLAIN, annotation("b", RNG, joints=6)], "differ in their joints"),
    ([PLAIN, {**annotation("b", RNG), "label": None}], "differ in their labels"),
    ({"annotations": [PLAIN], "split": {"../x": ["a"]}}, "cannot be used in a file name"),
    ({"annotations": [PLAIN], "split": {3: ["a"]}}, "cannot be used in a file name"),
    ({"annotations": [PLAIN], "split": {"x": []}}, "is empty"),
    ({"annotations": [PLAIN], "split": {"x": ["z"]}}, "without annotation"),
    ({"annotations": [PLAIN], "split": {"x": ["a"]}, "padded_to": {"x": [0, 1]}}, "padded_to"),
    ({"annotations": [PLAIN], "split": {"x": ["a"]}, "padded_to": {"x": [10**12, 1]}}, "1000000000000 frames"),
    ({"annotations": [PLAIN], "split": ["a"]}, "'split' is a list"),
    ({"annotations": [PLAIN], "split": 7}, "'split' is a int"),
    ({"annotations": [PLAIN], "split": {"x": ["a"]}, "padded_to": 5}, "padded_to"),
])
def test_what_no_array_holds(tmp_path, content, words):
    save_pickle(content, tmp_path / "a.pkl")
    with pytest.raises(DataError, match=words):
        pickle_to_arrays(tmp_path / "a.pkl", tmp_path / "out", allow_loss=True)
    assert not (tmp_path / "out").exists()


def test_only_some_splits(tmp_path):
    save_pickle({"split": {"x": ["a"], "y": ["b"]}, "annotations": [PLAIN, annotation("b", RNG)]}, tmp_path / "a.pkl")
    assert list(pickle_to_arrays(tmp_path / "a.pkl", tmp_path / "out", ["y"])) == ["y"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["y_data.npy", "y_label.pkl"]
    save_pickle([PLAIN], tmp_path / "a.pkl")
    with pytest.raises(DataError, match="has no split 'y'"):
        pickle_to_arrays(tmp_path / "a.pkl", tmp_path / "none", ["y"])


def test_wrong_arrays(tmp_path):
    data = RNG.normal(0, 1, (2, 3, 4, 5, 1)).astype("float32")
    np.save(tmp_path / "a_data.npy", data)
    with pytest.raises(DataError, match=r"label file not found: a_label\.pkl or a_label\.npy"):
        label_file(tmp_path / "a_data.npy")
    np.save(tmp_path / "a_label.npy", np.array([1, 2]))
    assert label_file(tmp_path / "a_data.npy") == tmp_path / "a_label.npy"
    arrays_to_pickle([tmp_path / "a_data.npy"], tmp_path / "a.pkl")
    assert [a.name for a in read_annotations(tmp_path / "a.pkl")] == ["a_000000", "a_000001"]
    with pytest.raises(DataError, match="expected x, y and score"):
        np.save(tmp_path / "c_data.npy", data[:, :2])
        arrays_to_pickle([tmp_path / "c_data.npy"], tmp_path / "c.pkl", [tmp_path / "a_label.npy"], with_score=True)
    with pytest.raises(ConfigError, match="2 files for 1 arrays"):
        arrays_to_pickle([tmp_path / "a_data.npy"], tmp_path / "c.pkl", [tmp_path / "a_label.npy"] * 2)
    save_pickle((["n", "n"], [1, 2]), tmp_path / "b_label.pkl")
    np.save(tmp_path / "b_data.npy", data)
    with pytest.raises(DataError, match="2 samples, but only 1 different names"):
        arrays_to_pickle([tmp_path / "b_data.npy"], tmp_path / "c.pkl")
    save_pickle((["n", "m"], [1, 2]), tmp_path / "b_label.pkl")
    np.save(tmp_path / "d_data.npy", data[::-1])
    with pytest.raises(DataError, match="a different sample with this name"):
        arrays_to_pickle([tmp_path / "b_data.npy", tmp_path / "d_data.npy"], tmp_path / "c.pkl",
                         [tmp_path / "b_label.pkl"] * 2)
    with pytest.raises(ConfigError, match="have the same split name"):
        arrays_to_pickle([tmp_path / "b_data.npy"] * 2, tmp_path / "c.pkl")
    data[1, 2, 3, 4, 0] = np.nan
    np.save(tmp_path / "b_data.npy", data)
    with pytest.raises(DataError, match="nan at person 0, frame 3, joint 4"):
        arrays_to_pickle([tmp_path / "b_data.npy"], tmp_path / "c.pkl")
    assert not (tmp_path / "c.pkl").exists()


def test_the_command_both_ways(tmp_path, capsys):
    save_pickle({"split": {"train": ["a"], "val": ["b"]}, "annotations": [PLAIN, annotation("b", RNG, 3, frames=7)]},
                tmp_path / "a.pkl")
    folder = tmp_path / "npy"
    assert run_command("convert-data", [str(tmp_path / "a.pkl"), "-o", str(folder), "--frames", "9"]) == 0
    assert "val_data.npy: (1, 3, 9, 5, 1)" in capsys.readouterr().out
    files = [str(folder / f"{split}_data.npy") for split in ("train", "val")]
    assert run_command("convert-data", [*files, "-o", str(tmp_path / "b.pkl")]) == 0
    assert "train 1 samples, val 1 samples" in capsys.readouterr().out
    for argv in ([*files, "-o", str(tmp_path / "c")], [str(tmp_path / "a.pkl"), "-o", "x.pkl"],
                 [*files, "-o", "x.pkl", "--frames", "3"], [str(tmp_path / "a.pkl"), "-o", "x", "--labels", "y"],
                 [str(tmp_path / "a.pkl"), "-o", "x", "--frames", "0"], ["gone.npy", "-o", "x.pkl"],
                 [str(tmp_path / "a.pkl"), "-o", "x", "--split", "t"], [str(tmp_path / "a.pkl"), files[0], "-o", "x"]):
        assert run_command("convert-data", argv) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_pieces_of_a_pickle_are_one_pickle(tmp_path):
    entries = [annotation(f"v{i}", RNG, i, img_shape=(3, 4), dtype=("float16", "float64")[i % 2]) for i in range(5)]
    with writing_annotations(tmp_path / "a.pkl") as write:
        for entry in entries:
            write(entry)
        write.rest = {"split": {"train": ["v0", "v1"]}, "note": "n"}
    plain = pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert plain["note"] == "n" and plain["split"] == {"train": ["v0", "v1"]}
    assert [e["frame_dir"] for e in plain["annotations"]] == [f"v{i}" for i in range(5)]
    for ours, theirs, original in zip(read_annotations(tmp_path / "a.pkl"), plain["annotations"], entries, strict=True):
        assert same_bits(ours.keypoint, original["keypoint"]) and same_bits(theirs["keypoint"], original["keypoint"])
        assert ours.img_shape == (3, 4)
    with pytest.raises(ZeroDivisionError), writing_annotations(tmp_path / "b.pkl") as write:
        write(entries[0])
        1 / 0  # noqa: B018
    assert [file.name for file in tmp_path.iterdir()] == ["a.pkl"]


def test_an_array_is_written_whole_or_not_at_all(tmp_path):
    with writing_npy(tmp_path / "a.npy", (2, 3), "float32") as write:
        write(np.arange(3.0))
        write(np.ones(3, int))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.array([[0, 1, 2], [1, 1, 1]], "float32"))
    for samples, words in (([np.ones(3)], "got 1 samples"), ([np.ones(4)], "expected 2 samples of"),
                           ([np.ones(3)] * 3, "got sample 2")):
        with pytest.raises(DataError, match=words), writing_npy(tmp_path / "b.npy", (2, 3), "float32") as write:
            for sample in samples:
                write(sample)
    assert [file.name for file in tmp_path.iterdir()] == ["a.npy"]
