"""Training speed, side by side in one run: PaddleVideo's layers, both of our implementations, PyTorch.

    python benchmarks/training.py [--seconds 120] [--models ctrgcn_lite stgcn_plusplus] [--torch PYTHON]

Every side is a process of its own, with the environment that its users have. They take turns, one step each, so that
other work on the machine slows all of them alike. Before its first step each must give the logits of the first.
"""
import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
NTU = {"graph": "ntu_rgb_d", "num_person": 2}
COCO = {"layout": "coco_keypoint", "strategy": "spatial", "gcn_adaptive": "init", "gcn_with_res": True}
MODELS = {  # name: backbone, head, shape of a batch
    "ctrgcn_lite": ({"name": "CTRGCNLite", **NTU}, "CTRGCNHead", (16, 3, 64, 25, 2)),
    "stgcn_plusplus": ({"name": "STGCNPlusPlus", **COCO}, "STGCNPlusPlusHead", (16, 1, 2, 100, 17, 3)),
    "stgcn": ({"name": "STGCN", "in_channels": 3, "layout": "ntu-rgb+d"}, "STGCNHead", (8, 3, 150, 25, 2)),
    "posec3d": ({"name": "ResNet3dSlowOnly", "base_channels": 32}, "I3DHead", (2, 17, 16, 56, 56)),
}
FIRST = ("ctrgcn_lite", "stgcn_plusplus")  # compared with PyTorch
# Multiplications of one sample's forward pass, 1e9 (docs/models.md); a step is counted as three of them.
GMAC = {"ctrgcn_lite": 1.48, "stgcn_plusplus": 1.93}
OFF = {"PADDLEVIDEO_SKEL_CPU_ENV": "0"}
CONV, MATMUL = ({"PADDLEVIDEO_SKEL_IMPLEMENTATION": name} for name in ("conv", "matmul"))
SIDES = {  # name: what it is, its environment
    "paddlevideo": ("PaddleVideo's layers", OFF | CONV),
    "unprepared": ("conv, unprepared CPU", OFF | CONV),
    "conv": ("conv", CONV),
    "matmul": ("matmul", MATMUL),
    "torch": ("PyTorch", {}),
}
# In a process of its own: whichever loads paddle first decides the environment.
PEAK = """from paddlevideo_skel import devices
devices.prepare_cpu()
from inference import gemm_peak
print(gemm_peak())
"""
PAUSE = 0.25
USUAL = ("paddlevideo", "conv", "matmul", "torch")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=120, help="approximate duration of the whole run")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(FIRST))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(USUAL))
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter that has torch, if this one does not")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(*args.worker)
    peak = float(subprocess.run([sys.executable, "-c", PEAK], cwd=Path(__file__).parent, check=True, text=True,
                                stdout=subprocess.PIPE).stdout.split()[-1])
    print(f"A product of two 2048 x 2048 matrices: {peak:.0f} GFLOP/s")
    print(f"{'model':16}{'implementation':32}{'samples/s':>10}{'ratio':>8}{'share':>8}")
    for row in rows(args.seconds, args.models, args.sides, args.torch):
        share = 6 * GMAC[row["model"]] * row["samples_per_s"] / peak if row["model"] in GMAC else float("nan")
        print(f"{row['model']:16}{row['implementation']:32}{row['samples_per_s']:10.2f}{row['ratio']:8.2f}{share:8.0%}")


def rows(seconds_budget=120, models=FIRST, sides=USUAL, torch_python=None):
    """Measure: a list of dicts with model, implementation, samples_per_s, and ratio (to the first side's speed)."""
    if torch_python is None and importlib.util.find_spec("torch"):
        torch_python = sys.executable
    sides = [side for side in sides if side != "torch" or torch_python]
    made = []
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            there = [side for side in sides if side != "torch" or model in FIRST]
            times = race(model, there, seconds_budget / len(models), Path(folder), torch_python)
        batch = MODELS[model][2][0]
        speeds = {side: batch / float(np.median(seconds)) for side, seconds in times.items()}
        made += [{"model": model, "implementation": SIDES[side][0], "samples_per_s": speed,
                  "ratio": speed / speeds[there[0]]} for side, speed in speeds.items()]
    return made


def race(model, sides, seconds, folder, torch_python):
    """Seconds of each side's steps but its first: ``{side: [seconds, …]}``; at least one, even where time is up."""
    end = time.monotonic() + seconds
    workers = {side: start(model, side, folder, torch_python) for side in sides}
    try:
        times = {side: [] for side in sides}
        with tqdm(desc=model, unit=" rounds", leave=False, disable=None) as progress:
            while time.monotonic() < end or min(map(len, times.values())) < 2:
                for side, worker in workers.items():
                    times[side].append(step(worker, model, side))
                progress.update()
    finally:
        for worker in workers.values():
            worker.kill()
            worker.communicate()
    return {side: seconds[1:] for side, seconds in times.items()}


