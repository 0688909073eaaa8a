"""``paddlevideo-skel samples``: generate the sample data set."""
from pathlib import Path

from ..errors import ConfigError


def add_arguments(parser):
    parser.add_argument("-o", "--output", default="data/samples", metavar="FOLDER", help="default data/samples")
    parser.add_argument("-n", "--samples_per_class", type=int, default=60, metavar="N", help="default 60")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0; the same seed gives the same "
                        "files")
    parser.add_argument("--draw", metavar="FOLDER", help="draw one sequence of each class (extra [plot])")


def run(args):
    from ..data.synthetic.samples import generate, write_sample_set

    if args.seed < 0:
        raise ConfigError("--seed", f"found {args.seed}, expected 0 or more")
    for path in write_sample_set(args.output, args.samples_per_class, args.seed):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    if args.draw:
        from ..plotting import draw_sequence

        for layout in ("ntu-rgb+d", "coco"):
            for annotation in generate(1, layout, args.seed):
                action = annotation.name.split("_", 1)[1].rsplit("_", 1)[0]
                path = Path(args.draw) / f"{action}_{layout}.png"
                draw_sequence(annotation, layout, path)
        print(f"images written to {args.draw}")
