"""``paddlevideo-skel test``: test a checkpoint on a config's test data."""
from ..config import load_config
from . import load_paddle


def add_arguments(parser):
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="config file")
    parser.add_argument("-o", "--override", action="append", default=[], metavar="A.B=VALUE",
                        help="override a key of the config; may be repeated")
    parser.add_argument("-w", "--weights", required=True, metavar="FILE", help="checkpoint to test")
    parser.add_argument("--out", metavar="FILE", help="write per-class accuracy, confusion matrix and scores as JSON")
    parser.add_argument("--max_iters", type=int, metavar="N", help="at most N batches, for trials")


def run(args):
    load_paddle()
    from ..training.test import test

    test(load_config(args.config, args.override), args.weights, args.out, args.max_iters)
