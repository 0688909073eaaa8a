"""Skeletons: layouts, and their adjacency matrices.

A layout has joints, the bones between them, a centre joint, and pairs of joints that mirror each other. The literature
derives adjacency matrices in two ways, and calls both "spatial":

* ``spatial``: ST-GCN's spatial configuration partitioning (Yan et al., AAAI 2018, section 3.3):
  neighbours at most one bone away, divided by whether they are nearer to the centre or farther from it.
* ``inward_outward``: the stack of identity, bones towards the centre, bones away from it, as CTR-GCN
  (Chen et al., ICCV 2021) and pyskl's mode ``spatial`` have it.
"""
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import ConfigError, near_miss
from .files import read_text


@dataclass(frozen=True)
class Layout:
    """A skeleton's joints and bones. Joint numbers start at 0.

    Attributes:
        joints: joint names, in the order of the data; their number is V.
        bones: pairs of joints. Their order within a pair does not matter, except between two joints that
            are equally far from the centre.
        center: the centre joint.
        left, right: joints on each side, so that ``left[i]`` mirrors ``right[i]``.
        bone_parents: for the bone feature, each joint's origin (V numbers; a joint that is its own origin
            has bone 0). None: the neighbour nearest to the centre. Some published features differ.
    """
    name: str
    joints: tuple
    bones: tuple
    center: int
    left: tuple = ()
    right: tuple = ()
    bone_parents: tuple = field(default=None)

    @property
    def num_joints(self):
        return len(self.joints)

    def hops_to(self, joint):
        """Number of bones from every joint to ``joint``, ``(V,)`` integers; -1 if there is no path."""
        hops, neighbours = np.full(self.num_joints, -1), [[] for _ in self.joints]
        for a, b in self.bones:
            neighbours[a].append(b)
            neighbours[b].append(a)
        hops[joint], frontier, distance = 0, [joint], 0
        while frontier:
            distance += 1
            reached = dict.fromkeys(k for j in frontier for k in neighbours[j])
            frontier = [k for k in reached if hops[k] < 0]
            hops[frontier] = distance
        return hops

    def inward_bones(self):
        """The bones as ``(child, parent)``, the parent nearer to the centre."""
        hops = self.hops_to(self.center)
        return tuple((b, a) if hops[a] < hops[b] else (a, b) for a, b in self.bones)

    def parents(self):
        """Each joint's origin for the bone feature, ``(V,)`` integers."""
        if self.bone_parents is not None:
            return np.array(self.bone_parents)
        parents = np.arange(self.num_joints)
        for child, parent in self.inward_bones():
            if parents[child] == child:
                parents[child] = parent
        return parents

    def to_dict(self):
        """The description of a layout in a config's YAML or an export's metadata."""
        spec = {"name": self.name, "joints": list(self.joints), "bones": [list(b) for b in self.bones],
                "center": self.center, "left": list(self.left), "right": list(self.right)}
        if self.bone_parents is not None:
            spec["bone_parents"] = list(self.bone_parents)
        return spec


def _names(text):
    return tuple(text.split())


_COCO = _names("nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
               "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle")
_COCO_SIDES = {"left": (1, 3, 5, 7, 9, 11, 13, 15), "right": (2, 4, 6, 8, 10, 12, 14, 16)}
# The bone feature of mmaction2 and pyskl for COCO takes both hips from the nose.
_COCO_PARENTS = (0, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 0, 0, 11, 12, 13, 14)
_NTU = _names("spine_base spine_mid neck head left_shoulder left_elbow left_wrist left_hand right_shoulder "
              "right_elbow right_wrist right_hand left_hip left_knee left_ankle left_foot right_hip right_knee "
              "right_ankle right_foot spine_shoulder left_hand_tip left_thumb right_hand_tip right_thumb")
_NTU_SIDES = {"left": (4, 5, 6, 7, 12, 13, 14, 15, 21, 22), "right": (8, 9, 10, 11, 16, 17, 18, 19, 23, 24)}
_NTU_BODY = ((0, 1), (1, 20), (2, 20), (3, 2), (4, 20), (5, 4), (6, 5), (7, 6), (8, 20), (9, 8), (10, 9), (11, 10),
             (12, 0), (13, 12), (14, 13), (15, 14), (16, 0), (17, 16), (18, 17), (19, 18))

