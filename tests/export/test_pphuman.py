"""PP-Human: what is exported is what PaddleDetection reads, and two classes are enough everywhere."""
import json

import numpy as np
import paddle
import pytest
import yaml
from deploy_cases import CONFIGS, dynamic, filled

from paddlevideo_skel.build import build_recognizer
from paddlevideo_skel.cli import run_command
from paddlevideo_skel.config import load_config
from paddlevideo_skel.errors import ConfigError
from paddlevideo_skel.evaluation import hits
from paddlevideo_skel.export.pphuman import check_for_pphuman, export_pphuman
from paddlevideo_skel.inference.artifact import find_export
from paddlevideo_skel.training.metrics import SkeletonMetric

PATH = CONFIGS / "stgcn" / "stgcn_pphuman.yaml"
PAD = "PIPELINE.{}.transform.0.AutoPadding.window_size={}"
IDEN = [f"PIPELINE.{split}.transform=[{{Iden: }}]" for split in ("train", "valid", "test")]
FILES = {"model.pdmodel", "model.pdiparams", "infer_cfg.yml", "model.metadata.json", "model.selfcheck.npz"}


def pphuman(folder, skeleton):
    """The answer of PaddleDetection's ``SkeletonActionRecognizer``: its steps, its predictor's settings, a batch of 1.

    Args:
        skeleton: ``(2, T, 17, 1)``, T no more than the window.
    """
    settings = yaml.safe_load((folder / "infer_cfg.yml").read_text())
    step, = settings["Preprocess"]
    array = np.zeros((2, step["window_size"], 17, 1))
    array[:, :skeleton.shape[1]] = skeleton
    config = paddle.inference.Config(str(folder / "model.pdmodel"), str(folder / "model.pdiparams"))
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(1)
    config.disable_glog_info()
    config.enable_memory_optim()
    config.switch_use_feed_fetch_ops(False)
    config.delete_pass("shuffle_channel_detect_pass")
    predictor = paddle.inference.create_predictor(config)
    assert predictor.get_input_names() == ["data_batch_0"]
    predictor.get_input_handle("data_batch_0").copy_from_cpu(array[None].astype("float32"))
    predictor.run()
    return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()[0]


def saved(tmp_path, config):
    model = filled(config)
    paddle.save(model.state_dict(), str(tmp_path / "a.pdparams"))
    return model, tmp_path / "a.pdparams"


@pytest.mark.parametrize("kind, window", [("ordinary", 50), ("minimal", 30)])
def test_the_export_answers_pphuman_like_the_dynamic_graph(tmp_path, kind, window):
    config = load_config(PATH, [PAD.format(split, window) for split in ("train", "valid", "test")])
    model, weights = saved(tmp_path, config)
    export_pphuman(config, weights, tmp_path / "out", kind)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    skeleton = np.random.default_rng(0).uniform(0, 3, (2, window - 8, 17, 1)).astype("float32")
    padded = np.concatenate([skeleton, np.zeros((2, 8, 17, 1), "float32")], axis=1)
    right = dynamic(model, padded[None])[0]
    assert np.abs(pphuman(tmp_path / "out", skeleton) - right).max() < 1e-5 * np.abs(right).max()
    assert find_export(tmp_path / "out").metadata["input"]["shape"] == [-1, 2, window, 17, 1]


def test_infer_cfg_is_what_paddledetection_reads(tmp_path):
    config = load_config(PATH)
    _, weights = saved(tmp_path, config)
    assert run_command("export", ["-c", str(PATH), "-p", str(weights), "-o", str(tmp_path / "out"), "--pphuman"]) == 0
    assert yaml.safe_load((tmp_path / "out/infer_cfg.yml").read_text()) == {
        "mode": "paddle", "arch": "STGCN", "min_subgraph_size": 3, "use_dynamic_shape": False,
        "Preprocess": [{"type": "AutoPadding", "window_size": 50}], "label_list": ["keypoint"]}
    assert find_export(tmp_path / "out").metadata["class_names"] == ["fall", "other"]


def test_paddlevideos_own_config_takes_its_window_from_inference():
    """PaddleVideo's file has no AutoPadding: its data are 50 frames long, as ``INFERENCE.window_size`` says."""
    config = load_config(PATH, [*IDEN, "INFERENCE.window_size=50", "INFERENCE.num_channels=2",
                                "INFERENCE.vertex_nums=17", "MODEL.if_top5=False"])
    assert check_for_pphuman(config, build_recognizer(config)) == 50


