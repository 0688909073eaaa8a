"""The commands as a user types them: exit status 2 and one line for every kind of bad input, no traceback."""
import re

import numpy as np
import pytest
from commands import call
from paths import ROOT

from paddlevideo_skel import __version__, plotting
from paddlevideo_skel.cli import COMMANDS, GROUPS, load_command, main, run_command
from paddlevideo_skel.data.synthetic.actions import ACTIONS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        run_command(name, ["--help"])
    assert exit_.value.code == 0
    assert COMMANDS[name] in capsys.readouterr().out


@pytest.mark.parametrize("script", [None, "tools/a.py"])
@pytest.mark.parametrize("name", COMMANDS)
def test_flags_are_spelled_with_underscores_and_mean_one_thing(name, script):
    actions = load_command(name, script)[1]._option_string_actions
    assert not [flag for flag in actions if "-" in flag.lstrip("-")]
    if script is None:
        assert "-o" not in actions or "--output" in actions["-o"].option_strings
        assert "-p" not in actions or "--pretrained_params" in actions["-p"].option_strings


def test_the_overview(capsys):
    shown = call("-m", "paddlevideo_skel", "--help")
    assert shown.returncode == 0
    assert all(f"{group}:\n" in shown.stdout for group in GROUPS)
    for name, text in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", shown.stdout, re.MULTILINE)
    assert main([]) == 2
    assert "Training:" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0 and capsys.readouterr().out == f"paddlevideo-skel {__version__}\n"


def test_unknown_commands(capsys):
    unknown = call("-m", "paddlevideo_skel", "trian", "-c", "x.yaml")
    assert (unknown.returncode, unknown.stderr) == (2, "error: unknown command 'trian'; did you mean 'train'?\n")
    assert main(["import_ntu"]) == 2
    assert "did you mean 'import-ntu'?" in capsys.readouterr().err
    assert main(["qqq"]) == 2
    assert "'qqq'; paddlevideo-skel --help lists the commands" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        main(["--nonsense"])
    assert exit_.value.code == 2


SCRIPTS = [ROOT / "main.py", *(path for path in (ROOT / "tools").rglob("*.py") if path.name != "ask.py")]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_calls_a_command_under_its_own_name(path):
    command, script = re.search(r'run_command\("([a-z-]+)",.*script="(.+)"\)', path.read_text()).groups()
    assert command in COMMANDS and script == path.relative_to(ROOT).as_posix()


def parsed(name, *argv, script=None):
    return load_command(name, script)[1].parse_args(argv)


def test_both_spellings_of_a_flag():
    for flags in (["--save_name", "a", "--pretrained_params=b"], ["--save-name", "a", "--pretrained-params=b"],
                  ["--save-n", "a", "-w", "b"]):
        args = parsed("export", "-c", "x.yaml", *flags)
        assert (args.save_name, args.pretrained_params) == ("a", "b")
    assert parsed("train", "-c", "x.yaml", "--allow-mismatch", "--save-every=a-b").save_every == "a-b"
    assert parsed("ray-shards", "--shards=1").shards == 1


def test_an_unknown_flag_is_named_as_it_was_typed(capsys):
    with pytest.raises(SystemExit, match="2"):
        parsed("doctor", "--no-such_flag", "3")
    assert "unrecognized arguments: --no-such_flag 3" in capsys.readouterr().err


def test_the_folder_of_a_run_is_named_once(capsys, shared_config, tmp_path):
    error = bad(capsys, "train", "-c", shared_config, "-o", tmp_path / "a", "-o", f"output_dir={tmp_path / 'b'}")
    assert "both name the run's folder" in error and not list(tmp_path.iterdir())


