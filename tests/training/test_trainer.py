import json
import logging
import pickle
import re
from pathlib import Path

import numpy as np
import paddle
import pytest
from small_config import distillation_config

from paddlevideo_skel.checkpoints.load import load_weights, split_models
from paddlevideo_skel.config import load_config
from paddlevideo_skel.data.loader import Batch
from paddlevideo_skel.errors import ConfigError, DataError, OutputError, UnavailableError
from paddlevideo_skel.evaluation import hits
from paddlevideo_skel.models.cpu import VARIABLE
from paddlevideo_skel.training.data import make_loader
from paddlevideo_skel.training.metrics import Mean, SkeletonMetric
from paddlevideo_skel.training.test import test as run_test
from paddlevideo_skel.training.trainer import TrainOptions, train


@pytest.fixture(scope="module")
def trained(shared_config, tmp_path_factory):
    """What ``train`` returned for two epochs with validation; tests change nothing in its folder."""
    return run(shared_config, tmp_path_factory.mktemp("trained") / "out")


@pytest.fixture(scope="module")
def distilled(sample_set, tmp_path_factory):
    """The same for a distillation: (config's file, result)."""
    folder = tmp_path_factory.mktemp("distilled")
    path = folder / "distillation.yaml"
    path.write_text(distillation_config(sample_set))
    return path, run(path, folder / "out")


def run(path, folder, *overrides, **arguments):
    config = load_config(path, [f"output_dir={folder}", *overrides])
    return train(config, TrainOptions(**{"validate": True, "seed": 5, **arguments}))


def same(a, b):
    a, b = load_weights(a), load_weights(b)
    return set(a) == set(b) and all(np.array_equal(a[key], b[key]) for key in a)


def numbers_of(log):
    """The log's lines without its times."""
    lines = [line.split("] ", 1)[1] for line in log.read_text().splitlines() if "loss" in line]
    return [re.sub(r"(batch_cost_sum|[a-z_]*cost|[a-z_]*ips|eta): [\d.:]+( sec)?", "", line) for line in lines]


def test_the_same_seed_gives_the_same_numbers_to_the_bit(trained, config_file, tmp_path):
    first, folder = trained, Path(trained["output_dir"])
    again = run(config_file, tmp_path / "b")
    workers = run(config_file, tmp_path / "c", "DATASET.num_workers=2")
    other = run(config_file, tmp_path / "d", "epochs=1", seed=6)
    assert first["best"] == again["best"] == workers["best"]
    for result in (again, workers):
        assert same(first["last"], result["last"])
        assert same(first["best_path"], result["best_path"])
    assert not same(folder / "small_epoch_00001.pdparams", other["last"])
    lines = numbers_of(folder / "train.log")
    assert lines == numbers_of(tmp_path / "b" / "train.log") == numbers_of(tmp_path / "c" / "train.log")
    assert len(lines) == 2 * 4 + 4  # 32 samples in 4 batches, twice; train and val at each epoch's end


def test_what_a_run_leaves(trained):
    result, folder = trained, Path(trained["output_dir"])
    names = {path.name for path in folder.iterdir()}
    expected = {f"small_{suffix}.{kind}" for suffix in ("epoch_00001", "epoch_00002", "best")
                for kind in ("pdparams", "pdopt")}
    assert expected <= names
    assert names - expected == {"train.log", "vdl", "small_last.pdstate", "examined.json"}
    assert result["best_path"] == str(folder / "small_best.pdparams")
    assert result["last"] == str(folder / "small_epoch_00002.pdparams")
    line = next(line for line in (folder / "train.log").read_text().splitlines() if "train step" in line)
    for field in ("epoch:[  1/2  ]", "loss: ", "lr: 0.05", "top1: ", "top5: ", "batch_cost: ", "reader_cost: ",
                  "ips: ", "instance/sec", "eta: 0:"):
        assert field in line
    assert list((folder / "vdl").iterdir())


def test_curves_for_visualdl(trained):
    reader = pytest.importorskip("visualdl").LogReader
    file = next((Path(trained["output_dir"]) / "vdl").iterdir())
    tags = {tag for tags in reader(file_path=str(file)).get_tags().values() for tag in tags}
    assert {f"train/{name}" for name in ("loss", "top1", "top5", "lr", "batch_cost", "reader_cost", "eta")} <= tags
    assert {f"val/{name}" for name in ("loss", "top1", "top5")} <= tags


def test_the_best_is_what_validation_says(trained, config_file):
    tested = run_test(load_config(config_file), trained["best_path"])
    assert tested["top1"] == pytest.approx(trained["best"])


