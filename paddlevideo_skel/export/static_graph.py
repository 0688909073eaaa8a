"""Write a model's static graph and weights to files.

Paddle 3 writes ``.json``. It can still write Paddle 2's ``.pdmodel``, but only if its new graph representation is
switched off before paddle is imported. Therefore a child process writes the ``.pdmodel``: ``python -m
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
JOB_FILE, JOB_WEIGHTS = "job.json", "job.npz"
GRAPH_TIME_LIMIT = 600  # seconds


def save_graph(model, shape, stem):
    """Write a model in evaluation mode as ``<stem>.json`` (or ``.pdmodel``) and ``<stem>.pdiparams``.

    Args:
        shape: one sample's; the batch axis stays open.
    """
    spec = paddle.static.InputSpec([-1, *shape], "float32", INPUT)
    traced = paddle.jit.to_static(model, input_spec=[spec], full_graph=True)
    paddle.jit.save(traced, str(stem))
    traced.forward.rollback()  # to_static changed the model itself; it must run dynamically again


def save_old_graph(config, model, kind, shape, stem):
    """Write ``<stem>.pdmodel`` and ``.pdiparams`` in a child process, which builds the config's model again.

    Raises:
        ExportError: the child failed; with the end of its output.
    """
    folder = Path(stem).parent
    job = {"model": config.section("MODEL"), "where": config.where("MODEL"), "kind": kind, "shape": list(shape),
           "stem": str(stem)}
    (folder / JOB_FILE).write_text(json.dumps(job))
    np.savez(folder / JOB_WEIGHTS, **{name: value.numpy() for name, value in model.state_dict().items()})
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "FLAGS_enable_pir_api": "0",
                   "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    try:
        done = subprocess.run([sys.executable, "-m", __name__, str(folder / JOB_FILE)], env=environment,
                              capture_output=True, text=True, timeout=GRAPH_TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise ExportError(stem, f"writing the .pdmodel took more than {GRAPH_TIME_LIMIT} s") from None
    finally:
        (folder / JOB_FILE).unlink()
        (folder / JOB_WEIGHTS).unlink()
    if done.returncode or not Path(f"{stem}.pdmodel").is_file():
        raise ExportError(stem, f"writing the .pdmodel failed: {' | '.join(done.stderr.splitlines()[-3:])}",
                          "Use --format json")
    # Parameter names for fine-tuning; no runtime reads them.
    Path(f"{stem}.pdiparams.info").unlink(missing_ok=True)


def build_child_model(job):
    """The model of a job, with its weights, ordinary or minimal."""
    from ..models import build_model
    from .minimal import minimise

    model = build_model(job["model"], job["where"]).main
    with np.load(Path(job["stem"]).parent / JOB_WEIGHTS) as weights:
        model.set_state_dict(dict(weights))
    model.eval()
    return minimise(model) if job["kind"] == "minimal" else model


def patch_operators():
    """Replace ``tanh``, ``matmul`` and ``logsumexp``, which Paddle 3 can no longer add to an old graph."""
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


def write_old_graph(path):
    """In the child process: write the old graph of the job in the file ``path``."""
    job = json.loads(Path(path).read_text())
    model = build_child_model(job)
    patch_operators()
    save_graph(model, job["shape"], job["stem"])


if __name__ == "__main__":
    write_old_graph(sys.argv[1])