@pytest.mark.parametrize("overrides, words", [
    ([PAD.format("train", 100)], ["PIPELINE", "train 100, valid 50, test 50"]),
    ([PAD.format("test", 40)], ["train 50, valid 50, test 40"]),
    (["INFERENCE.window_size=60"], ["INFERENCE.window_size", "60", "50 frames"]),
    (IDEN, ["PIPELINE.train", "AutoPadding"]),
    (["PIPELINE.test.transform.0.AutoPadding.random_pad=True"], ["PIPELINE.test.transform.0", "random_pad"]),
    (["PIPELINE.test.sample=[{SkeletonNorm: }]"], ["PIPELINE.test.sample.0", "SkeletonNorm"]),
    (["MODEL.backbone.in_channels=3"], ["MODEL.backbone", "3 channels of 17 joints"]),
    (["MODEL.backbone.layout=openpose"], ["2 channels of 18 joints"]),
    (["INFERENCE.person_nums=2"], ["PIPELINE.test", "2 persons"]),
    (['MODEL.backbone={name: STGCNPlusPlus, layout: coco_keypoint, in_channels: 2}',
      'MODEL.head={name: STGCNPlusPlusHead}'], ["STGCNPlusPlus"]),
])
def test_what_pphuman_would_answer_wrongly_is_refused(tmp_path, overrides, words):
    config = load_config(PATH, overrides)
    with pytest.raises(ConfigError) as error:
        export_pphuman(config, tmp_path / "a.pdparams", tmp_path / "out")
    for word in words:
        assert word in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [["--save_name", "inference"], ["--format", "json"]])
def test_other_names_and_forms_are_refused(tmp_path, capsys, flags):
    assert run_command("export", ["-c", str(PATH), "-p", "a", "-o", str(tmp_path), "--pphuman", *flags]) == 2
    assert f"{flags[0]}: is '{flags[1]}'" in capsys.readouterr().err


# Fewer classes than five.

def test_the_best_of_two():
    scores, label = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]]), np.array([0, 1, 1])
    assert hits(scores, label, 1).tolist() == [True, False, True]
    assert hits(scores, label, 2).all() and hits(scores, label, 5).all()


@pytest.mark.parametrize("top_k", [0, True, "two", 2.0])
def test_a_top_k_that_cannot_be(top_k):
    with pytest.raises(ValueError, match="top_k"):
        SkeletonMetric(top_k=top_k)


def test_two_classes_from_training_to_prediction(tmp_path, capsys):
    data = np.random.default_rng(0).uniform(0, 1, (8, 2, 20, 17, 1)).astype("float32")
    data[::2, 1] += 3
    np.save(tmp_path / "data.npy", data)
    np.save(tmp_path / "label.npy", np.arange(8) % 2)
    overrides = [f"output_dir={tmp_path / 'out'}", "DATASET.batch_size=4", "DATASET.num_workers=0", "epochs=1"]
    for split in ("train", "valid", "test"):
        overrides += [f"DATASET.{split}.file_path={tmp_path / 'data.npy'}", PAD.format(split, 20),
                      f"DATASET.{split}.label_path={tmp_path / 'label.npy'}"]
    given = [text for override in overrides for text in ("-o", override)]
    assert run_command("train", ["-c", str(PATH), *given, "--validate"]) == 0
    assert "top5: 1.00000" in capsys.readouterr().out
    weights = str(tmp_path / "out" / "STGCN_best.pdparams")
    assert run_command("test", ["-c", str(PATH), *given, "-w", weights, "--out", str(tmp_path / "results.json")]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert f"avg_acc1= {results['top1']}, avg_acc2= 1.0" in capsys.readouterr().out
    assert np.sum(results["confusion_matrix"]) == 8 and len(results["per_class"]) == 2
    exported = str(tmp_path / "exported")
    assert run_command("export", ["-c", str(PATH), "-p", weights, "-o", exported, "--pphuman",
                                  *("--override" if text == "-o" else text for text in given)]) == 0
    assert run_command("predict", ["-i", str(tmp_path / "data.npy"), "--model_file", exported, "--json",
                                   str(tmp_path / "predicted.json")]) == 0
    samples = json.loads((tmp_path / "predicted.json").read_text())["samples"]
    assert len(samples) == 8
    for entry, tested in zip(samples, results["samples"], strict=True):
        assert {best["name"] for best in entry["top_k"]} == {"fall", "other"}
        score = {best["class"]: best["score"] for best in entry["top_k"]}
        np.testing.assert_allclose([score[0], score[1]], tested["scores"], rtol=1e-3, atol=1e-5)
    assert run_command("predict", ["-i", str(tmp_path / "data.npy"), "--model_file", exported, "--top_k", "3"]) == 2
    assert "expected 1 to 2" in capsys.readouterr().err
