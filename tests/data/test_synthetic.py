"""The generated samples: the figures' geometry, what can and cannot be told from them, and their files."""
import builtins
import pickle
import warnings

import numpy as np
import pytest

from paddlevideo_skel.data.synthetic import samples
from paddlevideo_skel.data.synthetic.actions import ACTIONS, PAIRS, REVERSED, perform
from paddlevideo_skel.data.synthetic.kinematics import Body
from paddlevideo_skel.errors import ConfigError, DataError, OutputError, UnavailableError
from paddlevideo_skel.plotting import draw_sequence
from paddlevideo_skel.skeleton import get_layout

NTU, COCO = get_layout("ntu-rgb+d"), get_layout("coco")
CLEAN = {"noise": 0, "missing": 0}


@pytest.fixture(scope="module")
def clean():
    return samples.generate(8, seed=3, **CLEAN)


@pytest.fixture(scope="module")
def clean_2d():
    return samples.generate(8, "coco", seed=3, **CLEAN)


@pytest.fixture(scope="module")
def noisy():
    return samples.generate(30, seed=5)


@pytest.fixture(scope="module")
def noisy_2d():
    return samples.generate(30, "coco", seed=5)


@pytest.fixture(scope="module")
def sample_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    return folder, samples.write_sample_set(folder, 4, seed=1, actions=("wave", "hug", "walk"), progress=False)


def action_of(annotation):
    return annotation.name.split("_", 1)[1].rsplit("_", 1)[0]


def same(first, second):
    return (first.name == second.name and first.keypoint.tobytes() == second.keypoint.tobytes()
            and (first.keypoint_score is None or first.keypoint_score.tobytes() == second.keypoint_score.tobytes()))


# What is asked for is what comes

@pytest.mark.parametrize("layout, joints, channels", [("ntu-rgb+d", 25, 3), ("coco", 17, 2), ("openpose", 18, 2)])
def test_shapes_and_balance(layout, joints, channels):
    annotations = samples.generate(3, layout, seed=1)
    assert np.bincount([a.label for a in annotations]).tolist() == [3] * len(ACTIONS)
    for a in annotations:
        assert a.keypoint.shape == (len(a.keypoint), a.total_frames, joints, channels)
        assert a.keypoint.dtype == np.float32
        assert ACTIONS[a.label] == action_of(a)
        if channels == 2:
            assert a.img_shape == (1080, 1920) and a.keypoint_score.shape == a.keypoint.shape[:3]
        else:
            assert a.img_shape is None and a.keypoint_score is None


def test_at_least_twelve_actions_and_two_for_two():
    assert len(set(ACTIONS)) == len(ACTIONS) >= 12
    assert len(PAIRS) >= 2 and len(REVERSED) >= 2 and {*PAIRS, *REVERSED, *REVERSED.values()} <= set(ACTIONS)


@pytest.mark.parametrize("layout", ["ntu-rgb+d", "coco"])
def test_same_seed_same_bits_whatever_the_rest(layout):
    whole = samples.generate(3, layout, seed=7)
    assert all(map(same, whole, samples.generate(3, layout, seed=7)))
    assert all(map(same, whole[len(ACTIONS):], samples.generate(2, layout, seed=7, start=1)))
    alone = samples.generate(3, layout, seed=7, actions=("hug", "wave"))
    by_name = {a.name: a for a in whole}
    assert all(same(a, by_name[a.name]) for a in alone)
    assert [a.label for a in alone] == [0, 1] * 3
    other = samples.generate(3, layout, seed=8)
    assert not any(map(same, whole, other))


def test_lengths_and_persons_vary(noisy):
    lengths = np.array([a.total_frames for a in noisy])
    assert lengths.min() >= 20 and lengths.max() <= 120 and len(set(lengths)) > 60
    persons = {action: [len(a.keypoint) for a in noisy if action_of(a) == action] for action in ACTIONS}
    for action in ACTIONS:
        assert set(persons[action]) == ({2} if action in PAIRS else {1, 2})
    alone = [n for action in ACTIONS if action not in PAIRS for n in persons[action]]
    assert 0.1 < np.mean(np.array(alone) == 2) < 0.2  # bystander=0.15


