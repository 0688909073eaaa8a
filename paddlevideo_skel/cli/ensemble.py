"""``paddlevideo-skel ensemble`` and ``tools/ensemble.py``."""
import logging
from pathlib import Path

from ..errors import UnavailableError

logger = logging.getLogger(__name__)


def add_arguments(parser):
    parser.add_argument("results", nargs="+", metavar="FILE", help="two or more files written by test")
    parser.add_argument("--weights", type=float, nargs="+", metavar="W", help="one weight per file; default: all equal")
    parser.add_argument("--fuse", choices=("scores", "logits"), default="scores",
                        help="weighted mean of softmax scores (as in pyskl), or weighted sum of logits (as in CTR-GCN)")
    parser.add_argument("-o", "--output", "--out", dest="out", metavar="FILE",
                        help="write the fused results as JSON, and a plot of the gains")
    parser.add_argument("--classes", type=int, default=10, metavar="N",
                        help="list the N classes with the largest gains and the N with the largest losses, default 10")


def run(args):
    from ..training.ensemble import draw_gains, ensemble, report_lines

    results = ensemble(args.results, args.weights, args.fuse, args.out)
    print("\n".join(report_lines(results, max(args.classes, 1))))
    if args.out and "per_class" in results:
        picture = Path(args.out).with_name(Path(args.out).stem + "_gains.png")
        try:
            draw_gains(results, picture)
            logger.info("Plot of the gains saved in %s", picture)
        except UnavailableError as error:
            logger.info("Gains not plotted: %s", error)
