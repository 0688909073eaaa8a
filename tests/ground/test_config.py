import logging

import pytest
from paths import ROOT

from paddlevideo_skel.config import ALIASES, find_config, load_config
from paddlevideo_skel.config_schema import DEFAULT_SEED, DEFAULTS
from paddlevideo_skel.errors import ConfigError

# The shape of PaddleVideo's skeleton configs, with everything in it that a stricter reader would stumble over.
PADDLEVIDEO = """
MODEL: #MODEL field
    framework: "RecognizerGCN"
    backbone:
        name: "CTRGCN"
        graph_args:
            labeling_mode: "spatial"
    head:
        name: "CTRGCNHead"
        num_classes: 60
DATASET:
    batch_size: 64
    num_workers: 4
    test_batch_size: 64
    test_num_workers: 0
    train:
        format: "SkeletonDataset"
        file_path: "a.npy"
PIPELINE:
    train:
        sample:
            - Iden:
            - SketeonCropSample:
                window_size: 64
                p_interval: [0.5, 1]
        transform:
            - SketeonModalityTransform:
                joint: Fasle
                bone: True
                motion: False
                graph: 'ntu_rgb_d'
            - Resize:
                scale: (-1, 64)
            - RandomResizedCrop_V2:
                area_range: (0.56, 1.0)
OPTIMIZER:
  name: 'Momentum'
  momentum: 0.9
  weight_decay:
    name: 'L2'
    value: 5e-4
  grad_clip:
    name: 'ClipGradByGlobalNorm'
    value: 40.0
METRIC:
    name: 'SkeletonMetric'
    out_file: 'submission.csv'
PRECISEBN:
    preciseBN_interval: 2
    num_iters_preciseBN: 200  #default
INFERENCE:
    name: 'CTRGCN_Inference_helper'
    p_interval: [0.95]
model_name: "CTRGCN_bone"
log_interval: 10 #Optional, the interal of logger, default:10
epochs: 65
log_level: "INFO"
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="a.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path
    return write


def test_a_paddlevideo_config_is_read_as_intended(write, caplog):
    with caplog.at_level(logging.WARNING):
        config = load_config(write(PADDLEVIDEO))
    transforms = config["PIPELINE"]["train"]["transform"]
    assert transforms[0]["SketeonModalityTransform"]["joint"] is False
    assert transforms[1]["Resize"]["scale"] == (-1, 64)
    assert transforms[2]["RandomResizedCrop_V2"]["area_range"] == (0.56, 1.0)
    assert config["OPTIMIZER"]["weight_decay"]["value"] == 5e-4
    assert config["PIPELINE"]["train"]["sample"][0] == {"Iden": None}
    notices = [record.getMessage() for record in caplog.records]
    assert len(notices) == 1
    assert "'Fasle' is read as False" in notices[0]
    assert "PIPELINE.train.transform.0.SketeonModalityTransform.joint" in notices[0]


def test_overrides(write):
    config = load_config(write(PADDLEVIDEO), [
        "MODEL.head.num_classes=10", "PIPELINE.train.sample.1.SketeonCropSample.p_interval=[0.5]", "epochs=2",
        "OPTIMIZER.weight_decay.value=1e-5", "DATASET.train.file_path=b=c.npy", "output_dir=out", "use_gpu=False"])
    assert config["MODEL"]["head"]["num_classes"] == 10
    assert config["PIPELINE"]["train"]["sample"][1]["SketeonCropSample"]["p_interval"] == [0.5]
    assert config["OPTIMIZER"]["weight_decay"]["value"] == 1e-5
    assert config["DATASET"]["train"]["file_path"] == "b=c.npy"
    assert (config["epochs"], config["output_dir"], config["use_gpu"]) == (2, "out", False)


@pytest.mark.parametrize(("override", "words"), [
    ("MODEL.heads.num_classes=10", ["MODEL.heads", "Did you mean 'head'"]),
    ("PIPELINE.train.sample.7.x=1", ["PIPELINE.train.sample.7", "2 items"]),
    ("epochs", ["-o epochs", "A.B.c=value"]),
    ("epochs=many", ["epochs", "'many'"]),
    ("epochs=0", ["epochs", "positive"]),
    ("epochs=true", ["epochs"]),
    ("DATASET.batch_size=-1", ["DATASET.batch_size", "-1"]),
    ("epoch=3", ["epoch", "Did you mean 'epochs'"]),
    ("DATASET.batchsize=3", ["DATASET.batchsize", "'batch_size'"]),
    ("PIPELINE.training={}", ["PIPELINE.training", "Did you mean 'train'"]),
    ("PIPELINE.train.transforms=[]", ["PIPELINE.train.transforms", "'transform'"]),
    ("model_name.a=1", ["model_name.a"]),
    ("MODEL=[", ["-o MODEL=["]),
    ("MODEL=5", ["MODEL", "a mapping"]),
])
def test_a_wrong_override_is_reported(write, override, words):
    path = write(PADDLEVIDEO)
    with pytest.raises(ConfigError) as error:
        load_config(path, [override])
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(("text", "words"), [
    ("MODEL: [", ["not valid YAML", "line 1"]),
    ("? [1, 2]\n: 3", ["not valid YAML", "cannot be a key"]),
    ("a: !!python/object/apply:os.system ['echo x']", ["not valid YAML"]),
    ("- a\n- b", ["list"]),
    ("", ["NoneType"]),
    ("MODLE: {}", ["MODLE", "Did you mean 'MODEL'"]),
    ("LAYOUT: {x: {joints: 3, bones: [[0, 1]], center: 0}}", ["LAYOUT.x.bones"]),
    ("LAYOUT: {x: 3}", ["LAYOUT.x", "a mapping"]),
    ("PIPELINE: {train: [1]}", ["PIPELINE.train", "a mapping"]),
    ("DATASET: {train: x}", ["DATASET.train", "a mapping"]),
    ("[" * 50000, ["a.yaml"]),
    ("a: &a [x, x]\n" + "".join(f"{c}: &{c} [{', '.join('*' + p for _ in range(9))}]\n" for p, c in
                               zip("abcdefghi", "bcdefghij")), ["aliases"]),
    ("a: 2026-99-99", ["cannot be read as a config"]),
])
def test_a_wrong_file_is_reported(write, text, words):
    with pytest.raises(ConfigError) as error:
        load_config(write(text))
    for word in [*words, "a.yaml"]:
        assert word in str(error.value)


def test_a_missing_file_comes_with_a_near_miss(write):
    path = write("epochs: 3", "stgcn_plusplus.yaml")
    with pytest.raises(ConfigError, match=r"Did you mean 'stgcn_plusplus\.yaml'"):
        load_config(path.with_name("stgcn_pluplus.yaml"))


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(path)


def test_packaged_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = find_config("configs/recognition/ctrgcn/ctrgcn_ntucs_joint.yaml")
    assert found.is_file()
    assert found == find_config("recognition/ctrgcn/ctrgcn_ntucs_joint.yaml")
    with pytest.raises(ConfigError):
        find_config("configs/../setup.py")


def test_other_names_of_packaged_configs(tmp_path, monkeypatch):
    for folder in (ROOT, tmp_path):
        monkeypatch.chdir(folder)
        for alias, name in ALIASES.items():
            for prefix in ("configs/", ""):
                assert find_config(prefix + alias).samefile(ROOT / "configs" / name)
            assert find_config(ROOT / "configs" / alias).samefile(ROOT / "configs" / name)


def test_defaults(write):
    config = load_config(write("epochs: 3\nval_interval: 5\nDATASET: {batch_size: 2}"))
    assert [config.value(key) for key in ("val_interval", "save_interval", "DATASET.batch_size", "DATASET.num_workers",
                                          "OPTIMIZER.momentum", "seed")] == [5, 1, 2, 0, 0.9, DEFAULT_SEED]
    config = load_config(write("OPTIMIZER: {momentum: 0}"))
    assert config.value("OPTIMIZER.momentum") == 0
    for key_path, value in DEFAULTS.items():  # each is a value that a config may have
        section, _, key = key_path.rpartition(".")
        assert load_config(write(f"{key}: {value}" if not section else f"{section}: {{{key}: {value}}}"))


def test_a_layout_replaces_its_name(write):
    config = load_config(write("""
