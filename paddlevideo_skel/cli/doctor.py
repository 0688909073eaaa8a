"""``paddlevideo-skel doctor`` and ``tools/doctor.py``: what this host has. Imports no paddle itself."""


def add_arguments(parser):
    parser.add_argument("-o", "--output", "--json", dest="json", metavar="FILE", help="write the findings as JSON")


def run(args):
    from ..doctor import print_findings

    print_findings(args.json)
