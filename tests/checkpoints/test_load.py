"""A saved checkpoint is the one that is loaded; damage is an error, and nothing in a file is run."""
import os
import pickle

import numpy as np
import paddle
import pytest
from golden_fill import fill
from small_models import SMALL, arrays, same, small

from paddlevideo_skel.checkpoints.fit import fit_weights, save_state
from paddlevideo_skel.checkpoints.load import load_weights
from paddlevideo_skel.errors import CheckpointError, OutputError


@pytest.mark.parametrize("name", SMALL)
def test_what_is_saved_is_what_is_loaded(name, tmp_path):
    model = fill(small(name))
    path = tmp_path / "a.pdparams"
    save_state(model.state_dict(), path)
    other = small(name)
    fit_weights(other, load_weights(path), path)
    assert same(arrays(other), arrays(model))
    assert [p.name for p in tmp_path.iterdir()] == ["a.pdparams"]
    assert same({k: v.numpy() for k, v in paddle.load(str(path)).items()}, arrays(model))


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(("content", "words"), [
    (b"", ["is empty"]),
    (pickle.dumps({"backbone.a": np.zeros(3)})[:-9], ["damaged"]),
    (pickle.dumps([1, 2]), ["list", "state dict"]),
    (pickle.dumps({}), ["no weights"]),
    (pickle.dumps({"LR_Scheduler": {"last_epoch": 1}}), ["LR_Scheduler", ".pdopt"]),
    (b"PK\x03\x04 a zip file", ["damaged"]),
])
def test_a_damaged_checkpoint_is_an_error(content, words, tmp_path):
    path = tmp_path / "a.pdparams"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_weights(path)
    for word in [*words, str(path)]:
        assert word in str(error.value)


def test_nothing_in_a_checkpoint_is_run(tmp_path):
    path, made = tmp_path / "a.pdparams", tmp_path / "made"
    path.write_bytes(pickle.dumps({"backbone.a": Malice(made)}))
    with pytest.raises(CheckpointError, match="mkdir"):
        load_weights(path)
    assert not made.exists()


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="checkpoint not found"):
        load_weights(tmp_path / "a.pdparams")


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pdparams"
    save_state({"a": paddle.ones([2])}, path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save_state({"a": paddle.zeros([2])}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.pdparams"]
