"""A sequence that goes on: a frame in, a smoothed answer about the last frames out every few frames.

A window of frames walks the same path as a file of them: the export's own pipeline, then its runtime. Nothing here
needs paddle.
"""
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from ..data.annotation import Annotation
from ..data.pipeline import list_steps
from ..errors import ConfigError, DataError
from ..evaluation import softmax
from .predict import Predictor

PERSONS_HINT = "Give the persons to follow first, or allow more with --persons where the model takes any number"
RECENT = 1000  # measurements that medians are taken of; a stream may go on for ever
MAX_FRAMES, MAX_PERSONS = 100_000, 100


@dataclass
class Answer:
    """What is seen in the frames up to one.

    Attributes:
        frame: the number of the window's last frame, from 0.
        frames: how many frames the window holds; before the first full one fewer.
        scores: ``(classes,)`` by softmax, smoothed; None where nobody is in the window.
        window_scores: the same of this window alone.
        top_k: the best classes: ``{"class", "name", "score"}``, the best first.
        milliseconds: what the answer took, pre-processing included.
    """
    frame: int
    frames: int
    scores: np.ndarray
    window_scores: np.ndarray
    top_k: list
    milliseconds: float


class StreamingPredictor:
    """Answers about the last ``window`` frames, every ``every`` frames.

    With q the softmax of a window's logits, the scores p are smoothed over the windows i = 0, 1, …

    * ``smoothing`` s: p_0 = q_0, p_i = s·p_(i-1) + (1 - s)·q_i (exponential; 0: the window alone);
    * ``mean`` n: p_i is the mean of the last n of q, at the beginning of those there are.

    The first answer comes with the first full window, unless ``early``. A window begins with its first frame in which
    there is somebody. If there is nobody in all of it, the answer has no scores, and smoothing begins anew.

    Args:
        runtime: an opened ``Runtime``.
        window: frames. every: frames between two answers.
        smoothing: from 0 to below 1. mean: number of windows, in the place of ``smoothing``.
        early: answer before the window is full, about the frames there are.
        persons: most persons in a frame, each with a place of their own; None: as many as the model takes.
        img_shape: (height, width) of the picture that 2D coordinates live in.
        top_k: classes to tell; None: as the metadata says.
    """

    def __init__(self, runtime, window=64, every=4, smoothing=0.0, mean=None, early=False, persons=None,
                 img_shape=None, top_k=None):
        for name, value, most in (("--window", window, MAX_FRAMES), ("--every", every, MAX_FRAMES),
                                  ("--mean", 1 if mean is None else mean, MAX_FRAMES),
                                  ("--persons", 1 if persons is None else persons, MAX_PERSONS)):
            if type(value) is not int or not 1 <= value <= most:
                raise ConfigError(name, f"found {value!r}, expected a whole number from 1 to {most}")
        if not 0 <= smoothing < 1:
            raise ConfigError("--smooth", f"found {smoothing!r}, expected a number from 0 to below 1")
        if smoothing and mean is not None:
            raise ConfigError("--mean", "and --smooth were both given", "Give one of them")
        self.predictor, self.window, self.every, self.early = Predictor(runtime, top_k), window, every, early
        self.smoothing, self.mean, self.img_shape = smoothing, mean, img_shape
        self.persons, self.exact = persons_taken(runtime.export, persons)
        layout = runtime.export.metadata.get("layout")
        self.joints = len(layout["joints"]) if layout else None
        self.costs = Costs()
        self.reset()

    def reset(self):
        """Begin with another sequence. The measured costs stay."""
        self.count, self.present, self.shape, self.scored = 0, [], None, False
        self.recent = deque(maxlen=self.mean)

    def push(self, frame, score=None):
        """Take a frame; returns an ``Answer`` where one is due, else None.

        Args:
            frame: coordinates ``(M, V, C)``, or ``(V, C)`` of one person; M may change from frame to frame. A person
                who is away is NaN or 0 in all coordinates, or, at the end, left out; a missing joint is 0.
            score: confidence of each joint ``(M, V)`` or ``(V,)``, in every frame or in none.

        Raises:
            DataError: telling the frame and what is wrong with it. It was not taken: the next may follow.
        """
        start = time.perf_counter()
        where = f"frame {self.count}"
        keypoint, score = self._checked(frame, score, where)
        self._keep(keypoint, score)
        self.count += 1
        answer = self._answer(where, start) if self._due() else None
        self.costs.add(time.perf_counter() - start, answer is not None)
        return answer

    def _checked(self, frame, score, where):
        keypoint = as_numbers(frame, "coordinates", where)
        keypoint = keypoint[None] if keypoint.ndim == 2 else keypoint
        score = None if score is None else as_numbers(score, "scores", where)
        score = score[None] if score is not None and score.ndim == 1 else score
        if keypoint.ndim != 3 or keypoint.shape[2] not in (2, 3) or not len(keypoint):
            raise DataError(where, f"has the shape {keypoint.shape}, expected (M, V, C): persons, joints, 2 or 3 "
                            "coordinates")
        joints = self.joints or (self.shape or keypoint.shape)[-2]
        if keypoint.shape[1] != joints:
            raise DataError(where, f"has {keypoint.shape[1]} joints, expected {joints}")
        if len(keypoint) > self.persons:
            raise DataError(where, f"has {len(keypoint)} persons, at most {self.persons} are followed", PERSONS_HINT)
        if self.shape is not None and (keypoint.shape[2] != self.shape[-1] or (score is not None) != self.scored):
            raise DataError(where, f"has {keypoint.shape[2]} coordinates {'and' if score is not None else 'without'} "
                            f"scores, the first frame had {self.shape[-1]} {'and' if self.scored else 'without'}")
        if score is not None and score.shape != keypoint.shape[:2]:
            raise DataError(where, f"has scores {score.shape}, expected {keypoint.shape[:2]}")
        away = np.isnan(keypoint).all(axis=(1, 2)) | ~keypoint.any(axis=(1, 2))
        keypoint = np.where(away[:, None, None], 0, keypoint)
        score = None if score is None else np.where(away[:, None], 0, score)
        for array, what in ((keypoint, "coordinate"), (score, "score")):
            if array is not None and not np.isfinite(array).all():
                person, joint = np.argwhere(~np.isfinite(array))[0][:2]
                raise DataError(where, f"a {what} of person {person}, joint {joint} is no number",
                                "A missing joint is 0 in all its coordinates; only a person who is away may be NaN")
        return keypoint, score

    def _keep(self, keypoint, score):
        """Write a frame twice, ``window`` places apart: the last frames then lie side by side."""
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
        """The window as an ``Annotation``; None where nobody is in it. Its arrays are copies."""
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
        array = self.predictor.array(annotation, where)
        logits = self.predictor.runtime.run(array[None])[0]
        own = softmax(logits)
        smoothed = self._smoothed(own)
        top_k = self.predictor.named(*self.predictor.best(smoothed))
        return Answer(self.count - 1, frames, smoothed, own, top_k, (time.perf_counter() - start) * 1000)

    def _smoothed(self, own):
        if self.mean is not None:
            self.recent.append(own)
            return np.mean(self.recent, axis=0)
        smoothed = self.smoothing * self.recent[-1] + (1 - self.smoothing) * own if self.recent else own
        self.recent.clear()
        self.recent.append(smoothed)
        return smoothed


