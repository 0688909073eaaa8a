"""Kinetics' kpfiles: joined as a plain loop would, in each of the three forms in which they are stored."""
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.config import load_config
from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.data.pipeline import Pipeline
from paddlevideo_skel.data.readers import read_annotations
from paddlevideo_skel.errors import DataError
from paddlevideo_skel.importers.kinetics_hrnet import group_by_person, join_kpfiles


def slowly(keypoint, frames, max_person):
    """What ``group_by_person`` does, skeleton by skeleton."""
    groups = [[skeleton for skeleton, own in zip(keypoint, frames) if own == frame] for frame in sorted(set(frames))]
    if max(map(len, groups)) > max_person:
        groups = [sorted(group, key=lambda s: -s[:, 2].astype(float).sum())[:max_person] for group in groups]
    persons = max(map(len, groups))
    result = np.zeros((persons, len(groups), *keypoint.shape[1:]), keypoint.dtype)
    for t, group in enumerate(groups):
        for m, skeleton in enumerate(group):
            result[m, t] = skeleton
    return result[..., :2], result[..., 2]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 5), st.integers(0, 2**32))
def test_skeletons_in_a_row_become_persons(frames, max_person, seed):
    rng = np.random.default_rng(seed)
    keypoint = rng.random((len(frames), 17, 3)).astype("float16")
    coordinates, score = group_by_person(keypoint, np.array(frames), max_person)
    expected, expected_score = slowly(keypoint, frames, max_person)
    np.testing.assert_array_equal(coordinates, expected)
    np.testing.assert_array_equal(score, expected_score)


