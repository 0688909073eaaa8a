"""The command line: arguments in, one call into the package, exit status out.

Each command is a module of this package with ``add_arguments(parser)`` and ``run(args)``; ``run`` returns None or an
exit status. Modules are imported only when their command is called, so that prediction with ONNX Runtime never
imports paddle.
"""
import argparse
import contextlib
import difflib
import importlib
import io
import os
import sys
import warnings

from .. import __version__, devices
from ..errors import OutputError, SkelError
from ..logs import setup_logging
from .parser import Parser

GROUPS = {
    "Start here": {
        "demo": "train, test, export and predict on generated samples, and print a table",
        "doctor": "list what this host has, and what missing packages and devices are for",
    },
    "Training": {
        "train": "train a model from a config",
        "test": "test a checkpoint",
        "ensemble": "fuse the results of several tests",
    },
    "Data": {
        "samples": "generate the sample data set",
        "import-ntu": "convert NTU RGB+D's .skeleton files to data sets",
        "import-kinetics": "convert Kinetics-skeleton's OpenPose files to data sets",
        "import-keypoints": "convert your own keypoint files to a data set, and write a config for it",
        "import-hrnet": "join Kinetics' HRNet keypoint files into one annotation pickle",
        "inspect-data": "summarise a data set, list what looks wrong, draw a sample",
        "split-data": "split a data set by class, by subject or at random",
        "convert-data": "convert losslessly between annotation pickles and .npy arrays",
    },
    "Models and exports": {
        "convert-weights": "convert a checkpoint of another project, and write a config for it",
        "export": "export a checkpoint for inference (ordinary or minimal graph)",
        "convert": "convert an export to ONNX",
        "export-onnx": "convert an export to ONNX for a device: fixed batch sizes, simplified graph",
        "quantize": "quantize an ONNX model to 8 bits, or store its weights in half precision",
    },
    "Prediction": {
        "predict": "classify skeleton sequences with an export",
        "stream": "classify a live skeleton sequence every few frames",
    },
    "Prediction from .bin files": {
        "preprocess-bin": "write a data set as .bin files",
        "infer-bin": "run a model on a folder of .bin files",
        "postprocess-bin": "compute the accuracy of a folder of results",
        "compare-outputs": "compare two folders of results",
        "ray-shards": "run preprocess-bin or infer-bin in parallel on a Ray cluster",
    },
    "Ascend NPUs": {
        "atc": "compile ONNX models to .om",
        "deploy-ascend": "turn a checkpoint into .om models, and measure their accuracy and speed",
    },
}
COMMANDS = {name: text for commands in GROUPS.values() for name, text in commands.items()}
PROG = "paddlevideo-skel"


def command_line():
    """Console command ``paddlevideo-skel``."""
    sys.exit(main())


def main(argv=None):
    """``paddlevideo-skel <command> …``; returns the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv and argv[0] in COMMANDS:
        return run_command(argv[0], argv[1:])
    parser = argparse.ArgumentParser(PROG, description="Skeleton-based action recognition on PaddlePaddle.",
                                     usage=f"{PROG} COMMAND …", epilog=_overview(),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    if not argv[0].startswith("-"):
        close = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        suggestion = f"did you mean {close[0]!r}?" if close else f"{PROG} --help lists the commands"
        print(f"error: unknown command {argv[0]!r}; {suggestion}", file=sys.stderr)
        return 2
    parser.parse_args(argv)
    return 0


def _overview():
    """The commands in their groups, a line each."""
    width = max(map(len, COMMANDS))
    lines = []
    for group, commands in GROUPS.items():
        lines += [f"{group}:", *(f"  {name:{width}}  {text}" for name, text in commands.items()), ""]
    return "\n".join([*lines, f"{PROG} COMMAND --help shows the flags of a command."])


def run_command(name, argv=None, script=None):
    """Run one command.

    Args:
        argv: its arguments; default: the process's.
        script: ``main.py`` or ``tools/….py``, where the command is called as that.

    Returns:
        The exit status: 0; 2 or 3 with one line of error.
    """
    module, parser = load_command(name, script)
    argv = sys.argv[1:] if argv is None else list(argv)
    end = argv.index("--") if parser.passes_on and "--" in argv else len(argv)
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
        # The reader of the pipe (head, less) has exited; keep Python from printing another error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if args.debug:
            raise
        return _fail(OutputError(error.filename or name, error.strerror or str(error)))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def load_command(name, script=None):
    """A command's module and its parser."""
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    parser = Parser(script or f"{PROG} {name}", description=COMMANDS[name], paddlevideo=script is not None)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    module.add_arguments(parser)
    return module, parser


def _fail(error):
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return error.status


def load_paddle():
    """Import paddle without its hints about variables that this package sets and tools that it does not need."""
    # Warnings from C++, such as one at every export about an output tensor of Paddle's mean.
    os.environ.setdefault("GLOG_minloglevel", "2")
    devices.keep_memory()
    advice = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stderr(advice):
        warnings.filterwarnings("ignore", message="No ccache found")
        importlib.import_module("paddle")
    warnings.filterwarnings("ignore", message="When training, we now always track")
    for line in advice.getvalue().splitlines():
        if "OMP_NUM_THREADS" not in line:
            print(line, file=sys.stderr)