def test_distillation_saves_teacher_student_and_the_student_alone(distilled):
    path, result = distilled
    folder = Path(result["output_dir"])
    models = split_models(load_weights(result["best_path"]))
    assert set(models) == {"Teacher", "Student"}
    student = split_models(load_weights(folder / "small_best_student.pdparams"))[""]
    assert set(student) == set(models["Student"])
    assert all(np.array_equal(student[key], models["Student"][key]) for key in student)
    first = split_models(load_weights(folder / "small_epoch_00001.pdparams"))
    last = split_models(load_weights(folder / "small_epoch_00002.pdparams"))
    assert all(np.array_equal(first["Teacher"][key], last["Teacher"][key]) for key in last["Teacher"])
    assert not all(np.array_equal(first["Student"][key], last["Student"][key]) for key in last["Student"])
    by_both = run_test(load_config(path), result["best_path"])
    alone = run_test(load_config(path), folder / "small_best_student.pdparams")
    assert by_both["samples"] == alone["samples"]


def test_weights_to_start_from(trained, config_file, tmp_path):
    start = trained["last"]
    still = "OPTIMIZER.learning_rate.learning_rate=0.0"
    result = run(config_file, tmp_path / "b", still, "epochs=1", weights=start)
    before, after = load_weights(start), load_weights(result["last"])
    assert all(np.array_equal(before[key], after[key]) for key in before if not key.endswith(("_mean", "_variance")))


@pytest.mark.parametrize("level", ["O1", "O2"])
def test_mixed_precision_on_a_cpu_is_a_run_in_float32(trained, config_file, tmp_path, level):
    """Paddle has no other there: this says nothing about mixed precision on a device."""
    result = run(config_file, tmp_path / "out", amp_level=level)
    assert "mixed precision" in (tmp_path / "out" / "train.log").read_text()
    assert "Training in float32" in (tmp_path / "out" / "train.log").read_text()
    plain = load_weights(trained["last"])
    assert all(np.array_equal(value, plain[key]) for key, value in load_weights(result["last"]).items())
    losses = [float(re.search(r"loss_avg: ([\d.]+)", line)[1])
              for line in (tmp_path / "out" / "train.log").read_text().splitlines() if " train loss_avg" in line]
    assert losses[-1] < losses[0]
    weights = load_weights(result["last"])
    assert {value.dtype for value in weights.values()} == {np.dtype("float32")}
    # In bfloat16 weights would hold 8 bits of mantissa.
    weight = next(value for key, value in weights.items() if key.endswith("fc_cls.weight"))
    assert np.any(weight.view("uint32") & 0xFFFF)
    assert run_test(load_config(config_file), result["last"])["num_samples"] == 16


def test_max_iters(config_file, tmp_path):
    run(config_file, tmp_path / "out", max_iters=2)
    log = (tmp_path / "out" / "train.log").read_text()
    assert len(re.findall("train step", log)) == 4
    assert "lr: 0.050000" in log
    assert "lr: 0.025000" in log  # the schedule's epoch is as long as the trial's


def test_precise_bn_gives_the_plain_mean(config_file, tmp_path):
    still = "OPTIMIZER.learning_rate.learning_rate=0.0"
    precise = "PRECISEBN={preciseBN_interval: 1, num_iters_preciseBN: 50}"
    result = run(config_file, tmp_path / "out", still, precise, "epochs=1", validate=False)
    found = load_weights(result["last"])["backbone.data_bn._mean"]
    # The mean over the epoch's batches of the input itself, computed apart from the network.
    config = load_config(config_file)
    batches = [batch.array for batch in make_loader(config, "train", 4, seed=5).batches(1)]
    means = [x.mean(axis=(0, 1, 2, 3)).reshape(-1) for x in batches]
    np.testing.assert_allclose(found, np.mean(means, axis=0), atol=1e-5)


