"""One sequence of keypoints from a CSV, NPY or JSON file, as an array with NaN for missing values."""
import re
from pathlib import Path

import numpy as np

from ..errors import DataError, shorten_list
from ..files import parse_json, read_text
from ..safe_pickle import load_npy
from .tables import read_table

KEYPOINT_SUFFIXES = (".csv", ".tsv", ".npy", ".json")
AXES = {"x": "x", "y": "y", "z": "z", "score": "score", "s": "score", "c": "score", "conf": "score",
        "confidence": "score", "visibility": "score", "v": "score"}
CHANNEL_NAMES = {"xy": ("x", "y"), "xys": ("x", "y", "score"), "xyz": ("x", "y", "z"), "xyzs": ("x", "y", "z", "score")}
LONG_FORM = "Expected the columns frame, joint, x, y and, optionally, person, z, score"
MAX_FILE_VALUES = 1 << 25  # several hours with a few persons
MAX_FRAME_GAP = 1000  # frame numbers above ten times the number of frames are a mistake


def read_keypoints(path, layout):
    """The keypoints of a file.

    Args:
        path: ``.npy`` or ``.json`` of ``(T, V, C)`` or ``(M, T, V, C)``; ``.csv`` or ``.tsv`` with one row per frame,
            or one row per joint (columns frame, joint, x, y …).
        layout: the ``Layout``; joints that the file names are put into its order.

    Returns:
        array ``(M, T, V, C)`` float64, NaN for missing values; and the name of its channels, a key of
        ``CHANNEL_NAMES``, or None if the file does not name them.

    Raises:
        DataError: naming the file, and the row and column or the position in the array.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".csv", ".tsv"):
        keypoint, channels = _from_table(read_table(path), layout)
    else:
        keypoint, channels = (_from_npy(path) if suffix == ".npy" else _from_json(path)), None
    if keypoint.ndim == 3:
        keypoint = keypoint[None]
    if keypoint.ndim != 4 or 0 in keypoint.shape or not 2 <= keypoint.shape[3] <= 4:
        raise DataError(path, f"has shape {keypoint.shape}, expected (T, V, C) or (M, T, V, C) with 2 to 4 "
                              "coordinates C", "T frames, V joints, M persons")
    if keypoint.shape[2] != layout.num_joints:
        raise DataError(path, f"has {keypoint.shape[2]} joints, the layout {layout.name!r} has {layout.num_joints}",
                        "Choose another --layout, or describe yours in a file")
    beyond = np.argwhere(np.abs(keypoint) > np.finfo(np.float32).max)
    if beyond.size:
        raise DataError(path, f"contains infinity or a number too large for float32 at {_place(beyond[0])}",
                        "Write missing values as NaN, or null in JSON")
    return keypoint, channels


def _place(index):
    return ", ".join(f"{axis} {i}" for axis, i in zip(("person", "frame", "joint", "coordinate"), index, strict=True))


def _from_npy(path):
    array = load_npy(path, mmap=False)
    if array.dtype.kind not in "iuf":
        raise DataError(path, f"is an array of {array.dtype}, expected numbers")
    return array.astype(float)


def _from_json(path):
    try:
        content = parse_json(read_text(path))
    except ValueError as error:
        raise DataError(path, f"is not valid JSON ({error})") from error
    if isinstance(content, dict):
        if "keypoint" not in content:
            raise DataError(path, f"found an object with {', '.join(map(repr, content)) or 'no keys'}, expected "
                                  "the key 'keypoint', or the lists themselves")
        content = content["keypoint"]
    _check_lists(content, path, ())
    try:
        return np.array(content, float)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(path, f"its lists do not form an array of numbers ({error})") from error


def _check_lists(content, path, place):
    """Raise a ``DataError`` with the position of a list of another length, or of anything but lists, numbers, null."""
    where = f"{path}: " + (f"[{']['.join(map(str, place))}]" if place else "the content")
    if not isinstance(content, list):
        raise DataError(where, f"found {_short(content)}, expected lists of numbers (T, V, C) or (M, T, V, C)")
    if len(place) == 4:
        raise DataError(where, "is nested too deeply, expected (T, V, C) or (M, T, V, C)")
    nested = any(isinstance(item, list) for item in content)
    for i, item in enumerate(content):
        if nested:
            _check_lists(item, path, (*place, i))
            if len(item) != len(content[0]):
                raise DataError(f"{path}: [{']['.join(map(str, (*place, i)))}]",
                                f"has {len(item)} items, expected {len(content[0])} like the first")
        elif not isinstance(item, (int, float, type(None))) or isinstance(item, bool):
            raise DataError(f"{path}: [{']['.join(map(str, (*place, i)))}]",
                            f"found {_short(item)}, expected a number, or null for a missing one")


def _short(value):
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _from_table(table, layout):
    if table.header and "joint" in table.header:
        return _long_form(table, layout)
    return _wide_form(table, layout)


def _wide_form(table, layout):
    """One row per frame: V·C columns, or columns such as ``nose_x``, and optionally ``frame`` and ``person``."""
    if table.header is None:
        coordinates, rest = divmod(len(table.rows[0]), layout.num_joints)
        if rest or not 2 <= coordinates <= 4:
            raise DataError(table.path, f"has {len(table.rows[0])} unnamed columns, expected 2 to 4 for each of the "
                            f"{layout.num_joints} joints of {layout.name!r}",
                            "Name the columns in the first row: nose_x, nose_y, …")
        array = table.numbers(range(len(table.rows[0])))
        return array.reshape(1, len(array), layout.num_joints, coordinates), None
    columns, axes = _joint_columns(table, layout)
    values = table.numbers(columns).reshape(len(table.rows), layout.num_joints, len(axes))
    frame, person = (_whole(table, name) for name in ("frame", "person"))
    if frame is None and person is not None:
        raise DataError(table.path, "has a column 'person' but no column 'frame'", "Add the frame numbers")
    frame = np.arange(len(values)) if frame is None else frame
    person = np.zeros(len(values), int) if person is None else person
    return _placed(table, frame, person, None, values, layout.num_joints), _channels(axes, table.path)


def _joint_columns(table, layout):
    """Column numbers in the layout's order, joint by joint, and the axes of a joint."""
    found = {}
    for c, name in enumerate(table.header):
        if name in ("frame", "person"):
            continue
        match = re.fullmatch(r"(.+)[_. ]([a-z]+)", name)
        if not match or match[2] not in AXES:
            raise DataError(f"{table.path}: column {c + 1}", f"found {name!r}, expected a joint with _x, _y, _z or "
                                                             "_score, frame, or person")
        axes = found.setdefault(match[1], {})
        if AXES[match[2]] in axes:
            raise DataError(f"{table.path}: column {c + 1}", f"duplicate name {name!r}")
        axes[AXES[match[2]]] = c
    joints = _in_layout_order(list(found), layout, table.path)
    axes = [axis for axis in ("x", "y", "z", "score") if axis in found[joints[0]]]
    for joint in joints:
        if set(found[joint]) != set(axes):
            raise DataError(table.path, f"the joint {joint!r} has {', '.join(found[joint])}, expected "
                                        f"{', '.join(axes)} as {joints[0]!r}")
    return [found[joint][axis] for joint in joints for axis in axes], axes