LAYOUT:
  mine: {joints: 3, bones: [[1, 2], [2, 3]], center: 2, one_based: True}
MODEL: {backbone: {name: mine, layout: mine}}
PIPELINE: {train: {transform: [{GenSkeFeat: {dataset: mine, feats: [j]}}]}}
"""))
    layout = config["MODEL"]["backbone"]["layout"]
    assert (layout["name"], layout["bones"], layout["center"]) == ("mine", [[0, 1], [1, 2]], 1)
    assert config["MODEL"]["backbone"]["name"] == "mine"
    assert config["PIPELINE"]["train"]["transform"][0]["GenSkeFeat"]["dataset"] == layout


def test_overriding_one_place_leaves_its_alias_alone(write):
    config = load_config(write("""
DATASET:
  train: &data {format: SkeletonDataset, file_path: a.npy}
  valid: {<<: *data, test_mode: True}
  test: *data
"""), ["DATASET.train.file_path=b.npy"])
    files = [config["DATASET"][split]["file_path"] for split in ("train", "valid", "test")]
    assert files == ["b.npy", "a.npy", "a.npy"]
    assert config["DATASET"]["valid"]["test_mode"] is True


def test_a_merged_key_can_be_replaced_and_a_duplicate_key_is_reported(write, caplog):
    text = "DATASET:\n  train: &data {format: A}\n  valid: {<<: *data, format: B%s}\n"
    assert load_config(write(text % ""))["DATASET"]["valid"] == {"format": "B"}
    assert not caplog.records
    assert load_config(write(text % ", format: C"))["DATASET"]["valid"] == {"format": "C"}
    assert "a.yaml:3: duplicate key 'format'" in caplog.text
