"""Bin folders hold what ``main.py --test`` feeds its model, and come out the same however often interrupted."""
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bin_cases import COUNT, arguments, config_of, content, edit, make_data
from deploy_cases import CONFIGS, SMALL, sequence, small_config, write_set
from paths import ROOT

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.config import load_config, num_classes
from paddlevideo_skel.errors import ConfigError, DataError, OutputError
from paddlevideo_skel.inference import bin_writer
from paddlevideo_skel.inference.bin_writer import write_bins
from paddlevideo_skel.inference.bins import BinFolder, load_bin_labels, natural, parse_shard
from paddlevideo_skel.training.trainer import make_loader


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A bin folder, which the tests do not change."""
    path = tmp_path_factory.mktemp("whole") / "bins"
    write_bins(config_of("stgcn_plusplus", data), path)
    return path


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(whole, tmp_path / "bins"))


@pytest.mark.parametrize("name, randomly", [("ctrgcn", True), ("stgcn_plusplus", False), ("stgcn", False),
                                            ("posec3d", False), ("kinetics", False)])
def test_the_files_hold_what_a_test_feeds_its_model(data, tmp_path, name, randomly):
    config = config_of(name, data)
    if randomly:
        config["PIPELINE"]["test"]["sample"].append({"RandomRotation": {"argument": True}})
    bins = write_bins(config, tmp_path / "bins")
    with make_loader(config, "test", num_classes(config)) as loader:
        batches = list(loader.batches(0))
    assert bins.names == [f"{i:05d}" for i in range(len(bins))] and len(bins) == sum(len(b.names) for b in batches)
    assert bins.labels == np.concatenate([b.label for b in batches]).tolist()
    assert bins.sample_names == [n for b in batches for n in b.names]
    for stem, right in zip(bins.names, (row for b in batches for row in b.array), strict=True):
        np.testing.assert_array_equal(bins.array(stem), right)
        assert (bins.path / "bin" / f"{stem}.bin").stat().st_size == right.nbytes
    assert bins.manifest["average"] == ("scores" if name == "posec3d" else "logits")
    assert bins.manifest["model_name"] == config["model_name"]
    if name == "kinetics":
        assert bins.size == 129_600


def test_processes_and_shards_change_nothing(data, whole, tmp_path):
    right, config = content(whole), config_of("stgcn_plusplus", data)
    assert set(right) == {"bins.json", "label.txt", *(f"bin/{i:05d}.bin" for i in range(COUNT))}
    assert right["label.txt"].decode().splitlines()[:2] == ["00000.bin 0 s00", "00001.bin 1 s01"]
    write_bins(config, tmp_path / "workers", num_workers=2)
    assert content(tmp_path / "workers") == right
    for rank in (2, 0, 1):
        write_bins(config, tmp_path / "shards", share=(rank, 3))
        names = {name for name in content(tmp_path / "shards") if name.startswith("bin/")}
        if len(names) < COUNT // 2:
            assert names == {f"bin/{i:05d}.bin" for i in range(2, COUNT, 3)}
            with pytest.raises(DataError, match=r"00000.bin: file not found.*of N shards, shard 0 % N \+ 1"):
                BinFolder(tmp_path / "shards").check()
    assert content(tmp_path / "shards") == right
    BinFolder(tmp_path / "shards").check()


@pytest.mark.parametrize("ending", [signal.SIGKILL, *(pytest.param(number, marks=pytest.mark.slow)
                                                      for number in (signal.SIGTERM, signal.SIGINT))])
def test_interrupted_anywhere_it_goes_on_to_the_same_folder(tmp_path, ending):
    count, data = 500, write_set(tmp_path / "3d.pkl", 500)
    right, output = tmp_path / "right", tmp_path / "bins"
    assert run_command("preprocess-bin", arguments(data, right, "--num_workers=0")) == 0
    enough = random.randrange(1, count // 3)
    command = [sys.executable, str(ROOT / "tools/preprocess_bin.py"), *arguments(data, output, "--num_workers=2")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(output.glob("bin/[0-9]*"))) < enough:
            time.sleep(0.001)
        process.send_signal(ending)
        process.wait(timeout=120)
    there = len(list(output.glob("bin/[0-9]*")))
    assert process.returncode != 0 and enough <= there < count
    assert run_command("preprocess-bin", arguments(data, output, "--num_workers=2")) == 0
    assert content(output) == content(right)


def test_files_that_are_whole_are_kept_and_others_made_anew(data, folder, capsys):
    right = content(folder)
    (folder / "bin/00002.bin").write_bytes(right["bin/00002.bin"][:-4])
    (folder / "bin/00003.bin").unlink()
    (folder / "bin/.00003.bin.0123abcd.tmp").write_bytes(b"half")
    (folder / "bin/.00004.bin.0123abcd.tmp").write_bytes(b"another shard's")
    kept = (folder / "bin/00000.bin").stat().st_mtime_ns
    run_command("preprocess-bin", arguments(data / "3d.pkl", folder, "--shard=4/11"))
    assert "1 files of shard 4/11" in capsys.readouterr().out
    assert (folder / "bin/.00004.bin.0123abcd.tmp").exists() and not (folder / "bin/.00003.bin.0123abcd.tmp").exists()
    run_command("preprocess-bin", arguments(data / "3d.pkl", folder))
    assert "11 files of 7,680 bytes, 1 of them written now" in capsys.readouterr().out
    assert content(folder) == right and (folder / "bin/00000.bin").stat().st_mtime_ns == kept


def test_the_same_data_elsewhere_is_the_same(data, folder, tmp_path):
    right = content(folder)
    (folder / "bin/00002.bin").unlink()
    shutil.copy(data / "3d.pkl", tmp_path / "moved.pkl")
    assert run_command("preprocess-bin", arguments(tmp_path / "moved.pkl", folder)) == 0
    assert content(folder) == right


@pytest.mark.parametrize("overrides, problem", [
    (["PIPELINE.test.transform.2.UniformSampleFrames.num_clips=1"], "with different settings: shape.0 was 2, is 1; "),
    (["PIPELINE.test.transform.1.GenSkeFeat.feats=[b]"], r'settings: pipeline\.transform\.1\.GenSkeFeat\.feats\.0 '
                                                         'was "j", is "b"'),
    (["model_name=other"], 'settings: model_name was "STGCN_PlusPlus_utkinect", is "other"'),
    (["class_names=[a,b,c,d,e,f,g,h,i,j]"], 'settings: class_names.0 was "walk", is "a"')])
def test_a_folder_of_another_model_or_pipeline_is_refused(data, folder, overrides, problem):
    before = content(folder)
    with pytest.raises(DataError, match=problem):
        write_bins(config_of("stgcn_plusplus", data, *overrides), folder)
    assert content(folder) == before


def test_a_folder_of_other_data_is_refused(data, folder, tmp_path, capsys):
    before = content(folder)
    annotations = pickle.loads((data / "3d.pkl").read_bytes())
    annotations["annotations"][0]["keypoint"] = annotations["annotations"][0]["keypoint"] + np.float32(0.1)
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(annotations))
    assert run_command("preprocess-bin", arguments(tmp_path / "other.pkl", folder)) == 2
    assert "was started with different settings: source.digest was" in capsys.readouterr().err
    (folder / "label.txt").write_text(before["label.txt"].decode().replace("00000.bin 0", "00000.bin 1"))
    assert run_command("preprocess-bin", arguments(data / "3d.pkl", folder)) == 2
    assert "contains the labels of another data set" in capsys.readouterr().err
    (folder / "label.txt").write_bytes(before["label.txt"])
    (folder / "bins.json").unlink()
    assert run_command("preprocess-bin", arguments(data / "3d.pkl", folder)) == 2
    assert "contains bin/*.bin but no bins.json" in capsys.readouterr().err
    shutil.rmtree(folder / "bin")  # as if killed before bins.json was written
    assert run_command("preprocess-bin", arguments(data / "3d.pkl", folder)) == 0
    assert content(folder) == before


def metadata(path, config, shape, pipeline=None):
    """The metadata of an export, which is all that pre-processing reads of it."""
    path.mkdir()
    (path / "m.metadata.json").write_text(json.dumps({
        "format": 1, "model_name": "exported", "input": {"shape": [-1, *shape]}, "output": {"num_classes": 10},
        "selfcheck": {"file": "m.selfcheck.npz", "tolerance": 1e-4}, "class_names": None,
        "pipeline": pipeline or config["PIPELINE"]["test"]}))
    return path


def test_an_export_brings_its_own_pre_processing(data, whole, tmp_path, capsys):
    config = config_of("stgcn_plusplus", data)
    export = metadata(tmp_path / "export", config, (2, 1, 16, 20, 3))
    flags = arguments(data / "3d.pkl", tmp_path / "bins", f"--model={export}",
                      "--override=PIPELINE.test.transform.1.GenSkeFeat.feats=[b]")
    assert run_command("preprocess-bin", flags) == 0
    assert "differs from the preprocessing" in capsys.readouterr().out
    made, right = content(tmp_path / "bins"), content(whole)
    assert BinFolder(tmp_path / "bins").manifest["model_name"] == "exported"
    assert {k: v for k, v in made.items() if k != "bins.json"} == {k: v for k, v in right.items() if k != "bins.json"}
    other = metadata(tmp_path / "other", config, (2, 1, 32, 20, 3))
    with pytest.raises(ConfigError, match=r"DATASET.test: the first sample becomes an input of shape \(2, 1, 16, "
                                          r"20, 3\), but .* takes \(2, 1, 32, 20, 3\)"):
        write_bins(config, tmp_path / "more", model=other)
    assert not (tmp_path / "more").exists()


def test_samples_of_unequal_shapes_are_named(tmp_path):
    annotations = [{"frame_dir": f"s{i}", "label": 0, "keypoint": sequence(i, frames=30 - 5 * (i == 2))}
                   for i in range(4)]
    (tmp_path / "d.pkl").write_bytes(pickle.dumps(annotations))
    config = small_config("ctrgcn", f"DATASET.test.file_path={tmp_path}/d.pkl", "DATASET.test.split=null")
    config["PIPELINE"]["test"] = {"transform": ["Iden"]}
    with pytest.raises(DataError, match=r"s2: expected shape \(3, 30, 20, 1\) like the other samples, "
                                        r"got \(3, 25, 20, 1\)"):
        write_bins(config, tmp_path / "bins", num_workers=0)
    assert [p.name for p in (tmp_path / "bins/bin").iterdir()] == ["00000.bin", "00001.bin"]


def test_data_without_labels(tmp_path):
    np.save(tmp_path / "d.npy", np.stack([sequence(i).transpose(3, 1, 2, 0) for i in range(3)]))
    config = small_config("ctrgcn")
    config["DATASET"]["test"] = {"format": "SkeletonDataset", "file_path": f"{tmp_path}/d.npy", "test_mode": True}
    bins = write_bins(config, tmp_path / "bins")
    assert bins.labels is None and bins.sample_names == [f"{tmp_path}/d.npy[{i}]" for i in range(3)]
    assert not (tmp_path / "bins/label.txt").exists() and BinFolder(tmp_path / "bins").names == bins.names


def test_no_room_and_no_right(data, tmp_path, monkeypatch):
    monkeypatch.setattr(bin_writer.shutil, "disk_usage", lambda path: SimpleNamespace(free=11 * 7680 - 1))
    with pytest.raises(OutputError, match=r"needs 0\.0 GB, but the disk has 0\.0 GB left"):
        write_bins(config_of("stgcn_plusplus", data), tmp_path / "bins")
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_bins(config_of("stgcn_plusplus", data), tmp_path / "file/bins")
    shutil.rmtree(tmp_path / "bins/bin")
    (tmp_path / "bins/bin").mkdir()
    (tmp_path / "bins/bin/00003.bin").mkdir()  # no file can be moved there
    with pytest.raises(OutputError, match=r"00003\.bin: cannot be written"):
        write_bins(config_of("stgcn_plusplus", data), tmp_path / "bins", num_workers=0)


def test_a_file_that_another_run_made_meanwhile_is_no_error(data, whole, folder, monkeypatch):
    right = (folder / "bin/00003.bin").read_bytes()
    (folder / "bin/00003.bin").unlink()
    replacing = bin_writer.replacing

    def overtaken(path):
        if path.name == "00003.bin":
            path.write_bytes(right)
            raise OutputError(path, "cannot be written")
        return replacing(path)

    monkeypatch.setattr(bin_writer, "replacing", overtaken)
    write_bins(config_of("stgcn_plusplus", data), folder, num_workers=0)
    assert content(folder) == content(whole)


DAMAGE = {
    "gone": (lambda f: shutil.rmtree(f), "bins: folder not found"),
    "no manifest": (lambda f: (f / "bins.json").unlink(), "bins.json: file not found"),
    "manifest cut off": (lambda f: os.truncate(f / "bins.json", 50), "bins.json: is damaged"),
    "manifest a list": (lambda f: (f / "bins.json").write_text("[]"), "bins.json: is damaged"),
    "no entry": (lambda f: (f / "bins.json").write_text('{"format": 1}'), "has no entry 'model_name'"),
    "another format": (lambda f: edit(f / "bins.json", format=2), "expected format 1, got 2"),
    "another type": (lambda f: edit(f / "bins.json", type="float16"), "invalid entry 'type': float16"),
    "a wrong entry": (lambda f: edit(f / "bins.json", count="11"), "invalid entry 'count': 11"),
    "no classes": (lambda f: edit(f / "bins.json", num_classes=0), "invalid entry 'num_classes': 0"),
    "a wrong shape": (lambda f: edit(f / "bins.json", shape=[2, 0]), "entry 'shape'"),
    "no names": (lambda f: edit(f / "bins.json", labels=False), "entry 'sample_names'"),
    "no labels": (lambda f: (f / "label.txt").unlink(), "label.txt: cannot be read"),
    "empty labels": (lambda f: (f / "label.txt").write_text(""), "has no labels"),
    "a missing line": (lambda f: change(f, "00003.bin 3 s03\n", ""), r"has no line for 00003 \(1 of 11\)"),
    "an unknown name": (lambda f: change(f, "00003.bin", "00077.bin"), "has no line for 00003"),
    "a stranger": (lambda f: change(f, "00003.bin", "00077.bin 1\n00003.bin"), "do not exist: 00077"),
    "twice": (lambda f: change(f, "00003.bin", "00002.bin 2 s02\n00003.bin"), "two lines for 00002"),
    "out of order": (lambda f: change(f, "00000.bin 0 s00\n00001.bin 1 s01", "00001.bin 1 s01\n00000.bin 0 s00"),
                     "not in the same order"),
    "no number": (lambda f: change(f, "00003.bin 3", "00003.bin three"),
                  "label.txt: line 4: expected .* got '00003.bin three s03'"),
    "no field": (lambda f: change(f, "00003.bin 3 s03", "00003.bin"), "line 4: expected .* got '00003.bin'"),
    "out of range": (lambda f: change(f, "00003.bin 3", "00003.bin 10"), r"00003: expected a label in 0\.\.9, got 10"),
}


def change(folder, old, new):
    path = folder / "label.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_told(folder, damage):
    do, problem = DAMAGE[damage]
    do(folder)
    with pytest.raises(DataError, match=problem):
        BinFolder(folder)


def test_a_file_that_is_not_a_sample_is_told(folder):
    bins = BinFolder(folder)
    os.truncate(bins.file("00003"), 100)
    with pytest.raises(DataError, match=r"00003\.bin: expected 7680 bytes of a float32 sample .2, 1, 16, 20, 3., "
                                        "got 100"):
        bins.array("00003")
    bins.file("00003").unlink()
    with pytest.raises(DataError, match=r"00003\.bin: file not found.*shard 3 % N"):
        bins.check()


def test_the_digest_tells_folders_apart(folder):
    first = BinFolder(folder).digest
    assert first == BinFolder(folder).digest
    change(folder, "00003.bin 3", "00003.bin 4")
    assert BinFolder(folder).digest != first


def test_plain_folders_of_other_tools(tmp_path):
    arrays = {str(i): np.full((2, 3), i, "float32") for i in range(12)}
    for name, array in arrays.items():
        array.tofile(tmp_path / f"{name}.bin")
    bins = BinFolder(tmp_path, (2, 3))
    assert bins.names == list(arrays) and bins.manifest == {} and bins.labels is None and bins.digest == ""
    for name in bins.names:
        np.testing.assert_array_equal(bins.array(name), arrays[name])
    with pytest.raises(DataError, match=r"bins\.json: file not found"):
        BinFolder(tmp_path)
    with pytest.raises(DataError, match=r"expected 36 bytes of a float32 sample \(3, 3\), got 24"):
        BinFolder(tmp_path, (3, 3)).check()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither bins.json nor .bin files"):
        BinFolder(tmp_path / "empty", (2, 3))


def test_labels_of_other_tools(tmp_path):
    names = ["0", "1", "2", "10"]
    (tmp_path / "val_label.pkl").write_bytes(pickle.dumps((["a", "b", "c", "d"], [5, 6, 7, 8])))
    assert load_bin_labels(tmp_path / "val_label.pkl", names) == ([5, 6, 7, 8], ["a", "b", "c", "d"])
    np.save(tmp_path / "l.npy", np.array([5, 6, 7, 8]))
    assert load_bin_labels(tmp_path / "l.npy", names) == ([5, 6, 7, 8], names)
    (tmp_path / "l.txt").write_text("10 8\r\n2.bin 7\r\n\r\n1.bin\t6\r\n0.bin 5 a b\r\n")
    assert load_bin_labels(tmp_path / "l.txt", names) == ([5, 6, 7, 8], ["a b", "1", "2", "10"])
    with pytest.raises(DataError, match="expected 3 labels, one per file, got 4"):
        load_bin_labels(tmp_path / "l.npy", names[:3])
    with pytest.raises(DataError, match="do not exist: 10"):
        load_bin_labels(tmp_path / "l.txt", names[:3])


def test_natural_order():
    names = [str(i) for i in range(200)] + [f"v{i}_2" for i in range(20)]
    shuffled = names[:]
    random.shuffle(shuffled)
    assert sorted(shuffled, key=natural) == names


def test_shards():
    assert parse_shard(None) == (0, 1) and parse_shard("1/1") == (0, 1) and parse_shard("2/4") == (1, 4)
    for wrong in ("0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/4", ""):
        with pytest.raises(ConfigError, match="i from 1 to n"):
            parse_shard(wrong)


@pytest.mark.parametrize("model, classes", [
    ({"head": {"num_classes": 7}}, 7),
    ({"models": [{"Teacher": {"head": {"num_classes": 5}}}, {"Student": {"head": {"num_classes": 5}}}]}, 5),
    ({"head": {}}, None), ({"head": {"num_classes": True}}, None), ({"models": []}, None), ({"models": 3}, None),
    ({"backbone": {}}, None)])
def test_the_number_of_classes(model, classes):
    config = load_config(CONFIGS / "stgcn/stgcn_kinetics.yaml")
    config["MODEL"] = model
    if classes is None:
        with pytest.raises(ConfigError, match=r"MODEL: found num_classes .* of its head"):
            num_classes(config)
    else:
        assert num_classes(config) == classes


def test_what_the_command_refuses(data, tmp_path, capsys):
    for flags, problem in ((["--shard=3/2"], "--shard"), (["--num_workers=-1"], "--num_workers"),
                           ([f"--model={tmp_path}"], "contains no export"),
                           (["--override=MODEL.head.num_classes=3"], "class_names"),
                           (["--override=DATASET.test.split=nothing"], "nothing")):
        assert run_command("preprocess-bin", arguments(data / "3d.pkl", tmp_path / "bins", *flags)) == 2
        assert problem in capsys.readouterr().err
    assert run_command("preprocess-bin", arguments(data / "3d.pkl", tmp_path / "bins", "--override=class_names=[a]",
                                                   "--override=MODEL.head.num_classes=1")) == 2
    assert "its label is 1, expected 0..0" in capsys.readouterr().err
    assert not (tmp_path / "bins").exists()


def test_no_paddle_is_needed(data, tmp_path):
    code = ("import sys\nsys.modules['paddle'] = None\nfrom paddlevideo_skel.cli import run_command\n"
            f"sys.exit(run_command('preprocess-bin', {arguments(data / '3d.pkl', tmp_path / 'bins')!r}))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert len(BinFolder(tmp_path / "bins")) == COUNT


def test_memory_does_not_grow_with_the_set(tmp_path):
    """Peak memory of 20 and of 200 samples of 306 kB, 55 MB more of them."""
    peaks = []
    for count in (20, 200):
        np.save(tmp_path / "d.npy", np.ones((count, 3, 1500, 17, 1), "float32"))
        config = load_config(CONFIGS / SMALL["ctrgcn"][0], ["PIPELINE.test={}"])
        config["DATASET"]["test"] = {"format": "SkeletonDataset", "file_path": f"{tmp_path}/d.npy", "test_mode": True}
        tracemalloc.start()
        try:
            bins = write_bins(config, tmp_path / f"bins{count}", num_workers=0)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert len(bins) == count and bins.size == 306_000
    assert peaks[1] - peaks[0] < bins.size
