"""A training step with the bias added as (C, 1, 1), beside Paddle's own convolution layer: ratios from one run.

    python benchmarks/training_step.py [--steps 5]
"""
import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from paddlevideo_skel.cli import load_paddle, use_all_cores

use_all_cores()
load_paddle()
import numpy as np  # noqa: E402
import paddle  # noqa: E402

from paddlevideo_skel.models import build_model  # noqa: E402
from paddlevideo_skel.models.layers import Conv2D  # noqa: E402

CASES = {
    "CTR-GCN-Lite, UTKinect (16, 3, 32, 20, 1)": (
        {"backbone": {"name": "CTRGCNLite", "graph": "kinect20", "num_person": 1}, "head": {"name": "CTRGCNHead"}},
        (16, 3, 32, 20, 1)),
    "ST-GCN++, UTKinect (16, 1, 1, 32, 20, 3)": (
        {"backbone": {"name": "STGCNPlusPlus", "layout": "kinect20"}, "head": {"name": "STGCNPlusPlusHead"}},
        (16, 1, 1, 32, 20, 3)),
}


def step_time(section, shape, steps):
    """Median seconds of a step, forward, backward and update."""
    paddle.seed(0)
    model = build_model({"framework": "RecognizerGCN", **section})
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters())
    x, label = paddle.randn(shape), paddle.randint(0, 10, shape[:1])
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        loss = paddle.nn.functional.cross_entropy(model(x), label)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        float(loss)
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=5)
    steps = parser.parse_args().steps
    ours, plain = Conv2D.forward, paddle.nn.Conv2D.forward
    print(f"{os.environ['OMP_NUM_THREADS']} threads, median of {steps} steps")
    for name, (section, shape) in CASES.items():
        seconds = {}
        for way, forward in (("Paddle's layer", plain), ("bias as (C, 1, 1)", ours)):
            Conv2D.forward = forward
            seconds[way] = step_time(section, shape, steps)
        Conv2D.forward = ours
        before, after = seconds.values()
        told = ", ".join(f"{way} {value * 1000:.0f} ms" for way, value in seconds.items())
        print(f"{name}: {told}, ratio {before / after:.2f}")


if __name__ == "__main__":
    main()
