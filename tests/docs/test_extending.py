"""docs/extending.md: its files are written as they are shown, and its commands run."""
import re
import shlex

import numpy as np
import pytest
from commands import call
from pages import blocks

PAGE = "docs/extending.md"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the page's files, and a small data set: the left or the right hand goes up."""
    folder = tmp_path_factory.mktemp("project")
    for block in blocks(PAGE, "python") + blocks(PAGE, "yaml"):
        name = re.match(r"# (\S+\.(py|yaml))\n", block)[1]
        (folder / name).write_text(block, encoding="utf-8")
    rng = np.random.default_rng(0)
    lists = {"train": [], "val": []}
    for number in range(12):
        for label, side in enumerate(("left", "right")):
            keypoint = rng.normal(0, 0.05, (1, 20, 5, 3)) + 1
            keypoint[:, :, 2 + 2 * label, 1] += np.linspace(0, 2, 20)
            np.save(folder / f"{side}_{number}.npy", keypoint.astype("float32"))
            lists["val" if number < 4 else "train"].append(f"{side}_{number}.npy {label}\n")
    for part, lines in lists.items():
        (folder / f"{part}.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def run(folder, *words):
    done = call(*words, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_page_trains_exports_and_predicts(project):
    train, export, predict = (shlex.split(line) for line in blocks(PAGE, "bash")[0].strip().splitlines())
    run(project, *train[1:])
    run(project, *export[1:])
    # The .npy data sets' axes, (C, T, V, M).
    sample = project / predict[-1]
    np.save(sample, np.load(sample).transpose(3, 1, 2, 0))
    assert predict[0] == "paddlevideo-skel"
    assert "left" in run(project, "-m", "paddlevideo_skel", *predict[1:])


def test_a_mistake_in_a_config_is_explained(project):
    config = (project / "mine.yaml").read_text(encoding="utf-8")
    (project / "wrong.yaml").write_text(config.replace("probability", "probabilty"), encoding="utf-8")
    done = call("run.py", "train", "-c", "wrong.yaml", cwd=project)
    assert done.returncode == 2
    assert re.search("PIPELINE.train.*probabilty.*probability", done.stderr)
