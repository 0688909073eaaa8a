"""Ensembles fuse the same samples, by the sums that the literature uses, and tell what each class gained."""
import json
import subprocess
import sys

import numpy as np
import pytest

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.errors import ConfigError, DataError
from paddlevideo_skel.evaluation import softmax, summarise, write_results
from paddlevideo_skel.training.ensemble import align_runs, ensemble, fuse, read_run, report_lines

NAMES = ["a", "b", "c", "d"]
LABEL = np.array([0, 1, 2, 1])
JOINT = np.array([[.6, .3, .1], [.5, .4, .1], [.1, .3, .6], [.2, .5, .3]])
BONE = np.array([[.2, .5, .3], [.1, .8, .1], [.2, .6, .2], [.1, .7, .2]])


def write(path, scores=JOINT, label=LABEL, names=NAMES, class_names=("wave", "sit", "kick")):
    write_results(summarise(np.asarray(scores), label, names, class_names and list(class_names)), path)
    return str(path)


def test_the_weighted_mean_of_scores_by_hand(tmp_path):
    results = ensemble([write(tmp_path / "j.json"), write(tmp_path / "b.json", BONE)], [3, 1], out=tmp_path / "f.json")
    # (3·joint + bone) / 4, written out
    expected = [[.5, .35, .15], [.4, .5, .1], [.125, .375, .5], [.175, .55, .275]]
    np.testing.assert_allclose([s["scores"] for s in results["samples"]], expected, rtol=1e-6)
    assert [run["top1"] for run in results["runs"]] == [.75, .5]
    assert (results["top1"], results["top5"], results["best_single"]) == (1.0, 1.0, 0)
    assert [entry["gain"] for entry in results["per_class"]] == [0, .5, 0]
    assert json.loads((tmp_path / "f.json").read_text())["top1"] == 1.0


def test_the_sum_of_logits_is_that_of_the_logits_the_runs_had(tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 8, (2, 40, 7))
    label = rng.integers(0, 7, 40)
    names = [f"s{i}" for i in range(40)]
    paths = [write(tmp_path / f"{i}.json", softmax(y), label, names, None) for i, y in enumerate(logits)]
    results = ensemble(paths, [.6, .4], "logits")
    expected = softmax(.6 * logits[0] + .4 * logits[1])
    np.testing.assert_allclose([s["scores"] for s in results["samples"]], expected, rtol=1e-4)
    by_scores = ensemble(paths, [.6, .4])
    assert [s["scores"] for s in by_scores["samples"]] != [s["scores"] for s in results["samples"]]


def test_small_scores_keep_their_logarithm(tmp_path):
    logits = np.array([[0.0, -300.0, -310.0]])
    path = write(tmp_path / "a.json", softmax(logits), np.array([1]), ["x"])
    run = read_run(path)
    np.testing.assert_allclose(np.log(run.scores[0]), logits[0], atol=1e-4)


def test_a_run_fused_with_itself_stays_itself(tmp_path):
    path = write(tmp_path / "a.json")
    for method in ("scores", "logits"):
        fused = fuse([read_run(path)] * 3, [.2, .3, .5], method)
        np.testing.assert_allclose(fused, JOINT, rtol=1e-5)


def test_the_order_of_samples_does_not_matter(tmp_path):
    order = [2, 0, 3, 1]
    straight = ensemble([write(tmp_path / "j.json"), write(tmp_path / "b.json", BONE)])
    other = write(tmp_path / "o.json", BONE[order], LABEL[order], [NAMES[i] for i in order])
    assert ensemble([str(tmp_path / "j.json"), other])["samples"] == straight["samples"]


def test_samples_without_names_are_the_same_by_their_place(tmp_path):
    paths = [write(tmp_path / f"{kind}.json", scores, names=[f"{kind}.npy[{i}]" for i in range(4)])
             for kind, scores in (("joint", JOINT), ("bone", BONE))]
    assert ensemble(paths, [3, 1])["top1"] == 1.0


def test_without_labels_the_answers_are_fused_all_the_same(tmp_path):
    paths = [write(tmp_path / f"{i}.json", scores, None) for i, scores in enumerate((JOINT, BONE))]
    results = ensemble(paths)
    assert "top1" not in results and len(results["samples"]) == 4
    assert "no labels" in report_lines(results)[0]
    labelled = write(tmp_path / "l.json", BONE)
    assert ensemble([paths[0], labelled], [3, 1])["top1"] == 1.0


@pytest.mark.parametrize(("change", "words"), [
    ({"names": ["a", "b", "c", "x"]}, ["other samples", "d", "x"]),
    ({"label": np.array([0, 1, 2, 0])}, ["b.json: d", "label 0", "but 1 in"]),
    ({"scores": JOINT[:3], "label": LABEL[:3], "names": NAMES[:3]}, ["3 samples", "4 of 3"]),
    ({"scores": np.full((4, 5), .2), "class_names": None}, ["of 5 classes"]),
])
def test_other_samples_are_refused(tmp_path, change, words):
    runs = [read_run(write(tmp_path / "a.json")), read_run(write(tmp_path / "b.json", **change))]
    with pytest.raises(DataError) as error:
        align_runs(runs)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"samples": []}', '{"samples": [{"name": "a", "scores": 3}]}',
                                     '{"samples": [{"name": "a", "scores": [0.5, -1], "label": 0}]}',
                                     '{"samples": [{"name": "a", "scores": [0.5, 0.5], "label": 2}]}',
                                     '{"samples": [{"name": "a", "scores": [0.5, 0.5], "label": true}]}',
                                     '{"samples": [{"name": "a", "scores": [1], "label": 0}], "class_names": 3}'])
def test_a_file_that_is_not_results_is_an_error(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json"):
        read_run(tmp_path / "a.json")


@pytest.mark.parametrize(("weights", "method"), [([1], "scores"), ([1, 0], "scores"), ([1, float("nan")], "scores"),
                                                 (None, "mean")])
def test_wrong_weights_are_refused(tmp_path, weights, method):
    paths = [write(tmp_path / "a.json"), write(tmp_path / "b.json")]
    with pytest.raises(ConfigError, match=r"--weights|--fuse"):
        ensemble(paths, weights, method)
    with pytest.raises(ConfigError, match="at least two"):
        ensemble(paths[:1])


def test_the_command(tmp_path, capsys):
    paths = [write(tmp_path / "joint.json"), write(tmp_path / "bone.json", BONE)]
    assert run_command("ensemble", [*paths, "--weights", "3", "1", "--out", str(tmp_path / "two.json"),
                                    "--classes", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert any(line.split()[-3:] == ["3", "75.00%", "100.00%"] for line in printed)
    assert any(line.startswith("ensemble, by scores") and "100.00%" in line for line in printed)
    assert any("1 classes better, 0 worse, 2 the same" in line for line in printed)
    assert any(line.startswith("1 sit") and line.endswith("+50.00") for line in printed)
    assert (tmp_path / "two.json").is_file()
    assert (tmp_path / "two_gains.png").read_bytes().startswith(b"\x89PNG")
    assert run_command("ensemble", [paths[0], str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_no_paddle_is_needed(tmp_path):
    paths = [write(tmp_path / "joint.json"), write(tmp_path / "bone.json", BONE)]
    code = ("import sys; sys.modules['paddle'] = None; from paddlevideo_skel.cli import run_command; "
            f"sys.exit(run_command('ensemble', {paths!r}))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
