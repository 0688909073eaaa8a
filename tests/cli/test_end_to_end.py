"""From generated samples to predictions, with the commands that users type."""
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from commands import call

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.config import load_config
from paddlevideo_skel.data.readers import read_annotations
from paddlevideo_skel.data.synthetic.samples import write_sample_set

ACTIONS = ("wave", "kick", "squat", "jump", "sit_down", "stand_up")
# paddle2onnx has no release for Python 3.13; everything else runs there too.
TO_ONNX = importlib.util.find_spec("paddle2onnx") is not None
RUNTIMES = ("paddle", "onnxruntime") if TO_ONNX else ("paddle",)
CONFIG = "configs/recognition/stgcn_plusplus/stgcn_plusplus_ntucs.yaml"


def test_a_short_chain(shared_config, tmp_path, capsys):
    """train, test, export and predict, one epoch; the answers agree. The long ones are slow."""
    data = Path(load_config(shared_config)["DATASET"]["test"]["file_path"])
    out, results, answers = tmp_path / "out", tmp_path / "test.json", tmp_path / "predict.json"
    commands = [["train", "-c", shared_config, "-o", out, "--override", "epochs=1"],
                ["test", "-c", shared_config, "-w", out / "small_epoch_00001.pdparams", "-o", results],
                ["export", "-c", shared_config, "-w", out / "small_epoch_00001.pdparams", "-o", out / "export"],
                ["predict", "-i", data, "--model_file", out / "export", "--runtime", "paddle", "-o", answers]]
    for command in commands:
        assert run_command(command[0], list(map(str, command[1:]))) == 0, capsys.readouterr().err
    predicted = {sample["sample"]: sample["top_k"][0] for sample in json.loads(answers.read_text())["samples"]}
    tested = json.loads(results.read_text())["samples"]
    assert len(tested) == 16
    for sample in tested:
        best = int(np.argmax(sample["scores"]))
        assert predicted[sample["name"]]["class"] == best
        assert predicted[sample["name"]]["score"] == pytest.approx(sample["scores"][best], abs=1e-4)


@pytest.mark.slow
def test_training_to_90_percent_export_and_prediction(tmp_path):
    """ST-GCN++ on 2D skeletons. Two of the classes are each other's time reversal: single frames do not do."""
    data, out = tmp_path / "data", tmp_path / "out"
    write_sample_set(data, 60, 1, ACTIONS, progress=False)
    overrides = ["MODEL.head.num_classes=6", "MODEL.head.in_channels=64", "MODEL.backbone.base_channels=16",
                 "MODEL.backbone.num_person=1", "DATASET.batch_size=16", "DATASET.test_batch_size=16",
                 "DATASET.num_workers=0", "OPTIMIZER.learning_rate.max_epoch=28", f"output_dir={out}",
                 "val_interval=28", "save_interval=28", f"class_names={data}/class_names.txt", "epochs=28"]
    for split, part, clips in (("train", "train", None), ("valid", "val", 1), ("test", "val", 2)):
        overrides += [f"DATASET.{split}.file_path={data}/coco_2d.pkl", f"DATASET.{split}.split=xsub_{part}",
                      f"DATASET.{split}.repeat_times=1", f"PIPELINE.{split}.decode_sampler.clip_len=32",
                      f"PIPELINE.{split}.transform.3.FormatGCNInput.num_person=1"]
        overrides += [f"PIPELINE.{split}.decode_sampler.num_clips={clips}"] if clips else []
    options = [part for override in overrides for part in ("-o", override)]
    trained = call("main.py", "--validate", "-c", CONFIG, *options, "--seed", "2")
    assert trained.returncode == 0, trained.stderr
    best = out / "STGCN_PlusPlus_best.pdparams"
    results = out / "results.json"
    tested = call("main.py", "--test", "-c", CONFIG, *options, "-w", best, "--out", results)
    assert tested.returncode == 0, tested.stderr
    top1 = float(re.search(r"avg_acc1= ([\d.]+)", tested.stdout)[1])
    assert top1 > 0.9
    scores = {sample["name"]: sample["scores"] for sample in json.loads(results.read_text())["samples"]}
    confusion = np.array(json.loads(results.read_text())["confusion_matrix"])
    assert confusion[4, 4] + confusion[5, 5] > 0.8 * confusion[4:].sum()

    export_options = [part for override in overrides for part in ("--override", override)]
    for script, folder in (("export_model", "ordinary"), ("minimal_export_model", "minimal")):
        exported = call(f"tools/{script}.py", "-c", CONFIG, *export_options, "-p", best, "-o", out / folder,
                        "--save_name", "inference", *(["--onnx"] if TO_ONNX else []))
        assert exported.returncode == 0, exported.stderr
        for runtime in RUNTIMES:
            answers = out / f"{folder}_{runtime}.json"
            predicted = call("tools/predict.py", "--config", CONFIG, *options, "-i", data / "coco_2d.pkl",
                             "--model_file", out / folder / "inference.pdmodel", "--runtime", runtime,
                             "--batch_size", "8", "--use_gpu=False", "--json", answers)
            assert predicted.returncode == 0, predicted.stderr
            samples = {sample["sample"]: sample for sample in json.loads(answers.read_text())["samples"]}
            names = [annotation.name for annotation in read_annotations(data / "coco_2d.pkl", "xsub_val")]
            assert set(names) == set(scores)
            for name in names:
                best_class = int(np.argmax(scores[name]))
                assert samples[name]["top_k"][0]["class"] == best_class
                assert samples[name]["top_k"][0]["score"] == pytest.approx(scores[name][best_class], abs=1e-4)


@pytest.mark.slow
def test_the_demo(tmp_path):
    shown = call("-m", "paddlevideo_skel", "demo", "-n", "3", "--epochs", "1", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    table = shown.stdout[shown.stdout.index("model  "):].splitlines()
    kinds = ["dynamic graph", *["ordinary"] * len(RUNTIMES), *["minimal"] * len(RUNTIMES)]
    rows = [re.split(r"\s{2,}", line.strip()) for line in table[2:2 + len(kinds)]]
    assert [row[0] for row in rows] == kinds
    assert all(float(row[-2]) <= 1e-4 and row[-1] == "100%" for row in rows)
    sizes = [float(row[4]) for row in rows[1:]]
    assert sizes[len(RUNTIMES)] < sizes[0]
    assert shown.stdout.count("Current video file: ") == 2 * len(RUNTIMES)
    assert (tmp_path / "output/demo/results_confusion.png").is_file()
