"""Files that the commands of a chain read: generated, linked, or reported as missing.

Files that exist are never overwritten, and nothing is installed or downloaded.
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

MADE = FOLDER / "data"


@dataclass
class Need:
    """A file that a command reads.

    Attributes:
        path: as the command names it, relative to the checkout.
        make: ``make(path)`` writes a stand-in; None if only the user's own file will do.
        own: a stand-in that is in its place does not count.
    """
    path: str
    make: object
    own: bool


def settings(command):
    """``(config's path, overrides)`` of a command: ``-c FILE``, ``-o A.B=v``, or with ``=``."""
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
    """The sample for inference; a generated one will do."""
    config = load_config(*settings(command))
    return Need(path, lambda to: write_example(to, config), own=False)


def weights_need(path, command):
    """Weights that no training of the chain makes: seeded ones, if their path is in test_tipc/data."""
    config, overrides = settings(command)

    def make(to):
        subprocess.run([interpreter("python3"), FOLDER / "tipc" / "seeded_weights.py", config, to, *overrides],
                       cwd=ROOT, check=True)
    return Need(path, make if (ROOT / path).is_relative_to(MADE) else None, own=False)


def provide(needs):
    """Make or link every file that is missing.

    Raises:
        DataError: with all files that the user has to provide.
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
        raise DataError(", ".join(dict.fromkeys(missing)), "file not found, and it cannot be generated",
                        "Put your own there, or set TIPC_DATA to a folder with the content of data/; "
                        "a lite_train run writes the weights under test_tipc/output")


def link_own(path):
    """Link a user's file from ``TIPC_DATA``, even in place of a generated one; False if there is none."""
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
    """Write a stand-in to test_tipc/data, with a link from elsewhere, so that it is not mistaken for real data."""
    if not path.is_relative_to(ROOT):
        raise DataError(path, "file not found; it is outside the checkout, so it cannot be generated",
                        "Use a path under data/")
    target = path if path.is_relative_to(MADE) else MADE / "links" / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    need.make(target)
    if target != path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()  # a broken link
        path.symlink_to(os.path.relpath(target, path.parent))
    print(f"generated {shown(path)}", flush=True)
