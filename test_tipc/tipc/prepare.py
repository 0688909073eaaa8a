"""``prepare.sh``: what a params file's commands will read is made, linked, or named as missing.

Lite modes: made offline from the sample generator. Whole modes: a user's own files, in place or linked from the folder
in ``TIPC_DATA``. Files that are there are never written over, and nothing is installed or fetched.
"""
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from paddlevideo_skel.config import load_config
from paddlevideo_skel.errors import ConfigError, DataError

from . import FOLDER, ROOT
from .chain import shown
from .host import interpreter
from .lite_data import write_example, write_labels, write_set
from .params import NULL, Params
from .train_infer import HEADERS, TRAINERS, read

MADE = FOLDER / "data"


@dataclass
class Need:
    """A file that a command reads. ``make(path)`` writes a stand-in; None: there is none, it must be the user's own."""
    path: str
    make: object
    own: bool


def run(path, mode):
    """Prepare a params file's data for a mode."""
    if mode in ("paddle2onnx_infer", "ascend_infer", "ptq_infer"):
        from . import ascend, ptq, to_onnx  # which read this module

        return {"paddle2onnx_infer": to_onnx, "ascend_infer": ascend, "ptq_infer": ptq}[mode].prepare(path)
    params = Params(path, HEADERS) if mode == "benchmark_train" else read(path, mode)
    provide(train_infer_needs(params, mode))
    return 0


def train_infer_needs(params, mode):
    """What the chain of ``train_infer`` and the benchmark read."""
    needs = []
    if mode != "whole_infer":
        rest = params.arguments(13) if "whole_train" not in mode else []
        lines = [line for line in TRAINERS if params.key(line) in params.options(15) and params.command(line)]
        for line in lines:
            command = params.command(line) + rest
            splits = ["train"] + ["valid"] * ("--validate" in command)
            needs += data_needs(command, splits, own="whole_train" in mode)
        if params.command(24) and mode != "benchmark_train":
            lite = "lite_infer" in mode
            needs += data_needs(params.command(24) + (rest if lite else []), ["test"], own=not lite)
    else:
        needs += [weights_need(model, params.split(38, export)) for model, export in zip(
            params.options(37), params.options(38)) if export not in NULL]
    if mode != "benchmark_train":
        # Inference may name no config; the training's then tells what a sample is.
        needs.append(example_need(params.value(48), (params.command(16) or []) + params.command(40)))
    return needs


def settings(command):
    """``(config's path, overrides)`` in a command's words: ``-c FILE``, ``-o A.B=v``, or with ``=``."""
    config, overrides, words = None, [], iter(command)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in ("-c", "--config"):
            config = value if equals else next(words, None)
        elif flag in ("-o", "--override"):
            value = value if equals else next(words, "")
            # An export's -o is its folder, not an override.
            overrides += [value] if "=" in value else []
    if config is None:
        raise ConfigError(" ".join(command), "names no config", "Add -c FILE")
    return config, overrides


def data_needs(command, splits, own):
    """The data sets of a config's splits, each file once."""
    config = load_config(*settings(command))
    sections = {split: config.section(f"DATASET.{split}") for split in splits}
    needs = []
    for kind, write in (("file_path", write_set), ("label_path", write_labels)):
        for path in dict.fromkeys(section[kind] for section in sections.values() if section.get(kind)):
            readers = [split for split, section in config["DATASET"].items()
                       if isinstance(section, dict) and section.get(kind) == path]
            needs.append(Need(path, lambda to, w=write, r=readers: w(to, config, r), own))
    return needs


def example_need(path, command):
    """The sample for inference; a generated one does where the user has none."""
    config = load_config(*settings(command))
    return Need(path, lambda to: write_example(to, config), own=False)


def weights_need(path, command):
    """Weights that no training here makes: seeded ones, if the params file names a place under test_tipc/data."""
    config, overrides = settings(command)

    def make(to):
        subprocess.run([interpreter("python3"), FOLDER / "tipc" / "seeded_weights.py", config, to, *overrides],
                       cwd=ROOT, check=True)
    return Need(path, make if (ROOT / path).is_relative_to(MADE) else None, own=False)


def provide(needs):
    """Make or link every file that is missing.

    Raises:
        DataError: naming all files that only the user can give.
    """
    missing = []
    for need in needs:
        path = Path(os.path.normpath(ROOT / need.path))
        stand_in = path.is_symlink() and not path.is_relative_to(MADE) and path.resolve().is_relative_to(MADE)
        if path.exists() and not (need.own and stand_in):
            print(f"there     {shown(path)}" + " (generated)" * stand_in, flush=True)
        elif not link_own(path) and (need.own or need.make is None):
            missing.append(need.path)
        elif not path.exists():
            make(need, path)
    if missing:
        raise DataError(", ".join(dict.fromkeys(missing)), "is not here, and a stand-in will not do",
                        "Put your own there, or set TIPC_DATA to a folder that holds what data/ should hold; "
                        "weights under test_tipc/output come from a lite_train run")


def link_own(path):
    """Link a user's file from ``TIPC_DATA``, in the place of a generated one too; False if it is not there."""
    source = os.environ.get("TIPC_DATA")
    if not source or not path.is_relative_to(ROOT / "data"):
        return False
    source = Path(source).expanduser().resolve() / path.relative_to(ROOT / "data")
    if not source.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    path.symlink_to(source)
    print(f"linked    {shown(path)} to {source}", flush=True)
    return True


def make(need, path):
    """Write a stand-in: in place under test_tipc/data, else there with a link to it, so that none is taken for real."""
    if not path.is_relative_to(ROOT):
        raise DataError(path, "is not here, and stand-ins are made only inside the checkout", "Name a path under data/")
    target = path if path.is_relative_to(MADE) else MADE / "links" / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    need.make(target)
    if target != path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()  # it led nowhere
        path.symlink_to(os.path.relpath(target, path.parent))
    print(f"generated {shown(path)}", flush=True)
