"""Classify a live sequence: frames in, and every few frames a smoothed result for the latest ones.

``StreamingPredictor`` is the API, ``stream`` the command. A window of frames takes the same path as a file: the
export's own pipeline, then its runtime.
"""
import contextlib
import json
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.annotation import Annotation
from ..data.pipeline import list_steps
from ..data.readers import read_sample
from ..errors import ConfigError, DataError
from ..evaluation import softmax
from ..files import output_folder, parse_json
from ..logs import write_line
from ..plotting import saved_figure
from .predict import Predictor

STANDARD_INPUT = "-"
PERSONS_HINT = "Put the persons to follow first, or raise --persons if the model accepts any number of persons"
RECENT = 1000  # measurements kept for medians, because a stream may never end
MAX_STREAM_FRAMES, MAX_PERSONS = 100_000, 100
# maximum number of classes in the plot, and the minimum peak score of a class in it
MAX_LINES, MIN_PEAK_SCORE = 8, 0.05


@dataclass
class Answer:
    """The result for one window.

    Attributes:
        frame: number of the window's last frame, from 0.
        frames: length of the window; shorter than requested until it is full.
        scores: smoothed softmax ``(classes,)``; None if nobody is in the window.
        window_scores: softmax of this window alone.
        top_k: the best classes, best first: ``{"class", "name", "score"}``.
        milliseconds: time of the answer, preprocessing included.
    """
    frame: int
    frames: int
    scores: np.ndarray
    window_scores: np.ndarray
    top_k: list
    milliseconds: float


