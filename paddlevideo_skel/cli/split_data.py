"""``paddlevideo-skel split-data`` and ``tools/data/split.py``: part a data set into training and validation."""
from pathlib import Path

from ..errors import ConfigError


def add_arguments(parser):
    parser.add_argument("input", metavar="FILE", help="annotation pickle, or .npy with its label file")
    parser.add_argument("-o", "--output", required=True, metavar="PATH", help="pickle to write (may be the input), or, "
                        "for .npy, the folder for the parts' _data.npy and _label.pkl")
    parser.add_argument("--parts", nargs="+", default=["train=0.8", "val=0.2"], metavar="NAME=SHARE",
                        help="default: train=0.8 val=0.2")
    parser.add_argument("--by", choices=("class", "subject", "random"), default="class", help="the share of every "
                        "class (default), of the subjects, none of them in two parts, or of all samples")
    parser.add_argument("--subject", metavar="REGEX|FILE", help="with --by subject: finds it in a sample's name "
                        "(first group), or a list name,subject")
    parser.add_argument("--first-subjects", nargs="+", metavar="S", help="the first part's subjects, not drawn by "
                        "chance; all others are the second's")
    parser.add_argument("--labels", metavar="FILE", help="of the .npy; default: _label.pkl or _label.npy beside it")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same parts")
    parser.add_argument("--replace", action="store_true", help="splits or files of the parts' names may be replaced")


def run(args):
    from ..importers.split import read_shares, split_array, split_pickle

    if args.seed < 0:
        raise ConfigError("--seed", f"found {args.seed}, expected 0 or more")
    shares = read_shares(args.parts)
    choice = {"by": args.by, "seed": args.seed, "subject": args.subject, "first": args.first_subjects,
              "replace": args.replace}
    if Path(args.input).suffix == ".npy":
        lines = split_array(args.input, args.output, shares, args.labels, progress=True, **choice)
    elif args.labels:
        raise ConfigError("--labels", "belongs to .npy files: a pickle has its labels in it")
    else:
        lines = split_pickle(args.input, args.output, shares, **choice)
    for line in lines:
        print(line)
    print(f"written: {args.output}")