def test_results_of_a_test(trained, config_file, tmp_path):
    weights = trained["last"]
    out = tmp_path / "new" / "results.json"
    run_test(load_config(config_file), weights, out)
    results = json.loads(out.read_text())
    scores = np.array([sample["scores"] for sample in results["samples"]])
    label = np.array([sample["label"] for sample in results["samples"]])
    assert scores.shape == (16, 4)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert results["top1"] == pytest.approx((scores.argmax(axis=1) == label).mean())
    assert results["top5"] == 1  # of four classes
    confusion = np.array(results["confusion_matrix"])
    assert confusion.sum() == 16
    assert np.trace(confusion) / 16 == pytest.approx(results["top1"])
    assert [entry["name"] for entry in results["per_class"]] == ["wave", "squat", "sit_down", "stand_up"]
    for entry in results["per_class"]:
        own = label == entry["class"]
        assert entry["accuracy"] == pytest.approx((scores[own].argmax(axis=1) == entry["class"]).mean())
    assert len({sample["name"] for sample in results["samples"]}) == 16
    picture = out.with_name("results_confusion.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_data_without_labels_is_predicted_into_a_csv(distilled, sample_set, tmp_path):
    path, result = distilled
    csv = tmp_path / "submission.csv"
    data = sample_set / "ntu" / "xsub" / "val_data.npy"
    dataset = f"DATASET.test={{format: SkeletonDataset, file_path: {data}, test_mode: True}}"
    results = run_test(load_config(path, [dataset, f"METRIC.out_file={csv}"]), result["last"])
    lines = csv.read_text().split("\n")
    assert lines[0] == "sample_index,predict_category"
    assert [int(line.split(",")[0]) for line in lines[1:17]] == list(range(16))
    assert "top1" not in results


def test_top_k_counts():
    scores = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
    label = np.array([2, 1, 0])
    assert hits(scores, label, 1).tolist() == [True, False, False]
    assert hits(scores, label, 2).tolist() == [True, True, False]
    assert hits(scores, label, 5).tolist() == [True, True, True]
    # A constant answer is no right answer.
    assert not hits(np.zeros((4, 3)), np.array([0, 1, 2, 0]), 1).any()


def test_means_are_over_samples_not_over_batches():
    mean = Mean()
    mean.add(1.0, 8)
    mean.add(0.0, 2)
    assert mean.mean == pytest.approx(0.8)


def test_the_lines_that_users_know(caplog):
    metric = SkeletonMetric()
    with caplog.at_level(logging.INFO):
        for i in range(3):
            batch = Batch(np.zeros((2, 1)), np.array([0, 1]), np.array([0, 1]), ["a", "b"], None)
            metric.update(i, 3, np.array([[3.0, 0.0], [3.0, 0.0]]), batch)
        metric.accumulate()
    messages = [record.getMessage() for record in caplog.records]
    assert messages[:3] == [f"[TEST] Processing batch {i}/3 ..." for i in range(3)]
    assert messages[3] == "[TEST] finished, avg_acc1= 0.5, avg_acc5= 1.0"


@pytest.mark.parametrize(("overrides", "arguments", "error", "words"), [
    (["OPTIMIZER.learning_rate.learning_rate=1e30"], {}, DataError, ["the loss is", "for the samples", "S0"]),
    (["DATASET.train.file_path=nowhere.pkl"], {}, DataError, ["nowhere.pkl"]),
    (["DATASET.train.split=xsub_trian"], {}, DataError, ["'xsub_train'"]),
    (["DATASET.train.format=NTUSkeletonDataset"], {}, ConfigError, ["NTUCSSkeletonDataset"]),
    (["MODEL.head.num_classes=3"], {}, DataError, ["stand_up", "3"]),
    (["PIPELINE.valid.transform.1.GenSkeFeat.feats=[q]"], {}, ConfigError, ["PIPELINE.valid.transform.1", "q"]),
    (["PIPELINE.train.transform.1.GenSkeFeat.feats=[j, b]"], {}, ConfigError,
     ["PIPELINE.train", "25 joints, 3 channels", "(1, 1, 16, 25, 6)"]),
    (["PIPELINE.train.transform.1.GenSkeFeat.dataset=coco"], {}, ConfigError, ["PIPELINE.train", "17"]),
    (["MIX={name: Mixupp, alpha: 1}"], {}, ConfigError, ["'Mixup'"]),
    (["MODEL.backbone.layout=coco"], {}, ConfigError, ["PIPELINE.train"]),
    (["use_gpu=True"], {}, UnavailableError, ["use_gpu", "GPU"]),
    ([], {"amp_level": "O3"}, ConfigError, ["O3"]),
    ([], {"profiler_options": "batchrange=[1,2]"}, ConfigError, ["'batch_range'"]),
])
def test_bad_input_to_training_leaves_nothing(config_file, tmp_path, overrides, arguments, error, words):
    folder = tmp_path / "out"
    with pytest.raises(error) as caught:
        run(config_file, folder, *overrides, **arguments)
    for word in words:
        assert word in str(caught.value)
    assert not list(folder.glob("*.pdparams")) if folder.exists() else True


def test_an_output_folder_that_cannot_be_written(config_file, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="file"):
        run(config_file, blocked / "out")


def test_a_label_outside_the_classes_names_its_sample(config_file, sample_set, tmp_path):
    with open(sample_set / "ntu_3d.pkl", "rb") as file:
        content = pickle.load(file)
    content["annotations"][7]["label"] = 4
    bad = tmp_path / "bad.pkl"
    bad.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=content["annotations"][7]["frame_dir"]):
        run(config_file, tmp_path / "out", f"DATASET.train.file_path={bad}", f"DATASET.valid.file_path={bad}")


def test_a_profile_of_the_steps(config_file, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv(VARIABLE, "conv")
    run(config_file, tmp_path / "out", "epochs=1", validate=False,
        profiler_options="batch_range=[1,3];sorted_key=total")
    table = capfd.readouterr().out.split("Operator Summary")[1]
    rows = re.findall(r"^(\w+(?: dygraph)?) +(\d+) +([\d.]+) / ", table, re.MULTILINE)
    totals = [float(total) for _, _, total in rows]
    assert len(rows) > 10 and totals == sorted(totals, reverse=True)
    assert {"matmul dygraph", "conv2d dygraph", "batch_norm dygraph"} <= {name for name, _, _ in rows}


def test_paddle_computes_in_float32_again_after_mixed_precision(config_file, tmp_path):
    run(config_file, tmp_path / "out", "epochs=1", amp_level="O2", validate=False, max_iters=1)
    assert paddle.get_default_dtype() == "float32"
    assert paddle.nn.Linear(2, 2).weight.dtype == paddle.float32