class StreamingPredictor:
    """Classifies the last ``window`` frames, every ``every`` frames.

    With q the softmax of a window's logits, the scores p are smoothed over the windows i = 0, 1, …

    * ``smoothing`` s: p_0 = q_0, p_i = s·p_(i-1) + (1 - s)·q_i (exponential; 0: the window alone);
    * ``mean`` n: p_i is the mean of the last n of q, or of all while there are fewer.

    The first answer comes with the first full window, unless ``early``. Leading frames without a person are cut off a
    window. If nobody is in it at all, the answer has no scores, and smoothing restarts.

    Args:
        runtime: an opened ``Runtime``.
        window: frames per answer. every: frames between two answers.
        smoothing: in [0, 1). mean: number of windows; excludes ``smoothing``.
        early: also report before the first window is full.
        persons: maximum persons per frame; None: as many as the model takes.
        img_shape: (height, width) of the image, for 2D coordinates in pixels.
        top_k: classes per answer; None: as in the metadata.
    """

    def __init__(self, runtime, window=64, every=4, smoothing=0.0, mean=None, early=False, persons=None,
                 img_shape=None, top_k=None):
        for name, value, most in (("--window", window, MAX_STREAM_FRAMES), ("--every", every, MAX_STREAM_FRAMES),
                                  ("--mean", 1 if mean is None else mean, MAX_STREAM_FRAMES),
                                  ("--persons", 1 if persons is None else persons, MAX_PERSONS)):
            if type(value) is not int or not 1 <= value <= most:
                raise ConfigError(name, f"expected an integer from 1 to {most}, got {value!r}")
        if not 0 <= smoothing < 1:
            raise ConfigError("--smooth", f"expected a number from 0 to below 1, got {smoothing!r}")
        if smoothing and mean is not None:
            raise ConfigError("--mean", "cannot be combined with --smooth", "Use only one of them")
        self.predictor, self.window, self.every, self.early = Predictor(runtime, top_k), window, every, early
        self.smoothing, self.mean, self.img_shape = smoothing, mean, img_shape
        self.persons, self.exact = find_max_persons(runtime.export, persons)
        layout = runtime.export.metadata.get("layout")
        self.joints = len(layout["joints"]) if layout else None
        self.costs = Costs()
        self.reset()

    def reset(self):
        """Start another sequence; the measured costs are kept."""
        self.count, self.present, self.shape, self.scored = 0, [], None, False
        self.recent = deque(maxlen=self.mean)

    def push(self, frame, score=None):
        """Add a frame; returns an ``Answer`` if one is due, else None.

        Args:
            frame: coordinates ``(M, V, C)``, or ``(V, C)`` of one person; M may change from frame to frame. An absent
                person is NaN or 0 in all coordinates, and may be omitted at the end; a missing joint is 0.
            score: confidence per joint, ``(M, V)`` or ``(V,)``; in every frame or in none.

        Raises:
            DataError: the frame is malformed. It was not added: the stream can continue with the next one.
        """
        start = time.perf_counter()
        where = f"frame {self.count}"
        keypoint, score = self._check(frame, score, where)
        self._keep(keypoint, score)
        self.count += 1
        answer = self._answer(where, start) if self._due() else None
        self.costs.add(time.perf_counter() - start, answer is not None)
        return answer

    def _check(self, frame, score, where):
        keypoint = to_numbers(frame, "coordinates", where)
        keypoint = keypoint[None] if keypoint.ndim == 2 else keypoint
        score = None if score is None else to_numbers(score, "scores", where)
        score = score[None] if score is not None and score.ndim == 1 else score
        if keypoint.ndim != 3 or keypoint.shape[2] not in (2, 3) or not len(keypoint):
            raise DataError(where, f"expected an array (M, V, C) of persons, joints and 2 or 3 coordinates, got "
                            f"shape {keypoint.shape}")
        joints = self.joints or (self.shape or keypoint.shape)[-2]
        if keypoint.shape[1] != joints:
            raise DataError(where, f"expected {joints} joints, got {keypoint.shape[1]}")
        if len(keypoint) > self.persons:
            raise DataError(where, f"expected at most {self.persons} persons, got {len(keypoint)}", PERSONS_HINT)
        if self.shape is not None and (keypoint.shape[2] != self.shape[-1] or (score is not None) != self.scored):
            raise DataError(where, f"has {keypoint.shape[2]} coordinates {'with' if score is not None else 'without'} "
                            f"scores, but the first frame has {self.shape[-1]} "
                            f"{'with' if self.scored else 'without'} scores")
        if score is not None and score.shape != keypoint.shape[:2]:
            raise DataError(where, f"expected scores of shape {keypoint.shape[:2]}, got {score.shape}")
        away = np.isnan(keypoint).all(axis=(1, 2)) | ~keypoint.any(axis=(1, 2))
        keypoint = np.where(away[:, None, None], 0, keypoint)
        score = None if score is None else np.where(away[:, None], 0, score)
        for array, what in ((keypoint, "coordinate"), (score, "score")):
            if array is not None and not np.isfinite(array).all():
                person, joint = np.argwhere(~np.isfinite(array))[0][:2]
                raise DataError(where, f"a {what} of person {person}, joint {joint} is NaN or infinite",
                                "Set all coordinates of a missing joint to 0; only an absent person may be NaN")
        return keypoint, score

    def _keep(self, keypoint, score):
        """Write a frame twice, ``window`` places apart, so that the last frames are always contiguous."""
        if self.shape is None:
            self.shape, self.scored = (self.persons, 2 * self.window, *keypoint.shape[1:]), score is not None
            self.keypoint = np.zeros(self.shape, np.float32)
            self.score = np.zeros(self.shape[:3], np.float32) if self.scored else None
            self.present = np.zeros((self.persons, 2 * self.window), bool)
        for place in (self.count % self.window, self.count % self.window + self.window):
            for kept, given in ((self.keypoint, keypoint), (self.score, score),
                                (self.present, keypoint.any(axis=(1, 2)))):
                if kept is not None:
                    kept[:, place] = 0
                    kept[:len(given), place] = given

    def _due(self):
        return (self.count - self.window) % self.every == 0 and (self.early or self.count >= self.window)

    def frames(self):
        """The window as an ``Annotation`` with arrays of its own; None if nobody is in it."""
        end = (self.count - 1) % self.window + 1 + self.window
        part = slice(end - min(self.count, self.window), end)
        somebody = self.present[:, part]
        if not somebody.any():
            return None
        part = slice(part.start + int(np.argmax(somebody.any(axis=0))), part.stop)
        persons = self.persons if self.exact else int(np.flatnonzero(somebody.any(axis=1))[-1]) + 1
        score = None if self.score is None else self.score[:persons, part].copy()
        return Annotation(self.keypoint[:persons, part].copy(), score, name=f"frames {self.count - end + part.start}"
                          f"..{self.count - 1}", img_shape=self.img_shape)

    def _answer(self, where, start):
        annotation, frames = self.frames(), min(self.count, self.window)
        if annotation is None:
            self.recent.clear()
            return Answer(self.count - 1, frames, None, None, [], (time.perf_counter() - start) * 1000)
        array = self.predictor.preprocess(annotation, where)
        logits = self.predictor.runtime.run(array[None])[0]
        own = softmax(logits)
        smoothed = self._smooth(own)
        top_k = self.predictor.describe(*self.predictor.rank(smoothed))
        return Answer(self.count - 1, frames, smoothed, own, top_k, (time.perf_counter() - start) * 1000)

    def _smooth(self, own):
        if self.mean is not None:
            self.recent.append(own)
            return np.mean(self.recent, axis=0)
        smoothed = self.smoothing * self.recent[-1] + (1 - self.smoothing) * own if self.recent else own
        self.recent.clear()
        self.recent.append(smoothed)
        return smoothed


