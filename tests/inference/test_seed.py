"""A random step in a test pipeline draws the same numbers in testing, prediction, bins and streams."""
import json

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import tiny_export
from deploy_cases import small_config, write_set

from paddlevideo_skel.config import num_classes
from paddlevideo_skel.data.readers import read_sample
from paddlevideo_skel.evaluation import softmax
from paddlevideo_skel.inference.bin_inference import infer_bins
from paddlevideo_skel.inference.bin_writer import write_bins
from paddlevideo_skel.inference.predict import Predictor, predict
from paddlevideo_skel.inference.runtime import open_runtime
from paddlevideo_skel.inference.stream import StreamingPredictor
from paddlevideo_skel.training.data import make_loader

COUNT, FRAMES, SHAPE = 5, 30, (1, 1, 30, 20, 3)


@pytest.fixture
def config(tmp_path):
    write_set(tmp_path / "set.pkl", COUNT)
    config = small_config("ctrgcn", f"DATASET.test.file_path={tmp_path}/set.pkl", "DATASET.test.split=all")
    config["PIPELINE"]["test"] = {"sample": [{"PreNormalize3D": None}, {"RandomRotation": {"argument": True}}],
                                  "transform": [{"FormatGCNInput": {"num_person": 1}}]}
    return config


def test_every_road_gives_the_same_answer(config, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_export, "SAMPLE", SHAPE)
    with make_loader(config, "test", num_classes(config)) as loader:  # as main.py --test calls it
        tested = np.concatenate([batch.array for batch in loader.batches(0)])
    assert tested.shape == (COUNT, *SHAPE)
    export = tiny_export.write_export(tmp_path / "export", pipeline=config["PIPELINE"]["test"], top_k=6)
    config["MODEL"]["head"]["num_classes"] = tiny_export.CLASSES
    config["class_names"] = None
    with open_runtime(export, "onnxruntime") as runtime:
        right = softmax(np.stack([runtime.run(array[None])[0] for array in tested]))
        report = predict(Predictor(runtime), tmp_path / "set.pkl", out=tmp_path / "predicted.json")
        bins = write_bins(config, tmp_path / "bins", model=export.stem)
        infer_bins(runtime, tmp_path / "bins", tmp_path / "results")
        stream = StreamingPredictor(runtime, window=FRAMES)
        first = read_sample(tmp_path / "set.pkl")[0].keypoint
        streamed = [stream.push(first[:, t]) for t in range(FRAMES)][-1]
    for entry, scores in zip(json.loads((tmp_path / "predicted.json").read_text())["samples"], right, strict=True):
        assert [best["score"] for best in entry["top_k"]] == np.sort(scores)[::-1].tolist()
    assert report["samples"][0]["top_k"] == streamed.top_k
    for name, array, scores in zip(bins.names, tested, right, strict=True):
        np.testing.assert_array_equal(bins.array(name), array)
        answer = np.fromfile(tmp_path / "results" / f"{name}_0.bin", "float32")
        np.testing.assert_array_equal(softmax(answer), scores)
    np.testing.assert_array_equal(streamed.scores, right[0])