def _plain(name):
    return re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_")


def _in_layout_order(names, layout, path):
    """``names`` in the order of the layout's joints; names may also be numbers, ``3`` or ``joint_3``."""
    by_name = {_plain(name): name for name in names}
    for wanted in ([_plain(joint) for joint in layout.joints], [str(j) for j in range(layout.num_joints)],
                   [f"joint_{j}" for j in range(layout.num_joints)]):
        if set(wanted) == set(by_name):
            return [by_name[name] for name in wanted]
    missing = [joint for joint in layout.joints if _plain(joint) not in by_name]
    surplus = sorted(set(by_name) - {_plain(joint) for joint in layout.joints})
    raise DataError(path, f"its joints are not those of the layout {layout.name!r}: missing "
                          f"{shorten_list(missing) or 'none'}; unknown {shorten_list(surplus) or 'none'}",
                    "Name the joints as in the layout, or number them from 0")


def _channels(axes, path):
    for name, channels in CHANNEL_NAMES.items():
        if set(channels) == set(axes):
            return name
    raise DataError(path, f"its joints have {', '.join(axes)}, expected x, y and, optionally, z and score")


def _whole(table, name):
    """A column of integers ``(rows,)``, or None if the table has no column of that name."""
    if name not in table.header:
        return None
    column = table.header.index(name)
    values = table.numbers([column])[:, 0]
    bad = np.flatnonzero(~(values == np.round(values)) | (np.abs(values) > 1e9))
    if bad.size:
        raise DataError(table.where(bad[0], column), f"found {table.rows[bad[0]][column]!r}, expected an integer")
    return values.astype(int)


