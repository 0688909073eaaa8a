"""The command line: arguments in, one call into the package, exit status out.

Each command is a module of this package with ``HELP``, ``add_arguments(parser)`` and ``run(args)``; ``run`` returns
None, or an exit status. Modules are imported only when their command is called, so that prediction with ONNX
Runtime never imports paddle.
"""
import argparse
import contextlib
import importlib
import io
import os
import sys
import warnings

from .. import devices
from ..errors import OutputError, SkelError
from ..logs import setup_logging

COMMANDS = {
    "train": "train a model from a config",
    "test": "test a checkpoint",
    "ensemble": "fuse the results of several tests",
    "export": "export a checkpoint for inference, ordinary or minimal",
    "convert": "convert an export to ONNX",
    "export-onnx": "convert an export to ONNX for a device: fixed batches, simplified",
    "quantize": "round an ONNX model to 8 bits, or its weights to 16",
    "atc": "compile ONNX models for the Ascend NPU",
    "convert-weights": "convert a checkpoint of another project, with a config to match",
    "infer-bin": "answer a folder of .bin files with a model, on an NPU or here",
    "predict": "classify skeleton sequences with an export",
    "stream": "classify a live skeleton sequence, an answer every few frames",
    "doctor": "tell what this host has, and what each missing thing would give",
    "preprocess-bin": "write a data set as .bin files for a device",
    "postprocess-bin": "accuracy of a folder of results",
    "compare-outputs": "compare two folders of results",
    "ray-shards": "run the shards of preprocess-bin or infer-bin on a Ray cluster",
    "deploy-ascend": "from a checkpoint to .om models, their accuracy and speed",
    "import-ntu": "make data sets of NTU RGB+D's .skeleton files",
    "import-kinetics": "make data sets of Kinetics-skeleton's OpenPose files",
    "import-keypoints": "make a data set of anybody's keypoints, with a config to train on it",
    "import-hrnet": "join Kinetics' HRNet kpfiles to one annotation pickle",
    "inspect-data": "tell what is in a data set and what looks wrong in it, and draw a sample",
    "split-data": "part a data set: class by class, by subject, or at random",
    "convert-data": "convert between annotation pickles and .npy arrays, without loss",
    "samples": "generate the sample data set",
    "demo": "train, test, export and predict on generated samples, and print one table",
}


def command_line():
    """Console command ``paddlevideo-skel``."""
    sys.exit(main())


def main(argv=None):
    """``paddlevideo-skel <command> …``; returns the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in ("-h", "--help") or argv[0] not in COMMANDS:
        parser = argparse.ArgumentParser("paddlevideo-skel", description="Skeleton-based action recognition.")
        commands = parser.add_subparsers(metavar="command", required=True)
        for name, text in COMMANDS.items():
            commands.add_parser(name, help=text)
        parser.parse_args(argv)
    return run_command(argv[0], argv[1:])


def run_command(name, argv=None, prog=None):
    """Run one command; ``tools/*.py`` call this. Returns the exit status: 0, or 2 or 3 with one line of error."""
    module, parser = load_command(name, prog)
    argv = sys.argv[1:] if argv is None else list(argv)
    # What follows "--" is for the program that a command starts, where it starts one.
    end = argv.index("--") if "--" in argv and hasattr(module, "PASSES_ON") else len(argv)
    args = parser.parse_args(argv[:end])
    args.passed_on = argv[end + 1:]
    setup_logging()
    try:
        return module.run(args) or 0
    except SkelError as error:
        if args.debug:
            raise
        return _fail(error)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone; keep Python from complaining again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if args.debug:
            raise
        return _fail(OutputError(error.filename or name, error.strerror or str(error)))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def load_command(name, prog=None):
    """A command's module and its parser."""
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog or f"paddlevideo-skel {name}", description=COMMANDS[name])
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    module.add_arguments(parser)
    return module, parser


def _fail(error):
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return error.status


def boolean(text):
    """``True``, ``true``, ``1`` … as PaddleVideo's flags are written."""
    if text.lower() in ("true", "t", "1", "yes"):
        return True
    if text.lower() in ("false", "f", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"found {text!r}, expected True or False")


def add_switch(parser, name, text, default=False):
    """``--name``, ``--name True`` or ``--name=False``."""
    parser.add_argument(f"--{name}", type=boolean, nargs="?", const=True, default=default, metavar="BOOL", help=text)


def load_paddle():
    """Import paddle without its advice on variables that this package sets and tools that it does not need."""
    # Warnings of its C++ side, such as one at every export that Paddle's own mean cannot take an output tensor.
    os.environ.setdefault("GLOG_minloglevel", "2")
    devices.keep_memory()
    heard = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stderr(heard):
        warnings.filterwarnings("ignore", message="No ccache found")
        importlib.import_module("paddle")
    warnings.filterwarnings("ignore", message="When training, we now always track")
    for line in heard.getvalue().splitlines():
        if "OMP_NUM_THREADS" not in line:
            print(line, file=sys.stderr)