class Costs:
    """Time per frame and per answer. Means are over all, medians and percentiles over the last ``RECENT``."""

    def __init__(self):
        self.frames, self.answers, self.seconds, self.answer_seconds = 0, 0, 0.0, 0.0
        self.recent, self.recent_answers = deque(maxlen=RECENT), deque(maxlen=RECENT)

    def add(self, seconds, answered):
        self.frames += 1
        self.seconds += seconds
        self.recent.append(seconds)
        if answered:
            self.answers += 1
            self.answer_seconds += seconds
            self.recent_answers.append(seconds)

    def report(self, fps=None):
        """Counts and milliseconds of frames and answers; with ``fps`` also the share of real time that they take."""
        report = {"frames": self.frames, "answers": self.answers,
                  "ms_per_frame": milliseconds(self.seconds, self.frames, self.recent),
                  "ms_per_answer": milliseconds(self.answer_seconds, self.answers, self.recent_answers)}
        if fps and self.frames:
            report["share_of_real_time"] = self.seconds / self.frames * fps
        return report


def milliseconds(total, count, recent):
    """Mean, median and 95th percentile; None if nothing was measured."""
    if not count:
        return None
    median, high = np.percentile(recent, [50, 95]) * 1000
    return {"mean": total / count * 1000, "median": float(median), "p95": float(high)}


def find_max_persons(export, persons):
    """``(most persons in a frame, whether a sample must have exactly this many)``.

    A pipeline with a step that arranges the persons takes any number; otherwise a sample is the network's own
    ``(C, T, V, M)``.
    """
    for name, arguments, _ in list_steps(export.metadata["pipeline"], f"{export.stem}: pipeline"):
        if name in ("FormatPersons", "FormatGCNInput", "GeneratePoseTarget"):
            return persons or arguments.get("num_person", 2), False
    takes = export.sample_shape[-1]
    if persons not in (None, takes):
        raise ConfigError("--persons", f"expected {takes}, the only number that this model accepts, got {persons}")
    return takes, True


