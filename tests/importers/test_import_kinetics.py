"""Kinetics-skeleton's files become ST-GCN's arrays, number for number."""
import json
import os
import random
import shlex
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from raw_files import clip, kill_an_import, write_kinetics

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.config import load_config
from paddlevideo_skel.data.datasets import build_dataset
from paddlevideo_skel.data.pipeline import Pipeline
from paddlevideo_skel.errors import DataError, OutputError
from paddlevideo_skel.importers.journal import Source, list_sources
from paddlevideo_skel.importers.kinetics import import_kinetics, load_clip_labels, read_clip
from paddlevideo_skel.importers.outputs import npy_header
from paddlevideo_skel.safe_pickle import load_pickle

CLIP_SHAPE = (3, 300, 18, 2)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """The data set's folder, and its clips: part → name → content."""
    folder = tmp_path_factory.mktemp("raw")
    return folder, {part: write_kinetics(folder, part, count, seed=count, persons=6)
                    for part, count in (("train", 90), ("val", 8))}


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory):
    """The import of it, which the tests do not change."""
    output = tmp_path_factory.mktemp("whole") / "out"
    import_kinetics(raw[0], output)
    return output


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read(tmp_path, clip_content, label=0, text=None):
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(clip_content).encode() if text is None else text)
    return read_clip(Source("a", str(path), 0, 0), {"a": label})


def slow_array(clip_content):
    """ST-GCN's numbers by loops over persons, joints and frames."""
    data = np.zeros(CLIP_SHAPE)
    for frame in clip_content["data"]:
        persons = []
        for skeleton in frame["skeleton"][:5]:
            joints = [(x - 0.5, y - 0.5, s) if s else (0, 0, 0) for x, y, s in
                      zip(skeleton["pose"][::2], skeleton["pose"][1::2], skeleton["score"])]
            total = 0.0
            for score in skeleton["score"]:
                total += score
            persons.append((total, joints))
        while persons and frame["frame_index"] < 300:
            # The first of the best; at most two.
            best = max(range(len(persons)), key=lambda i: (persons[i][0], -i))
            place = sum(data[2, frame["frame_index"], :, m].any() for m in range(2))
            if place == 2 or not persons[best][0]:
                break
            for v, joint in enumerate(persons.pop(best)[1]):
                data[:, frame["frame_index"], v, place] = joint
    return data


def test_arrays_against_loops(raw, whole):
    for part, clips in raw[1].items():
        data = np.load(whole / f"{part}_data.npy", mmap_mode="r")
        names, labels = load_pickle(whole / f"{part}_label.pkl")
        assert names == sorted(clips) and labels == [clips[name]["label_index"] for name in names]
        assert data.shape == (len(clips), *CLIP_SHAPE) and data.dtype == np.float32
        for array, name in zip(data, names, strict=True):
            np.testing.assert_allclose(array, slow_array(clips[name]), atol=1e-7)
    assert not list(whole.glob(".*"))


def test_a_clip_written_by_hand(tmp_path):
    def person(x, y, score):
        return {"pose": [x, y] * 18, "score": [score] * 18}

    unsure = person(0.9, 0.1, 0.5)
    unsure["score"][3] = 0.0
    array, facts = read(tmp_path, {"data": [
        {"frame_index": 1, "skeleton": [unsure, person(0.25, 0.75, 0.9), person(0.3, 0.3, 0.1)]},
        {"frame_index": 299, "skeleton": [person(0, 1, 0.2)] + [person(0, 0, 0.1)] * 4 + [person(1, 1, 1.0)]},
        {"frame_index": 300, "skeleton": [person(0, 1, 0.2)]}, {"frame_index": 4, "skeleton": []}],
        "label": "x", "label_index": 7}, label=7)
    assert array.shape == CLIP_SHAPE and facts == {"persons": 2, "frames": 2, "late": 1}
    np.testing.assert_allclose(array[:, 1, 0, 0], (-0.25, 0.25, 0.9), rtol=1e-6)  # y points down, as in the picture
    np.testing.assert_allclose(array[:, 1, 0, 1], (0.4, -0.4, 0.5), rtol=1e-6)
    assert not array[:, 1, 3, 1].any() and array[:, 1, 2, 1].all()
    # The sixth is not read.
    np.testing.assert_allclose(array[:, 299, 17], [(-0.5, -0.5), (0.5, -0.5), (0.2, 0.1)], rtol=1e-6)
    assert not array[:, [0, *range(2, 299)]].any()


