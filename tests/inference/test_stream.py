"""A live sequence is answered as files of its windows are, smoothed by a known formula, at a flat cost."""
import io
import json
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import tiny_export
from paths import ROOT

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.data.readers import read_sample
from paddlevideo_skel.errors import ConfigError, DataError
from paddlevideo_skel.inference.predict import Predictor
from paddlevideo_skel.inference.runtime import open_runtime
from paddlevideo_skel.inference.stream import Costs, StreamingPredictor

pytest.importorskip("onnx")
CROP = {"sample": [{"SketeonCropSample": {"window_size": 4, "p_interval": [0.95]}}]}
PERSONS = {"sample": [{"FormatPersons": {"num_person": 2}}, *CROP["sample"]]}
FLAT = {"transform": [{"PreNormalize2D": {"img_shape": [100, 200]}},
                      {"UniformSampleFrames": {"clip_len": 4, "test_mode": True}}, "PoseDecode",
                      {"FormatGCNInput": {"num_person": 2}}]}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """``tiny(sample shape, pipeline)`` opens a linear model of it in ONNX Runtime."""
    def make(shape, pipeline):
        monkeypatch.setattr(tiny_export, "SAMPLE", shape)
        return open_runtime(tiny_export.write_export(tmp_path / "export", pipeline=pipeline), "onnxruntime")
    return make


def sequence(frames, persons=2, channels=3, seed=0):
    """Coordinates (M, T, V, C) of 5 joints."""
    return np.random.default_rng(seed).normal(0, 0.3, (persons, frames, 5, channels)).astype("float32")


def answers(predictor, keypoint, score=None):
    """Push all frames of (M, T, V, C); the answers."""
    pushed = [predictor.push(keypoint[:, t], None if score is None else score[:, t]) for t in range(keypoint.shape[1])]
    return [answer for answer in pushed if answer is not None]


def from_file(runtime, path, keypoint, score=None):
    """Softmax of a window, by way of a pickle and the code of ``predict``."""
    fields = {"keypoint": keypoint} if score is None else {"keypoint": keypoint, "keypoint_score": score}
    path.write_bytes(pickle.dumps(fields))
    predictor = Predictor(runtime)
    logits = runtime.run(predictor.preprocess(read_sample(path)[0], path)[None])[0]
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


@pytest.mark.parametrize("shape, pipeline", [((3, 4, 5, 2), CROP), ((3, 4, 5, 2), PERSONS), ((1, 2, 4, 5, 3), FLAT)])
def test_every_window_is_answered_as_a_file_of_it(tiny, tmp_path, shape, pipeline):
    runtime = tiny(shape, pipeline)
    scored = pipeline is FLAT
    keypoint = sequence(50, channels=2 if scored else 3)
    score = np.random.default_rng(1).random((2, 50, 5)).astype("float32") if scored else None
    found = answers(StreamingPredictor(runtime, window=12, every=3), keypoint, score)
    assert [answer.frame for answer in found] == list(range(11, 50, 3))
    for answer in found:
        part = slice(answer.frame - 11, answer.frame + 1)
        right = from_file(runtime, tmp_path / "w.pkl", keypoint[:, part], score if score is None else score[:, part])
        np.testing.assert_array_equal(answer.scores, right)
        np.testing.assert_array_equal(answer.scores, answer.window_scores)
        assert answer.frames == 12
        assert [best["class"] for best in answer.top_k] == np.argsort(-right)[:2].tolist()
        assert [best["score"] for best in answer.top_k] == np.sort(right)[::-1][:2].tolist()


@pytest.mark.parametrize("pipeline", [CROP, PERSONS])
@pytest.mark.parametrize("away", ["nan", "zeros", "left out"])
def test_persons_come_and_go(tiny, tmp_path, away, pipeline):
    """The second person is there in frames 20 to 29 only; files have zeros for it, or no such person."""
    runtime = tiny((3, 4, 5, 2), pipeline)
    keypoint = sequence(50)
    keypoint[1, :20] = keypoint[1, 30:] = 0
    predictor, found = StreamingPredictor(runtime, window=12, every=1), []
    for t in range(50):
        frame = keypoint[:, t].copy()
        if away == "nan" and not 20 <= t < 30:
            frame[1] = np.nan
        if away == "left out" and not 20 <= t < 30:
            frame = frame[0]
        found.append(predictor.push(frame))
    for answer in found[11:]:
        window = keypoint[:, answer.frame - 11:answer.frame + 1]
        if pipeline is PERSONS and not window[1].any():
            window = window[:1]
        np.testing.assert_array_equal(answer.scores, from_file(runtime, tmp_path / "w.pkl", window))


