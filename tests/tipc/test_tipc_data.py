"""What ``prepare.sh`` makes and links, the packaged params files, and the comparison with recorded results."""
from pathlib import Path

import compare_results
import numpy as np
import pytest
from tipc import lite_data, needs, prepare, train_infer
from tipc.params import Params
from tipc.seeded_weights import draw
from tipc_cases import LITE, ROOT

from paddlevideo_skel.config import load_config
from paddlevideo_skel.data.datasets import build_dataset
from paddlevideo_skel.data.synthetic.samples import subject_of
from paddlevideo_skel.errors import ConfigError, DataError

PACKAGED = sorted((ROOT / "test_tipc" / "configs").glob("*/*.txt"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty checkout for what ``prepare`` writes."""
    monkeypatch.setattr(needs, "ROOT", tmp_path)
    monkeypatch.setattr(needs, "MADE", tmp_path / "test_tipc" / "data")
    monkeypatch.delenv("TIPC_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", [p for p in PACKAGED if p.name == "train_infer_python.txt"],
                         ids=lambda path: path.parent.name)
def test_lite_data_of_the_packaged_files_is_what_their_configs_read(here, path):
    params = Params(path, train_infer.HEADERS)
    prepare.run(path, LITE)
    config = load_config(*needs.settings(params.command(16) + params.arguments(13)))
    sets = {split: build_dataset({**config["DATASET"][split], **({"repeat_times": 1} if "repeat_times" in
            config["DATASET"][split] else {})}, split, 4) for split in ("train", "valid", "test")}
    assert {split: len(data) for split, data in sets.items()} == {"train": 8, "valid": 4, "test": 4}
    subjects = [{subject_of(name) for name in sets[split].names} for split in ("train", "test")]
    assert not subjects[0] & subjects[1]
    assert sorted(sets["test"].labels) == [0, 1, 2, 3]
    assert Path(params.value(48)).is_file()
    assert all(p.is_relative_to(here / "test_tipc" / "data") for p in here.rglob("*") if p.is_file())


def test_skating_has_the_25_joints_of_its_layout():
    data = lite_data.array(lite_data.annotations("fsd10", "train"), "fsd10", 3, 1)
    assert data.shape == (8, 3, 300, 25, 1) and data.min() >= 0 and data.max() <= 1
    np.testing.assert_allclose(data[:, :, :, 8], data[:, :, :, [9, 12]].mean(3), atol=1e-6)
    np.testing.assert_array_equal(data[:, :, :, 19], data[:, :, :, 14])  # the left toe stands at the left ankle


def need_of(here, path, own=False, make=lambda to: to.write_text("made")):
    return [needs.Need(path, make, own)]


def test_stand_ins_are_links_and_real_files_stay(here, capsys):
    needs.provide(need_of(here, "./data/set/a.pkl"))
    made = here / "data" / "set" / "a.pkl"
    assert made.is_symlink() and made.resolve() == here / "test_tipc/data/links/data/set/a.pkl"
    (here / "data" / "real.pkl").write_text("mine")
    needs.provide(need_of(here, "data/real.pkl") + need_of(here, "data/real.pkl", own=True))
    assert (here / "data" / "real.pkl").read_text() == "mine"
    assert "generated ./data" not in capsys.readouterr().out.split("real.pkl")[-1]


def test_whole_modes_want_real_data(here, tmp_path_factory, monkeypatch):
    needs.provide(need_of(here, "data/a.pkl"))
    with pytest.raises(DataError, match=r"data/a\.pkl, data/b\.pkl: file not found, and it cannot be generated"):
        needs.provide(need_of(here, "data/a.pkl", own=True) + need_of(here, "data/b.pkl", own=True))
    assert not (here / "data" / "b.pkl").exists()
    mine = tmp_path_factory.mktemp("my sets")
    for name in ("a.pkl", "b.pkl"):
        (mine / name).write_text(f"real {name}")
    monkeypatch.setenv("TIPC_DATA", str(mine))
    needs.provide(need_of(here, "data/a.pkl", own=True) + need_of(here, "data/b.pkl", own=True))
    assert [(here / "data" / name).read_text() for name in ("a.pkl", "b.pkl")] == ["real a.pkl", "real b.pkl"]
    assert (mine / "a.pkl").read_text() == "real a.pkl"


def test_what_each_mode_reads(here):
    path = ROOT / "test_tipc/configs/STGCN_PlusPlus/train_infer_python.txt"
    params = Params(path, train_infer.HEADERS)

    def read(mode):
        return {(need.path, need.own) for need in prepare.train_infer_needs(params, mode)}

    example = ("./test_tipc/data/example_coco.pkl", False)
    lite, whole = ("./test_tipc/data/ntu60_hrnet.pkl", False), ("data/ntu60_hrnet.pkl", True)
    assert read(LITE) == {lite, example}
    assert read("lite_train_whole_infer") == {lite, whole, example}
    assert read("whole_train_whole_infer") == {whole, example}
    assert read("whole_infer") == {("./test_tipc/data/STGCN_PlusPlus/seeded.pdparams", False), example}
    assert read("benchmark_train") == {lite}


def test_what_cannot_be_made(here):
    with pytest.raises(DataError, match="outside the checkout"):
        needs.provide(need_of(here, "/somewhere/else.pkl"))
    with pytest.raises(DataError, match="file not found"):
        needs.provide([needs.Need("data/weights.pdparams", None, False)])
    with pytest.raises(ConfigError, match="names no config"):
        needs.settings(["main.py", "--test"])
    config = load_config(ROOT / "configs/recognition/stgcn_plusplus/stgcn_plusplus_utkinect.yaml")
    with pytest.raises(ConfigError, match="no data can be generated for the skeleton 'utkinect'"):
        lite_data.layout_of(config)


def test_seeded_weights_depend_on_the_name_alone():
    zero = np.zeros((8, 16, 1, 3), "float32")
    first, other = draw("a.weight", zero), draw("b.weight", zero)
    np.testing.assert_array_equal(first, draw("a.weight", zero + 5))
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.2
    assert first.dtype == np.float32 and 0.8 < first.std() * 48 ** 0.5 < 1.2
    assert draw("bn._variance", np.zeros(1000)).min() >= 0.75
    np.testing.assert_array_equal(draw("backbone.A", zero + 5), zero + 5)


def test_packaged_files(monkeypatch):
    monkeypatch.chdir(ROOT)
    models = {p.parent.name for p in PACKAGED}
    assert models == {"STGCN_PlusPlus", "CTRGCN", "CTRGCNLite", "STGCN", "PoseC3D"}
    for model in models:
        names = {p.name for p in PACKAGED if p.parent.name == model}
        assert names >= {"train_infer_python.txt", "train_amp_infer_python.txt", "train_ptq_infer_python.txt",
                         "paddle2onnx_infer_python.txt", "ascend_infer_python.txt"}
    for config in ("stgcn_plusplus/stgcn_plusplus_ntucs", "stgcn/stgcn_fsd", "posec3d/posec3d"):
        load_config(f"configs/recognition/{config}.yaml")  # which PaddleVideo's own params files name
    for path in PACKAGED:
        lines = path.read_text().splitlines()
        assert lines[1] == f"model_name:{path.parent.name}" and lines[2] == "python:python3"
        for line in lines:
            words = line.partition(":")[2].replace("--override", "-o").split()
            if "-c" in words or "--config" in words:
                load_config(*needs.settings(words))



# ---- results

def answers(score, name=3):
    return f"Current video file: a.npy\n\ttop-1 class: [{name}]\n\ttop-1 score: [{score}]\n"


@pytest.mark.parametrize("found, options, status", [
    (answers(0.5), [], 0), (answers(0.50149), [], 0), (answers(0.50151), [], 1), (answers(0.49), [], 1),
    (answers(0.50151), ["--atol=0.01"], 0), (answers(0.5, 4), ["--atol=9"], 1), (answers("nan"), ["--atol=9"], 1),
    ("error: refused\n", [], 1), (answers(0.5) * 2, [], 1)])
def test_comparison(tmp_path, capsys, found, options, status):
    (tmp_path / "python_ppvideo_T_results_fp32.txt").write_text(answers(0.5))
    (tmp_path / "python_infer_cpu_precision_fp32_batchsize_1.log").write_text("[12:00] Runtime\n" + found)
    (tmp_path / "eval.log").write_text("not of inference")
    command = [f"--gt_file={tmp_path}/*.txt", f"--log_file={tmp_path}/*.log", *options]
    assert compare_results.main(command) == status
    assert ("failed" if status else "passed") in capsys.readouterr().out


def test_comparison_by_precision(tmp_path, capsys):
    for precision, score in (("fp32", 0.5), ("fp16", 0.6)):
        (tmp_path / f"r_{precision}.txt").write_text(answers(score))
        (tmp_path / f"python_infer_precision_{precision}_x.log").write_text(answers(score))
    command = [f"--gt_file={tmp_path}/*.txt", f"--log_file={tmp_path}/*.log"]
    assert compare_results.main(command) == 0
    (tmp_path / "r_fp16.txt").unlink()
    assert compare_results.main(command) == 1
    assert "nothing is recorded for fp16" in capsys.readouterr().out
    assert compare_results.main([*command, "--precision=fp32"]) == 0
    assert compare_results.main([command[0], f"--log_file={tmp_path}/none*"]) == 2
    assert "file not found" in capsys.readouterr().err


def test_scores_in_several_lines(tmp_path):
    path = tmp_path / "a_fp32.txt"
    path.write_text("\ttop-5 class: [1 2 3 4 5]\n\ttop-5 score: [0.9 0.05\n 0.03 0.01 0.01]\n")
    assert compare_results.read_answers(path) == [
        ("top-5 class", [1, 2, 3, 4, 5]), ("top-5 score", [0.9, 0.05, 0.03, 0.01, 0.01])]


@pytest.mark.parametrize("model", sorted({p.parent.name for p in PACKAGED}))
def test_every_model_has_recorded_results(model):
    path = ROOT / f"test_tipc/results/{model}/python_ppvideo_{model}_results_fp32.txt"
    (label, [top]), (_, [score]) = compare_results.read_answers(path)
    assert label == "top-1 class" and top == int(top) and 0 < score <= 1