_BUILT_IN = (
    Layout("ntu-rgb+d", _NTU, _NTU_BODY + ((21, 22), (22, 7), (23, 24), (24, 11)), 20, **_NTU_SIDES),
    # pyskl's and mmaction2's graphs hang both the hand's tip and the thumb on the hand.
    Layout("ntu-rgb+d-pyskl", _NTU, _NTU_BODY + ((21, 7), (22, 7), (23, 11), (24, 11)), 20, **_NTU_SIDES),
    # PaddleVideo's graph closes the face to the shoulders and joins the hips; its centre is the left hip.
    Layout("coco_keypoint", _COCO,
           ((0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12),
            (11, 13), (12, 14), (13, 15), (14, 16)), 11, bone_parents=_COCO_PARENTS, **_COCO_SIDES),
    Layout("coco", _COCO,
           ((15, 13), (13, 11), (16, 14), (14, 12), (11, 5), (12, 6), (9, 7), (7, 5), (10, 8), (8, 6), (5, 0), (6, 0),
            (1, 0), (3, 1), (2, 0), (4, 2)), 0, bone_parents=_COCO_PARENTS, **_COCO_SIDES),
    Layout("openpose",
           _names("nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip "
                  "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear"),
           ((4, 3), (3, 2), (7, 6), (6, 5), (13, 12), (12, 11), (10, 9), (9, 8), (11, 5), (8, 2), (5, 1), (2, 1),
            (0, 1), (15, 0), (14, 0), (17, 15), (16, 14)), 1,
           left=(5, 6, 7, 11, 12, 13, 15, 17), right=(2, 3, 4, 8, 9, 10, 14, 16),
           bone_parents=(0, 0, 1, 2, 3, 1, 5, 6, 2, 8, 9, 5, 11, 12, 0, 0, 14, 15)),
    Layout("fsd10",
           _names("nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip "
                  "right_hip right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear "
                  "left_ear left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel"),
           ((1, 8), (0, 1), (15, 0), (17, 15), (16, 0), (18, 16), (5, 1), (6, 5), (7, 6), (2, 1), (3, 2), (4, 3),
            (9, 8), (10, 9), (11, 10), (24, 11), (22, 11), (23, 22), (12, 8), (13, 12), (14, 13), (21, 14), (19, 14),
            (20, 19)),
           8, left=(5, 6, 7, 12, 13, 14, 16, 18, 19, 20, 21), right=(2, 3, 4, 9, 10, 11, 15, 17, 22, 23, 24)),
    Layout("hand", ("wrist",) + tuple(f"{finger}_{i}" for finger in ("thumb", "index", "middle", "ring", "little")
                                      for i in range(1, 5)),
           tuple((j, 0 if j % 4 == 1 else j - 1) for j in range(1, 21)), 0),
    Layout("kinect20",
           _names("hip_center spine shoulder_center head left_shoulder left_elbow left_wrist left_hand "
                  "right_shoulder right_elbow right_wrist right_hand left_hip left_knee left_ankle left_foot "
                  "right_hip right_knee right_ankle right_foot"),
           ((0, 1), (1, 2), (2, 3), (2, 4), (4, 5), (5, 6), (6, 7), (2, 8), (8, 9), (9, 10), (10, 11), (0, 12),
            (12, 13), (13, 14), (14, 15), (0, 16), (16, 17), (17, 18), (18, 19)), 1,
           left=(4, 5, 6, 7, 12, 13, 14, 15), right=(8, 9, 10, 11, 16, 17, 18, 19)),
)
LAYOUTS = {layout.name: layout for layout in _BUILT_IN}
MAX_JOINTS = 1000  # a body with face and hands has 133
STRATEGIES = ("spatial", "inward_outward", "uniform", "distance")
FILE_SUFFIXES = (".yaml", ".yml", ".json")  # of a file that describes a layout
LAYOUT_ALIASES = {"ntu_rgb_d": "ntu-rgb+d", "nturgb+d": "ntu-rgb+d", "handmp": "hand"}


def get_layout(spec, where="layout"):
    """The layout for a name, an alias, a description from YAML (a dict), or a ``Layout`` itself.

    A description has ``bones`` and ``center``, and ``joints`` as a list of names or a number; ``left`` and
    ``right`` are optional, as is ``one_based: true`` where joints are counted from 1.

    Raises:
        ConfigError: an unknown name, or a description that is no connected skeleton.
    """
    if isinstance(spec, Layout):
        return spec
    if isinstance(spec, dict):
        return _from_dict(spec, where)
    name = LAYOUT_ALIASES.get(spec, spec) if isinstance(spec, str) else None
    if name not in LAYOUTS:
        raise ConfigError(where, f"unknown layout {spec!r}", near_miss(spec, [*LAYOUTS, *LAYOUT_ALIASES]) +
                          ". Your own skeleton can be described in the config under LAYOUT")
    return LAYOUTS[name]


def read_layout(text):
    """The ``Layout`` that a command-line value names: a known name, or a YAML or JSON file that describes one.

    The file holds joints, bones and center, or one such description under LAYOUT.

    Raises:
        ConfigError: an unknown name, or not the description of a connected skeleton.
        DataError: the file cannot be read.
    """
    path = Path(text)
    if path.suffix.lower() not in FILE_SUFFIXES:
        return get_layout(text, "--layout")
    from .yaml_reader import parse_yaml  # prediction starts without YAML, which is slow to import

    content, name = parse_yaml(read_text(path), path), path.stem
    if isinstance(content, dict) and "LAYOUT" in content:
        described = content["LAYOUT"]
        if not isinstance(described, dict) or len(described) != 1:
            raise ConfigError(f"{path}: LAYOUT", f"found {str(described)[:80]}, expected one name with its description")
        (name, content), = described.items()
    if not isinstance(content, dict):
        raise ConfigError(path, f"found {str(content)[:80]!r}, expected joints, bones and center")
    return get_layout({"name": str(name), **content}, str(path))


