"""What ``inspect`` tells: figures beside NumPy's own on the whole set, every planted defect and nothing else; pictures
whose pixels are where the joints are."""
import json
import pickle
import sys

import numpy as np
import pytest

from paddlevideo_skel import plotting
from paddlevideo_skel.cli import run_command
from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.data.readers import read_annotations
from paddlevideo_skel.errors import DataError, UnavailableError
from paddlevideo_skel.importers.lenient import find_problems, read_leniently
from paddlevideo_skel.importers.summary import inspect, inspection_text, usual_layout
from paddlevideo_skel.plotting import animate_sequence, draw_sequence
from paddlevideo_skel.skeleton import get_layout


def save(path, content):
    path.write_bytes(pickle.dumps(content))
    return path


def walk(name="a", label=0, persons=1, frames=20, joints=20, channels=3, seed=0, **more):
    """A sequence in which nothing is wrong."""
    rng = np.random.default_rng((seed, *name.encode()))
    keypoint = rng.normal(0, 0.3, (persons, 1, joints, channels)) + rng.normal(0, 0.05, (persons, frames, joints,
                                                                                        channels)).cumsum(axis=1)
    return {"frame_dir": name, "label": label, "keypoint": keypoint.astype("float32"), **more}


def test_samples_of_this_project_are_not_suspicious(sample_set):
    for name in ("ntu_3d.pkl", "coco_2d.pkl"):
        report = inspect(sample_set / name)
        assert report["suspicious"] == [] and report["warnings"] == []
        assert report["samples"] == report["readable"] == 48
        assert [row["samples"] for row in report["classes"]] == [12] * 4
        assert {row["split"]: row["samples"] for row in report["splits"]} == {"xsub_train": 32, "xsub_val": 16}