def test_person_order_varies():
    moving = []
    for a in samples.generate(20, seed=1, actions=("jump", "kick"), bystander=1, frames=(60, 60), **CLEAN):
        moving.append(np.ptp(a.keypoint, axis=1).max(axis=(1, 2)).argmax())
    assert 0.05 < np.mean(moving) < 0.5


def test_missing_joints_rate(noisy, noisy_2d):
    lost = np.concatenate([(a.keypoint == 0).all(axis=-1).ravel() for a in noisy])
    assert 0.015 < lost.mean() < 0.025
    score = np.concatenate([a.keypoint_score.ravel() for a in noisy_2d])
    zero = np.concatenate([(a.keypoint == 0).all(axis=-1).ravel() for a in noisy_2d])
    assert 0.015 < (score < 0.3).mean() < 0.03
    assert score[zero].max() < 0.3 and 0.3 < zero.sum() / (score < 0.3).sum() < 0.7
    assert score.min() >= 0 and score.max() <= 1 and np.median(score) > 0.8


# Geometry

def test_bones_keep_their_length_and_are_a_persons(clean):
    for a in clean:
        for person in a.keypoint:
            bones = np.stack([np.linalg.norm(person[:, i] - person[:, j], axis=-1) for i, j in NTU.bones], axis=1)
            assert np.ptp(bones, axis=0).max() < 1e-5
            length = {frozenset(bone): bones[0, k] for k, bone in enumerate(NTU.bones)}
            mirror = dict(zip(NTU.left + NTU.right, NTU.right + NTU.left))
            for i, j in NTU.bones:
                assert length[frozenset((i, j))] == pytest.approx(
                    length[frozenset((mirror.get(i, i), mirror.get(j, j)))], abs=1e-5)
    # Mean lengths in metres of a real NTU RGB+D skeleton (left and right, and over its frames).
    means = {(0, 1): 0.306, (1, 20): 0.229, (2, 20): 0.076, (3, 2): 0.136, (5, 4): 0.271, (6, 5): 0.23,
             (13, 12): 0.36, (14, 13): 0.347, (15, 14): 0.113, (4, 20): 0.153}
    for (i, j), expected in means.items():
        got = np.mean([np.linalg.norm(a.keypoint[0, 0, i] - a.keypoint[0, 0, j]) for a in clean])
        assert got == pytest.approx(expected, rel=0.12), (NTU.joints[i], NTU.joints[j])


def test_in_the_cameras_range(noisy, noisy_2d):
    for a in noisy:
        assert np.isfinite(a.keypoint).all()
        seen = a.keypoint[(a.keypoint != 0).any(axis=-1)]
        x, y, z = seen.T
        assert z.min() > 1.5 and z.max() < 4.8  # where the Kinect sees bodies
        assert np.abs(x / z).max() < 0.9 and np.abs(y / z).max() < 0.6
    for a in noisy_2d:
        assert np.isfinite(a.keypoint).all() and a.keypoint.min() >= 0
        assert a.keypoint[..., 0].max() <= 1919 and a.keypoint[..., 1].max() <= 1079


def test_smooth_without_noise():
    for a in samples.generate(4, seed=11, frames=(90, 120), **CLEAN):
        assert np.linalg.norm(np.diff(a.keypoint, 2, axis=1), axis=-1).max() < 0.3, a.name


def test_sides_are_not_mirrored(clean, clean_2d):
    """As in NTU RGB+D: facing the camera, the left shoulder has the smaller x, and is to the right in the picture."""
    for a, b in zip(clean, clean_2d):
        if action_of(a) in PAIRS + ("walk", "turn_around") or len(a.keypoint) == 2:
            continue
        assert (a.keypoint[0, :3, NTU.joints.index("left_shoulder"), 0]
                < a.keypoint[0, :3, NTU.joints.index("right_shoulder"), 0]).all()
        assert (b.keypoint[0, :3, COCO.joints.index("left_shoulder"), 0]
                > b.keypoint[0, :3, COCO.joints.index("right_shoulder"), 0]).all()