def _from_dict(spec, where):
    known = ("name", "joints", "bones", "center", "left", "right", "bone_parents", "one_based")
    for key in spec:
        if key not in known:
            raise ConfigError(f"{where}.{key}", "is not a key of a layout", near_miss(key, known))
    for key in ("joints", "bones", "center"):
        if key not in spec:
            raise ConfigError(where, f"a layout needs {key!r}", f"Found only: {', '.join(map(str, spec)) or 'nothing'}")
    joints = spec["joints"]
    if isinstance(joints, int) and not isinstance(joints, bool) and 0 < joints <= MAX_JOINTS:
        joints = [f"joint_{i}" for i in range(joints)]
    if not isinstance(joints, (list, tuple)) or not 0 < len(joints) <= MAX_JOINTS:
        raise ConfigError(f"{where}.joints", f"found {str(joints)[:80]}, expected a list of names or a number from 1 "
                          f"to {MAX_JOINTS}")
    shift = 1 if spec.get("one_based") else 0

    def joint(value, key):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value - shift < len(joints):
            raise ConfigError(f"{where}.{key}", f"joint {value!r} is not among {shift}..{len(joints) - 1 + shift}")
        return value - shift

    def listed(key):
        values = spec.get(key) or ()
        if not isinstance(values, (list, tuple)):
            raise ConfigError(f"{where}.{key}", f"found {values!r}, expected a list")
        return values

    def joint_list(key):
        return tuple(joint(v, key) for v in listed(key))

    bones = []
    for bone in listed("bones"):
        if not isinstance(bone, (list, tuple)) or len(bone) != 2 or bone[0] == bone[1]:
            raise ConfigError(f"{where}.bones", f"found the bone {bone!r}, expected two different joints")
        bones.append((joint(bone[0], "bones"), joint(bone[1], "bones")))
    left, right = joint_list("left"), joint_list("right")
    if len(left) != len(right):
        raise ConfigError(f"{where}.left", f"{len(left)} joints on the left, {len(right)} on the right",
                          "left[i] must mirror right[i]")
    layout = Layout(str(spec.get("name", "custom")), tuple(map(str, joints)), tuple(bones),
                    joint(spec["center"], "center"), left, right, joint_list("bone_parents") or None)
    if layout.bone_parents is not None and len(layout.bone_parents) != layout.num_joints:
        raise ConfigError(f"{where}.bone_parents", f"{len(layout.bone_parents)} numbers for {layout.num_joints} joints")
    lonely = np.flatnonzero(layout.hops_to(layout.center) < 0)
    if lonely.size:
        names = ", ".join(f"{j + shift} ({layout.joints[j]})" for j in lonely)
        raise ConfigError(f"{where}.bones", f"no bones connect these joints to the centre: {names}")
    return layout


def adjacency(layout, strategy="spatial"):
    """Adjacency stack ``(K, V, V)`` float32 of a layout; column v holds what joint v sends to the others.

    Args:
        layout: a ``Layout``.
        strategy: ``spatial`` or ``inward_outward``, see the module's text, K is 3; ``uniform``: joints and
            neighbours in one matrix; ``distance``: joints themselves, then neighbours (ST-GCN, section 3.3).
            Columns are normalised to sum to 1 over the whole stack, with ``inward_outward`` over each of the
            directed matrices.

    Raises:
        ValueError: an unknown strategy.
    """
    if strategy in ("spatial", "uniform", "distance"):
        return _partition(layout, strategy)
    if strategy == "inward_outward":
        inward = _edges(layout.inward_bones(), layout.num_joints)
        return np.stack([np.eye(layout.num_joints), _normalise(inward), _normalise(inward.T)]).astype("float32")
    raise ValueError(f"strategy is {strategy!r}. {near_miss(strategy, STRATEGIES)}")


def _edges(pairs, num_joints):
    matrix = np.zeros((num_joints, num_joints))
    for source, target in pairs:
        matrix[target, source] = 1
    return matrix


def _normalise(matrix):
    return matrix / np.maximum(matrix.sum(axis=0, keepdims=True), 1)


def _partition(layout, strategy):
    bones = _edges(layout.bones, layout.num_joints)
    neighbours = _normalise(np.clip(bones + bones.T + np.eye(layout.num_joints), 0, 1))
    own = np.eye(layout.num_joints, dtype=bool)
    if strategy == "uniform":
        return neighbours[None].astype("float32")
    if strategy == "distance":
        return np.stack([neighbours * own, neighbours * ~own]).astype("float32")
    # st-gcn's code measures distance only up to one bone: joints two or more bones away from the centre count as
    # equally far. The paper draws it otherwise, but every published checkpoint has it.
    hops = np.minimum(layout.hops_to(layout.center), 2)
    target, source = hops[:, None], hops[None, :]
    return np.stack([neighbours * own, neighbours * (~own & (target >= source)),
                     neighbours * (target < source)]).astype("float32")
