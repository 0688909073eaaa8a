"""The whole road to the NPU with one command. atc and ais_bench are stand-ins here: no model is compiled."""
import json
import os
import shutil
from pathlib import Path

import paddle
import pytest
from ascend_stand_ins import Chip, install_ais_bench
from atc_stand_ins import path_of, put_atc
from deploy_cases import SMALL, filled, small_config, write_set

from paddlevideo_skel.ascend.deploy import parse_batch_sizes
from paddlevideo_skel.cli import run_command
from paddlevideo_skel.errors import ConfigError
from paddlevideo_skel.training.test import test as run_test

pytest.importorskip("paddle2onnx")
COUNT, BATCHES = 7, (1, 4)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """(folder with data and weights, overrides, what main.py --test says)."""
    folder = tmp_path_factory.mktemp("material")
    data = write_set(folder / "set.pkl", COUNT)
    overrides = [*SMALL["tiny"][1], f"DATASET.test.file_path={data}", "DATASET.test.split=all"]
    config = small_config("tiny", *overrides)
    for seed in (0, 3):
        paddle.save(filled(config, seed).state_dict(), str(folder / f"{seed}.pdparams"))
    run_test(config, str(folder / "0.pdparams"), str(folder / "tested.json"))
    return folder, overrides, json.loads((folder / "tested.json").read_text())


def deploy(material, output, *more, weights="0"):
    folder, overrides, _ = material
    return run_command("deploy-ascend", ["-c", f"configs/recognition/{SMALL['tiny'][0]}", "-p",
                                         str(folder / f"{weights}.pdparams"), "-o", str(output), "--num_workers", "0",
                                         "--batch_sizes", ",".join(map(str, BATCHES)),
                                         *(f"--override={text}" for text in overrides), *more])


def rows_of(output):
    return json.loads((output / "table.json").read_text())["rows"]


def files_of(output):
    """Path → (content, time of writing) of everything but the tables, which are written again."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(Path(output).rglob("*"))
            if path.is_file() and not path.name.startswith("table")}


@pytest.fixture(scope="module")
def here(material, tmp_path_factory):
    """What the command makes on a host without atc: (folder, exit status)."""
    output = tmp_path_factory.mktemp("here") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path_of())
        return output, deploy(material, output)


def test_without_atc_all_but_the_npu_is_measured(material, here):
    output, status = here
    assert status == 3
    rows = rows_of(output)
    assert [(row["runtime"], row["batch"]) for row in rows] == [
        ("paddle", 1), *(("onnxruntime", batch) for batch in BATCHES), *(("om", batch) for batch in BATCHES)]
    tested = material[2]
    for row in rows[:3]:
        assert (row["top1"], row["top5"]) == (tested["top1"], tested["top5"])
        assert row["fps"] > 0 and row["loss"] in (0, None) and not row["note"]
    for row in rows[3:]:
        assert row["fps"] is None and row["top1"] is None and not row["failed"]
        assert "atc is not installed" in row["note"] and "compile.sh" in row["note"]
    script = (output / "compile.sh").read_text()
    assert all(f"_bs{batch}.onnx" in script for batch in BATCHES)
    table = (output / "table.md").read_text()
    assert table.count("\n| CPU | onnxruntime |") == 2 and "atc is not installed" in table


def test_each_model_answers_every_sample_as_the_test_does(material, here):
    output, _ = here
    right = {sample["name"]: sample["scores"] for sample in material[2]["samples"]}
    for name in ("paddle", "onnxruntime_bs1", "onnxruntime_bs4"):
        found = json.loads((output / "results" / f"{name}.json").read_text())["samples"]
        assert {sample["name"] for sample in found} == set(right)
        for sample in found:
            assert sample["scores"] == pytest.approx(right[sample["name"]], abs=1e-5)


def test_what_is_done_is_not_done_again(material, here, monkeypatch):
    output, _ = here
    monkeypatch.setenv("PATH", path_of())
    before = files_of(output)
    # As if the command had been ended in the middle of this.
    gone = [output / "results" / "onnxruntime_bs4" / "00002_0.bin", next((output / "models").glob("*_bs4.onnx"))]
    for path in gone:
        path.unlink()
    assert deploy(material, output) == 3
    after = files_of(output)
    assert {path: content for path, (content, _) in after.items() if path.suffix in (".bin", ".onnx", ".npz")} == {
        path: content for path, (content, _) in before.items() if path.suffix in (".bin", ".onnx", ".npz")}
    kept = [path for path in before if path.suffix in (".bin", ".onnx") and path not in gone]
    assert len(kept) > 3 * COUNT and all(after[path][1] == before[path][1] for path in kept)


@pytest.mark.parametrize("change", ["weights", "kind"])
def test_a_folder_of_another_model_is_refused(material, here, capsys, monkeypatch, change):
    output, _ = here
    monkeypatch.setenv("PATH", path_of())
    before = files_of(output)
    more = ["--kind", "ordinary"] if change == "kind" else []
    assert deploy(material, output, *more, weights="3" if change == "weights" else "0") == 2
    assert f"was started with different settings: {change} was" in capsys.readouterr().err
    assert files_of(output) == before


def deploy_with_npu(material, here, tmp_path, monkeypatch, chip):
    """Go on in a copy of what was made, on a host that has the stand-ins for atc and a chip."""
    shutil.copytree(here[0], tmp_path / "out")
    put_atc(tmp_path / "bin")
    monkeypatch.setenv("PATH", path_of(tmp_path / "bin"))
    install_ais_bench(monkeypatch, chip)
    return deploy(material, tmp_path / "out", "--soc_version", "Ascend310P3")


@pytest.mark.parametrize("wrong", [1.0, 1.5])
def test_with_an_npu_the_table_has_its_rows(material, here, tmp_path, monkeypatch, wrong):
    """A chip that rounds to half precision is right; one that answers wrongly is a failure, never a number."""
    status = deploy_with_npu(material, here, tmp_path, monkeypatch, Chip(rounding=True, wrong=wrong))
    rows = rows_of(tmp_path / "out")[-len(BATCHES):]
    assert [row["chip"] for row in rows] == ["Ascend310P3"] * len(BATCHES)
    if wrong == 1:
        assert status == 0 and all(row["fps"] > 0 and row["top1"] == material[2]["top1"] for row in rows)
    else:
        assert status == 2 and all(row["failed"] and row["top1"] is None and "self-check" in row["note"]
                                   for row in rows)


def test_a_model_that_atc_refuses_does_not_stop_the_others(material, here, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_ATC", "fail:_bs4")
    assert deploy_with_npu(material, here, tmp_path, monkeypatch, Chip(rounding=True)) == 2
    *_, first, second = rows_of(tmp_path / "out")
    assert first["fps"] > 0 and not first["note"]
    assert second["failed"] and "E19010" in second["note"] and second["fps"] is None
    assert not list((tmp_path / "out").rglob("*_bs4.om"))


@pytest.mark.parametrize("sizes", ["", "0", "1,x", "4,4", "-1"])
def test_batch_sizes_that_cannot_be(sizes):
    with pytest.raises(ConfigError, match="--batch_sizes"):
        parse_batch_sizes(sizes)


def test_errors_of_the_first_steps_leave_no_table(material, tmp_path, capsys):
    assert deploy(material, tmp_path / "out", weights="nowhere") == 2
    assert "checkpoint not found" in capsys.readouterr().err
    assert not os.path.exists(tmp_path / "out" / "table.md")