def test_a_window_begins_where_somebody_is(tiny, tmp_path):
    """Nobody in the first 20 frames and after frame 40; no answer can be about nothing."""
    runtime = tiny((3, 4, 5, 2), CROP)
    keypoint = sequence(70)
    keypoint[:, :20] = keypoint[:, 40:] = 0
    found = answers(StreamingPredictor(runtime, window=12, every=4, smoothing=0.5), keypoint)
    empty = [answer.frame for answer in found if answer.scores is None]
    assert empty == [11, 15, 19, *range(51, 70, 4)] and all(not a.top_k for a in found if a.scores is None)
    first = next(answer for answer in found if answer.scores is not None)
    right = from_file(runtime, tmp_path / "w.pkl", keypoint[:, 20:24])
    np.testing.assert_array_equal(first.scores, right)  # smoothing begins here
    last = [answer for answer in found if answer.scores is not None][-1]
    np.testing.assert_array_equal(last.window_scores, from_file(runtime, tmp_path / "w.pkl", keypoint[:, 36:48]))


@pytest.mark.parametrize("smoothing", [0.0, 0.6, 0.95])
def test_exponential_smoothing_in_closed_form(tiny, smoothing):
    predictor = StreamingPredictor(tiny((3, 4, 5, 2), CROP), window=8, every=2, smoothing=smoothing)
    for _ in range(2):
        found = answers(predictor, sequence(60))
        own = np.array([answer.window_scores for answer in found], "float64")
        assert np.abs(own[1:] - own[:-1]).max() > 0.1  # the windows differ
        for n, answer in enumerate(found):
            weights = (1 - smoothing) * smoothing ** np.arange(n, -1, -1)
            weights[0] = smoothing ** n
            np.testing.assert_allclose(answer.scores, weights @ own[:n + 1], atol=1e-6)
            assert answer.scores.sum() == pytest.approx(1, abs=1e-5)
        predictor.reset()  # the next sequence begins without a past


