"""Entry point of ``test_tipc/``: its scripts call ``run.py <chain> <arguments>``."""
import argparse
import importlib
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from paddlevideo_skel.errors import SkelError  # noqa: E402

CHAINS = {"prepare": "prepare", "train_infer": "train_infer", "train_infer_npu": "train_infer", "ptq": "ptq",
          "paddle2onnx": "to_onnx", "ascend": "ascend", "benchmark": "benchmark", "record": "record"}


def main(argv=None):
    """Run a chain; returns the exit status: 0 passed, 1 failed, 2 a wrong argument, 3 nothing can be run here."""
    parser = argparse.ArgumentParser("test_tipc", description="The chain tests.")
    parser.add_argument("chain", choices=CHAINS)
    parser.add_argument("arguments", nargs="*")
    args = parser.parse_args(argv)
    module = importlib.import_module(f"tipc.{CHAINS[args.chain]}")
    options = {"npu": True} if args.chain == "train_infer_npu" else {}
    try:
        return module.run(*args.arguments, **options)
    except SkelError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
