"""oneDNN in Paddle Inference: the fault that docs/export.md shows, and our minimal graphs, which avoid it."""
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from deploy_cases import dynamic, filled, small_config
from paths import ROOT

from paddlevideo_skel.errors import SelfCheckError
from paddlevideo_skel.export.exporter import export_model
from paddlevideo_skel.inference.artifact import METADATA, ExportFolder, find_export
from paddlevideo_skel.inference.paddle_runtime import PaddleRuntime
from paddlevideo_skel.inference.runtime import RuntimeOptions

PAGE = ROOT / "docs" / "export.md"
FAMILIES = ("ctrgcn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("stgcn", "stgcn_plusplus", "posec3d")))


@pytest.mark.slow
def test_the_smallest_wrong_graph_is_still_wrong(tmp_path):
    """If this fails since ``direct`` is right, Paddle has healed the fault: the page and the fences can go."""
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(1)
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    found = {name: float(value) for name, value in re.findall(r"^(direct|reshape) (\S+)$", done.stdout, re.MULTILINE)}
    assert found["reshape"] < 1e-6
    assert found["direct"] > 0.1


@pytest.fixture(scope="module", params=FAMILIES)
def exported(request, tmp_path_factory):
    config, folder = small_config(request.param), tmp_path_factory.mktemp(request.param)
    model = filled(config)
    if request.param == "ctrgcn":
        shutil.copytree(request.getfixturevalue("ctrgcn_export").stem.parent, folder, dirs_exist_ok=True)
        return model, find_export(folder)
    return model, export_model(config, model, folder, "inference", "minimal")


def test_a_minimal_graph_is_right_with_onednn(exported):
    model, folder = exported
    array = np.random.default_rng(3).normal(0, 0.5, (3, *folder.sample_shape)).astype("float32")
    right = dynamic(model, array)
    found = PaddleRuntime(folder, RuntimeOptions(enable_mkldnn=True)).run(array)
    assert np.abs(found - right).max() < 1e-5 * np.abs(right).max()


def test_the_metadata_tells_of_onednn(exported):
    verdict = exported[1].metadata["verified"]["onednn"]
    assert verdict["right"] and isinstance(verdict["faster"], bool)
    assert max(verdict["relative_error"].values()) < 1e-5


def advised(folder, faster):
    """The export with another advice in its metadata."""
    metadata = {**folder.metadata, "verified": {**folder.metadata["verified"], "onednn": {"faster": faster}}}
    folder.file(METADATA).write_text(json.dumps(metadata))
    return ExportFolder(folder.stem)


@pytest.mark.parametrize("faster", [True, False])
def test_the_metadata_decides_where_the_options_do_not(exported, faster):
    folder = advised(exported[1], faster)
    assert PaddleRuntime(folder, RuntimeOptions()).onednn is faster
    assert PaddleRuntime(folder, RuntimeOptions(enable_mkldnn=not faster)).onednn is not faster


@pytest.fixture
def wrong(exported, monkeypatch):
    """An export whose metadata advises oneDNN, on a host where oneDNN answers wrongly."""
    compute = PaddleRuntime.compute
    monkeypatch.setattr(PaddleRuntime, "compute", lambda self, array: compute(self, array) + self.onednn)
    return advised(exported[1], True)


def test_wrong_advice_is_not_followed(wrong, caplog):
    runtime = PaddleRuntime(wrong, RuntimeOptions())
    assert not runtime.onednn and runtime.errors[1] < 1e-5
    assert "oneDNN, which" in caplog.text and "is not used: " in caplog.text and "relative error" in caplog.text


def test_onednn_that_was_asked_for_is_refused_where_it_is_wrong(wrong):
    with pytest.raises(SelfCheckError, match="--enable_mkldnn=False"):
        PaddleRuntime(wrong, RuntimeOptions(enable_mkldnn=True))