def test_both_layouts_show_the_same_scene(clean, clean_2d):
    shared = [joint for joint in NTU.joints if joint in COCO.joints]
    assert len(shared) == 12
    for a, b in zip(clean, clean_2d):
        assert a.name == b.name and a.label == b.label
        x, y, z = np.moveaxis(a.keypoint[:, :, [NTU.joints.index(j) for j in shared]], -1, 0)
        pixels = np.stack([960 - 1060 * x / z, 540 - 1060 * y / z], axis=-1)
        np.testing.assert_allclose(b.keypoint[:, :, [COCO.joints.index(j) for j in shared]], pixels, atol=0.1)



def test_figures_do_what_their_action_says():
    def play(action, seed):
        rng = np.random.default_rng(seed)
        return perform(action, [Body(rng) for _ in range(1 + (action in PAIRS))], 90, rng)

    def gap(first, second):
        return np.linalg.norm(first - second, axis=-1)

    for seed in range(10):
        figure, = play("sit_down", seed)
        assert figure["spine_base"][0, 1] - figure["spine_base"][-1, 1] > 0.25
        thigh = figure["left_hip"][-1] - figure["left_knee"][-1]
        assert abs(thigh[1]) < 0.35 * np.linalg.norm(thigh)
        figure, = play("raise_arms", seed)
        for side in ("left", "right"):
            assert figure[f"{side}_wrist"][0, 1] < figure["spine_base"][0, 1] + 0.15
            assert figure[f"{side}_wrist"][-1, 1] > figure["head"][-1, 1] - 0.1
        figure, = play("jump", seed)
        lowest = np.minimum(figure["left_ankle"][:, 1], figure["right_ankle"][:, 1])
        assert lowest.max() - lowest[0] > 0.12
        figure, = play("clap", seed)
        hands = gap(figure["left_hand"], figure["right_hand"])
        assert hands.min() < 0.12 and ((hands[1:-1] < hands[:-2]) & (hands[1:-1] < hands[2:])).sum() >= 2
        figure, = play("turn_around", seed)
        across = figure["right_shoulder"] - figure["left_shoulder"]
        assert (across[0] * across[-1]).sum() < -0.5 * (across[0] ** 2).sum()
        figure, = play("kick", seed)
        highest = max(figure["left_ankle"][:, 1].max(), figure["right_ankle"][:, 1].max())
        assert highest > 0.25
        first, second = play("handshake", seed)
        hands = min(gap(first[f"{side}_hand"], second[f"{side}_hand"]).min() for side in ("left", "right"))
        assert hands < 0.15
        first, second = play("high_five", seed)
        hands = min(gap(first[f"{side}_hand"], second[f"{side}_hand"]).min() for side in ("left", "right"))
        assert hands < 0.15
        first, second = play("hug", seed)
        assert gap(first["spine_mid"], second["spine_mid"]).min() < 0.4
        # A walker's foot on the ground does not slide.
        figure, = play("walk", seed)
        ankle = figure["left_ankle"]
        down = ankle[:, 1] < ankle[:, 1].min() + 0.005
        steps = np.abs(np.diff(ankle[:, 2]))[down[1:] & down[:-1]]
        assert np.median(steps) < 0.25 * np.abs(np.diff(figure["spine_base"][:, 2])).mean()


# What tells the classes apart

