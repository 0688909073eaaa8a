"""Every packaged config is whole: its model can be built, and its pipelines make what the model takes."""
import itertools
from pathlib import Path

import pytest
from paths import ROOT

from paddlevideo_skel.build import build_recognizer, check_parts, input_shape
from paddlevideo_skel.config import load_config
from paddlevideo_skel.config_schema import SPLITS
from paddlevideo_skel.registry import split_name
from paddlevideo_skel.training.metrics import METRICS
from paddlevideo_skel.training.optim import build_schedule, check_optimizer

CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS)
def test_a_packaged_config_is_whole(path):
    config = load_config(ROOT / path)
    splits = [split for split in SPLITS if split in config["DATASET"]]
    assert splits == [split for split in SPLITS if split in config["PIPELINE"]] and {"train", "test"} <= set(splits)
    check_parts(config, splits)
    model = build_recognizer(config).main
    shapes = [input_shape(config, model, split) for split in splits]
    assert all(model.backbone.takes(shape) for shape in shapes)
    check_optimizer(config["OPTIMIZER"], config.where("OPTIMIZER"))
    schedule, _ = build_schedule(config["OPTIMIZER"]["learning_rate"], 10, config.where("OPTIMIZER.learning_rate"))
    assert schedule.get_lr() > 0
    METRICS.build(*split_name(config["METRIC"], "METRIC"), "METRIC")


@pytest.mark.parametrize("path", [path for path in CONFIGS if "stgcn_plusplus_ntu" in path])
def test_the_four_features_are_what_the_names_say(path):
    config = load_config(ROOT / path)
    stem = Path(path).stem
    feature = {"bone_motion": "bm", "joint_motion": "jm", "bone": "b"}.get(stem.split("_", 3)[-1], "j")
    for split in SPLITS:
        steps = config["PIPELINE"][split]["transform"]
        assert [step["GenSkeFeat"]["feats"] for step in steps if "GenSkeFeat" in step] == [[feature]], split


def test_no_two_packaged_configs_are_alike():
    contents = [load_config(ROOT / path) for path in CONFIGS]
    assert not [pair for pair in itertools.combinations(zip(CONFIGS, contents), 2) if pair[0][1] == pair[1][1]]
