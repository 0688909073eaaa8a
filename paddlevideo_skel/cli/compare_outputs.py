"""``paddlevideo-skel compare-outputs`` and ``tools/compare_outputs.py``: compare two results. Imports no paddle."""


def add_arguments(parser):
    parser.add_argument("a", metavar="FOLDER", help="results to check, e.g. from an .om model")
    parser.add_argument("b", metavar="REFERENCE", help="reference results, e.g. from ONNX Runtime")
    parser.add_argument("--worst", type=int, default=10, metavar="N", help="list the N worst samples, default 10")
    parser.add_argument("--num_classes", type=int, metavar="K",
                        help="number of classes, for results with several rows per sample; default: from "
                             "results.json, or one row per sample")
    parser.add_argument("--max_error", type=float, metavar="X", help="fail if the relative error of a sample exceeds X")
    parser.add_argument("-o", "--output", "--json", dest="json", metavar="FILE",
                        help="write the values of every sample as JSON, and a plot next to it")


def run(args):
    from ..inference.bin_comparison import check_error, compare_results, format_report

    report = compare_results(args.a, args.b, args.num_classes, args.json)
    print("\n".join(format_report(report, max(args.worst, 0))))
    if args.max_error is not None:
        check_error(report, args.max_error)