class Costs:
    """What frames and answers cost. Means are over all, medians and percentiles over the last ``RECENT``."""

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
        """Numbers of frames and answers, their milliseconds, and with ``fps`` the part of real time they take."""
        report = {"frames": self.frames, "answers": self.answers,
                  "ms_per_frame": milliseconds(self.seconds, self.frames, self.recent),
                  "ms_per_answer": milliseconds(self.answer_seconds, self.answers, self.recent_answers)}
        if fps and self.frames:
            report["share_of_real_time"] = self.seconds / self.frames * fps
        return report


def milliseconds(total, count, recent):
    """Mean, median and 95th percentile; None where there is nothing to measure."""
    if not count:
        return None
    median, high = np.percentile(recent, [50, 95]) * 1000
    return {"mean": total / count * 1000, "median": float(median), "p95": float(high)}


def persons_taken(export, persons):
    """``(most persons in a frame, whether samples must have exactly so many)``.

    Pipelines that form the persons themselves take any number; otherwise a sample is the network's ``(C, T, V, M)``.
    """
    for name, arguments, _ in list_steps(export.metadata["pipeline"], f"{export.stem}: pipeline"):
        if name in ("FormatPersons", "FormatGCNInput", "GeneratePoseTarget"):
            return persons or arguments.get("num_person", 2), False
    takes = export.sample_shape[-1]
    if persons not in (None, takes):
        raise ConfigError("--persons", f"found {persons}, this model takes exactly {takes}")
    return takes, True


def as_numbers(values, what, where):
    """An array of numbers in single precision; else a ``DataError``."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(where, f"its {what} are no array ({error})", "Expected (M, V, C)") from error
    if array.dtype.kind not in "iuf":
        raise DataError(where, f"its {what} are {array.dtype}, expected numbers")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is told
        return array.astype(np.float32)
