"""Results come to the accuracy of ``main.py --test``, to the last sample; what is damaged is told."""
import json
import pickle
import subprocess
import sys

import numpy as np
import paddle
import pytest
from bin_cases import config_of, edit, make_data
from deploy_cases import filled
from paths import ROOT

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.config import load_config
from paddlevideo_skel.errors import ConfigError, DataError
from paddlevideo_skel.export.exporter import export_model
from paddlevideo_skel.inference.bin_comparison import compare_results, format_report
from paddlevideo_skel.inference.bin_inference import infer_bins
from paddlevideo_skel.inference.bin_results import ResultFolder, evaluate
from paddlevideo_skel.inference.bin_writer import write_bins
from paddlevideo_skel.inference.runtime import open_runtime
from paddlevideo_skel.training import test

CLASSES, COUNT = 7, 40


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


def chain(config, weights, folder, batch, export=None):
    """Export, bins, ONNX Runtime, accuracy; and the same samples by ``main.py --test``."""
    export = export or export_model(config, weights, folder / "export", "inference", "minimal", to_onnx=True)
    paddle.save(weights.state_dict(), str(folder / "w.pdparams"))
    right = test.test(config, folder / "w.pdparams", folder / "test.json")
    write_bins(config, folder / "bins", model=export.stem)
    with open_runtime(export, "onnxruntime") as runtime:
        infer_bins(runtime, folder / "bins", folder / "results", batch)
    return evaluate(folder / "results", out=folder / "results.json"), right


def assert_same_results(found, right):
    """To the last sample: the same names, labels and first classes, and so the same figures."""
    for key in ("num_samples", "class_names", "top1", "top5", "confusion_matrix", "per_class"):
        assert found[key] == right[key]
    for one, two in zip(found["samples"], right["samples"], strict=True):
        assert (one["name"], one["label"]) == (two["name"], two["label"])
        assert np.argsort(one["scores"])[::-1][:5].tolist() == np.argsort(two["scores"])[::-1][:5].tolist()
        np.testing.assert_allclose(one["scores"], two["scores"], atol=1e-5)


@pytest.mark.parametrize("name, batch", [("ctrgcn", 4), pytest.param("stgcn_plusplus", 3, marks=pytest.mark.slow),
                                         pytest.param("posec3d", 1, marks=pytest.mark.slow)])
