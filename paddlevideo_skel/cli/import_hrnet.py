"""``paddlevideo-skel import-hrnet`` and ``tools/data/hrnet.py``: Kinetics' kpfiles → an annotation pickle."""
from ..errors import ConfigError


def add_arguments(parser):
    parser.add_argument("input", metavar="FILE", help="annotation pickle without keypoints, such as k400_hrnet.pkl")
    parser.add_argument("--kpfiles", required=True, metavar="FOLDER", help="folder of the unpacked keypoint files")
    parser.add_argument("-o", "--output", "--out", dest="out", required=True, metavar="FILE",
                        help="annotation pickle to write")
    parser.add_argument("--split", nargs="+", metavar="NAME", help="only these splits; default: all annotations")
    parser.add_argument("--box_score", type=float, default=0.5, metavar="S", help="drop skeletons with a lower box "
                        "score, default 0.5")
    parser.add_argument("--max_person", type=int, default=2, metavar="M", help="maximum persons per frame, best "
                        "first, default 2")
    parser.add_argument("--valid_ratio", type=float, default=0.0, metavar="R", help="omit videos in which "
                        "fewer than this share of frames has a skeleton, default 0")


def run(args):
    from ..importers.kinetics_hrnet import join_kpfiles

    if args.max_person < 1:
        raise ConfigError("--max_person", f"found {args.max_person}, expected 1 or more")
    if not 0 <= args.valid_ratio <= 1:
        raise ConfigError("--valid_ratio", f"found {args.valid_ratio}, expected a share from 0 to 1")
    count, left_out = join_kpfiles(args.input, args.kpfiles, args.out, args.split, args.box_score, args.max_person,
                                   args.valid_ratio, progress=True)
    print(f"{args.out}: {count} annotations")
    for reason, names in left_out.items():
        if names:
            print(f"omitted, {reason}: {len(names)}, such as {', '.join(names[:3])}")