def features(annotations, ordered):
    """Numbers of a sequence: without order, mean and spread of the pose; with order, also last third - first third."""
    rows = []
    for a in annotations:
        keypoint = a.keypoint.astype(float)
        lost = (keypoint == 0).all(axis=-1) if a.keypoint_score is None else a.keypoint_score < 0.3
        keypoint[lost] = np.nan
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a joint may be lost throughout
            actor = np.nan_to_num(np.nanstd(keypoint, axis=1)).sum(axis=(1, 2)).argmax()
            person = keypoint[actor]
            if person.shape[-1] == 2:  # pixels: in heights of the body
                person = person / np.nanmax(np.nanmax(person[..., 1], 1) - np.nanmin(person[..., 1], 1))
            person = person - np.nanmean(person, axis=(0, 1))
            row = [np.nanmean(person, axis=0), np.nanstd(person, axis=0)]
            if ordered:
                third = max(1, len(person) // 3)
                row.append(np.nanmean(person[-third:], axis=0) - np.nanmean(person[:third], axis=0))
                row.append(np.nanmean(np.abs(np.diff(person, axis=0)), axis=0))
        rows.append(np.append(np.concatenate([np.nan_to_num(part).ravel() for part in row]), len(keypoint)))
    return np.array(rows)


def accuracy(annotations, ordered):
    """Of ridge regression on one-hot labels, over the subjects that it has not seen."""
    x, y = features(annotations, ordered), np.array([a.label for a in annotations])
    train = np.isin([a.name for a in annotations], samples.cross_subject_split(annotations)["xsub_train"])
    x = (x - x[train].mean(axis=0)) / (x[train].std(axis=0) + 1e-9)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    target = np.eye(y.max() + 1)[y[train]]
    weight = np.linalg.solve(x[train].T @ x[train] + 10 * np.eye(x.shape[1]), x[train].T @ target)
    return ((x[~train] @ weight).argmax(axis=1) == y[~train]).mean()


@pytest.mark.parametrize("layout", ["ntu-rgb+d", "coco"])
@pytest.mark.parametrize("backwards", sorted(REVERSED))
def test_reversed_pairs_need_the_order(layout, backwards):
    annotations = samples.generate(150, layout, seed=2, actions=(REVERSED[backwards], backwards))
    assert 0.33 < accuracy(annotations, ordered=False) < 0.67  # 100 tested: chance ± 3.5 standard errors
    assert accuracy(annotations, ordered=True) > 0.9


@pytest.mark.parametrize("backwards", sorted(REVERSED))
def test_reversed_pairs_are_exact_reversals(backwards):
    first, second = (perform(action, [Body(np.random.default_rng(0))], 50, np.random.default_rng(1))[0]
                     for action in (backwards, REVERSED[backwards]))
    assert all((first[name] == second[name][::-1]).all() for name in first)


def test_classes_are_learnable(noisy, noisy_2d):
    for annotations in (noisy, noisy_2d):
        assert accuracy(annotations, ordered=True) > 0.8  # chance is 1/18


# Splits and files

def test_split_by_subject(noisy):
    split = samples.cross_subject_split(noisy)
    train, val = ({samples.subject_of(name) for name in split[part]} for part in ("xsub_train", "xsub_val"))
    assert train and val and not train & val and train | val == set(range(1, 31))
    assert len(split["xsub_train"]) + len(split["xsub_val"]) == len(noisy)
    with pytest.raises(DataError, match="S001_wave_p03"):
        samples.subject_of("nobody")


def test_a_subjects_body_is_always_the_same(clean):
    thigh = {}
    for a in clean:
        if len(a.keypoint) == 1:
            thigh.setdefault(samples.subject_of(a.name), []).append(
                np.linalg.norm(a.keypoint[0, 0, 12] - a.keypoint[0, 0, 13]))
    assert all(np.ptp(lengths) < 1e-5 for lengths in thigh.values())
    assert np.ptp([lengths[0] for lengths in thigh.values()]) > 0.02


def test_files_are_all_there_and_agree(sample_set):
    folder, paths = sample_set
    written = {p for p in folder.rglob("*") if p.is_file()}
    assert written == set(paths) and len(paths) == 9  # and no temporary file
    assert (folder / "class_names.txt").read_text().split() == ["wave", "hug", "walk"]
    sets = {}
    for name in ("ntu_3d", "coco_2d"):
        with open(folder / f"{name}.pkl", "rb") as file:
            sets[name] = pickle.load(file)
    by_name = {a["frame_dir"]: a for a in sets["ntu_3d"]["annotations"]}
    assert len(by_name) == 12 and sets["ntu_3d"]["split"] == sets["coco_2d"]["split"]
    for part in ("train", "val"):
        data = np.load(folder / "ntu" / "xsub" / f"{part}_data.npy", mmap_mode="r")
        with open(folder / "ntu" / "xsub" / f"{part}_label.pkl", "rb") as file:
            names, labels = pickle.load(file)
        assert names == sets["ntu_3d"]["split"][f"xsub_{part}"]
        assert data.shape == (len(names), 3, 300, 25, 2) and data.dtype == np.float32
        for row, name, label in zip(data, names, labels):
            a = by_name[name]
            persons, frames = a["keypoint"].shape[:2]
            assert a["label"] == label and a["total_frames"] == frames
            assert np.array_equal(row[:, :frames, :, :persons], a["keypoint"].transpose(3, 1, 2, 0))
            assert not row[:, frames:].any() and not row[..., persons:].any()
    for flat in sets["coco_2d"]["annotations"]:
        spatial = by_name[flat["frame_dir"]]
        assert flat["keypoint"].shape == (*spatial["keypoint"].shape[:2], 17, 2)
        assert flat["keypoint_score"].shape == flat["keypoint"].shape[:3]
        assert flat["keypoint"].dtype == flat["keypoint_score"].dtype == np.float16
        assert flat["img_shape"] == flat["original_shape"] == (1080, 1920)
        assert (flat["label"], flat["total_frames"]) == (spatial["label"], spatial["total_frames"])


def test_examples_are_samples_of_the_set(sample_set):
    folder, _ = sample_set
    with open(folder / "example_coco.pkl", "rb") as file:
        example = pickle.load(file)
    with open(folder / "coco_2d.pkl", "rb") as file:
        whole = pickle.load(file)
    assert example["frame_dir"] in whole["split"]["xsub_val"]
    data = np.load(folder / "example_ntu.npy")
    assert data.shape == (3, example["total_frames"], 25, 2) and data.dtype == np.float32
    rows = np.load(folder / "ntu" / "xsub" / "val_data.npy")
    row = rows[whole["split"]["xsub_val"].index(example["frame_dir"])]
    assert np.array_equal(row[:, :data.shape[1]], data)


def test_writing_twice_gives_the_same_bytes(sample_set, tmp_path):
    folder, paths = sample_set
    samples.write_sample_set(tmp_path, 4, seed=1, actions=("wave", "hug", "walk"), progress=False)
    for path in paths:
        assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="class_names"):
        samples.write_sample_set(tmp_path / "file", 3, progress=False)
    with pytest.raises(OutputError):
        samples.write_pickle(tmp_path / "file" / "a.pkl", [])


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.pkl"
    samples.write_pickle(path, samples.generate(1, actions=("wave",)))
    before = path.read_bytes()
    broken = samples.generate(1, actions=("wave",))
    broken[0].label = lambda: None  # cannot be pickled
    with pytest.raises((pickle.PicklingError, AttributeError)):
        samples.write_pickle(path, broken)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_what_does_not_fit_is_refused(tmp_path):
    annotations = samples.generate(3, actions=("wave",))
    with pytest.raises(DataError, match="max_frames"):
        samples.write_npy(tmp_path, annotations, max_frames=10)
    with pytest.raises(DataError, match="3 or more"):
        samples.write_npy(tmp_path, annotations[:1])
    with pytest.raises(ConfigError, match="_train or _val"):
        samples.write_npy(tmp_path, annotations, {"all": [annotations[0].name]})


