"""A small generated data set, and a config that trains a small model on it in seconds."""
import os
import signal

import pytest
from hypothesis import settings
from small_config import ACTIONS, CONFIG, HARD, distillation_config

# One thread for each test process, whatever runs beside it. Set before the package is imported, as it would take all
# cores; the package itself comes before paddle, so that these processes round as the commands do.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from paddlevideo_skel import devices
from paddlevideo_skel.data.synthetic.samples import write_sample_set

# No test may fail for being slow on a busy machine.
settings.register_profile("project", deadline=None)
settings.load_profile("project")
# A shell makes what it starts in the background ignore Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def sample_set(tmp_path_factory):
    """Folder of generated samples: 4 actions, 12 sequences each, two thirds for training."""
    folder = tmp_path_factory.mktemp("samples")
    write_sample_set(folder, 12, 3, ACTIONS, progress=False)
    return folder


@pytest.fixture
def config_file(sample_set, tmp_path):
    """A config's file; every test its own."""
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG.format(folder=sample_set))
    return path


@pytest.fixture
def distillation_file(sample_set, tmp_path):
    """The same data for CTR-GCN teacher and CTR-GCN-Lite student, with mixup."""
    path = tmp_path / "distillation.yaml"
    path.write_text(distillation_config(sample_set))
    return path


@pytest.fixture(scope="session")
def shared_config(sample_set, tmp_path_factory):
    """A config's file for tests that change nothing in it."""
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(CONFIG.format(folder=sample_set))
    return path


@pytest.fixture(scope="session")
def same_rounding():
    """Tests that compare two processes to the bit need MKL's code path, where this CPU has one to set, in both."""
    path = devices.missing_mkl_path()
    assert path is None, f"{devices.MKL}={path} must be set on this CPU: import paddlevideo_skel before paddle"


@pytest.fixture(scope="session")
def runner():
    """Makes training processes."""
    from training_runs import TrainingRunner

    with TrainingRunner() as made:
        yield made


@pytest.fixture(scope="session")
def unbroken(same_rounding, runner, shared_config, tmp_path_factory):
    """The folder of a run with ``HARD`` that nothing stopped."""
    folder = tmp_path_factory.mktemp("unbroken") / "out"
    status, output = runner.run(shared_config, folder, "--validate", overrides=HARD)
    assert status == 0, output
    return folder