def test_frames_may_come_in_any_order_and_equal_scores_keep_theirs(tmp_path):
    rng = np.random.default_rng(0)
    content = clip(rng, 30, 5)
    for frame in content["data"]:
        for skeleton in frame["skeleton"]:
            skeleton["score"] = [0.5] * 18
    array, _ = read(tmp_path, content)
    for frame in content["data"]:
        for m, skeleton in enumerate(frame["skeleton"][:2]):
            np.testing.assert_allclose(array[0, frame["frame_index"], :, m], np.array(skeleton["pose"][::2]) - 0.5,
                                       atol=1e-7)
    random.Random(0).shuffle(content["data"])
    np.testing.assert_array_equal(read(tmp_path, content)[0], array)


def test_rounding_orders_persons_as_in_st_gcn(tmp_path):
    # Sums of the same scores in another order differ in their last bit.
    rng, data = np.random.default_rng(0), []
    for frame in range(100):
        scores = rng.uniform(0.1, 1, 18).round(3)
        data.append({"frame_index": frame, "skeleton": [
            {"pose": rng.random(36).tolist(), "score": rng.permutation(scores).tolist()} for _ in range(2)]})
    np.testing.assert_allclose(read(tmp_path, {"data": data})[0], slow_array({"data": data}), atol=1e-7)


FRAME = {"frame_index": 5, "skeleton": [{"pose": [0.5] * 36, "score": [1.0] * 18}]}


def frame_with(**changes):
    return {"data": [{**FRAME, "skeleton": [{**FRAME["skeleton"][0], **changes}]}]}


BAD_CLIPS = {
    "a list": ([], "damaged: has no list 'data'"),
    "no data": ({"label_index": 0}, "damaged: has no list 'data'"),
    "data a number": ({"data": 3}, "damaged: has no list 'data'"),
    "a frame that is none": ({"data": [FRAME, 3]}, r"damaged: data\[1\] is 3, expected a unique frame_index"),
    "no index": ({"data": [{"skeleton": []}]}, r"damaged: data\[0\] is .*, expected a unique frame_index"),
    "index below 0": ({"data": [{"frame_index": -1, "skeleton": []}]}, r"damaged: data\[0\]"),
    "index a text": ({"data": [{"frame_index": "1", "skeleton": []}]}, r"damaged: data\[0\]"),
    "index true": ({"data": [{"frame_index": True, "skeleton": []}]}, r"damaged: data\[0\]"),
    "twice": ({"data": [FRAME, FRAME]}, r"damaged: data\[1\] is .*, expected a unique frame_index"),
    "no skeleton": ({"data": [{"frame_index": 1}]}, r"damaged: data\[0\]"),
    "skeleton a number": ({"data": [{"frame_index": 1, "skeleton": [4]}]}, "damaged: a skeleton of frame 1 has no"),
    "no score": ({"data": [{"frame_index": 1, "skeleton": [{"pose": []}]}]}, "damaged: a skeleton of frame 1"),
    "17 joints": (frame_with(pose=[0.1] * 34), "damaged: a pose of frame 5 contains 34 numbers, expected 36"),
    "17 scores": (frame_with(score=[0.1] * 17), "damaged: a score of frame 5 contains 17 numbers, expected 18"),
    "a text for numbers": (frame_with(pose="0.1"), "damaged: a pose of frame 5 contains a str, expected 36"),
    "a word": (frame_with(pose=["x"] * 36), "damaged: a pose contains something other than numbers"),
    "null": (frame_with(score=[None] * 18), "damaged: a score "),
    "lists": (frame_with(score=[[1.0]] * 18), "damaged: a score "),
    "NaN": (frame_with(pose=[float("nan")] * 36), "damaged: a pose of frame 5 contains nan, expected about 0"),
    "infinity": (frame_with(score=[1.0] * 17 + [float("inf")]), "damaged: a score of frame 5 contains inf"),
    "pixels": (frame_with(pose=[0.5, 640.0] * 18), "damaged: a pose of frame 5 contains 640, expected about 0 to 1"),
    "texts": (frame_with(pose=["0.5"] * 36), "damaged: a pose contains something other than numbers"),
    "a huge number": (frame_with(pose=[10**400] * 36), "damaged: a pose contains something other than numbers"),
    "another label": ({"data": [FRAME], "label_index": 3}, "label: its label_index is 3, the label file has 0"),
    "nobody": ({"data": [{"frame_index": 1, "skeleton": []}]}, "empty: no joint is seen"),
    "no frames": ({"data": []}, "empty: no joint is seen"),
    "scores of 0": (frame_with(score=[0.0] * 18), "empty: no joint is seen"),
}


@pytest.mark.parametrize("clip_content, problem", BAD_CLIPS.values(), ids=BAD_CLIPS)
def test_bad_clips(tmp_path, clip_content, problem):
    with pytest.raises(DataError, match=f"a.json: {problem}"):
        read(tmp_path, clip_content)


