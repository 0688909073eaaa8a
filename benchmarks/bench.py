"""``make bench``: the benchmarks that tell what users wait for, one after the other, in under ten minutes.

    python benchmarks/bench.py [part …]

Each part is a separate program in this folder, with more options than are used here.
"""
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
PARTS = {
    "inference, CTR-GCN-Lite": ["inference.py", "CTR-GCN-Lite", "--seconds", "12"],
    "inference, ST-GCN++": ["inference.py", "ST-GCN++", "--seconds", "6", "--exports", "paddlevideo", "minimal"],
    "inference, the others": ["inference.py", "ST-GCN", "CTR-GCN", "PoseC3D", "--batches", "1", "--seconds", "6",
                              "--exports", "paddlevideo", "minimal"],
    "8 bits and half precision": ["quantized.py", "CTR-GCN-Lite"],
    "training": ["training.py", "--seconds", "20", "--sides", "paddlevideo", "matmul", "torch"],
    "loaders": ["loaders.py", "--seconds", "20"],
    "start-up": ["startup.py"],
}


def main():
    """Run the parts; the status is 1 if one of them failed."""
    chosen = [name for name in PARTS if not sys.argv[1:] or any(part in name for part in sys.argv[1:])]
    if not chosen:
        sys.exit(f"no part is called {' or '.join(sys.argv[1:])}; there are: {'; '.join(PARTS)}")
    begun, failed = time.monotonic(), []
    for name in chosen:
        print(f"\n## {name} (after {time.monotonic() - begun:.0f} seconds)\n", flush=True)
        script, *arguments = PARTS[name]
        if subprocess.run([sys.executable, FOLDER / script, *arguments]).returncode:
            failed.append(name)
    print(f"\n{time.monotonic() - begun:.0f} seconds" + "".join(f"; FAILED: {name}" for name in failed))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