@pytest.mark.parametrize("arguments, message", [
    ({"actions": ("wav",)}, "Did you mean 'wave'"), ({"actions": ("wave", "wave")}, "duplicate action"),
    ({"layout": "hand"}, "no joint 'wrist'"), ({"layout": "ntu"}, "unknown layout"), ({"seed": -1}, "seed"),
    ({"num_samples_per_class": 0}, "num_samples_per_class"), ({"frames": (30, 20)}, "frames"),
    ({"missing": 2}, "share")])
def test_wrong_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        samples.generate(**{"num_samples_per_class": 1, **arguments})


def test_too_few_for_a_split(tmp_path):
    with pytest.raises(ConfigError, match="3 or more"):
        samples.write_sample_set(tmp_path, 2, progress=False)


# Pictures

@pytest.mark.parametrize("layout", ["ntu-rgb+d", "coco"])
def test_film_strip(layout, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "strip.png"
    draw_sequence(samples.generate(1, layout, actions=("hug",))[0], layout, path, frames=4)
    pixels = image.imread(path)[..., :3]
    assert pixels.shape[1] > pixels.shape[0]
    for colour in ((0x1f, 0x77, 0xb4), (0xff, 0x7f, 0x0e)):  # matplotlib's blue for left, orange for right
        assert (np.abs(pixels - np.array(colour) / 255).max(axis=-1) < 0.05).sum() > 50
    assert list(tmp_path.iterdir()) == [path]


def test_film_strip_without_matplotlib(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnavailableError, match="plot"):
        draw_sequence(samples.generate(1, actions=("bow",))[0], "ntu-rgb+d", tmp_path / "strip.png")