@pytest.mark.parametrize("text", [b"", b"{", b'{"data": [}', b"\xff\xfe\x00", b"\x80abc", b"[" * 100_000, b"1" * 5000,
                                  b'{"data": [{"frame_index": 1, "skeleton": [{"pose": [0.1'])
def test_files_that_are_no_json(tmp_path, text):
    with pytest.raises(DataError, match="damaged: is not valid JSON"):
        read(tmp_path, None, text=text)


def test_a_clip_of_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "a.json"
    path.touch()
    os.truncate(path, 1 << 30)
    with pytest.raises(DataError, match="damaged: is larger than 64 MB"):
        read_clip(Source("a", str(path), 0, 0), {"a": 0})
    with pytest.raises(DataError, match="damaged: cannot be read"):
        read_clip(Source("a", str(tmp_path), 0, 0), {"a": 0})


def test_damaged_bytes_are_read_or_refused(tmp_path):
    rng, good = random.Random(0), json.dumps(clip(np.random.default_rng(0), 3)).encode()
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(good)
        for _ in range(rng.choice((1, 1, 3))):
            place = rng.randrange(len(damaged))
            damaged[place:place + rng.choice((0, 1, 1, 9))] = rng.choice(
                (b"", b"0", b"]", b"{", b'"', b"null", b"-", b"e99", b"\xff", bytes([rng.randrange(256)])))
        try:
            array, _ = read(tmp_path, None, text=bytes(damaged))
            assert array.shape == CLIP_SHAPE and np.isfinite(array).all()
            outcomes.add("read")
        except DataError as error:
            assert error.problem.startswith(("damaged: ", "empty: ", "label: "))
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("labels, problem", [
    ("[]", "contains a list, expected an object"), ("{}", "contains a dict, expected an object with one entry"),
    ("{", "damaged: is not valid JSON"), ('{"a": 3}', "found 3, expected has_skeleton"),
    ('{"a": {"has_skeleton": 1, "label_index": 0}}', "expected has_skeleton"),
    ('{"a": {"has_skeleton": true, "label_index": -1}}', "label_index .an integer >= 0"),
    ('{"a": {"has_skeleton": true, "label_index": true}}', "label_index .an integer >= 0"),
    ('{"a": {"has_skeleton": true}}', "label_index .an integer >= 0")])
