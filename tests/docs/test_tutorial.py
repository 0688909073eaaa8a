"""docs/tutorial.md, run from its first command to its last, with fewer recordings and one epoch."""
import re
import shlex

import pytest
from commands import call
from pages import blocks

PAGE = "docs/tutorial.md"
SMALLER = {"generate(72,": "generate(6,", "epochs=20": "epochs=1", "max_epoch=20": "max_epoch=1",
           "val_interval=4": "val_interval=1"}
NO_ATC = 3  # the exit status of deploy-ascend on a host without ATC


def smaller(text):
    for old, new in SMALLER.items():
        text = text.replace(old, new)
    return text


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    for block in blocks(PAGE, "python"):
        (tmp_path / re.match(r"# (\S+)\n", block)[1]).write_text(smaller(block), encoding="utf-8")
    for block in blocks(PAGE, "bash"):
        for line in smaller(block.replace("\\\n", " ")).strip().splitlines():
            line, _, source = line.partition(" < ")
            program, *words = shlex.split(line)
            words = [*([] if program == "python" else ["-m", "paddlevideo_skel"]), *words]
            done = call(*words, cwd=tmp_path, stdin=(tmp_path / source).read_text() if source else None)
            expected = NO_ATC if "deploy-ascend" in words else 0
            assert done.returncode == expected, f"{line}\n{done.stdout}\n{done.stderr}"
    for picture in ("film_strip.png", "results_confusion.png", "scores.png"):
        assert (tmp_path / picture).stat().st_size > 1000
    table = (tmp_path / "ascend" / "table.md").read_text(encoding="utf-8")
    assert len(re.findall(r"\| CPU \|.*\| 0.00% \|", table)) == 3


def test_the_chinese_page_shows_the_same_commands():
    for language in ("python", "bash"):
        assert blocks("docs/tutorial_zh.md", language) == blocks(PAGE, language)