def video(rng, name, label, frames=6, most=3):
    """An annotation without its keypoints, and the keypoints ``(N, 17, 3)``."""
    inds = np.sort(rng.integers(1, frames + 1, frames * most // 2)).astype("int16")
    keypoint = (rng.random((len(inds), 17, 3)) * (340, 256, 1)).astype("float16")
    return {"frame_dir": name, "label": label, "total_frames": frames, "img_shape": (256, 340),
            "original_shape": (256, 340), "frame_inds": inds, "box_score": rng.random(len(inds)).astype("float16"),
            "valid": {0.5: 3}}, keypoint


@pytest.fixture
def videos():
    rng = np.random.default_rng(0)
    return [video(rng, f"v{i}", i % 3) for i in range(6)]


def save(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(content))


def pyskl(videos, folder):
    for number in range(2):
        save(folder / "kp" / f"part_{number}.pkl", {entry["frame_dir"]: {"keypoint": keypoint}
                                                    for i, (entry, keypoint) in enumerate(videos) if i % 2 == number})
    return [{**entry, "raw_file": f"data/k400/kpfiles/part_{i % 2}.pkl"} for i, (entry, _) in enumerate(videos)]


def mmaction2(videos, folder):
    for entry, keypoint in videos:
        save(folder / "kp" / f"{entry['frame_dir']}.pkl", {"keypoint": keypoint})
    return [entry for entry, _ in videos]


def mmaction_0(videos, folder):
    for entry, keypoint in videos:
        save(folder / "kp" / f"{entry['frame_dir']}.pkl", keypoint)
    return [{**{k: v for k, v in entry.items() if k != "frame_dir"}, "filename": f"kp/{entry['frame_dir']}.pkl"}
            for entry, _ in videos]


@pytest.mark.parametrize("form", [pyskl, mmaction2, mmaction_0])
def test_each_form_is_joined(form, videos, tmp_path, capsys):
    entries = form(videos, tmp_path)
    names = [entry.get("frame_dir", entry.get("filename")) for entry in entries]
    save(tmp_path / "k400.pkl", {"split": {"train": names[:4], "val": names[4:]}, "annotations": entries})
    left = tmp_path / ".out.pkl.0a1b2c3d.tmp"  # by one that was killed while it wrote
    left.touch()
    assert run_command("import-hrnet", [str(tmp_path / "k400.pkl"), "--kpfiles", str(tmp_path / "kp"), "--out",
                                        str(tmp_path / "out.pkl"), "--box_score", "0.4", "--max_person", "2"]) == 0
    assert not left.exists()
    assert "6 annotations" in capsys.readouterr().out
    found = {a.name: a for a in read_annotations(tmp_path / "out.pkl")}
    assert set(found) == set(names)
    assert [len(read_annotations(tmp_path / "out.pkl", split)) for split in ("train", "val")] == [4, 2]
    for name, (entry, keypoint) in zip(names, videos):
        sure = entry["box_score"] >= 0.4
        coordinates, score = slowly(keypoint[sure], entry["frame_inds"][sure].tolist(), 2)
        np.testing.assert_array_equal(found[name].keypoint, coordinates)
        np.testing.assert_array_equal(found[name].keypoint_score, score)
        assert found[name].label == entry["label"] and found[name].img_shape == (256, 340)


def test_videos_are_left_out_with_the_reason(videos, tmp_path, capsys):
    entries = pyskl(videos, tmp_path)
    entries[0]["box_score"] = np.zeros_like(entries[0]["box_score"])
    entries[1]["box_score"] = np.array([1.0] + [0.0] * (len(entries[1]["box_score"]) - 1))
    for entry in entries[2:]:
        entry["box_score"] = np.ones_like(entry["box_score"])
        entry["total_frames"] = len(set(entry["frame_inds"].tolist()))
    save(tmp_path / "k400.pkl", {"split": {"train": ["v0", "v1", "v2"], "val": ["v3"]}, "annotations": entries})
    count, left_out = join_kpfiles(tmp_path / "k400.pkl", tmp_path / "kp", tmp_path / "out.pkl", valid_ratio=0.5)
    assert count == 4 and list(left_out.values()) == [["v0"], ["v1"]]
    assert [a.name for a in read_annotations(tmp_path / "out.pkl", "train")] == ["v2"]
    count, _ = join_kpfiles(tmp_path / "k400.pkl", tmp_path / "kp", tmp_path / "val.pkl", ["val"])
    assert count == 1 and [a.name for a in read_annotations(tmp_path / "val.pkl", "val")] == ["v3"]
    with pytest.raises(DataError, match="none of the 6 videos is left"):
        join_kpfiles(tmp_path / "k400.pkl", tmp_path / "kp", tmp_path / "no.pkl", box_score=2)
    assert not (tmp_path / "no.pkl").exists()


def test_paths_lead_nowhere_else(videos, tmp_path):
    entries = mmaction2(videos[:1], tmp_path)
    save(tmp_path / "secret.pkl", {"keypoint": videos[0][1]})
    save(tmp_path / "k400.pkl", [{**entries[0], "raw_file": "../secret.pkl"}])
    with pytest.raises(DataError, match=r"'secret\.pkl' is not in"):
        join_kpfiles(tmp_path / "k400.pkl", tmp_path / "kp", tmp_path / "out.pkl")


@pytest.mark.parametrize(("change", "words"), [
    ({"frame_inds": np.zeros(3, int)}, r"frame_inds has shape \(3,\)"),
    ({"frame_inds": None}, "frame_inds has shape"),
    ({"frame_inds": np.zeros(9)}, "frame_inds has type float64"),
    ({"box_score": np.array(["1"] * 9)}, "box_score has shape"),
    ({"total_frames": "6"}, "total_frames is '6'"),
    ({"raw_file": "gone.pkl"}, r"'gone\.pkl' is not in"),
    ({"frame_dir": "w"}, "is not among the 3 videos of its kpfile"),
    ({"frame_dir": 5}, "frame_dir is 5"),
    ({"frame_dir": "v1"}, "Names must be unique"),
    ({"label": "walk"}, "label is 'walk'"),
])
def test_bad_annotations(videos, tmp_path, change, words):
    entries = pyskl(videos, tmp_path)
    entries[0].update(change)
    save(tmp_path / "k400.pkl", {"split": {"train": ["v1"]}, "annotations": entries})
    with pytest.raises(DataError, match=words):
        join_kpfiles(tmp_path / "k400.pkl", tmp_path / "kp", tmp_path / "out.pkl", box_score=0)
    assert not (tmp_path / "out.pkl").exists()


@pytest.mark.parametrize("keypoint", [np.zeros((9, 17, 2)), np.zeros((9, 17, 3), int), None])
def test_bad_kpfiles(videos, tmp_path, keypoint):
    entries = pyskl(videos, tmp_path)
    save(tmp_path / "kp" / "part_0.pkl", {entry["frame_dir"]: {"keypoint": keypoint} for entry, _ in videos})
    save(tmp_path / "k400.pkl", entries)
    with pytest.raises(DataError, match=r"part_0\.pkl: v0: keypoint has shape"):
        join_kpfiles(tmp_path / "k400.pkl", tmp_path / "kp", tmp_path / "out.pkl")


def test_bad_commands(videos, tmp_path, capsys):
    save(tmp_path / "k400.pkl", pyskl(videos, tmp_path))
    for argv, words in ((["--max_person", "0"], "--max_person"), (["--valid_ratio", "2"], "--valid_ratio"),
                        (["--split", "train"], "no split 'train'")):
        assert run_command("import-hrnet", [str(tmp_path / "k400.pkl"), "--kpfiles", str(tmp_path / "kp"), "--out",
                                            str(tmp_path / "out.pkl"), *argv]) == 2
        assert words in capsys.readouterr().err


def test_a_score_that_stands_apart_becomes_the_third_channel():
    """As ST-GCN takes it: the packaged config on scores apart, and on scores among the coordinates."""
    config = load_config("configs/recognition/stgcn/stgcn_kinetics_hrnet.yaml")
    rng = np.random.default_rng(0)
    keypoint, score = rng.random((3, 20, 17, 2)).astype("float32") * 200, rng.random((3, 20, 17)).astype("float32")
    apart = Annotation(keypoint, score, "a", img_shape=(256, 340))
    within = Annotation(np.concatenate([keypoint, score[..., None]], -1), None, "a", img_shape=(256, 340))
    for split in ("train", "test"):
        pipeline = Pipeline(config["PIPELINE"][split])
        a, b = (pipeline(annotation, np.random.default_rng(1)) for annotation in (apart, within))
        assert a.shape == (3, {"train": 150, "test": 300}[split], 17, 2)
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a[2, :20].transpose(2, 0, 1), score[:2])
    np.testing.assert_allclose(a[0, :20].transpose(2, 0, 1), keypoint[:2, ..., 0] / 170 - 1, rtol=1e-5, atol=1e-6)


def test_a_score_that_is_left_apart_is_told_with_what_to_do(tmp_path, capsys):
    """A network of three channels on x and y: found before the first step, not by paddle."""
    entries = [{"frame_dir": f"v{i}", "label": i % 2, "keypoint": np.ones((1, 4, 17, 2), "float32"),
                "keypoint_score": np.ones((1, 4, 17), "float32"), "img_shape": (256, 340)} for i in range(4)]
    save(tmp_path / "a.pkl", {"split": {"train": ["v0", "v1"], "val": ["v2", "v3"]}, "annotations": entries})
    argv = ["-c", "configs/recognition/stgcn/stgcn_kinetics_hrnet.yaml", "-o", f"output_dir={tmp_path / 'out'}",
            "-o", "DATASET.batch_size=2", "-o", "DATASET.num_workers=0", "-o", "PIPELINE.train.transform.1=Iden",
            *(part for split in ("train", "valid", "test")
              for part in ("-o", f"DATASET.{split}.file_path={tmp_path / 'a.pkl'}"))]
    assert run_command("train", argv) == 2
    error = capsys.readouterr().err
    for words in ("'v0', which has 2 coordinates and a separate score", "(2, 150, 17, 2)", "GenSkeFeat"):
        assert words in error