def test_bad_labels(tmp_path, labels, problem):
    path = tmp_path / "labels.json"
    path.write_text(labels)
    with pytest.raises(DataError, match=problem):
        load_clip_labels(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_clip_labels(tmp_path / "nowhere.json")


def test_skipped_clips_are_listed_and_strict_stops(tmp_path, capsys):
    clips = write_kinetics(tmp_path / "k", "train", 12)
    folder = tmp_path / "k" / "kinetics_train"
    names = sorted(clips)
    (folder / f"{names[1]}.json").write_text("{")
    (folder / f"{names[2]}.json").unlink()
    (folder / f"{names[4]}.json").write_text('{"data": [], "label_index": 2}')
    (folder / "stranger.json").write_text("{}")
    arguments = [str(tmp_path / "k"), "-o", str(tmp_path / "out"), "--part", "train", "--workers", "0"]
    assert run_command("import-kinetics", [*arguments, "--strict"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder / names[1]}.json: damaged: is not valid JSON") and error.count("\n") == 1
    assert run_command("import-kinetics", arguments) == 0
    printed = capsys.readouterr().out
    assert "train: 6 samples of 3 classes" in printed
    assert "train: 7 files skipped (no skeleton 3, " in printed and "1 of 8 clips were read before" in printed
    reasons = dict(line.split("\t") for line in (tmp_path / "out/train_skipped.tsv").read_text().splitlines()[1:])
    kinds = {name: reason.split(":")[0] for name, reason in reasons.items() if reason[:11] != "no skeleton"}
    assert kinds == {f"{names[1]}.json": "damaged", f"{names[2]}.json": "missing", f"{names[4]}.json": "empty",
                     "stranger.json": "label"}
    data = np.load(tmp_path / "out/train_data.npy")
    for array, name in zip(data, [n for i, n in enumerate(names) if i not in (1, 2, 4)], strict=True):
        np.testing.assert_allclose(array, slow_array(clips[name]), atol=1e-7)


def test_frames_that_come_too_late_are_told(tmp_path, caplog):
    write_kinetics(tmp_path / "k", "val", 2, frames=10, start=295)
    import_kinetics(tmp_path / "k", tmp_path / "out", ("val",))
    assert "val: 2 clips have frames after number 299" in caplog.text


@pytest.mark.parametrize("change, words", [
    (lambda k: (k / "kinetics_val_label.json").unlink(), "kinetics_val_label.json: damaged: cannot be read"),
    (lambda k: [p.unlink() for p in (k / "kinetics_val").iterdir()], r"kinetics_val: has no file \*.json"),
    (lambda k: (k / "kinetics_val_label.json").write_text('{"a": {"has_skeleton": true, "label_index": 0}}'),
     "has none of the clips that kinetics_val_label.json lists"),
    (lambda k: [p.write_text("{}") for p in (k / "kinetics_val").iterdir()],
     "kinetics_val: none of the 4 files is usable"),
])
def test_parts_that_cannot_be_imported(tmp_path, change, words):
    write_kinetics(tmp_path / "k", "val", 4)
    change(tmp_path / "k")
    with pytest.raises(DataError, match=words):
        import_kinetics(tmp_path / "k", tmp_path / "out", ("val",))


def test_an_output_that_cannot_be_written(raw, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        import_kinetics(raw[0], tmp_path / "out")


def test_workers_change_nothing(raw, whole, tmp_path):
    import_kinetics(raw[0], tmp_path / "out", workers=2)
    assert content(tmp_path / "out") == content(whole)


def test_an_import_that_was_killed_goes_on(raw, whole, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, str(ROOT / "tools/data/kinetics.py"), str(raw[0]), "-o", str(output), "--workers", "2"]
    journal = output / ".import-train" / "journal.jsonl"
    kill_an_import(command, journal)
    assert not (output / "train_data.npy").exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "of 68 clips were read before" in done.stdout
    assert content(output) == content(whole)


def test_an_import_killed_between_its_outputs_begins_anew(raw, whole, tmp_path, monkeypatch):
    from paddlevideo_skel.importers.journal import Journal

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            import_kinetics(raw[0], tmp_path / "out", ("train",))
    import_kinetics(raw[0], tmp_path / "out")
    assert content(tmp_path / "out") == content(whole)


def test_the_header_is_as_long_for_every_count(tmp_path):
    assert {len(npy_header(count, CLIP_SHAPE)) for count in (0, 1, 68, 240_436, 10**9)} == {128}
    (tmp_path / "a.npy").write_bytes(npy_header(2, (3,)) + np.arange(6, dtype="<f4").tobytes())
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), [[0, 1, 2], [3, 4, 5]])


def test_the_command_that_is_printed_trains(raw, tmp_path, capsys):
    assert run_command("import-kinetics", [str(raw[0]), "-o", str(tmp_path), "--workers", "1"]) == 0
    command = shlex.split(capsys.readouterr().out.split("Now train: ")[1])
    assert command[:4] == ["python", "main.py", "--validate", "-c"] and set(command[5::2]) == {"-o"}
    config = load_config(ROOT / command[4], command[6::2])
    for part in ("train", "valid", "test"):
        dataset = build_dataset(config.section(f"DATASET.{part}"), part, 400)
        array = Pipeline(config.section(f"PIPELINE.{part}"), part)(dataset[0], np.random.default_rng(0))
        assert array.shape == (3, 150 if part == "train" else 300, 18, 2) and array.any()
    usual = load_config(ROOT / command[4]).section("DATASET.train")["file_path"]
    assert Path(usual) == Path("data/Kinetics/kinetics-skeleton/train_data.npy")


def test_memory_does_not_grow_with_the_number_of_clips(tmp_path):
    write_kinetics(tmp_path / "many", "val", 240, frames=8)
    names = [source.name for source in list_sources(tmp_path / "many/kinetics_val", ".json")]
    (tmp_path / "few/kinetics_val").mkdir(parents=True)
    for name in names[:60]:
        (tmp_path / f"few/kinetics_val/{name}.json").write_bytes(
            (tmp_path / f"many/kinetics_val/{name}.json").read_bytes())
    labels = json.loads((tmp_path / "many/kinetics_val_label.json").read_text())
    (tmp_path / "few/kinetics_val_label.json").write_text(json.dumps({name: labels[name] for name in names[:60]}))
    peaks = []
    for folder in ("few", "few", "many"):  # the first also pays for what is made once
        tracemalloc.start()
        import_kinetics(tmp_path / folder, tmp_path / "out", ("val",))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 1e6  # 135 arrays more are 17.5 MB


def test_paddle_is_not_needed(raw, tmp_path):
    code = ("import sys\nsys.modules['paddle'] = None\nfrom paddlevideo_skel.cli import run_command\n"
            f"sys.exit(run_command('import-kinetics', [{str(raw[0])!r}, '-o', {str(tmp_path)!r}, '--workers', '1']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Now train: " in done.stdout