def test_short_flags_of_either_face():
    """-o and -p mean one thing as paddlevideo-skel, and PaddleVideo's in its scripts."""
    pairs = ["-o", "epochs=2", "-p", "batch_range=[1,2]"]
    both = parsed("train", "-c", "x.yaml", *pairs, "-o", "DATASET.train.file_path=a b")
    assert both.override == ["epochs=2", "DATASET.train.file_path=a b"]
    assert both.profiler_options == "batch_range=[1,2]" and both.output is None and both.weights is None
    assert parsed("train", "-c", "x.yaml", *pairs[2:], *pairs[:2], script="main.py").override == ["epochs=2"]
    ours = parsed("train", "-c", "x.yaml", "-o", "out/run", "-p", "a.pdparams", "--override", "epochs=2")
    assert (ours.output, ours.weights, ours.override) == ("out/run", "a.pdparams", ["epochs=2"])
    assert parsed("train", "-c", "x.yaml", "--output", "a=b").output == "a=b"
    theirs = parsed("train", "-c", "x.yaml", "-o", "out/run", "-p", "a.pdparams", script="main.py")
    assert (theirs.override, theirs.profiler_options) == (["out/run"], "a.pdparams")
    assert parsed("predict", "--model_file=m", "-i", "a", "-o", "r.json").json == "r.json"
    assert parsed("predict", "--model_file=m", "-i", "a", "-o", "A.b=c").override == ["A.b=c"]
    assert parsed("test", "-c", "x.yaml", "-p", "w", "-o", "r.json").out == "r.json"
    for script in (None, "tools/export_model.py"):
        args = parsed("export", "-c", "x.yaml", "-p", "w", "-o", "a=b", "--override", "c=d", script=script)
        assert (args.pretrained_params, args.output_path, args.override) == ("w", "a=b", ["c=d"])


def bad(capsys, name, *argv):
    """The one line of error that a command ends with."""
    status = run_command(name, [str(part) for part in argv])
    captured = capsys.readouterr()
    assert status == 2
    assert "Traceback" not in captured.err
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0]


TRAINING = [
    (["-o", "DATASET.train.file_path=gone.pkl"], ["gone.pkl", "file not found"]),
    (["-o", "MODEL.backbone.name=STGCNPlus"], ["MODEL.backbone", "STGCNPlusPlus"]),
    (["-o", "PIPELINE.train.transform.0={PreNormalise3D: }"], ["PIPELINE.train.transform.0", "PreNormalize3D"]),
    (["-o", "epochs=0"], ["epochs"]),
    (["-w", "gone.pdparams"], ["gone.pdparams", "checkpoint not found"]),
    (["--test"], ["--test", "-w"]),
    (["--out", "a.json"], ["--out", "--test"]),
    (["--amp_level", "O2"], ["--amp_level", "--amp"]),
    (["--max_iters", "0"], ["--max_iters"]),
    (["-p", "nonsense=1"], ["nonsense", "batch_range"]),
]


@pytest.mark.parametrize(("argv", "words"), TRAINING)
def test_bad_input_to_train(argv, words, config_file, tmp_path, capsys):
    line = bad(capsys, "train", "-c", config_file, "-o", f"output_dir={tmp_path / 'out'}", *argv)
    for word in words:
        assert word in line
    assert not list(tmp_path.rglob("*.pdparams"))


