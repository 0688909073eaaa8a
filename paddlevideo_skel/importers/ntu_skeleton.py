"""One ``.skeleton`` file of NTU RGB+D, checked line by line.

The number of frames; for each frame the number of bodies; for each body a line of 10 numbers that begins with its id,
the number of joints, 25, and a line a joint: x, y, z in metres, its places in the depth and the colour picture, its
orientation and how it was tracked, 12 numbers.
"""
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError

JOINTS = 25
BODY_NUMBERS, JOINT_NUMBERS = 10, 12
BODY_LINES = 2 + JOINTS
MAX_BYTES = 64 << 20  # the largest real file has less than a tenth
FARTHEST = 1000.0  # metres
SHOWN = 40  # characters
AGAIN = "Get the file from the data set again"


@dataclass
class Body:
    """What the camera took for one body.

    Attributes:
        frames: numbers of the frames in which it is seen, ``(n,)``, increasing, from 0.
        joints: its joints in these frames, ``(n, 25, 3)`` float32, metres.
    """
    frames: np.ndarray
    joints: np.ndarray


def read_bodies(path):
    """The bodies of a ``.skeleton`` file, in the order in which they appear; at least one.

    Raises:
        DataError: its problem begins with ``damaged:`` and tells the line, or with ``empty:``.
    """
    lines = _Lines(path)
    num_frames = lines.count("frames", 1)
    frames, starts, ids = [], [], {}
    for frame in range(num_frames):
        here = set()
        for _ in range(lines.count("bodies", BODY_LINES)):
            body = lines.body_id()
            if body in here:
                raise lines.damaged(f"the body {body} stands twice in the frame {frame + 1}")
            here.add(body)
            ids.setdefault(body, []).append(len(starts))
            frames.append(frame)
            starts.append(lines.joints())
    lines.end()
    if not starts:
        raise DataError(path, f"empty: nobody is seen in any of its {num_frames} frames", AGAIN)
    coordinates, frames = lines.coordinates(starts), np.array(frames)
    return [Body(frames[found], coordinates[found]) for found in ids.values()]


class _Lines:
    """The lines of a file, taken one after the other."""

    def __init__(self, path):
        self.path, self.next = path, 0
        try:
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise DataError(path, f"damaged: is longer than {MAX_BYTES >> 20} MB, which no recording is", AGAIN)
            self.lines = content.decode("ascii").rstrip().split("\n")
        except OSError as error:
            raise DataError(path, f"damaged: cannot be read ({error.strerror})", AGAIN) from error
        except UnicodeDecodeError as error:
            raise DataError(path, f"damaged: the byte {error.start} is no text, expected lines of numbers",
                            AGAIN) from error
        if self.lines == [""]:
            raise DataError(path, "empty: holds nothing, expected lines of numbers", AGAIN)

    def damaged(self, problem, number=None):
        """The error about a line, counted from 0; None: the last one taken."""
        number = self.next - 1 if number is None else number
        return DataError(Path(self.path), f"damaged: line {number + 1}: {problem}", AGAIN)

    def _take(self, expected):
        if self.next == len(self.lines):
            raise self.damaged(f"the file ends here, expected {expected}")
        self.next += 1
        return self.lines[self.next - 1].strip()

    def count(self, what, lines_each):
        """The whole number of a line, which announces so many ``what`` of at least ``lines_each`` lines."""
        text = self._take(f"the number of {what}")
        if not text.isdigit() or len(text) > 9:
            raise self.damaged(f"found {text[:SHOWN]!r}, expected the number of {what}")
        left = len(self.lines) - self.next
        if int(text) * lines_each > left:
            raise self.damaged(f"announces {text} {what}, which take {lines_each} lines each at least, but only {left} "
                               "lines follow")
        return int(text)

    def body_id(self):
        text = self._take("a body")
        numbers = text.split()
        # Ids differ beyond the 15th digit, so that they stay texts.
        if len(numbers) != BODY_NUMBERS or not numbers[0].isdigit():
            raise self.damaged(f"found {text[:SHOWN]!r}, expected the {BODY_NUMBERS} numbers of a body, first its id")
        return numbers[0]

    def joints(self):
        """Pass over a body's joints; returns the number of their first line."""
        if self.count("joints", 1) != JOINTS:
            raise self.damaged(f"found {self.lines[self.next - 1].strip()} joints, expected {JOINTS}")
        self.next += JOINTS
        return self.next - JOINTS

    def end(self):
        if self.next < len(self.lines):
            self.next += 1
            raise self.damaged(f"found {self.lines[self.next - 1][:SHOWN]!r}, expected the end after the last frame")

    def coordinates(self, starts):
        """``(len(starts), 25, 3)`` float32 of the bodies whose joints begin at these lines."""
        numbers = [number for start in starts for number in range(start, start + JOINTS)]
        try:
            table = np.loadtxt([self.lines[number] for number in numbers], comments=None, ndmin=2)
        except ValueError:
            table = np.empty((0, 0))
        if table.shape != (len(numbers), JOINT_NUMBERS) or not _near(table):
            problems = ((_problem(self.lines[number]), number) for number in numbers)
            raise self.damaged(*next(found for found in problems if found[0]))
        return table[:, :3].astype(np.float32).reshape(-1, JOINTS, 3)


def _near(table):
    return (np.abs(table[:, :3]) <= FARTHEST).all()  # false for NaN as well


def _problem(line):
    """What is wrong with a joint's line; None: nothing."""
    numbers = line.split()
    if len(numbers) != JOINT_NUMBERS:
        return f"found {len(numbers)} numbers, expected the {JOINT_NUMBERS} of a joint"
    try:
        near = _near(np.loadtxt([line], comments=None, ndmin=2))
    except ValueError as error:
        return f"holds something else than numbers ({str(error)[:80]})"
    return None if near else f"found the place {', '.join(numbers[:3])[:80]}, expected metres from the camera"