def test_figures_are_those_of_the_whole_set(sample_set):
    report = inspect(sample_set / "coco_2d.pkl")
    annotations = read_annotations(sample_set / "coco_2d.pkl")
    lengths = [a.total_frames for a in annotations]
    assert [report["lengths"][key] for key in ("min", "median", "max")] == [
        min(lengths), np.median(lengths), max(lengths)]
    histogram = report["lengths"]["histogram"]
    assert sum(count for *_, count in histogram) == 48 and histogram[0][0] == min(lengths)
    for first, last, count in histogram:
        assert count == sum(first <= length <= last for length in lengths)
    joints = np.concatenate([a.keypoint.reshape(-1, 17, 2) for a in annotations]).astype(float)
    scores = np.concatenate([a.keypoint_score.reshape(-1, 17) for a in annotations])
    there = joints.any(axis=(1, 2))
    present = joints[there].any(axis=2)
    np.testing.assert_allclose([row["missing"] for row in report["missing"]], 1 - present.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose([row["low_score"] for row in report["missing"]], (scores[there] < 0.3).mean(axis=0))
    values = joints[there][present]
    for c, row in enumerate(report["ranges"]):
        np.testing.assert_allclose([row["min"], row["mean"], row["std"], row["max"]], [
            values[:, c].min(), values[:, c].mean(), values[:, c].std(), values[:, c].max()], rtol=1e-6)
    persons = [str(sum(bool(person.any()) for person in a.keypoint)) for a in annotations]
    assert report["persons"] == {number: persons.count(number) for number in sorted(set(persons))}
    assert report["missing"][0]["name"] == "nose" and report["layout"] == "coco" and report["scores"] == 48


def defect(**changes):
    """A sample's dict with a function applied to its coordinates."""
    entry = walk("bad", **{key: value for key, value in changes.items() if key != "change"})
    if "change" in changes:
        changes["change"](entry["keypoint"])
    return entry


def put(place, value):
    return lambda keypoint: keypoint.__setitem__(place, value)


ALL = slice(None)
DEFECTS = [
    (defect(change=put(ALL, 0)), "no person: all coordinates are 0"),
    (defect(frames=1), "a single frame"),
    (defect(change=lambda k: put(ALL, k[:, :1])(k)), "never moves in 20 frames"),
    (defect(change=lambda k: put((ALL, slice(8, None)), k[:, 8:9])(k)), "11 of 20 frames repeat the previous frame"),
    (defect(change=put((ALL, slice(2, 15)), 0)), "13 of 20 frames are empty"),
    (defect(change=put((0, 3, 4), 90)), "1 joints are more than 12 times"),
    (defect(change=put((0, 3, 4, 1), np.nan)), "found the coordinate nan at person 0, frame 3, joint 4"),
    (defect(change=put((0, 3, 4, 1), np.inf)), "found the coordinate inf at"),
    ({**walk("bad"), "keypoint": "no"}, "keypoint is a str"),
    ({**walk("bad"), "label": "no"}, "label is 'no'"),
    ({"frame_dir": "bad"}, "has no 'keypoint'"),
    ({**walk("v0", seed=1), "frame_dir": "v0"}, "another sample has the same name"),
    ({**walk("v0", seed=1), "frame_dir": 7}, "frame_dir is 7"),
    ({**walk("bad", channels=2), "img_shape": (1, 1)}, "are outside the image"),
]


@pytest.mark.parametrize(("entry", "words"), DEFECTS)
def test_a_defect_is_found_and_no_other(tmp_path, entry, words):
    good = [walk(f"v{i}", channels=entry["keypoint"].shape[3] if hasattr(entry.get("keypoint"), "shape") else 3)
            for i in range(3)]
    report = inspect(save(tmp_path / "a.pkl", [*good, entry]))
    (found,) = report["suspicious"]
    assert found["name"] in ("bad", "v0", "annotation 3") and words in found["problem"]
    assert report["warnings"] == [] and report["samples"] == 4


def test_a_sequence_twice(tmp_path):
    report = inspect(save(tmp_path / "a.pkl", [walk("a"), walk("b"), {**walk("a"), "frame_dir": "c"}]))
    assert report["suspicious"] == [{"name": "c", "problem": "the same as a"}]


def test_what_is_odd_about_the_set(tmp_path):
    entries = [walk("a", 0), walk("b", 2), walk("c", 5), {**walk("a", 0), "frame_dir": "d"}]
    content = {"split": {"xsub_train": ["a", "b"], "xsub_val": ["c", "d", "a", "z"], "rest": ["a", "b", "c"]},
               "annotations": entries}
    warnings = inspect(save(tmp_path / "a.pkl", content))["warnings"]
    assert warnings == [
        "no sample of 3 classes: 1, 3, 4",
        "the split xsub_train has no sample of the classes 5",
        "the split xsub_val has no sample of the classes 2",
        "the split xsub_val lists 1 samples that do not exist, such as z",
        "1 samples are in both xsub_train and xsub_val, such as a",
        "1 sequences of xsub_train are also in xsub_val, under a different name: a, d",
    ]
    scored = walk("d", channels=2, keypoint_score=np.ones((1, 20, 20)))
    mixed = [walk("a"), walk("b", joints=17), walk("c", label=None), scored]
    warnings = inspect(save(tmp_path / "a.pkl", mixed))["warnings"]
    assert len(warnings) == 3 and "differ in joints and coordinates" in warnings[0]
    assert warnings[1:] == ["only 1 of 4 samples have scores", "1 samples have no label"]


def test_a_label_of_any_size(tmp_path):
    report = inspect(save(tmp_path / "a.pkl", [walk("a", 10**15)]))
    assert report["warnings"][0].startswith(f"no sample of {10**15} classes: 0, 1, 2")


@pytest.mark.parametrize(("split", "words"), [([1], "'split' is a list"), ({"a": 3}, "'a' is a int")])
def test_splits_that_are_none(tmp_path, split, words):
    with pytest.raises(DataError, match=words):
        inspect(save(tmp_path / "a.pkl", {"split": split, "annotations": [walk("a")]}))


def test_only_one_split(tmp_path):
    path = save(tmp_path / "a.pkl", {"split": {"t": ["b"], "v": ["a"]}, "annotations": [walk("a"), walk("b", 1)]})
    report = inspect(path, "t")
    assert report["samples"] == 1 and report["classes"] == [{"class": 1, "samples": 1}] and report["splits"] == []
    with pytest.raises(DataError, match="has no split 'w'"):
        inspect(path, "w")


def test_arrays_are_read_without_their_padding(tmp_path):
    data = np.zeros((3, 3, 30, 20, 2), "float32")
    for i, frames in enumerate((5, 9)):
        data[i, :, :frames, :, :1] = walk(str(i), frames=frames)["keypoint"].transpose(3, 1, 2, 0)
    data[1, 0, 2, 3, 0] = np.nan
    np.save(tmp_path / "a_data.npy", data)
    save(tmp_path / "a_label.pkl", (["x", "y", "z"], [0, 1, 1]))
    report = inspect(tmp_path / "a_data.npy", labels=tmp_path / "a_label.pkl")
    assert (report["samples"], report["readable"], report["lengths"]["max"]) == (3, 2, 5)
    assert [item["name"] for item in report["suspicious"]] == ["y", "z"]
    assert [name for name, *_ in read_leniently(tmp_path / "a_data.npy")[2]] == [
        f"{tmp_path / 'a_data.npy'}[{i}]" for i in range(3)]
    np.save(tmp_path / "b_label.npy", np.zeros(2, int))
    with pytest.raises(DataError, match="2 labels for the 3 samples"):
        inspect(tmp_path / "a_data.npy", labels=tmp_path / "b_label.npy")


def test_the_text_holds_what_the_report_holds(sample_set, tmp_path):
    names = (sample_set / "class_names.txt").read_text().split()
    text = "\n".join(inspection_text(inspect(sample_set / "coco_2d.pkl"), names))
    for words in ("coco_2d.pkl: samples 48", "17 joints (named as in coco), 2 coordinates, with scores, float16",
                  "image sizes: 48 of 1920 x 1080", f"0 {names[0]}", "left_shoulder", "xsub_train       32        4",
                  "suspicious samples: none"):
        assert words in text
    broken = inspection_text(inspect(save(tmp_path / "a.pkl", [{"frame_dir": "a"}])))
    assert broken[0].endswith("samples 1, 1 of them unusable")
    assert "  a: has no 'keypoint', only 'frame_dir'" in broken and broken[-1] == "warning: no sample is usable"
    many = [{"frame_dir": f"v{i}"} for i in range(30)]
    assert "  and 10 more: --json FILE lists them all" in inspection_text(inspect(save(tmp_path / "a.pkl", many)))


def test_layouts_by_the_number_of_joints():
    assert [usual_layout(n) and usual_layout(n).name for n in (17, 18, 20, 21, 25, 26)] == [
        "coco", "openpose", "kinect20", "hand", "ntu-rgb+d", None]


def image(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


def pixels(picture, colour):
    """Where a picture has a colour, ``(n, 2)`` rows and columns."""
    return np.argwhere(np.abs(picture - np.array(colour)).max(axis=-1) < 0.05)


BLUE, ORANGE = (0.122, 0.467, 0.706), (1.0, 0.498, 0.055)


def star(**more):
    """COCO's 17 joints in a picture, the left ones on the right side of it; for two frames, and two of padding."""
    layout = get_layout("coco")
    keypoint = np.zeros((1, 4, 17, 2))
    for j, name in enumerate(layout.joints):
        keypoint[0, :2, j] = (300 if "left" in name else 100 if "right" in name else 200), 20 + 10 * j
    return Annotation(keypoint, name="star", img_shape=(200, 400), **more)


def test_sides_have_their_colours_and_their_place(tmp_path):
    pytest.importorskip("matplotlib")
    draw_sequence(star(), "coco", tmp_path / "a.png", frames=1)
    picture = image(tmp_path / "a.png")
    blue, orange = pixels(picture, BLUE), pixels(picture, ORANGE)
    assert len(blue) > 200 and len(orange) > 200
    # A picture's x grows to the right: the left joints were put there.
    assert blue[:, 1].mean() > orange[:, 1].mean() + 0.2 * picture.shape[1]
    draw_sequence(star(keypoint_score=np.full((1, 4, 17), 0.1)), "coco", tmp_path / "b.png", frames=1)
    assert not len(pixels(image(tmp_path / "b.png"), BLUE))


def test_a_kinect_sees_the_left_hand_on_the_right(tmp_path):
    pytest.importorskip("matplotlib")
    keypoint = np.zeros((1, 1, 20, 3))
    for j, name in enumerate(get_layout("kinect20").joints):
        keypoint[0, 0, j] = (-1 if "left" in name else 1 if "right" in name else 0.01), 1 - 0.1 * j, 3
    draw_sequence(Annotation(keypoint), "kinect20", tmp_path / "a.png")
    picture = image(tmp_path / "a.png")
    assert pixels(picture, BLUE)[:, 1].mean() > pixels(picture, ORANGE)[:, 1].mean()


def test_padding_is_not_shown(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    image_module = pytest.importorskip("PIL.Image")
    animate_sequence(star(), "coco", tmp_path / "a.gif", fps=10)
    with image_module.open(tmp_path / "a.gif") as gif:
        # Two equal frames: GIF may keep one of them, shown as long as both.
        shown = [gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)]
        assert sum(shown) == 200
    long = star()
    long.keypoint = np.repeat(long.keypoint[:, :1], 13, axis=1) + 9 * np.arange(13)[:, None, None]
    monkeypatch.setattr(plotting, "MAX_ANIMATION_FRAMES", 6)
    animate_sequence(long, "coco", tmp_path / "b.gif", fps=30)
    with image_module.open(tmp_path / "b.gif") as gif:
        assert gif.n_frames == 5 and gif.info["duration"] == 100  # every third
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "b.gif"]


def test_the_command(sample_set, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = str(sample_set / "ntu_3d.pkl")
    argv = [file, "--split", "xsub_val", "--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "a.png"),
            "--class_names", str(sample_set / "class_names.txt"), "--frames", "3"]
    assert run_command("inspect-data", argv) == 0
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["samples"] == 16 and "samples 16" in said and "bones of the layout ntu-rgb+d" in said
    assert len(pixels(image(tmp_path / "a.png"), BLUE)) > 100
    assert run_command("inspect-data", [str(sample_set / "ntu" / "xsub" / "val_data.npy"), "--plot",
                                        str(tmp_path / "a.gif"), "--sample", report_name(sample_set)]) == 0
    assert f"plotted: {tmp_path / 'a.gif'}" in capsys.readouterr().out

    def error(*more):
        assert run_command("inspect-data", [file, *map(str, more)]) == 2
        return capsys.readouterr().err

    assert ".png or .gif" in error("--plot", tmp_path / "a.jpg")
    assert "--plot" in error("--sample", "a")
    assert "has no sample 'S001_wav_p01'" in error("--plot", tmp_path / "x.png", "--sample", "S001_wav_p01")
    assert "expected a layout of 25 joints" in error("--plot", tmp_path / "x.png", "--layout", "coco")
    assert "file not found" in (run_command("inspect-data", ["gone.pkl"]), capsys.readouterr().err)[1]
    assert not (tmp_path / "x.png").exists()


def report_name(sample_set):
    return read_annotations(sample_set / "ntu_3d.pkl", "xsub_val")[2].name


def test_a_sample_that_cannot_be_used_cannot_be_drawn(tmp_path, capsys):
    path = save(tmp_path / "a.pkl", [walk("a"), {"frame_dir": "b"}])
    assert run_command("inspect-data", [str(path), "--plot", str(tmp_path / "x.png"), "--sample", "b"]) == 2
    assert "has no 'keypoint'" in capsys.readouterr().err


def test_without_matplotlib_it_is_said_what_to_install(tmp_path, monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "matplotlib"] + ["matplotlib.figure"]:
        monkeypatch.setitem(sys.modules, module, None)
    for function in (draw_sequence, animate_sequence):
        with pytest.raises(UnavailableError, match="pip install"):
            function(star(), "coco", tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_good_sample_has_no_problem():
    entry = walk(persons=2, frames=50)
    assert find_problems(Annotation(entry["keypoint"])) == []