def damaged_sets(folder, good):
    """Data set pickles with one thing wrong each: name → (path, words of the error)."""
    import pickle

    def write(name, change):
        content = pickle.loads(good)
        change(content["annotations"][5])
        path = folder / f"{name}.pkl"
        path.write_bytes(pickle.dumps(content))
        return path

    def keypoint(function):
        return lambda entry: entry.update(keypoint=function(entry["keypoint"]))

    def with_nan(array):
        array = array.copy()
        array[0, 3, 4, 1] = np.nan
        return array

    name = pickle.loads(good)["annotations"][5]["frame_dir"]
    truncated = folder / "truncated.pkl"
    truncated.write_bytes(good[:len(good) // 2])
    text = folder / "text.pkl"
    text.write_text("hello")
    return {
        "truncated": (truncated, ["truncated.pkl"]),
        "text": (text, ["text.pkl"]),
        "nan": (write("nan", keypoint(with_nan)), [name, "frame 3", "joint 4"]),
        "infinite": (write("infinite", keypoint(lambda a: a * np.inf)), [name]),
        "no frames": (write("frames", lambda e: e.update(keypoint=e["keypoint"][:, :0], total_frames=0)), [name]),
        "no person": (write("person", keypoint(np.zeros_like)), [name, "person"]),
        "joints": (write("joints", keypoint(lambda a: a[:, :, :20])), [name, "20", "25"]),
        "channels": (write("channels", keypoint(lambda a: a[..., :1])), [name]),
        "label": (write("label", lambda e: e.update(label=9)), [name, "9"]),
        "text as numbers": (write("kind", lambda e: e.update(keypoint="abc")), [name]),
    }


@pytest.mark.parametrize("kind", ["truncated", "text", "nan", "infinite", "no frames", "no person", "joints",
                                  "channels", "label", "text as numbers"])
def test_damaged_data_in_training(kind, config_file, sample_set, tmp_path, capsys):
    path, words = damaged_sets(tmp_path, (sample_set / "ntu_3d.pkl").read_bytes())[kind]
    line = bad(capsys, "train", "-c", config_file, "-o", f"output_dir={tmp_path / 'out'}",
               "-o", f"DATASET.train.file_path={path}", "-o", "DATASET.train.split=null")
    for word in words:
        assert word in line
    assert not list(tmp_path.rglob("*.pdparams"))


def test_main_py_ends_with_status_2_and_one_line(config_file):
    ended = call("main.py", "-c", config_file, "-o", "DATASET.train.file_path=gone.pkl", "-o", "output_dir=/dev/null/x")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("error: /dev/null/x: the output folder cannot be written")
    debugged = call("main.py", "--debug", "-c", config_file, "-o", "output_dir=/dev/null/x")
    assert debugged.returncode != 0
    assert "Traceback" in debugged.stderr


def test_commands_work_outside_the_checkout(tmp_path):
    made = call("-m", "paddlevideo_skel", "samples", "-o", "data/samples", "-n", "3", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    trained = call("-m", "paddlevideo_skel", "train", "-c", "configs/recognition/ctrgcn/ctrgcn_samples.yaml",
                   "--max_iters", "1", "-o", "epochs=1", "-o", "DATASET.batch_size=2", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "output/CTRGCN_samples/CTRGCN_samples_epoch_00001.pdparams").is_file()
    again = call("-m", "paddlevideo_skel", "samples", "-o", "/dev/null/x", cwd=tmp_path)
    assert again.returncode == 2
    assert "/dev/null/x" in again.stderr
    assert "Traceback" not in again.stderr


def test_samples_of_too_few_or_wrong_numbers(tmp_path, capsys):
    assert "samples_per_class" in bad(capsys, "samples", "-o", tmp_path / "s", "-n", "2")
    assert "--seed" in bad(capsys, "samples", "-o", tmp_path / "s", "--seed", "-1")
    assert not (tmp_path / "s").exists()


def test_samples_can_be_drawn(tmp_path, monkeypatch):
    """One picture for each action and layout; two are drawn, which take a while."""
    drawn = []

    def draw_two(annotation, layout, path):
        drawn.append(path.name)
        if path.name.startswith("wave_"):
            draw_sequence(annotation, layout, path)

    draw_sequence = plotting.draw_sequence
    monkeypatch.setattr(plotting, "draw_sequence", draw_two)
    assert run_command("samples", ["-o", str(tmp_path / "s"), "-n", "3", "--draw", str(tmp_path / "d")]) == 0
    assert sorted(drawn) == sorted(f"{action}_{layout}.png" for action in ACTIONS for layout in ("ntu-rgb+d", "coco"))
    assert all((tmp_path / "d" / f"wave_{layout}.png").read_bytes().startswith(b"\x89PNG")
               for layout in ("ntu-rgb+d", "coco"))
