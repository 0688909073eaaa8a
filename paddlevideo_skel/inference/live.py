"""A live sequence from a file or from standard input, its answers as lines, and what each frame cost."""
import contextlib
import json
import sys
from pathlib import Path

import numpy as np

from ..data.readers import read_sample
from ..errors import DataError
from ..files import output_folder, parse_json
from ..logs import write_line
from ..plotting import saved_figure

STANDARD_INPUT = "-"
MAX_LINES, MIN_SCORE = 8, 0.05  # most classes in the picture, and the score that a class must reach to be one of them


def stream(predictor, source, fps=None, out=None, plot=None):
    """Push every frame of a source, print the answers as they come, and at the end what frames and answers cost.

    Args:
        predictor: ``StreamingPredictor``.
        source: a ``.npy`` or ``.pkl`` file (each of its sequences is a stream of its own), or ``-``.
        fps: frames a second of the live sequence; the part of real time is told then.
        out: file for the answers, a line of JSON each, written as they come.
        plot: PNG of the scores over time.

    Returns:
        the costs, as ``Costs.report`` gives them.
    """
    shown = []
    for path in (out, plot):
        if path:
            output_folder(Path(path).parent)
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(open(out, "w", encoding="utf-8")) if out else None
        stack.callback(lambda: tell_costs(predictor.costs.report(fps)))  # also when Ctrl-C or a bad frame ends it
        for name, frames in sequences(source):
            predictor.reset()
            write_line(f"Current sequence: {name}")
            for frame, score, img_shape in frames:
                predictor.img_shape = img_shape or predictor.img_shape
                answer = predictor.push(frame, score)
                if answer is None:
                    continue
                tell(answer, fps)
                if lines:
                    print(json.dumps(entry(name, answer), ensure_ascii=False), file=lines, flush=True)
                if plot:
                    shown.append((name, answer))
    if plot:
        draw(shown, predictor.predictor.names, plot)
    return predictor.costs.report(fps)


def sequences(source):
    """``(name, iterable of (frame, score, img_shape))`` for every sequence of a source."""
    if source == STANDARD_INPUT:
        yield "standard input", json_frames(sys.stdin)
        return
    for annotation in read_sample(source):
        score = annotation.keypoint_score
        yield annotation.name or str(source), (
            (annotation.keypoint[:, t], None if score is None else score[:, t], annotation.img_shape)
            for t in range(annotation.total_frames))


def json_frames(file):
    """Frames from lines of JSON: coordinates, or ``keypoint`` with perhaps ``keypoint_score`` and ``img_shape``.

    Raises:
        DataError: telling the frame whose line is none of these.
    """
    for number, line in enumerate(file):
        where = f"standard input: frame {number}"
        try:
            content = parse_json(line)
        except ValueError as error:
            raise DataError(where, f"the line is no JSON ({error})", "A frame a line, e.g. [[[x, y, z], …joints], "
                            "…persons]") from error
        fields = content if isinstance(content, dict) else {"keypoint": content}
        unknown = [key for key in fields if key not in ("keypoint", "keypoint_score", "img_shape")]
        if unknown or "keypoint" not in fields:
            raise DataError(where, f"holds {', '.join(map(repr, fields)) or 'nothing'}, expected 'keypoint', and if "
                            "known 'keypoint_score' and 'img_shape'")
        shape = fields.get("img_shape")
        if shape is not None and not (isinstance(shape, list) and len(shape) == 2
                                      and all(type(side) in (int, float) and 0 < side < 1e6 for side in shape)):
            raise DataError(where, f"its img_shape is {shape!r}, expected [height, width]")
        yield fields["keypoint"], fields.get("keypoint_score"), shape and tuple(shape)


def tell(answer, fps):
    """Print one answer."""
    when = f"frame {answer.frame}" + (f" ({answer.frame / fps:.2f} s)" if fps else "")
    seen = ", ".join(f"{best['class'] if best['name'] is None else best['name']} {best['score']:.4f}"
                     for best in answer.top_k)
    write_line(f"{when}\t{seen or 'nobody'}")
    sys.stdout.flush()


def entry(name, answer):
    """One line of the JSON file."""
    return {"sequence": name, "frame": answer.frame, "frames": answer.frames, "top_k": answer.top_k,
            "milliseconds": round(answer.milliseconds, 3)}


def tell_costs(report):
    """Print what frames and answers cost."""
    write_line(f"{report['frames']} frames, {report['answers']} answers")
    for key, what in (("ms_per_frame", "a frame"), ("ms_per_answer", "an answer")):
        if report[key]:
            costs = ", ".join(f"{name} {value:.3f} ms" for name, value in report[key].items())
            write_line(f"Cost of {what}: {costs}")
    if "share_of_real_time" in report:
        write_line(f"Part of real time: {report['share_of_real_time']:.1%}")


def draw(shown, names, path):
    """The scores of the strongest classes over time, a panel a sequence."""
    sequences = list(dict.fromkeys(name for name, _ in shown)) or ["no answer"]
    with saved_figure(path, 9, 3 * len(sequences) + 0.4) as figure:
        panels = figure.subplots(len(sequences), squeeze=False)[:, 0]
        for name, axes in zip(sequences, panels, strict=True):
            answers = [answer for of, answer in shown if of == name]
            draw_scores(axes, answers, names)
            axes.set(title=name, ylim=(-0.02, 1.02), ylabel="score")
        panels[-1].set_xlabel("frame")


def draw_scores(axes, answers, names):
    """One sequence's scores; gaps where nobody was there."""
    known = [answer.scores for answer in answers if answer.scores is not None]
    if not known:
        return
    nobody = np.full(len(known[0]), np.nan)
    scores = np.stack([nobody if answer.scores is None else answer.scores for answer in answers])
    at = [answer.frame for answer in answers]
    best = np.max(known, axis=0)
    strongest = [c for c in np.argsort(-best, kind="stable")[:MAX_LINES] if best[c] >= min(MIN_SCORE, best.max())]
    for c in strongest:
        axes.plot(at, scores[:, c], marker="." if len(at) < 40 else None, label=names[c] if names else f"class {c}")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