def test_accuracy_is_that_of_a_test(data, ctrgcn_export, tmp_path, name, batch):
    config = config_of(name, data)
    found, right = chain(config, filled(config), tmp_path, batch, ctrgcn_export if name == "ctrgcn" else None)
    assert_same_results(found, right)
    runs, fused = [str(tmp_path / f"{run}.json") for run in ("results", "test")], tmp_path / "fused.json"
    assert run_command("ensemble", [*runs, "--out", str(fused)]) == 0
    assert json.loads(fused.read_text())["top1"] == right["top1"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kinetics", "hmdb51"])
def test_accuracy_in_the_published_shapes(data, tmp_path, name):
    """ST-GCN as it is on Kinetics' shape, and a thin PoseC3D on HMDB51's 20 clips: 129,600 and 204,718,080 bytes."""
    pytest.importorskip("paddle2onnx")
    if name == "kinetics":
        config, size = config_of("kinetics", data, "DATASET.test_batch_size=4"), 129_600
    else:
        config, size = config_of("posec3d", data, "DATASET.test.split=two"), 204_718_080
        config["PIPELINE"]["test"] = load_config(config.source)["PIPELINE"]["test"]
    found, right = chain(config, filled(config), tmp_path, 2)
    assert {p.stat().st_size for p in (tmp_path / "bins/bin").iterdir()} == {size}
    assert_same_results(found, right)


@pytest.fixture
def answers(tmp_path):
    """A result folder as ais_bench leaves it, its logits, and labels of which some are right."""
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(0, 2, (COUNT, CLASSES)).astype("float32"), rng.integers(0, CLASSES, COUNT)
    labels[:15] = logits[:15].argmax(axis=1)
    folder = tmp_path / "answers"
    write_answers(folder, logits)
    (tmp_path / "label.txt").write_text("".join(f"{i}.bin {label}\n" for i, label in enumerate(labels)))
    (tmp_path / "val_label.pkl").write_bytes(pickle.dumps(([f"v{i}" for i in range(COUNT)], labels.tolist())))
    (tmp_path / "answers_summary.json").write_text("{}")
    return folder, logits, labels


def write_answers(folder, answers):
    folder.mkdir(exist_ok=True)
    for i, answer in enumerate(answers):
        answer.astype("float32").tofile(folder / f"{i}_0.bin")


def accuracy(scores, labels, k):
    """By hand, for scores of which no two are equal."""
    return float(np.mean([label in sorted(range(len(row)), key=lambda c: -row[c])[:k]
                          for row, label in zip(scores.tolist(), labels.tolist(), strict=True)]))


def softmax(logits):
    powers = np.exp(logits.astype("float64"))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("labels_in", ["label.txt", "val_label.pkl"])
def test_results_of_ais_bench_by_hand(answers, tmp_path, capsys, labels_in):
    folder, logits, labels = answers
    out = tmp_path / "out/r.json"
    assert run_command("postprocess-bin", [f"--result_dir={folder}", f"--label_path={tmp_path / labels_in}",
                                           f"--num_classes={CLASSES}", f"--out={out}"]) == 0
    top1, top5 = accuracy(logits, labels, 1), accuracy(logits, labels, 5)
    assert f"avg_acc1= {top1}, avg_acc5= {top5}" in capsys.readouterr().out and 15 / 40 <= top1 < top5 < 1
    report = json.loads(out.read_text())
    assert (report["top1"], report["top5"], report["num_samples"]) == (top1, top5, COUNT)
    names = [f"v{i}" if labels_in == "val_label.pkl" else str(i) for i in range(COUNT)]
    assert [sample["name"] for sample in report["samples"]] == names
    np.testing.assert_allclose([s["scores"] for s in report["samples"]], softmax(logits), rtol=1e-5)
    for entry in report["per_class"]:
        chosen = labels == entry["class"]
        assert entry["samples"] == chosen.sum()
        assert entry["accuracy"] == pytest.approx(accuracy(logits[chosen], labels[chosen], 1))


@pytest.mark.parametrize("ending", ["npy", "txt"])
def test_other_forms_of_answers(answers, tmp_path, ending):
    folder, *_ = answers
    right = evaluate(folder, tmp_path / "label.txt")
    for path in list(folder.iterdir()):
        array = np.fromfile(path, "float32")
        if ending == "npy":
            np.save(path.with_suffix(".npy"), array[None])
        else:
            path.with_suffix(".txt").write_text(" ".join(f"{x:.9g}" for x in array) + "\n")
        path.unlink()
    assert {**evaluate(folder, tmp_path / "label.txt"), "results": None} == {**right, "results": None}


def test_few_classes(tmp_path, capsys):
    logits = np.random.default_rng(0).normal(size=(9, 3))
    write_answers(tmp_path / "answers", logits)
    np.save(tmp_path / "l.npy", np.arange(9) % 3)
    flags = [f"--result_dir={tmp_path / 'answers'}", f"--label_path={tmp_path / 'l.npy'}"]
    assert run_command("postprocess-bin", flags) == 0
    assert f"avg_acc1= {accuracy(logits, np.arange(9) % 3, 1)}, avg_acc3= 1.0" in capsys.readouterr().out


def test_several_rows_are_averaged_as_the_recipe_says(tmp_path):
    logits = np.random.default_rng(1).normal(0, 4, (30, 20, CLASSES)).astype("float32")
    labels = np.arange(30) % CLASSES
    write_answers(tmp_path / "answers", logits)
    np.save(tmp_path / "l.npy", labels)
    by_scores, by_logits = softmax(logits).mean(axis=1), softmax(logits.mean(axis=1))
    assert (by_scores.argmax(axis=1) != by_logits.argmax(axis=1)).any()
    for average, right in (("scores", by_scores), ("logits", by_logits)):
        found = evaluate(tmp_path / "answers", tmp_path / "l.npy", num_classes=CLASSES, average=average)
        assert found["top1"] == accuracy(right, labels, 1) and found["top5"] == accuracy(right, labels, 5)
        np.testing.assert_allclose([s["scores"] for s in found["samples"]], right, rtol=1e-5)
    for average in (None, "none"):
        with pytest.raises(ConfigError, match=r"--average: .*0_0.bin has 20 rows of 7 classes"):
            evaluate(tmp_path / "answers", tmp_path / "l.npy", num_classes=CLASSES, average=average)
    with pytest.raises(ConfigError, match=r"--num_classes: required: .* has 140 numbers, but .* is 6"):
        evaluate(tmp_path / "answers", tmp_path / "l.npy")


@pytest.fixture
def of_bins(data, tmp_path):
    """A bin folder with made-up answers for it."""
    bins = write_bins(config_of("stgcn_plusplus", data), tmp_path / "bins")
    (tmp_path / "answers").mkdir()
    logits = np.random.default_rng(0).normal(size=(len(bins), 10)).astype("float32")
    for name, row in zip(bins.names, logits, strict=True):
        row.tofile(tmp_path / "answers" / f"{name}_0.bin")
    (tmp_path / "answers/results.json").write_text(json.dumps({
        "model": "m", "runtime": "onnxruntime", "answer_shape": [10],
        "bins": {"path": str(bins.path), "digest": bins.digest}}))
    return tmp_path / "answers", bins


def test_the_bin_folder_is_found(of_bins, tmp_path):
    folder, bins = of_bins
    right = evaluate(folder)
    assert [s["name"] for s in right["samples"]] == bins.sample_names and right["class_names"][0] == "walk"
    assert right["results"] == {"folder": str(folder), "model": "m", "runtime": "onnxruntime"}
    assert evaluate(folder, bins=bins.path) == right
    assert evaluate(folder, label_path=bins.path / "label.txt") == right
    (tmp_path / "l.txt").write_text("".join(f"{name}.bin 9\n" for name in bins.names))
    other = evaluate(folder, label_path=tmp_path / "l.txt", bins=bins.path)
    assert [s["label"] for s in other["samples"]] == [9] * len(bins)
    (folder / "results.json").unlink()
    assert evaluate(folder, bins=bins.path)["top1"] == right["top1"]


def test_samples_without_labels(of_bins, tmp_path, capsys):
    folder, bins = of_bins
    (bins.path / "label.txt").unlink()
    edit(bins.path / "bins.json", labels=False, sample_names=bins.sample_names)
    (folder / "results.json").unlink()
    out = tmp_path / "r.json"
    flags = [f"--result_dir={folder}", f"--input={bins.path}", f"--out={out}"]
    assert run_command("postprocess-bin", flags) == 0
    assert "no accuracy: the samples have no labels" in capsys.readouterr().out
    assert "top1" not in json.loads(out.read_text()) and len(json.loads(out.read_text())["samples"]) == len(bins)


def cut(folder, name, count):
    np.fromfile(folder / name, "float32")[:count].tofile(folder / name)


def fill_with(folder, name, value):
    numbers = np.fromfile(folder / name, "float32")
    numbers[2] = value
    numbers.tofile(folder / name)


DAMAGE = {
    "missing": (lambda f: (f / "00003_0.bin").unlink(), r"has no result for 00003 \(1; .*bins has 11 samples"),
    "stranger": (lambda f: (f / "00099_0.bin").write_bytes(b"1234"), "unknown samples: 00099"),
    "second output": (lambda f: (f / "00003_1.bin").write_bytes(b"1234"), r"00003_1.bin: is a duplicate result"),
    "twice": (lambda f: (f / "00003_0.npy").write_bytes(b"1234"), r"duplicate result for the sample of 00003_0.bin"),
    "no answer's name": (lambda f: (f / "00003.bin").write_bytes(b"1234"), r"00003.bin: expected a name <sample>_0"),
    "truncated": (lambda f: cut(f, "00003_0.bin", 9), "expected 10 like the others, got 9 numbers"),
    "all truncated": (lambda f: [cut(f, f"{i:05d}_0.bin", 9) for i in range(11)], "a multiple of 10, got 9 numbers"),
    "bytes": (lambda f: (f / "00003_0.bin").write_bytes(b"123"), "expected float32 numbers, got 3 bytes"),
    "empty": (lambda f: (f / "00003_0.bin").write_bytes(b""), "got 0 bytes"),
    "nan": (lambda f: fill_with(f, "00003_0.bin", np.nan), "00003_0.bin: has NaN"),
    "inf": (lambda f: fill_with(f, "00003_0.bin", np.inf), "00003_0.bin: has NaN or infinity"),
    "no report": (lambda f: (f / "results.json").unlink(), "--label_path: required"),
    "a damaged report": (lambda f: (f / "results.json").write_text("{"), r"results.json: is damaged"),
    "a report of nonsense": (lambda f: edit(f / "results.json", answer_shape=[0]), r"results.json: is damaged"),
    "another model": (lambda f: edit(f / "results.json", answer_shape=[51]),
                      "51 according to .*results.json, 10 according to .*bins"),
    "another bin folder": (lambda f: edit(f / "results.json", bins={"path": str(f.parent / "bins"), "digest": "x"}),
                           "belongs to a bin folder with digest x"),
    "a gone bin folder": (lambda f: edit(f / "results.json", bins={"path": str(f.parent / "no")}), "folder not found"),
    "text": (lambda f: ((f / "00003_0.bin").unlink(), (f / "00003_0.txt").write_text("1 2 x")), "expected numbers"),
    "integers": (lambda f: ((f / "00003_0.bin").unlink(), np.save(f / "00003_0.npy", np.arange(10))), "10 of int64"),
    "an empty folder": (lambda f: [p.unlink() for p in f.iterdir()], "has no results"),
    "no folder": (lambda f: f.rename(f.parent / "moved"), "answers: folder not found"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_results_are_told(of_bins, damage):
    folder, _ = of_bins
    do, problem = DAMAGE[damage]
    do(folder)
    with pytest.raises((DataError, ConfigError), match=problem):
        evaluate(folder)


def test_what_does_not_fit(of_bins, tmp_path, capsys):
    folder, bins = of_bins
    (tmp_path / "l.txt").write_text("".join(f"{name}.bin 10\n" for name in bins.names))
    for flags, problem in ((["--average=mean"], None), (["--num_classes=0"], "--num_classes: expected at least 1"),
                           (["--num_classes=5"], "5 according to --num_classes, 10 according to"),
                           ([f"--label_path={tmp_path}/no.pkl"], "no.pkl"),
                           ([f"--label_path={tmp_path}/l.txt"], "expected a label in 0..9, got 10"),
                           ([f"--out={tmp_path}/l.txt/r.json"], "cannot be written")):
        if problem is None:
            with pytest.raises(SystemExit):
                run_command("postprocess-bin", [f"--result_dir={folder}", *flags])
        else:
            assert run_command("postprocess-bin", [f"--result_dir={folder}", *flags]) == 2
            assert problem in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--average"):
        evaluate(folder, average="mean")


@pytest.fixture
def pair(tmp_path):
    """Two result folders of known difference: sample i of ``a`` is turned by i / 100 against ``b``."""
    angles = np.arange(6) / 100
    write_answers(tmp_path / "b", [np.array([4.0, 0.0])] * 6)
    write_answers(tmp_path / "a", [4 * np.array([np.cos(x), np.sin(x)]) for x in angles])
    return tmp_path / "a", tmp_path / "b", angles


def test_comparison_by_hand(pair):
    a, b, angles = pair
    report = compare_results(a, b)
    error = np.maximum(1 - np.cos(angles), np.sin(angles))
    assert [s["name"] for s in report["samples"]] == list("012345")
    np.testing.assert_allclose([s["cosine"] for s in report["samples"]], np.cos(angles), atol=1e-6)
    np.testing.assert_allclose([s["relative_error"] for s in report["samples"]], error, atol=1e-6)
    assert report["cosine"]["min"] == pytest.approx(np.cos(0.05)) and report["top1_agreement"] == 1
    assert report["relative_error"]["max"] == pytest.approx(np.sin(0.05), rel=1e-5)
    assert report["relative_error"]["median"] == pytest.approx((np.sin(0.02) + np.sin(0.03)) / 2, rel=1e-5)
    assert report["samples"][0]["margin"] == pytest.approx(np.tanh(2))  # of softmax of (4, 0)
    assert [line.split()[0] for line in format_report(report, 2)[-2:]] == ["5", "4"]
    assert format_report(report, 0)[-1].endswith("for 6 of 6 (100.00%)")


def test_the_first_classes_are_compared(tmp_path):
    rng = np.random.default_rng(0)
    one, two = rng.normal(0, 3, (2, 20, 4, 5)).astype("float32")
    write_answers(tmp_path / "a", one)
    write_answers(tmp_path / "b", two)
    report = compare_results(tmp_path / "a", tmp_path / "b", num_classes=5)
    classes = [softmax(x).mean(axis=1).argmax(axis=1) for x in (one, two)]
    assert [s["top1"] for s in report["samples"]] == np.transpose(classes).tolist()
    assert report["top1_agreement"] == np.mean(classes[0] == classes[1]) and 0 < report["top1_agreement"] < 1
    flat = compare_results(tmp_path / "a", tmp_path / "b")
    assert [s["top1"][1] for s in flat["samples"]] == two.reshape(20, 20).argmax(axis=1).tolist()
    same = compare_results(tmp_path / "b", tmp_path / "b", num_classes=5)
    assert same["top1_agreement"] == 1 and same["relative_error"]["max"] == 0 and same["cosine"]["min"] > 1 - 1e-12


def test_the_command_fails_where_the_error_is_too_great(pair, tmp_path, capsys):
    a, b, _ = pair
    assert run_command("compare-outputs", [str(a), str(b), "--max_error=0.06"]) == 0
    assert "the same for 6 of 6" in capsys.readouterr().out
    assert run_command("compare-outputs", [str(a), str(b), "--max_error=0.045", "--worst=1"]) == 2
    printed = capsys.readouterr()
    assert "relative error 0.05 in 5, allowed 0.045" in printed.err and "0.9987" in printed.out
    assert run_command("compare-outputs", [str(a), str(b), "--max_error=-1"]) == 2
    assert run_command("compare-outputs", [str(a), str(b), "--num_classes=0"]) == 2


def test_the_picture(pair, tmp_path):
    pytest.importorskip("matplotlib")
    a, b, _ = pair
    assert run_command("compare-outputs", [str(a), str(b), f"--json={tmp_path}/r/c.json"]) == 0
    assert json.loads((tmp_path / "r/c.json").read_text())["count"] == 6
    assert (tmp_path / "r/c.png").read_bytes().startswith(b"\x89PNG")


COMPARED = {
    "missing": (lambda f: (f / "3_0.bin").unlink(), r"a: has no result for 3 \(1"),
    "stranger": (lambda f: (f / "9_0.bin").write_bytes(b"1234"), "unknown samples: 9"),
    "truncated": (lambda f: cut(f, "3_0.bin", 1), "has 1 numbers, but .*3_0.bin has 2"),
    "nan": (lambda f: np.full(2, np.nan, "float32").tofile(f / "3_0.bin"), "3_0.bin: has NaN"),
    "zero": (lambda f: np.zeros(2, "float32").tofile(f / "3_0.bin"), "3_0.bin: all its numbers are zero"),
    "an empty folder": (lambda f: [p.unlink() for p in f.iterdir()], "has no results"),
}


@pytest.mark.parametrize("damage", COMPARED)
def test_what_cannot_be_compared(pair, damage):
    a, b, _ = pair
    do, problem = COMPARED[damage]
    do(a)
    with pytest.raises(DataError, match=problem):
        compare_results(a, b)


def test_classes_that_do_not_fit(pair):
    a, b, _ = pair
    with pytest.raises(DataError, match="expected a multiple of 3 numbers, got 2"):
        compare_results(a, b, num_classes=3)


def test_no_paddle_is_needed(of_bins, tmp_path):
    folder, _ = of_bins
    code = ("import sys\nsys.modules['paddle'] = None\nfrom paddlevideo_skel.cli import run_command\n"
            f"status = run_command('postprocess-bin', ['--result_dir', {str(folder)!r}])\n"
            f"sys.exit(status or run_command('compare-outputs', [{str(folder)!r}, {str(folder)!r}]))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "avg_acc1" in done.stdout and "the same for 11 of 11" in done.stdout


def test_names_are_in_natural_order(answers):
    assert ResultFolder(answers[0]).names == [str(i) for i in range(COUNT)]
