"""``paddlevideo-skel import-keypoints`` and ``tools/data/keypoints.py``: your own keypoints → a data set."""
from ..errors import ConfigError


def add_arguments(parser):
    parser.add_argument("-i", "--input", required=True, metavar="PATH", help="folder of .csv, .tsv, .npy and .json "
                        "files, one sequence per file; or a list of them with lines file,label")
    parser.add_argument("--labels", metavar="FILE", help="list file,label (CSV, TXT, JSON) for a folder; default: the "
                        "folder of a file is its class")
    parser.add_argument("--layout", required=True, metavar="NAME", help="coco, openpose, ntu-rgb+d, kinect20, hand …, "
                        "or a YAML or JSON file that describes one")
    parser.add_argument("-o", "--output", "--out", dest="out", required=True, metavar="FILE",
                        help="annotation pickle (.pkl) to write; a config that trains on it is written next to it")
    parser.add_argument("--class_names", metavar="FILE", help="class names, one per line, in the order of the labels")
    parser.add_argument("--channels", choices=("xy", "xys", "xyz", "xyzs"), help="meaning of a joint's numbers, "
                        "if the columns have no names; s is the score")
    parser.add_argument("--img_shape", nargs=2, type=float, metavar=("HEIGHT", "WIDTH"), help="image size of 2D "
                        "keypoints in pixels; 1 1 for coordinates from 0 to 1")
    parser.add_argument("--min_score", type=float, default=0.0, metavar="S", help="joints with a lower score count as "
                        "missing; default 0")
    parser.add_argument("--split", default="0.8", metavar="SHARE", help="share of the training set, default 0.8")
    parser.add_argument("--split_by", metavar="REGEX", help="finds the subject in a file's name: the sets share no "
                        "subject, and SHARE is a share of the subjects. Default: split every class by SHARE")
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes; default: one per core if "
                        "there are many files")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the split, default 0")


def run(args):
    from ..importers.keypoints import import_keypoints
    from ..importers.labels import read_class_names
    from ..importers.split import read_share
    from ..skeleton import read_layout

    if args.seed < 0:
        raise ConfigError("--seed", f"found {args.seed}, expected 0 or more")
    if args.workers is not None and args.workers < 0:
        raise ConfigError("--workers", f"found {args.workers}, expected 0 or more")
    if args.img_shape and not all(0 < side < 1e6 for side in args.img_shape):
        raise ConfigError("--img_shape", f"found {args.img_shape}, expected height and width")
    share = read_share(args.split, "--split")
    names = read_class_names(args.class_names) if args.class_names else None
    for line in import_keypoints(args.input, args.out, read_layout(args.layout), args.labels, names, args.channels,
                                 args.img_shape, args.min_score, (share, 1 - share), args.seed, args.split_by,
                                 args.workers):
        print(line)
