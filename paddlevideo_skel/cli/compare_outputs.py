"""``paddlevideo-skel compare-outputs`` and ``tools/compare_outputs.py``: two result folders. Imports no paddle."""


def add_arguments(parser):
    parser.add_argument("a", metavar="FOLDER", help="results to judge, say of an OM model")
    parser.add_argument("b", metavar="REFERENCE", help="results that count as right, say of ONNX Runtime")
    parser.add_argument("--worst", type=int, default=10, metavar="N", help="list the N worst samples, default 10")
    parser.add_argument("--num_classes", type=int, metavar="K",
                        help="for answers of several rows; default: as results.json says, or one row an answer")
    parser.add_argument("--max_error", type=float, metavar="X", help="fail if a sample's relative error is above X")
    parser.add_argument("--json", metavar="FILE", help="write every sample's figures as JSON, and a picture beside it")


def run(args):
    from ..inference.bin_comparison import check_error, compare, lines_of

    report = compare(args.a, args.b, args.num_classes, args.json)
    print("\n".join(lines_of(report, max(args.worst, 0))))
    if args.max_error is not None:
        check_error(report, args.max_error)
