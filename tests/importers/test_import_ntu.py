"""NTU RGB+D's raw files become the data sets that published recipes train on, however the import was interrupted."""
import os
import shlex
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from paths import ROOT
from raw_files import (
    HAND_WRITTEN,
    body,
    kill_an_import,
    name_of,
    recording,
    skeleton_file,
    skeleton_text,
    write_ntu,
)

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.config import load_config, num_classes
from paddlevideo_skel.data.datasets import build_dataset
from paddlevideo_skel.errors import ConfigError, DataError, OutputError
from paddlevideo_skel.importers import ntu, outputs
from paddlevideo_skel.importers.journal import FILES_PER_STEP, Journal, Source, list_sources, read_all
from paddlevideo_skel.importers.ntu import Choices, Recording, import_ntu
from paddlevideo_skel.importers.ntu_bodies import align_spine, centre_spine
from paddlevideo_skel.importers.ntu_skeleton import read_bodies
from paddlevideo_skel.safe_pickle import load_pickle


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A folder of 80 recordings, and what was written: name → ``(M, T, 25, 3)``."""
    folder = tmp_path_factory.mktemp("raw") / "skeletons"
    return folder, write_ntu(folder, 80, frames=(14, 24))


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory):
    """The import of it in both forms, which the tests do not change."""
    output = tmp_path_factory.mktemp("whole") / "out"
    import_ntu([raw[0]], output, Choices(forms=("npy", "pickle")))
    return output


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Names and splits


def test_names():
    assert Recording.of("S013C002P037R001A059") == Recording(13, 2, 37, 1, 59)
    for name in ("S013C002P037R001A59", "s013C002P037R001A059", "S013C002P037R001A059x", ""):
        assert Recording.of(name) is None


def test_the_actions_of_two_persons():
    assert [action for action in range(1, 61) if action in ntu.PAIR_ACTIONS] == [*range(50, 61)]
    assert [action for action in range(61, 130) if action in ntu.PAIR_ACTIONS] == [*range(106, 121)]


def test_the_published_splits():
    people = {subject for subject in range(1, 41) if Recording(1, 1, subject, 1, 1).is_training("xsub")}
    assert people == {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}
    more = [subject for subject in range(41, 107) if Recording(1, 1, subject, 1, 1).is_training("xsub")]
    assert more == [45, 46, 47, 49, 50, *range(52, 60), 70, 74, 78, *range(80, 87), 89, 91, 92, 93, 94, 95,
                    97, 98, 100, 103]
    assert [Recording(1, camera, 1, 1, 1).is_training("xview") for camera in (1, 2, 3)] == [False, True, True]
    assert [setup for setup in range(1, 33) if Recording(setup, 1, 1, 1, 1).is_training("xset")] == [
        *range(2, 33, 2)]


# Whole imports


def expected_persons(keypoint, action):
    """Of what ``write_ntu`` wrote, where everybody is seen all the time: those that move most, two only in pairs."""
    keypoint = np.array([[[[float(f"{c:.7g}") for c in j] for j in pose] for pose in person] for person in keypoint],
                        np.float32)
    order = np.argsort([-person.astype(float).reshape(-1, 3).var(axis=0).sum() for person in keypoint], kind="stable")
    return keypoint[order][:2 if 50 <= action <= 60 else 1]


@pytest.mark.parametrize("protocol", ("xsub", "xview"))
def test_arrays_and_pickles_hold_the_recordings(raw, whole, protocol):
    written, names = raw[1], {}
    for part in ("train", "val"):
        split = f"{protocol}_{part}"
        arrays = build_dataset({"format": "SkeletonDataset",
                                "file_path": str(whole / "ntu-rgb-d" / protocol / f"{part}_data.npy"),
                                "label_path": str(whole / "ntu-rgb-d" / protocol / f"{part}_label.pkl")}, "here")
        pickled = build_dataset({"format": "NTUCSSkeletonDataset", "file_path": str(whole / "ntu60_3danno.pkl"),
                                 "split": split}, "here")
        assert arrays.names == pickled.names == sorted(arrays.names)
        assert arrays.labels.tolist() == pickled.labels.tolist() == [int(n[-3:]) - 1 for n in arrays.names]
        assert arrays.data.shape[1:] == (3, 300, 25, 2) and arrays.data.dtype == np.float32
        for i, name in enumerate(arrays.names):
            right = expected_persons(written[name], int(name[-3:]))
            np.testing.assert_array_equal(pickled[i].keypoint, right)
            length = right.shape[1]
            np.testing.assert_allclose(arrays.data[i, :, :length, :, :len(right)].transpose(3, 1, 2, 0),
                                       right - right[0, 0, 1], atol=1e-6)
            assert not arrays.data[i, :, length:].any() and not arrays.data[i, ..., len(right):].any()
        names[part] = set(arrays.names)
    assert names["train"] | names["val"] == set(written) and not names["train"] & names["val"]
    check = {"xsub": lambda n: int(n[9:12]) in ntu.TRAINING_SUBJECTS, "xview": lambda n: n[5:8] != "001"}[protocol]
    assert all(map(check, names["train"])) and not any(map(check, names["val"]))
    assert (whole / "ntu60_skipped.tsv").read_text() == "file\treason\n"
    assert not list(whole.glob(".*"))


def test_workers_change_nothing(raw, whole, tmp_path):
    import_ntu([raw[0]], tmp_path / "out", Choices(forms=("npy", "pickle")), workers=2)
    assert content(tmp_path / "out") == content(whole)


def test_choices(raw, whole, tmp_path):
    options = Choices(protocols=("xview",), forms=("npy", "pickle"), centred=True, aligned=True, repeat=True,
                      dtype="float16", bystanders=True)
    import_ntu([raw[0]], tmp_path, options)
    assert sorted(path.name for path in (tmp_path / "ntu-rgb-d").iterdir()) == ["xview"]
    data = np.load(tmp_path / "ntu-rgb-d/xview/val_data.npy")
    names, _ = load_pickle(tmp_path / "ntu-rgb-d/xview/val_label.pkl")
    made = load_pickle(tmp_path / "ntu60_3danno.pkl")
    assert set(made["split"]) == {"xview_train", "xview_val"}
    pickled = {a["frame_dir"]: a["keypoint"] for a in made["annotations"]}
    plain = {a["frame_dir"]: a["keypoint"] for a in load_pickle(whole / "ntu60_3danno.pkl")["annotations"]}
    more = 0
    for array, name in zip(data, names, strict=True):
        first = plain[name][0]
        persons = array[:, :len(first)].transpose(3, 1, 2, 0)
        np.testing.assert_allclose(persons[:1], align_spine(centre_spine(first[None])), atol=1e-6)
        np.testing.assert_allclose(pickled[name], persons[:len(pickled[name])], atol=2e-3)
        assert pickled[name].dtype == np.float16
        np.testing.assert_array_equal(array, array[:, np.arange(300) % len(first)])
        more += len(pickled[name]) - len(plain[name])
    assert more > 0  # bystanders


def test_ntu_120(tmp_path):
    for number, action in enumerate((1, 61, 106, 120, 121)):
        keypoint = np.stack([body(range(12), seed=m).joints for m in range(2)])
        skeleton_file(tmp_path / "raw", skeleton_text(recording(keypoint)), name_of(number, action))
    import_ntu([tmp_path / "raw"], tmp_path / "out", Choices(120, forms=("npy", "pickle")))
    made = load_pickle(tmp_path / "out/ntu120_3danno.pkl")
    assert {a["label"]: len(a["keypoint"]) for a in made["annotations"]} == {0: 1, 60: 1, 105: 2, 119: 2}
    assert {k: [n[:4] for n in v] for k, v in made["split"].items() if "xset" in k} == {
        "xset_train": ["S002", "S004"], "xset_val": ["S001", "S003"]}
    assert (tmp_path / "out/ntu-rgb-d120/xset/val_data.npy").is_file()


def test_bad_and_listed_files_are_skipped_and_listed(raw, tmp_path, caplog):
    good = next(iter(raw[1]))
    skeleton_file(tmp_path / "raw", (raw[0] / f"{good}.skeleton").read_bytes(), good)
    for number, text in enumerate(("", HAND_WRITTEN, HAND_WRITTEN.replace("25", "20", 1))):
        skeleton_file(tmp_path / "raw", text, name_of(number, 20))
    skeleton_file(tmp_path / "raw", "", name_of(9, 20))
    skeleton_file(tmp_path / "raw", "", "notes")
    listed = tmp_path / "missing.txt"
    listed.write_text(f"The following samples are incomplete:\n\n{name_of(9, 20)}\nS017C003P020R002A060.skeleton\n")
    caplog.set_level("INFO", "paddlevideo_skel")
    import_ntu([tmp_path / "raw"], tmp_path / "out", Choices(), missing=listed)
    reasons = dict(line.split("\t") for line in (tmp_path / "out/ntu60_skipped.tsv").read_text().splitlines()[1:])
    assert {name: reason.split(":")[0] for name, reason in reasons.items()} == {
        f"{name_of(0, 20)}.skeleton": "empty", f"{name_of(1, 20)}.skeleton": "short",
        f"{name_of(2, 20)}.skeleton": "damaged", f"{name_of(9, 20)}.skeleton": "listed", "notes.skeleton": "name"}
    assert "line 4: found 20 joints, expected 25" in reasons[f"{name_of(2, 20)}.skeleton"]
    assert "5 files skipped (" in caplog.text and "2 recordings to omit" in caplog.text
    assert "1 samples of 1 classes" in caplog.text
    assert np.load(tmp_path / "out/ntu-rgb-d/xsub/train_data.npy").shape == (1, 3, 300, 25, 2)
    assert not (tmp_path / "out/ntu-rgb-d/xsub/val_data.npy").exists()
    assert "has no samples for val, which is not written" in caplog.text


def test_strict_stops_at_the_first_bad_file(raw, tmp_path, capsys):
    folder = tmp_path / "raw"
    write_ntu(folder, 40, frames=(14, 16))
    bad = sorted(folder.iterdir())[35]
    good = bad.read_bytes()
    bad.write_bytes(good[:2000])
    arguments = [str(folder), "-o", str(tmp_path / "out"), "--workers", "0"]
    for _ in range(2):  # the second time the files before it are known
        assert run_command("import-ntu", [*arguments, "--strict"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {bad}: damaged: line") and error.count("\n") == 1
    assert run_command("import-ntu", arguments) == 0
    assert "35 of 40 files were read before" in capsys.readouterr().out
    # What was skipped then is refused now.
    with Journal(tmp_path / "out/.import-ntu60", {"format": ntu.NTU_FORMAT, "bystanders": False},
              list_sources(folder, ".skeleton")) as journal:
        journal.append([{"skipped": "short: so it was"}], [None])
    assert run_command("import-ntu", [*arguments, "--strict"]) == 2
    assert "short: so it was" in capsys.readouterr().err


def test_long_sequences_are_cut_and_told(tmp_path, caplog):
    keypoint = body(range(305)).joints[None]
    skeleton_file(tmp_path / "raw", skeleton_text(recording(keypoint)))
    import_ntu([tmp_path / "raw"], tmp_path / "out", Choices(forms=("npy", "pickle"), protocols=("xsub",)))
    assert "1 samples are longer than 300 frames and were cut" in caplog.text
    assert load_pickle(tmp_path / "out/ntu60_3danno.pkl")["annotations"][0]["total_frames"] == 305


@pytest.mark.parametrize("change, error, words", [
    (lambda f: {"folders": [f / "nowhere"]}, DataError, "cannot be read"),
    (lambda f: {"folders": [f]}, DataError, r"has no file \*.skeleton"),
    (lambda f: {"folders": [f / "raw", f / "copy"]}, ConfigError, "is also in .*raw"),
    (lambda f: {"folders": [f / "empty"]}, DataError, "none of the 1 files is usable; S001.*: empty: expected lines"),
    (lambda f: {"folders": [f / "other"]}, DataError, "has no recording of the actions 1 to 60"),
    (lambda f: {"missing": f / "nothing.txt"}, DataError, "cannot be read"),
    (lambda f: {"missing": f / "list.txt"}, DataError, "has no recording name"),
    (lambda f: {"choices": Choices(protocols=("xset",))}, ConfigError, "found xset, expected some of xsub xview"),
    (lambda f: {"output": f / "list.txt"}, OutputError, "cannot be written"),
])
def test_bad_arguments(tmp_path, change, error, words):
    for folder in ("raw", "copy"):
        skeleton_file(tmp_path / folder, skeleton_text(recording(body(range(12)).joints[None])))
    skeleton_file(tmp_path / "empty", "")
    skeleton_file(tmp_path / "other", "", "S018C001P001R001A061")
    (tmp_path / "list.txt").write_text("nothing here\n")
    given = {"folders": [tmp_path / "raw"], "output": tmp_path / "out", "choices": Choices(), **change(tmp_path)}
    with pytest.raises(error, match=words):
        import_ntu(**given)


def test_too_little_room(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs.shutil, "disk_usage", lambda path: SimpleNamespace(free=int(28e6)))
    with pytest.raises(OutputError, match=r"0\.0 GB of free space, expected 0\.0 GB"):
        import_ntu([raw[0]], tmp_path / "out", Choices())


def test_wrong_flags_end_with_status_2(raw, capsys):
    for flag, words in (("--workers=-1", "found '-1'"), ("--workers=some", "found 'some'"),
                        ("--pad=ones", "invalid choice: 'ones'"), ("--centre=maybe", "found 'maybe'")):
        with pytest.raises(SystemExit) as status:
            run_command("import-ntu", [str(raw[0]), flag])
        assert status.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("form, classes", [("npy", 60), ("pickle", 60), ("npy", 120), ("pickle", 120)])
def test_the_command_that_is_printed_trains(raw, tmp_path, capsys, form, classes):
    assert run_command("import-ntu", [str(raw[0]), "-o", str(tmp_path), "--form", form, "--classes", str(classes),
                                      "--workers", "0"]) == 0
    command = shlex.split(capsys.readouterr().out.split("Now train: ")[1])
    assert command[:4] == ["python", "main.py", "--validate", "-c"]
    config = load_config(ROOT / command[4], command[6::2])
    assert set(command[5::2]) == {"-o"} and num_classes(config) == classes
    for part in ("train", "valid", "test"):
        assert len(build_dataset(config.section(f"DATASET.{part}"), part, classes)) > 10


def test_the_usual_folder_needs_no_overrides():
    for forms, config in ((("npy",), "ctrgcn/ctrgcn_ntucs_joint"),
                          (("pickle",), "stgcn_plusplus/stgcn_plusplus_ntu3d_joint")):
        command = ntu.training_command(Path("data"), Choices(forms=forms))
        assert command == f"python main.py --validate -c configs/recognition/{config}.yaml"
        train = load_config(ROOT / command.split()[-1]).section("DATASET.train")
        assert Path(train["file_path"]) in (Path("data/ntu-rgb-d/xsub/train_data.npy"), Path("data/ntu60_3danno.pkl"))


# Interrupted, continued, side by side


def test_an_import_that_was_killed_goes_on(raw, whole, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, str(ROOT / "tools/data/ntu.py"), str(raw[0]), "-o", str(output), "--form", "both",
               "--workers", "2"]
    journal = output / ".import-ntu60" / "journal.jsonl"
    kill_an_import(command, journal)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "of 80 files were read before" in done.stdout
    assert content(output) == content(whole)


@pytest.mark.parametrize("damage", ["journal cut", "samples cut", "line damaged", "other settings", "a file changed"])
def test_only_what_is_surely_right_is_kept(raw, whole, tmp_path, monkeypatch, caplog, damage):
    caplog.set_level("INFO", "paddlevideo_skel")
    output, sources = tmp_path / "out", list_sources(raw[0], ".skeleton")
    if damage == "a file changed":
        sources[50] = Source(sources[50].name, sources[50].path, sources[50].size, sources[50].mtime - 1)
    with Journal(output / ".import-ntu60", {"format": ntu.NTU_FORMAT, "bystanders": damage == "other settings"}, sources
              ) as journal:
        read_all(journal, lambda source: ntu.read_persons(source, False), 0, False, "file")
    lines, samples = journal.folder / "journal.jsonl", journal.folder / "samples.bin"
    if damage == "journal cut":
        os.truncate(lines, lines.stat().st_size // 2)
    elif damage == "line damaged":
        lines.write_bytes(lines.read_bytes().replace(b"S0", b"S1", 40).replace(b"S1", b"S0", 39))
    elif damage == "samples cut":
        os.truncate(samples, samples.stat().st_size // 2)
    read = []
    monkeypatch.setattr(ntu, "read_bodies", lambda path: read.append(path) or read_bodies(path))
    import_ntu([raw[0]], output, Choices(forms=("npy", "pickle")))
    assert content(output) == content(whole)
    assert 0 < len(read) < 80 if damage != "other settings" else len(read) == 80
    if damage == "a file changed":
        assert len(read) == 30 and "50 of 80 files were read before" in caplog.text


def test_what_a_killed_run_left_unfinished_is_removed(raw, tmp_path):
    (tmp_path / "ntu-rgb-d/xsub").mkdir(parents=True)
    left = [tmp_path / "ntu-rgb-d/xsub/.val_data.npy.0a1b2c3d.tmp", tmp_path / ".ntu60_3danno.pkl.0a1b2c3d.tmp"]
    kept = [tmp_path / "ntu-rgb-d/xsub/.mine.tmp", tmp_path / "notes.txt"]
    for path in (*left, *kept):
        path.touch()
    import_ntu([raw[0]], tmp_path, Choices(forms=("npy", "pickle")))
    assert all(path.exists() for path in kept) and not any(path.exists() for path in left)


def test_two_imports_do_not_write_into_one_folder(raw, tmp_path):
    code = ("import sys\nfrom paddlevideo_skel.importers.journal import Journal\n"
            "with Journal(sys.argv[1], {}, []):\n    print('begun', flush=True)\n    sys.stdin.read()")
    folder = tmp_path / ".import-ntu60"
    other = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    with other:
        assert other.stdout.readline() == b"begun\n"
        with pytest.raises(OutputError, match="another import is writing there"):
            import_ntu([raw[0]], tmp_path, Choices())
        other.stdin.close()
    assert import_ntu([raw[0]], tmp_path, Choices())


def test_a_full_disk_is_told_and_what_was_read_is_kept(raw, tmp_path, monkeypatch, capsys):
    calls = []

    def full(file):
        calls.append(file)
        if len(calls) > 6:  # two for the manifest, two for each step
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    arguments = [str(raw[0]), "-o", str(tmp_path), "--workers", "0"]
    assert run_command("import-ntu", arguments) == 2
    assert "No space left on device" in (error := capsys.readouterr().err) and "same command resumes" in error
    monkeypatch.undo()
    assert run_command("import-ntu", arguments) == 0
    assert f"{2 * FILES_PER_STEP} of 80 files were read before" in capsys.readouterr().out


def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    text = skeleton_text(recording(body(range(20)).joints[None]))
    for number in range(400):
        skeleton_file(tmp_path / "raw", text, name_of(number, number // 40 + 1))
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((tmp_path / "raw").iterdir())[:100]:
        path.rename(few / path.name)
    peaks = []
    for folder in (few, few, tmp_path / "raw"):  # the first also pays for what is made once
        tracemalloc.start()
        import_ntu([folder], tmp_path / "out", Choices(forms=("npy", "pickle"), protocols=("xsub",)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 300 files against 100: their coordinates alone are 1.2 MB more, their arrays 36 MB.
    assert peaks[2] < peaks[1] + 1e6


def test_paddle_is_not_needed(raw, tmp_path):
    code = ("import sys\nsys.modules['paddle'] = None\nfrom paddlevideo_skel.cli import run_command\n"
            f"sys.exit(run_command('import-ntu', [{str(raw[0])!r}, '-o', {str(tmp_path)!r}, '--workers', '1']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Now train: " in done.stdout
