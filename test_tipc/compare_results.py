"""Compare what inference printed with recorded results.

    python test_tipc/compare_results.py --gt_file="test_tipc/results/STGCN/*.txt" \\
        --log_file="test_tipc/output/STGCN/whole_infer/python_infer_*.log" --atol=1e-3 --rtol=1e-3

Classes must be equal, and scores close: |a - b| <= atol + rtol * |b|. Logs in fp16 are compared with the file in fp16.
The exit status is 1 if a log differs, has no answer or no recorded file of its precision; 2 if there is nothing to
compare.
"""
import argparse
import glob
import math
import re
import sys
from pathlib import Path

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
LINE = re.compile(r"(Current video file|top-\d+ (?:class|score)): ?(.*)")


def read_answers(path):
    """What a log or a recorded file says, in order: ``[(key, text or list of numbers), …]``."""
    answers = []
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    # NumPy may break an array of scores into lines.
    text = re.sub(r"\[[^]\n]*(?:\n[^]:]*)*\]", lambda found: found[0].replace("\n", " "), text)
    for line in text.splitlines():
        found = LINE.fullmatch(line.strip())
        if found and found[1].startswith("top"):
            answers.append((found[1], [as_number(text) for text in found[2].strip("[] ").split()]))
    return answers


def as_number(text):
    """A printed number; NaN, which is close to nothing, for anything else."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def precision_of(path):
    """``fp32``, … in a file's name, or None."""
    return next((p for p in PRECISIONS if p in Path(path).name), None)


def difference(answers, recorded, atol, rtol):
    """The difference as text, or None."""
    if [key for key, _ in answers] != [key for key, _ in recorded]:
        return f"found {len(answers)} lines of answers, expected {len(recorded)}" if answers else "no answers"
    for (key, found), (_, expected) in zip(answers, recorded):
        tolerance = (0, 0) if key.endswith("class") else (atol, rtol)
        if len(found) != len(expected) or any(
                not abs(a - b) <= tolerance[0] + tolerance[1] * abs(b) for a, b in zip(found, expected)):
            return f"found {key} {found}, expected {expected}"
    return None


def main(argv=None):
    """Compare; returns the exit status."""
    parser = argparse.ArgumentParser("test_tipc/compare_results.py", description=__doc__.splitlines()[0])
    parser.add_argument("--gt_file", required=True, help="recorded files, a pattern")
    parser.add_argument("--log_file", required=True, help="logs of inference, a pattern")
    parser.add_argument("--atol", type=float, default=1e-3)
    parser.add_argument("--rtol", type=float, default=1e-3)
    parser.add_argument("--precision", choices=PRECISIONS, help="only the logs of this precision")
    args = parser.parse_args(argv)
    recorded = {precision_of(path): (path, read_answers(path)) for path in sorted(glob.glob(args.gt_file))}
    logs = [path for path in sorted(glob.glob(args.log_file)) if precision_of(path)]
    logs = [path for path in logs if args.precision in (None, precision_of(path))]
    for pattern, found in ((args.gt_file, recorded), (args.log_file, logs)):
        if not found:
            print(f"error: file not found: {pattern}; run the chain first, or test_tipc/record_results.sh",
                  file=sys.stderr)
            return 2
    failed = 0
    for log in logs:
        name, answers = recorded.get(precision_of(log), (None, []))
        reason = f"nothing is recorded for {precision_of(log)}" if name is None else difference(
            read_answers(log), answers, args.atol, args.rtol)
        failed += reason is not None
        print(f"Assert allclose failed! {log}: {reason}" if reason else
              f"Assert allclose passed! The results of {log} and {name} are consistent!")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
