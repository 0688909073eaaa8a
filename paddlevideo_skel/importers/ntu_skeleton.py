"""Read one ``.skeleton`` file of NTU RGB+D, checked line by line.

The file holds the number of frames; for each frame the number of bodies; for each body a line of 10 numbers that begins
with its id, the number of joints, 25, and one line per joint with 12 numbers: x, y, z in metres, its positions in the
depth and the colour image, its orientation, and its tracking state.
"""
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from .journal import GET_AGAIN

NTU_JOINTS = 25
BODY_NUMBERS, JOINT_NUMBERS = 10, 12
BODY_LINES = 2 + NTU_JOINTS
MAX_SKELETON_BYTES = 64 << 20  # more than ten times the largest real file
MAX_DISTANCE = 1000.0  # metres from the camera, in each coordinate
MAX_SHOWN_CHARACTERS = 40  # shown of a line in a message


@dataclass
class TrackedBody:
    """What the camera tracked as one body.

    Attributes:
        frames: numbers of the frames in which it is seen, ``(n,)``, increasing, from 0.
        joints: its joints in these frames, ``(n, 25, 3)`` float32, metres.
    """
    frames: np.ndarray
    joints: np.ndarray


def read_bodies(path):
    """The bodies of a ``.skeleton`` file, at least one, in the order in which they appear.

    Raises:
        DataError: its problem begins with ``damaged:`` and names the line, or with ``empty:``.
    """
    lines = _Lines(path)
    num_frames = lines.count("frames", 1)
    frames, starts, ids = [], [], {}
    for frame in range(num_frames):
        here = set()
        for _ in range(lines.count("bodies", BODY_LINES)):
            body = lines.body_id()
            if body in here:
                raise lines.damaged(f"duplicate body {body} in frame {frame + 1}")
            here.add(body)
            ids.setdefault(body, []).append(len(starts))
            frames.append(frame)
            starts.append(lines.joints())
    lines.end()
    if not starts:
        raise DataError(path, f"empty: no body is seen in its {num_frames} frames", GET_AGAIN)
    coordinates, frames = lines.coordinates(starts), np.array(frames)
    return [TrackedBody(frames[found], coordinates[found]) for found in ids.values()]


class _Lines:
    """The lines of a file, read one after the other."""

    def __init__(self, path):
        self.path, self.next = path, 0
        try:
            with open(path, "rb") as file:
                content = file.read(MAX_SKELETON_BYTES + 1)
            if len(content) > MAX_SKELETON_BYTES:
                raise DataError(path, f"damaged: is larger than {MAX_SKELETON_BYTES >> 20} MB, the limit",
                                GET_AGAIN)
            self.lines = content.decode("ascii").rstrip().split("\n")
        except OSError as error:
            raise DataError(path, f"damaged: cannot be read ({error.strerror})", GET_AGAIN) from error
        except UnicodeDecodeError as error:
            raise DataError(path, f"damaged: byte {error.start} is not text, expected lines of numbers",
                            GET_AGAIN) from error
        if self.lines == [""]:
            raise DataError(path, "empty: expected lines of numbers", GET_AGAIN)

    def damaged(self, problem, number=None):
        """The error about a line, numbered from 0; None: the last line read."""
        number = self.next - 1 if number is None else number
        return DataError(Path(self.path), f"damaged: line {number + 1}: {problem}", GET_AGAIN)

    def _take(self, expected):
        if self.next == len(self.lines):
            raise self.damaged(f"the file ends here, expected {expected}")
        self.next += 1
        return self.lines[self.next - 1].strip()

    def count(self, what, lines_each):
        """The next line, which must be the number of ``what`` that follow, of at least ``lines_each`` lines each."""
        text = self._take(f"the number of {what}")
        if not text.isdigit() or len(text) > 9:
            raise self.damaged(f"found {text[:MAX_SHOWN_CHARACTERS]!r}, expected the number of {what}")
        left = len(self.lines) - self.next
        if int(text) * lines_each > left:
            raise self.damaged(f"found {text} {what} of at least {lines_each} lines each, but only {left} lines follow")
        return int(text)

    def body_id(self):
        text = self._take("a body")
        numbers = text.split()
        # Ids differ beyond the 15th digit: they stay strings.
        if len(numbers) != BODY_NUMBERS or not numbers[0].isdigit():
            raise self.damaged(f"found {text[:MAX_SHOWN_CHARACTERS]!r}, expected the {BODY_NUMBERS} numbers of a body, "
                               "first its id")
        return numbers[0]

    def joints(self):
        """Skip a body's joints; returns the number of their first line."""
        if self.count("joints", 1) != NTU_JOINTS:
            raise self.damaged(f"found {self.lines[self.next - 1].strip()} joints, expected {NTU_JOINTS}")
        self.next += NTU_JOINTS
        return self.next - NTU_JOINTS

    def end(self):
        if self.next < len(self.lines):
            self.next += 1
            found = self.lines[self.next - 1][:MAX_SHOWN_CHARACTERS]
            raise self.damaged(f"found {found!r}, expected the end of the file after the last frame")

    def coordinates(self, starts):
        """Joints ``(len(starts), 25, 3)`` float32 of the bodies whose joints begin at these lines."""
        numbers = [number for start in starts for number in range(start, start + NTU_JOINTS)]
        try:
            table = np.loadtxt([self.lines[number] for number in numbers], comments=None, ndmin=2)
        except ValueError:
            table = np.empty((0, 0))
        if table.shape != (len(numbers), JOINT_NUMBERS) or not _near(table):
            problems = ((_problem(self.lines[number]), number) for number in numbers)
            raise self.damaged(*next(found for found in problems if found[0]))
        return table[:, :3].astype(np.float32).reshape(-1, NTU_JOINTS, 3)


def _near(table):
    return (np.abs(table[:, :3]) <= MAX_DISTANCE).all()  # also false for NaN


def _problem(line):
    """What is wrong with a joint's line, or None."""
    numbers = line.split()
    if len(numbers) != JOINT_NUMBERS:
        return f"found {len(numbers)} numbers, expected the {JOINT_NUMBERS} of a joint"
    try:
        near = _near(np.loadtxt([line], comments=None, ndmin=2))
    except ValueError as error:
        return f"contains something other than numbers ({str(error)[:80]})"
    return None if near else f"found the position {', '.join(numbers[:3])[:80]}, expected metres"
