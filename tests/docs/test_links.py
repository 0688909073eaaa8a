"""Whatever the documentation names exists: links and their anchors, files, commands and their flags."""
import contextlib
import io
import re
import shlex
import subprocess
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from pages import NAMES, blocks, text_of, without_blocks
from paths import ROOT

from paddlevideo_skel.cli import load_command

PICTURE_LIMIT = 200_000  # bytes
# What the reader of a page makes or already has.
READERS_OWN = {
    "recordings.py", "new_recordings.py", "run.py", "model.yaml", "set_env.sh", "compile.sh", "table.md",
    "infer_cfg.yml", "data/gym.yaml", "data/mine.yaml", "data/", "data/samples/", "samples/", "ntu-rgb-d120/",
    "test_tipc/data/", "output/", "_-./"}


@cache
def tracked():
    """All files of the repository, those not yet committed included, and their folders."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True,
                            capture_output=True, check=True).stdout.split("\n")
    files = [file for file in listed if file and (ROOT / file).exists()]
    return sorted({*files, *(f"{folder}/" for file in files for folder in Path(file).parents if str(folder) != ".")})


def anchors(name):
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(name), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(name)):
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(str(path.resolve().relative_to(ROOT))), target


def test_pictures_are_small_and_used():
    used = "".join(map(text_of, NAMES))
    for picture in (ROOT / "docs" / "images").glob("*.[ps][nv]g"):
        assert picture.stat().st_size < PICTURE_LIMIT, picture
        assert f"images/{picture.name}" in used, picture


def spelled_out(token):
    """``a/{b,c}.py`` → ``a/b.py``, ``a/c.py``."""
    parts = [part.strip("{}").split(",") if part.startswith("{") else [part]
             for part in re.split(r"(\{[^{}]*\})", token)]
    return ["".join(choice) for choice in product(*parts)]


@pytest.mark.parametrize("name", NAMES)
def test_named_files_exist(name):
    """A file may be named by the end of its path, from any folder on: ``models/cpu.py``, ``trainer.py``."""
    for quoted in re.findall(r"`([^`\n]+)`", without_blocks(name)):
        for token in quoted.split():
            if not re.fullmatch(r"[\w./{},+\-]+(\.(py|sh|yaml|yml|md)|/)", token) or "<" in quoted:
                continue
            for path in spelled_out(token):
                if path in READERS_OWN:
                    continue
                assert any(f"/{file}".endswith(f"/{path}") for file in tracked()), f"{path} in `{quoted}`"


def shell_commands(text):
    """The commands in a shell block, without comments, continuation lines joined."""
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"\$\{?\w+\}?", "1", line)
        for part in re.split(r" \| | < |; | && ", re.sub(r"(^|\s)#.*", "", line)):
            yield part.strip()


def commands_of(name):
    """``(words, whether it is complete)`` of all commands that a page shows, in shell blocks and in backticks."""
    shown = [(part, "…" not in part) for block in blocks(name, "bash") for part in shell_commands(block)]
    shown += [(part, False) for quoted in re.findall(r"`([^`\n]+)`", without_blocks(name))
              for part in shell_commands(quoted)]
    for command, complete in shown:
        command = re.sub(r"^(\w+=\S+ +)+", "", command)
        if re.match(r"(python|paddlevideo-skel|bash|make|pip) ", command):
            yield shlex.split(command), complete


def parser_of(words):
    """``(parser or None, arguments)`` of a command line; None for programs that are not this package's commands."""
    if words[0] == "paddlevideo-skel" and re.fullmatch(r"[a-z][a-z-]*", words[1]):
        return load_command(words[1])[1], words[2:]
    script = next((i for i, word in enumerate(words) if re.fullmatch(r"(main|tools/[\w/]+)\.py", word)), None)
    if words[0] != "python" or script is None:
        return None, []
    found = re.search(r'run_command\("([\w-]+)"', (ROOT / words[script]).read_text(encoding="utf-8"))
    return load_command(found[1], words[script])[1], words[script + 1:]


@pytest.mark.parametrize("name", NAMES)
def test_commands_parse(name):
    for words, complete in commands_of(name):
        if words[0] in ("python", "bash") and re.match(r"[\w/]+\.(py|sh)$", words[1]):
            assert words[1] in READERS_OWN or (ROOT / words[1]).exists(), words
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", text_of("Makefile"), re.MULTILINE), words
        if words[0] == "pip":
            extras = [extra for word in words for group in re.findall(r"\[(.*)\]", word) for extra in group.split(",")]
            for extra in extras:
                assert re.search(rf"^{extra} = \[", text_of("pyproject.toml"), re.MULTILINE), words
        if words[0] in ("python", "paddlevideo-skel"):
            check_arguments(words, complete)


def check_arguments(words, complete):
    """Of a command that leaves something out, only the flags are checked."""
    parser, arguments = parser_of(words)
    if parser is None:
        return
    if "--" in arguments:
        arguments = arguments[:arguments.index("--")]
    if not complete:
        known = parser._option_string_actions
        for word in arguments:
            flag = word.strip("[]").split("=")[0]
            assert not re.match("--[a-z]", flag) or "--" + flag[2:].replace("-", "_") in known, words
        return
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            parser.parse_args(arguments)
    except SystemExit:
        pytest.fail(f"{shlex.join(words)}: {stderr.getvalue().splitlines()[-1]}")


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_whole(name):
    """Every row of a table has as many cells as its head; a bar inside of backticks would start another cell."""
    cells = None
    for line in without_blocks(name).splitlines():
        if not line.startswith("|"):
            cells = None
            continue
        found = len(re.findall(r"(?<!\\)\|", line))
        assert cells in (None, found), line
        cells = found