def test_mean_of_the_last_windows(tiny):
    found = answers(StreamingPredictor(tiny((3, 4, 5, 2), CROP), window=8, every=2, mean=3), sequence(40))
    own = np.array([answer.window_scores for answer in found])
    for n, answer in enumerate(found):
        np.testing.assert_allclose(answer.scores, own[max(0, n - 2):n + 1].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("window, every, early, frames", [
    (12, 4, False, [11, 15, 19]), (12, 5, True, [1, 6, 11, 16]), (3, 7, False, [2, 9, 16]), (20, 1, False, [19]),
    (100, 4, True, [3, 7, 11, 15, 19])])
def test_when_answers_come(tiny, tmp_path, window, every, early, frames):
    runtime, keypoint = tiny((3, 4, 5, 2), CROP), sequence(20)
    found = answers(StreamingPredictor(runtime, window, every, early=early), keypoint)
    assert [answer.frame for answer in found] == frames
    for answer in found:
        assert answer.frames == min(answer.frame + 1, window)
        part = keypoint[:, max(0, answer.frame + 1 - window):answer.frame + 1]
        np.testing.assert_array_equal(answer.scores, from_file(runtime, tmp_path / "w.pkl", part))


def bad_frames():
    good = sequence(1)[:, 0]
    one_nan, endless = good.copy(), good.copy()
    one_nan[1, 2, 0], endless[0, 4, 1] = np.nan, np.inf
    return {"joints": (good[:, :4], None, "expected 5 joints, got 4"), "text": ("nonsense", None, "expected numbers"),
            "ragged": ([[[1, 2, 3]], [[1, 2]]], None, "do not form an array"),
            "nan": (one_nan, None, "person 1, joint 2 is NaN or infinite"),
            "infinite": (endless, None, "person 0, joint 4"), "shape": (np.zeros(5), None, "got shape"),
            "huge": (good.astype("float64") * 1e300, None, "person 0, joint 0"),
            "nobody": (np.zeros((0, 5, 3)), None, "got shape"), "flat": (good[..., :2], None, "2 coordinates"),
            "crowd": (np.concatenate([good, good]), None, "expected at most 2 persons, got 4"),
            "scores": (good, good[..., 0], "with scores"), "none": (None, None, "expected numbers"),
            "channels": (np.zeros((1, 5, 4)), None, "2 or 3 coordinates")}


@pytest.mark.parametrize("kind", bad_frames())
def test_a_bad_frame_is_told_and_not_taken(tiny, kind):
    frame, score, problem = bad_frames()[kind]
    runtime, keypoint = tiny((3, 4, 5, 2), CROP), sequence(20)
    predictor = StreamingPredictor(runtime, window=8, every=1)
    answers(predictor, keypoint[:, :10])
    with pytest.raises(DataError, match=f"frame 10: .*{problem}"):
        predictor.push(frame, score)
    right = answers(StreamingPredictor(runtime, window=8, every=1), keypoint)
    for answer, expected in zip(answers(predictor, keypoint[:, 10:]), right[3:], strict=True):
        np.testing.assert_array_equal(answer.scores, expected.scores)


def test_scores_must_fit_and_stay(tiny):
    predictor = StreamingPredictor(tiny((1, 2, 4, 5, 3), FLAT), window=8)
    with pytest.raises(DataError, match=r"frame 0: expected scores of shape \(2, 5\), got \(2, 4\)"):
        predictor.push(np.ones((2, 5, 2)), np.ones((2, 4)))
    predictor.push(np.ones((2, 5, 2)), np.ones((2, 5)))
    with pytest.raises(DataError, match="frame 1: a score of person 1, joint 3"):
        predictor.push(np.ones((2, 5, 2)), [[1] * 5, [1, 1, 1, np.nan, 1]])
    with pytest.raises(DataError, match=r"frame 1: .*without scores"):
        predictor.push(np.ones((2, 5, 2)))


@pytest.mark.parametrize("options, problem", [
    ({"window": 0}, "--window"), ({"every": 2.5}, "--every"), ({"smoothing": 1.0}, "--smooth"),
    ({"smoothing": -0.1}, "--smooth"), ({"smoothing": float("nan")}, "--smooth"), ({"mean": 0}, "--mean"),
    ({"mean": 2, "smoothing": 0.5}, "--mean"),
    ({"persons": 3}, "expected 2, the only number that this model accepts, got 3"), ({"window": 10**9}, "--window"),
    ({"top_k": 7}, "--top_k")])
def test_options_that_cannot_be(tiny, options, problem):
    with pytest.raises(ConfigError, match=problem):
        StreamingPredictor(tiny((3, 4, 5, 2), CROP), **options)


def test_more_persons_where_the_model_forms_them(tiny, tmp_path):
    runtime, keypoint = tiny((3, 4, 5, 2), PERSONS), sequence(8, persons=3)
    answer, = answers(StreamingPredictor(runtime, window=8, every=8, persons=3), keypoint)
    np.testing.assert_array_equal(answer.scores, from_file(runtime, tmp_path / "w.pkl", keypoint))


def test_memory_is_flat_over_ten_thousand_frames(tiny):
    predictor, frames = StreamingPredictor(tiny((3, 4, 5, 2), CROP), window=32, every=100, mean=5), sequence(64)

    def push(count):
        for t in range(count):
            predictor.push(frames[:, t % 64])
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = push(2000)  # the lists of recent times are full then, but for those of answers
        grown = push(10_000) - before
    finally:
        tracemalloc.stop()
    assert predictor.costs.frames == 12_000 and predictor.costs.answers == (12_000 - 32) // 100 + 1
    assert grown < 60_000, grown  # 100 more answers' times; the frames alone would be 1.2 MB


def test_costs_are_those_of_the_measured_times():
    costs, times = Costs(), [1.0, 2.0, 3.0, 10.0]
    assert costs.report(30) == {"frames": 0, "answers": 0, "ms_per_frame": None, "ms_per_answer": None}
    for i, time in enumerate(times):
        costs.add(time / 1000, answered=i == 3)
    report = costs.report(fps=50)
    assert report["frames"] == 4 and report["answers"] == 1
    assert report["ms_per_frame"] == pytest.approx({"mean": 4.0, "median": 2.5, "p95": 8.95})
    assert report["ms_per_answer"] == pytest.approx({"mean": 10.0, "median": 10.0, "p95": 10.0})
    assert report["share_of_real_time"] == pytest.approx(0.2)  # 4 of 20 ms


def command(runtime, source, *flags):
    return run_command("stream", ["--model", str(runtime.export.stem), "-i", str(source), "--window", "8", *flags])


def test_the_command(tiny, tmp_path, capsys, monkeypatch):
    runtime, keypoint = tiny((3, 4, 5, 2), CROP), sequence(24)
    np.save(tmp_path / "a.npy", keypoint.transpose(3, 1, 2, 0))
    flags = ("--every", "4", "--smooth", "0.6", "--fps", "20")
    assert command(runtime, tmp_path / "a.npy", *flags, "--out", str(tmp_path / "a.jsonl")) == 0
    printed = capsys.readouterr().out
    right = answers(StreamingPredictor(runtime, 8, 4, 0.6), keypoint)
    written = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in written] == [7, 11, 15, 19, 23]
    assert [line["top_k"] for line in written] == [answer.top_k for answer in right]
    best = right[0].top_k[0]
    assert f"frame 7 (0.35 s)\t{best['class']} {best['score']:.4f}" in printed
    assert "24 frames, 5 answers" in printed and "Time per frame: mean " in printed and "Share of real time" in printed

    lines = "".join(json.dumps({"keypoint": keypoint[:, t].tolist()}) + "\n" for t in range(24))
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert command(runtime, "-", *flags, "--out", str(tmp_path / "b.jsonl")) == 0
    same = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert [line["top_k"] for line in same] == [line["top_k"] for line in written]