def start(model, side, folder, torch_python):
    """A side's process, ready for its first step."""
    environment = {**os.environ, **SIDES[side][1], "PYTHONPATH": str(ROOT)}
    python = torch_python if side == "torch" else sys.executable
    worker = subprocess.Popen([python, __file__, "--worker", model, side, str(folder)], env=environment, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    answer(worker, model, side)
    return worker


def step(worker, model, side):
    """Seconds of a step; after a pause, as the OpenMP threads of the one before turn for 0.2 s while they wait."""
    time.sleep(PAUSE)
    worker.stdin.write("step\n")
    worker.stdin.flush()
    return answer(worker, model, side)


def answer(worker, model, side):
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError(f"{model}, {SIDES[side][0]}: the process has ended with status {worker.wait()}")
    return float(line)


def work(model, side, folder):
    """A side's process: for every line on stdin one step, and its seconds on stdout."""
    one_step = torch_side(model, folder) if side == "torch" else paddle_side(model, side, folder)
    print(0.0, flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        one_step()
        print(time.perf_counter() - begun, flush=True)


def paddle_side(model, side, folder):
    from paddlevideo_skel import devices
    from paddlevideo_skel.cli import load_paddle

    devices.prepare_cpu()
    load_paddle()
    import paddle

    from paddlevideo_skel.models import build_model
    from paddlevideo_skel.models.cpu import apply_implementation

    backbone, head, shape = MODELS[model]
    framework = "Recognizer3D" if head == "I3DHead" else "RecognizerGCN"
    paddle.seed(0)
    network = build_model({"framework": framework, "backbone": backbone, "head": {"name": head, "num_classes": 60}})
    if side == "paddlevideo":
        import paddlevideo_layers

        paddlevideo_layers.use()
    apply_implementation(network)
    network.eval()
    with paddle.no_grad():
        compare(model, folder, lambda x: network(paddle.to_tensor(x)).numpy(),
                lambda: {key: value.numpy() for key, value in network.state_dict().items()}, network.set_state_dict)
    network.train()
    optimizer = paddle.optimizer.Momentum(0.01, parameters=network.parameters(), use_nesterov=True, weight_decay=1e-4)
    x, label = paddle.randn(shape), paddle.randint(0, 60, shape[:1])

    def one_step():
        loss = paddle.nn.functional.cross_entropy(network(x), label)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        float(loss)
    return one_step


def compare(model, folder, answer_to, state, take):
    """The first side draws weights and writes them with its logits; the others take them, and must answer alike."""
    path = Path(folder) / "first.npz"
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *MODELS[model][2][1:])).astype("float32")
    if not path.exists():
        drawn = {key: value + 0.2 * np.abs(value).mean() * rng.normal(size=value.shape).astype("float32")
                 for key, value in state().items()}
        take(drawn)
        np.savez(path, logits=answer_to(x), **{f"state.{key}": value for key, value in drawn.items()})
        return
    with np.load(path) as file:
        take({key[6:]: file[key] for key in file if key.startswith("state.")})
        right = file["logits"]
    error = np.abs(answer_to(x) - right).max() / np.abs(right).max()
    if not error < 1e-4:
        raise RuntimeError(f"{model}: the logits differ by {error:.1e} from the first side's: not the same network")


def torch_network(model):
    """The network of ``tests/torch_job/reference.py``, and a function that gives it Paddle's weights."""
    import reference
    import torch

    joints = 25 if model == "ctrgcn_lite" else 17
    A = np.zeros((3, joints, joints), "float32")  # learned, and so among the weights
    if model == "ctrgcn_lite":
        network, renamed = reference.CTRGCN(A, 60, units=9), {"backbone.": "", "head.": ""}
    else:
        network, renamed = reference.PysklSTGCN(A, 60, adaptive="init", with_res=True, multi_scale=True), {
            "backbone.": "backbone.", "head.": "cls_head."}
    renamed |= {"._mean": ".running_mean", "._variance": ".running_var"}

    def take(state):
        made = {}
        for name, value in state.items():
            value = value.T if name.startswith("head.") else value
            for old, new in renamed.items():
                name = name.replace(old, new)
            made[name] = torch.tensor(value)
        counted = [name for name in network.state_dict() if name.endswith("num_batches_tracked")]
        network.load_state_dict(made | {name: torch.tensor(0) for name in counted})
    return network, take


def torch_side(model, folder):
    sys.path.insert(0, str(ROOT / "tests" / "torch_job"))
    import torch

    # The reference has no axis for clips.
    def answer(x):
        return network(torch.tensor(x).squeeze(1) if model == "stgcn_plusplus" else torch.tensor(x))

    network, take = torch_network(model)
    network.eval()
    with torch.no_grad():
        compare(model, folder, lambda x: answer(x).numpy(), network.state_dict, take)
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9, nesterov=True, weight_decay=1e-4)
    shape = MODELS[model][2]
    x, label = np.random.default_rng(1).normal(size=shape).astype("float32"), torch.randint(0, 60, shape[:1])

    def one_step():
        loss = torch.nn.functional.cross_entropy(answer(x), label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
    return one_step


if __name__ == "__main__":
    main()
