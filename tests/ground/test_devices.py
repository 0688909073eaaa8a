"""Which device computes: one place for training and inference, one table of what is asked and what is there."""
import itertools
import subprocess
import sys

import paddle
import pytest
from paths import ROOT

from paddlevideo_skel import devices
from paddlevideo_skel.cli import run_command
from paddlevideo_skel.config import Config, load_config
from paddlevideo_skel.devices import count_devices, find_device, replace_device
from paddlevideo_skel.errors import ConfigError, UnavailableError
from paddlevideo_skel.inference.paddle_runtime import PaddleRuntime
from paddlevideo_skel.inference.runtime import RuntimeOptions
from paddlevideo_skel.training import distributed
from paddlevideo_skel.training.distributed import choose_device


@pytest.fixture
def there(monkeypatch):
    """``there(gpu=2)``: what paddle finds."""
    return lambda **counts: monkeypatch.setattr(devices, "count_devices", lambda paddle, kind: counts.get(kind, 0))


TABLE = [  # what is asked; the device where there is nothing, a GPU, an NPU, both
    ({}, "cpu", "gpu", "npu", "gpu"),
    ({"use_gpu": True}, None, "gpu", None, "gpu"),
    ({"use_npu": True}, None, None, "npu", "npu"),
    ({"use_gpu": False}, "cpu", "cpu", "npu", "npu"),
    ({"use_npu": False}, "cpu", "gpu", "cpu", "gpu"),
    ({"use_gpu": False, "use_npu": False}, "cpu", "cpu", "cpu", "cpu"),
    ({"use_gpu": False, "use_npu": True}, None, None, "npu", "npu"),
    ({"device": "cpu"}, "cpu", "cpu", "cpu", "cpu"),
    ({"device": "gpu"}, None, "gpu", None, "gpu"),
    ({"device": "npu"}, None, None, "npu", "npu"),
    ({"device": "npu", "use_npu": True, "use_gpu": False}, None, None, "npu", "npu"),
]
HOSTS = [{}, {"gpu": 1}, {"npu": 8}, {"gpu": 1, "npu": 1}]


@pytest.mark.parametrize(("asked", "host", "device"), [
    (row[0], host, device) for row in TABLE for host, device in zip(HOSTS, row[1:])])
def test_the_table(there, monkeypatch, asked, host, device):
    there(**host)
    chosen = []
    monkeypatch.setattr(distributed.paddle, "set_device", chosen.append)
    monkeypatch.setattr(distributed, "join_processes", lambda device: None)
    config = Config(asked)
    if device is None:
        kind = "NPU" if asked.get("use_npu") or asked.get("device") == "npu" else "GPU"
        for find in (lambda: find_device(paddle, **asked), lambda: choose_device(config)):
            with pytest.raises(UnavailableError, match=f"this paddle finds no {kind}.*tools/doctor.py"):
                find()
        return
    assert find_device(paddle, **asked) == device
    assert choose_device(config) == device and chosen == [device]
    if "device" not in asked:
        runtime = PaddleRuntime.__new__(PaddleRuntime)
        runtime.options = RuntimeOptions(**asked)
        assert runtime.choose_device() == device


def test_what_contradicts_itself(there):
    there(gpu=1, npu=1)
    for asked, words in (({"use_gpu": True, "use_npu": True}, "--use_npu: both a GPU and an NPU were requested"),
                         ({"device": "tpu"}, "--device: found 'tpu'.*npu"),
                         ({"device": "npu", "use_npu": False}, "--device: is npu, but --use_npu is False"),
                         ({"device": "cpu", "use_gpu": True}, "--device: is cpu, but --use_gpu is True")):
        with pytest.raises(ConfigError, match=words):
            find_device(paddle, **asked)
    config = Config({"device": "nqu"})
    config.source = "my {config}.yaml"
    with pytest.raises(ConfigError, match=r"my \{config\}\.yaml: device: found 'nqu'.*Did you mean 'npu'"):
        choose_device(config)


def test_a_device_that_was_declined_is_not_even_looked_for(monkeypatch):
    monkeypatch.setattr(devices, "count_devices", lambda paddle, kind: pytest.fail(f"{kind} was counted"))
    assert find_device(paddle, device="cpu") == find_device(paddle, False, False) == "cpu"


def test_the_command_line_has_the_last_word():
    for said, given, left in itertools.product(
            ({"use_gpu": True}, {"device": "gpu", "use_npu": False}), ({"use_npu": True}, {"use_gpu": False}), (1,)):
        config = Config({**said, "epochs": left})
        replace_device(config, **given)
        assert config == {**given, "epochs": left}
    config = Config({"device": "npu"})
    replace_device(config)
    assert config == {"device": "npu"}


def test_paddle_is_asked(monkeypatch):
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(paddle.device, "get_available_custom_device", lambda: ["npu:0", "npu:1", "mlu:0"])
    assert (count_devices(paddle, "gpu"), count_devices(paddle, "npu")) == (3, 2)
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: False)
    monkeypatch.setattr(paddle.device, "get_available_custom_device", lambda: None)
    assert (count_devices(paddle, "gpu"), count_devices(paddle, "npu")) == (0, 0)


@pytest.mark.parametrize(("arguments", "words"), [
    (["--use_npu"], "--use_npu"), (["-o", "use_npu=True"], "use_npu"), (["-o", "device=npu"], "device"),
    (["--test", "-w", "gone.pdparams", "--use_npu=True", "-o", "device=cpu"], "use_npu")])
def test_main_py_takes_all_three_forms(config_file, tmp_path, capsys, monkeypatch, arguments, words):
    if count_devices(paddle, "npu"):
        pytest.skip("this machine has an NPU")
    monkeypatch.chdir(tmp_path)
    assert run_command("train", ["-c", str(config_file), *arguments]) == 2
    assert f"small.yaml: {words.lstrip('-')}: this paddle finds no NPU" in capsys.readouterr().err


def test_a_device_in_a_config(config_file):
    assert load_config(config_file, ["device=npu"])["device"] == "npu"
    with pytest.raises(ConfigError, match="device: found 3, expected str"):
        load_config(config_file, ["device=3"])


def test_the_module_itself_needs_no_paddle():
    code = ("import sys; sys.modules['paddle'] = None; from paddlevideo_skel.devices import find_device; "
            "print(find_device(None, False, False))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          timeout=120)
    assert done.stdout == "cpu\n", done.stderr