@pytest.mark.parametrize("line, problem", [
    ("{]", "is not valid JSON"), ('{"joints": 1}', "'joints'"), ("[[[1, 2]]]", "expected 5 joints, got 1"),
    ('["a"]', "expected numbers"),
    (json.dumps([[[float("nan"), 1, 2]] + [[0, 0, 1]] * 4]), "is NaN or infinite"),
    ("", "is not valid JSON"), ("{}", "nothing"),
    (json.dumps({"keypoint": [[[0, 0, 1]] * 5], "img_shape": [1]}), "img_shape")])
def test_bad_lines_are_told_with_their_frame(tiny, capsys, monkeypatch, line, problem):
    runtime = tiny((3, 4, 5, 2), CROP)
    good = json.dumps(sequence(1)[:, 0].tolist())
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{good}\n{good}\n{line}\n{good}\n"))
    assert command(runtime, "-") == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "frame 2" in captured.err and problem in captured.err
    assert "2 frames, 0 answers" in captured.out


@pytest.mark.parametrize("flags, problem", [(("--every=0",), "--every"), (("--fps=0",), "--fps"),
                                            (("--out=/dev/null/x.jsonl",), "cannot be written")])
def test_bad_options_of_the_command(tiny, tmp_path, capsys, flags, problem):
    runtime = tiny((3, 4, 5, 2), CROP)
    np.save(tmp_path / "a.npy", sequence(8).transpose(3, 1, 2, 0))
    assert command(runtime, tmp_path / "a.npy", *flags) == 2
    assert problem in capsys.readouterr().err


def test_every_sequence_of_a_set_is_a_stream_of_its_own_and_drawn(tiny, tmp_path, capsys):
    image = pytest.importorskip("matplotlib.image")
    runtime = tiny((3, 4, 5, 2), CROP)
    sets = [{"frame_dir": name, "keypoint": sequence(20, seed=seed)} for seed, name in enumerate(("one", "two"))]
    sets[1]["keypoint"][:, 9:] = 0
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(sets))
    assert command(runtime, tmp_path / "a.pkl", "--every", "2", "--plot", str(tmp_path / "p.png"), "--early") == 0
    printed = capsys.readouterr().out
    assert printed.count("Current sequence: ") == 2 and "frame 19\tnobody" in printed
    pixels = image.imread(tmp_path / "p.png")[..., :3]
    coloured = (np.ptp(pixels, axis=-1) > 0.2).any(axis=1)  # rows with lines of some colour
    middle = len(coloured) // 2
    assert coloured[:middle].sum() > 50 and coloured[middle:].sum() > 20


def test_no_paddle_is_needed(tiny, tmp_path):
    runtime = tiny((3, 4, 5, 2), CROP)
    (tmp_path / "broken" / "paddle").mkdir(parents=True)
    (tmp_path / "broken" / "paddle" / "__init__.py").write_text("raise ImportError('no paddle here')")
    code = ("import runpy, sys\n"
            f"sys.path.insert(1, {str(tmp_path / 'broken')!r})\n"
            f"sys.argv[1:] = ['--model', {str(runtime.export.stem)!r}, '-i', '-', '--window', '2', '--every', '1']\n"
            f"runpy.run_path({str(ROOT / 'tools' / 'stream.py')!r}, run_name='__main__')")
    lines = "".join(json.dumps(sequence(1, seed=i)[:, 0].tolist()) + "\n" for i in range(3))
    done = subprocess.run([sys.executable, "-c", code], input=lines, cwd=tmp_path, capture_output=True, text=True,
                          timeout=600)
    assert done.returncode == 0, done.stderr
    assert "frame 2\t" in done.stdout and "3 frames, 2 answers" in done.stdout