def to_numbers(values, what, where):
    """An array in single precision; a ``DataError`` if the values are not numbers."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(where, f"the {what} do not form an array ({error})", "Expected (M, V, C)") from error
    if array.dtype.kind not in "iuf":
        raise DataError(where, f"expected numbers as {what}, got {array.dtype}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which the caller reports
        return array.astype(np.float32)


def stream(predictor, source, fps=None, out=None, plot=None):
    """Push every frame of a source, print each answer at once, and the time per frame and answer at the end.

    Args:
        predictor: ``StreamingPredictor``.
        source: a ``.npy`` or ``.pkl`` file, whose sequences are separate streams; or ``-`` for standard input.
        fps: frame rate of the recording; adds the share of real time to the report.
        out: file for the answers, one line of JSON per answer, written at once.
        plot: PNG of the scores over time.

    Returns:
        ``Costs.report``.
    """
    shown = []
    for path in (out, plot):
        if path:
            output_folder(Path(path).parent)
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(open(out, "w", encoding="utf-8")) if out else None
        stack.callback(lambda: print_costs(predictor.costs.report(fps)))  # also after Ctrl-C or a bad frame
        for name, frames in read_sequences(source):
            predictor.reset()
            write_line(f"Current sequence: {name}")
            for frame, score, img_shape in frames:
                predictor.img_shape = img_shape or predictor.img_shape
                answer = predictor.push(frame, score)
                if answer is None:
                    continue
                print_answer(answer, fps)
                if lines:
                    print(json.dumps(to_entry(name, answer), ensure_ascii=False), file=lines, flush=True)
                if plot:
                    shown.append((name, answer))
    if plot:
        draw_answers(shown, predictor.predictor.names, plot)
    return predictor.costs.report(fps)


def read_sequences(source):
    """Yield ``(name, iterable of (frame, score, img_shape))`` for every sequence of a source."""
    if source == STANDARD_INPUT:
        yield "standard input", read_json_frames(sys.stdin)
        return
    for annotation in read_sample(source):
        score = annotation.keypoint_score
        yield annotation.name or str(source), (
            (annotation.keypoint[:, t], None if score is None else score[:, t], annotation.img_shape)
            for t in range(annotation.total_frames))


def read_json_frames(file):
    """Yield ``(frame, score, img_shape)`` from lines of JSON.

    A line is an array of coordinates, or an object with ``keypoint`` and optionally ``keypoint_score`` and
    ``img_shape``.

    Raises:
        DataError: a line is neither; the message has the number of its frame.
    """
    for number, line in enumerate(file):
        where = f"standard input: frame {number}"
        try:
            content = parse_json(line)
        except ValueError as error:
            raise DataError(where, f"the line is not valid JSON ({error})", "Expected one frame per line, e.g. "
                            "[[[x, y, z], …joints], …persons]") from error
        fields = content if isinstance(content, dict) else {"keypoint": content}
        unknown = [key for key in fields if key not in ("keypoint", "keypoint_score", "img_shape")]
        if unknown or "keypoint" not in fields:
            raise DataError(where, "expected 'keypoint' and optionally 'keypoint_score' and 'img_shape', got "
                            + (", ".join(map(repr, fields)) or "nothing"))
        shape = fields.get("img_shape")
        if shape is not None and not (isinstance(shape, list) and len(shape) == 2
                                      and all(type(side) in (int, float) and 0 < side < 1e6 for side in shape)):
            raise DataError(where, f"expected [height, width] as img_shape, got {shape!r}")
        yield fields["keypoint"], fields.get("keypoint_score"), shape and tuple(shape)


def print_answer(answer, fps):
    """Print one answer."""
    when = f"frame {answer.frame}" + (f" ({answer.frame / fps:.2f} s)" if fps else "")
    seen = ", ".join(f"{best['class'] if best['name'] is None else best['name']} {best['score']:.4f}"
                     for best in answer.top_k)
    write_line(f"{when}\t{seen or 'nobody'}")
    sys.stdout.flush()


def to_entry(name, answer):
    """One line of the JSON file."""
    return {"sequence": name, "frame": answer.frame, "frames": answer.frames, "top_k": answer.top_k,
            "milliseconds": round(answer.milliseconds, 3)}


def print_costs(report):
    """Print the time per frame and per answer."""
    write_line(f"{report['frames']} frames, {report['answers']} answers")
    for key, what in (("ms_per_frame", "frame"), ("ms_per_answer", "answer")):
        if report[key]:
            costs = ", ".join(f"{name} {value:.3f} ms" for name, value in report[key].items())
            write_line(f"Time per {what}: {costs}")
    if "share_of_real_time" in report:
        write_line(f"Share of real time: {report['share_of_real_time']:.1%}")


def draw_answers(shown, names, path):
    """Draw the scores of the strongest classes over time, one panel per sequence."""
    sequences = list(dict.fromkeys(name for name, _ in shown)) or ["no answer"]
    with saved_figure(path, 9, 3 * len(sequences) + 0.4) as figure:
        panels = figure.subplots(len(sequences), squeeze=False)[:, 0]
        for name, axes in zip(sequences, panels, strict=True):
            answers = [answer for of, answer in shown if of == name]
            draw_scores(axes, answers, names)
            axes.set(title=name, ylim=(-0.02, 1.02), ylabel="score")
        panels[-1].set_xlabel("frame")


def draw_scores(axes, answers, names):
    """Draw one sequence's scores, with gaps where nobody was in the window."""
    known = [answer.scores for answer in answers if answer.scores is not None]
    if not known:
        return
    nobody = np.full(len(known[0]), np.nan)
    scores = np.stack([nobody if answer.scores is None else answer.scores for answer in answers])
    at = [answer.frame for answer in answers]
    best = np.max(known, axis=0)
    strongest = [c for c in np.argsort(-best, kind="stable")[:MAX_LINES] if best[c] >= min(MIN_PEAK_SCORE, best.max())]
    for c in strongest:
        axes.plot(at, scores[:, c], marker="." if len(at) < 40 else None, label=names[c] if names else f"class {c}")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
