"""``paddlevideo-skel test``: test a checkpoint on a config's test data."""
from ..config import load_config
from . import load_paddle
from .parser import add_config, add_path


def add_arguments(parser):
    overrides = add_config(parser)
    parser.add_argument("-w", "--weights", "-p", "--pretrained_params", required=True, metavar="FILE",
                        help="checkpoint to test")
    add_path(parser, "-o", "--output", "--out", pairs=overrides, dest="out", metavar="FILE",
             help="write per-class accuracy, confusion matrix and scores as JSON")
    parser.add_argument("--max_iters", type=int, metavar="N", help="at most N batches, for quick trials")


def run(args):
    load_paddle()
    from ..training.test import test

    test(load_config(args.config, args.override), args.weights, args.out, args.max_iters)
