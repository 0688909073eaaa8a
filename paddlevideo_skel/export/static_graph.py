"""From a model to graph and weights on the disk.

Paddle 3 writes ``.json``. It still writes Paddle 2's ``.pdmodel`` when it is started without its new graph form, which
is decided while paddle is imported: therefore a ``.pdmodel`` is written by a child process, ``python -m
paddlevideo_skel.export.static_graph job.json``.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle

from ..errors import ExportError

INPUT = "data_batch_0"
JOB, WEIGHTS = "job.json", "job.npz"
TIME_LIMIT = 600  # seconds


def save_graph(model, shape, stem):
    """Write a model in evaluation mode as ``<stem>.json`` (or ``.pdmodel``) and ``<stem>.pdiparams``.

    Args:
        shape: one sample's; the batch axis stays open.
    """
    spec = paddle.static.InputSpec([-1, *shape], "float32", INPUT)
    traced = paddle.jit.to_static(model, input_spec=[spec], full_graph=True)
    paddle.jit.save(traced, str(stem))
    traced.forward.rollback()  # to_static changed the model itself, which shall compute dynamically again


def save_old_graph(config, model, kind, shape, stem):
    """Write ``<stem>.pdmodel`` and ``.pdiparams`` in a child process, which builds the config's model anew.

    Raises:
        ExportError: with the end of the child's output.
    """
    folder = Path(stem).parent
    job = {"model": config.section("MODEL"), "where": config.where("MODEL"), "kind": kind, "shape": list(shape),
           "stem": str(stem)}
    (folder / JOB).write_text(json.dumps(job))
    np.savez(folder / WEIGHTS, **{name: value.numpy() for name, value in model.state_dict().items()})
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "FLAGS_enable_pir_api": "0",
                   "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    try:
        done = subprocess.run([sys.executable, "-m", __name__, str(folder / JOB)], env=environment,
                              capture_output=True, text=True, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise ExportError(stem, f"writing the .pdmodel took more than {TIME_LIMIT} s") from None
    finally:
        (folder / JOB).unlink()
        (folder / WEIGHTS).unlink()
    if done.returncode or not Path(f"{stem}.pdmodel").is_file():
        raise ExportError(stem, f"the .pdmodel could not be written: {' | '.join(done.stderr.splitlines()[-3:])}",
                          "Use --format json")
    # Names for continuing a training; no runtime reads them.
    Path(f"{stem}.pdiparams.info").unlink(missing_ok=True)


def build_child_model(job):
    """The model of a job, with its weights, ordinary or minimal."""
    from ..models import build_model
    from .minimal import minimal

    model = build_model(job["model"], job["where"]).main
    with np.load(Path(job["stem"]).parent / WEIGHTS) as weights:
        model.set_state_dict(dict(weights))
    model.eval()
    return minimal(model) if job["kind"] == "minimal" else model


def append_operators():
    """Teach paddle the operators that Paddle 3 no longer adds to an old graph: ``tanh``, ``matmul``, ``logsumexp``."""
    from paddle.base.layer_helper import LayerHelper

    def append(kind, inputs, **attributes):
        helper = LayerHelper(kind)
        out = helper.create_variable_for_type_inference(inputs["X"].dtype)
        helper.append_op(type=kind, inputs=inputs, outputs={"Out": out}, attrs=attributes)
        return out

    paddle.tanh = lambda x: append("tanh", {"X": x})
    paddle.matmul = lambda x, y, transpose_x=False, transpose_y=False: append(
        "matmul_v2", {"X": x, "Y": y}, trans_x=transpose_x, trans_y=transpose_y)
    paddle.logsumexp = lambda x, axis, keepdim=False: append("logsumexp", {"X": x}, axis=[axis], keepdim=keepdim)


def child(path):
    """The child process: write the old graph of the job in ``path``."""
    job = json.loads(Path(path).read_text())
    model = build_child_model(job)
    append_operators()
    save_graph(model, job["shape"], job["stem"])


if __name__ == "__main__":
    child(sys.argv[1])