def _long_form(table, layout):
    """One row per joint: the columns frame, joint, x, y and, optionally, person, z, score."""
    known = ("frame", "person", "joint", *AXES)
    for c, name in enumerate(table.header):
        if name not in known or name in table.header[:c]:
            raise DataError(f"{table.path}: column {c + 1}", f"unknown or duplicate name {name!r}", LONG_FORM)
    for name in ("frame", "x", "y"):
        if name not in table.header:
            raise DataError(table.path, f"has no column {name!r}", LONG_FORM)
    axes = {AXES[name]: c for c, name in enumerate(table.header) if name in AXES}
    names = [axis for axis in ("x", "y", "z", "score") if axis in axes]
    person = _whole(table, "person")
    values = table.numbers([axes[axis] for axis in names])
    joint = _joint_numbers(table, layout)
    person = np.zeros(len(values), int) if person is None else person
    keypoint = _placed(table, _whole(table, "frame"), person, joint, values, layout.num_joints)
    return keypoint, _channels(names, table.path)


def _joint_numbers(table, layout):
    column = table.header.index("joint")
    numbers = {_plain(joint): j for j, joint in enumerate(layout.joints)}
    numbers.update({key: j for j in range(layout.num_joints) for key in (str(j), f"joint_{j}")})
    cells = [row[column] for row in table.rows]
    known = {cell: numbers.get(_plain(cell)) for cell in set(cells)}
    for i, cell in enumerate(cells):
        if known[cell] is None:
            raise DataError(table.where(i, column), f"found the joint {cell!r}, expected a name of the layout "
                            f"{layout.name!r} or 0..{layout.num_joints - 1}")
    return np.array([known[cell] for cell in cells])


def _placed(table, frame, person, joint, values, joints):
    """The array ``(M, T, V, C)`` of rows with their frames, persons and joints; NaN where there is no row."""
    frames = int(frame.max() - frame.min()) + 1
    present = len(np.unique(frame))
    if frames > 10 * present + MAX_FRAME_GAP:
        raise DataError(table.path, f"its frames are numbered from {frame.min()} to {frame.max()}, but there are "
                                    f"only {present}", "Number the frames consecutively")
    people, person = np.unique(person, return_inverse=True)
    if len(people) * frames * joints * values.shape[-1] > MAX_FILE_VALUES:
        raise DataError(table.path, f"the array of its {frames} frames with {len(people)} persons would hold more "
                                    f"than {MAX_FILE_VALUES} numbers",
                        "Split it into several files, or use one number for persons who follow one another")
    place = (person, frame - frame.min()) + (() if joint is None else (joint,))
    taken, first = np.unique(np.stack(place), axis=1, return_index=True)
    if taken.shape[1] != len(values):
        row = np.setdiff1d(np.arange(len(values)), first)[0]
        raise DataError(f"{table.path}: row {table.lines[row]}", f"duplicate row of frame {frame[row]}, person "
                        f"{people[person[row]]}{'' if joint is None else f', joint {joint[row]}'}")
    result = np.full((len(people), frames, joints, values.shape[-1]), np.nan)
    result[place] = values
    return result
