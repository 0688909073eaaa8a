"""Splits: every sample in one part, shares as exact as whole numbers can be, no subject on both sides."""
import pickle
from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.data.datasets import build_dataset
from paddlevideo_skel.data.readers import read_annotations
from paddlevideo_skel.errors import ConfigError, DataError
from paddlevideo_skel.importers.split import (
    allocate,
    describe_parts,
    find_subjects,
    read_shares,
    split_by_class,
    split_by_subject,
    split_random,
    subject_key,
)


@st.composite
def shares(draw, most=4):
    """Two or more fractions that sum to 1."""
    weights = draw(st.lists(st.integers(1, 20), min_size=2, max_size=most))
    return [Fraction(weight, sum(weights)) for weight in weights]


@st.composite
def samples(draw):
    """Names and labels of up to 60 samples."""
    labels = draw(st.lists(st.integers(0, 5), min_size=1, max_size=60))
    return [f"v{i}" for i in draw(st.permutations(range(len(labels))))], labels


@given(st.integers(0, 200), shares())
def test_allocation_is_as_near_to_the_shares_as_whole_numbers_can_be(count, portions):
    sizes = allocate(count, portions)
    assert sum(sizes) == count and all(abs(size - count * share) < 1 for size, share in zip(sizes, portions))
    # Largest remainders give the least sum of squares of all ways to part (here: of all that round up or down).
    floors = [int(count * share) for share in portions]
    ways = [[f + u for f, u in zip(floors, ups)] for ups in product((0, 1), repeat=len(floors))
            if sum(floors) + sum(ups) == count]

    def off(way):
        return sum((size - count * share)**2 for size, share in zip(way, portions))

    assert off(sizes) == min(map(off, ways))


def test_allocation_in_numbers():
    assert allocate(10, ["0.8", "0.2"]) == [8, 2] and allocate(4, ["0.8", "0.2"]) == [3, 1]
    assert allocate(3, ["0.5", "0.5"]) == [2, 1] and allocate(100, ["0.29", "0.71"]) == [29, 71]
    assert allocate(7, [0.7, 0.15, 0.15]) == [5, 1, 1] and allocate(1, ["1/3", "2/3"]) == [0, 1]


@given(samples(), shares(), st.integers(0, 1000))
def test_class_by_class(given_, portions, seed):
    names, labels = given_
    parts = split_by_class(names, labels, portions, seed)
    for label, count in Counter(labels).items():
        sizes = [sum(1 for part, own in zip(parts, labels) if own == label and part == number)
                 for number in range(len(portions))]
        expected = allocate(count, portions)
        if count >= len(portions):
            assert 0 not in sizes and (0 in expected or sizes == expected)
        else:
            assert sizes == expected
    np.testing.assert_array_equal(parts, split_by_class(names, labels, portions, seed))
    # The order of the samples does not matter.
    mixed = np.random.default_rng(seed).permutation(len(names))
    again = split_by_class([names[i] for i in mixed], [labels[i] for i in mixed], portions, seed)
    np.testing.assert_array_equal(again, parts[mixed])


@given(st.integers(2, 60), shares(), st.integers(0, 1000))
def test_random(count, portions, seed):
    names = [f"v{i:03d}" for i in range(count)]
    parts = split_random(names, portions, seed)
    assert np.bincount(parts, minlength=len(portions)).tolist() == allocate(count, portions)
    np.testing.assert_array_equal(split_random(names[::-1], portions, seed), parts[::-1])


def test_chance_is_even():
    """Each of 20 samples is for validation about as often as each other: 2000 draws of 5."""
    names = [f"v{i:02d}" for i in range(20)]
    often = sum(split_random(names, ["0.75", "0.25"], seed) for seed in range(2000))
    assert often.sum() == 10000 and abs(often - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), shares(3), st.integers(0, 1000))
def test_no_subject_is_in_two_parts(subjects, portions, seed):
    subjects = [str(subject) for subject in subjects]
    sizes = allocate(len(set(subjects)), portions)
    if 0 in sizes:
        with pytest.raises(ConfigError, match=r"one of them empty|expected at least one for each"):
            split_by_subject(subjects, portions, seed)
        return
    parts = split_by_subject(subjects, portions, seed)
    where = {subject: {int(part) for part, own in zip(parts, subjects) if own == subject} for subject in subjects}
    assert all(len(own) == 1 for own in where.values())
    assert [sum(own == {number} for own in where.values()) for number in range(len(portions))] == sizes


def test_subjects_named_or_listed():
    names = ["S001C001P001R001A001", "S001C002P013R001A060"]
    assert find_subjects(names, r"P(\d+)") == ["1", "13"] and find_subjects(["a_anna", "b_otto"], "[a-z]+$") == [
        "anna", "otto"]
    assert subject_key(" 007 ") == "7" and subject_key("b07") == "b07"
    parts = split_by_subject(["1", "2", "3", "1"], ["0.5", "0.5"], 0, ["03", 1])
    assert parts.tolist() == [0, 1, 0, 0]
    for first in (["9"], ["1", "2", "3"]):
        with pytest.raises(ConfigError, match="expected some of 1, 2, 3"):
            split_by_subject(["1", "2", "3"], ["0.5", "0.5"], 0, first)
    with pytest.raises(DataError, match="does not match"):
        find_subjects(names, r"Q(\d+)")
    with pytest.raises(ConfigError, match="not a regular expression"):
        find_subjects(names, "(")


@pytest.mark.parametrize("texts", [["train=0.8"], ["train=0.8", "val=0.3"], ["a=0.5", "a=0.5"], ["a=x", "b=0.5"],
                                   ["a=0", "b=1"], ["../a=0.5", "b=0.5"], ["a", "b"], ["a=1/0", "b=1"], ["a=nan"]])
def test_wrong_shares(texts):
    with pytest.raises(ConfigError, match="part"):
        read_shares(texts)


def test_shares_are_exact():
    assert read_shares(["a=0.1", "b=0.2", "c=0.7"]) == {"a": Fraction(1, 10), "b": Fraction(1, 5), "c": Fraction(7, 10)}
    assert sum(read_shares(["a=1/3", "b=2/3"]).values()) == 1


def test_what_is_told():
    lines = describe_parts(np.array([0, 0, 1, 1]), ["train", "val"], [0, 1, 0, 0], ["walk", "run"],
                           ["1", "1", "2", "3"])
    assert lines == ["train: 2 samples (50.0%), 2 classes, 1 subjects: 1",
                     "val: 2 samples (50.0%), 1 classes, 2 subjects: 2 3",
                     "class run has only 1 samples: 1 in train, 0 in val"]


@pytest.fixture
def pickle_file(tmp_path):
    """Twenty samples of four classes by five subjects, with fields and a split that must stay."""
    rng = np.random.default_rng(0)
    annotations = [{"frame_dir": f"p{i % 5}_a{i % 4}_{i}", "label": i % 4, "total_frames": 3,
                    "keypoint": rng.normal(0, 1, (1, 3, 17, 2)).astype("float16"), "img_shape": (4, 6), "extra": [i]}
                   for i in range(20)]
    path = tmp_path / "set.pkl"
    path.write_bytes(pickle.dumps({"split": {"old": ["p0_a0_0"]}, "annotations": annotations, "note": "n"}))
    return path


def test_a_split_is_written_into_a_pickle(pickle_file, tmp_path, capsys):
    assert run_command("split-data", [str(pickle_file), "-o", str(tmp_path / "out.pkl"), "--parts", "train=0.6",
                                      "val=0.4", "--by", "subject", "--subject", r"p(\d)"]) == 0
    assert "train: 12 samples (60.0%), 4 classes, 3 subjects" in capsys.readouterr().out
    before, after = (pickle.loads(path.read_bytes()) for path in (pickle_file, tmp_path / "out.pkl"))
    assert after["split"].pop("old") == before["split"]["old"] and after["note"] == "n"
    parted = [name for names in after["split"].values() for name in names]
    assert sorted(parted) == sorted(a["frame_dir"] for a in before["annotations"])
    for a, b in zip(before["annotations"], after["annotations"], strict=True):
        assert a["keypoint"].tobytes() == b["keypoint"].tobytes() and a.keys() == b.keys() and a["extra"] == b["extra"]
    sides = [{a.name[:2] for a in read_annotations(tmp_path / "out.pkl", part)} for part in ("train", "val")]
    assert not sides[0] & sides[1] and len(sides[0]) == 3
    again = ["split-data", [str(tmp_path / "out.pkl"), "-o", str(tmp_path / "out.pkl")]]
    assert run_command(*again) == 2 and "--replace" in capsys.readouterr().err
    again[1].append("--replace")
    assert run_command(*again) == 0
    assert len(read_annotations(tmp_path / "out.pkl", "train")) == 16


def test_a_list_of_subjects_and_named_ones(pickle_file, tmp_path):
    (tmp_path / "who.csv").write_text("name,subject\n" + "".join(f"p{i % 5}_a{i % 4}_{i},{i % 5 + 1:03d}\n"
                                                                 for i in range(20)))
    assert run_command("split-data", [str(pickle_file), "-o", str(tmp_path / "out.pkl"), "--by", "subject",
                                      "--subject", str(tmp_path / "who.csv"), "--first_subjects", "1", "4"]) == 0
    assert {a.name[:2] for a in read_annotations(tmp_path / "out.pkl", "train")} == {"p0", "p3"}
    (tmp_path / "who.csv").write_text("p0_a0_0,1\n")
    assert run_command("split-data", [str(pickle_file), "-o", str(tmp_path / "out2.pkl"), "--by", "subject",
                                      "--subject", str(tmp_path / "who.csv")]) == 2


def test_arrays_are_parted_sample_by_sample(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.normal(0, 1, (20, 3, 6, 5, 2)).astype("float16")
    np.save(tmp_path / "all_data.npy", data)
    names, labels = [f"v{i}" for i in range(20)], [i % 4 for i in range(20)]
    (tmp_path / "all_label.pkl").write_bytes(pickle.dumps((names, labels)))
    argv = [str(tmp_path / "all_data.npy"), "-o", str(tmp_path / "out")]
    assert run_command("split-data", argv) == 0
    seen = set()
    for part, count in (("train", 16), ("val", 4)):
        dataset = build_dataset({"format": "SkeletonDataset", "file_path": str(tmp_path / "out" / f"{part}_data.npy"),
                                 "label_path": str(tmp_path / "out" / f"{part}_label.pkl")}, "train", 4)
        assert len(dataset) == count and np.bincount(dataset.labels).tolist() == [count // 4] * 4
        for i, name in enumerate(dataset.names):
            number = names.index(name)
            assert dataset.data[i].tobytes() == data[number].tobytes() and dataset.labels[i] == labels[number]
            seen.add(name)
    assert seen == set(names)
    assert run_command("split-data", argv) == 2
    assert run_command("split-data", [*argv, "--replace"]) == 0
    # The input is never written over.
    assert run_command("split-data", [str(tmp_path / "out" / "train_data.npy"), "-o", str(tmp_path / "out"),
                                      "--replace"]) == 2
    np.save(tmp_path / "short_label.npy", np.zeros(3, int))
    assert run_command("split-data", [*argv, "--replace", "--labels", str(tmp_path / "short_label.npy")]) == 2


def test_wrong_commands(pickle_file, tmp_path, capsys):
    def error(*argv):
        assert run_command("split-data", [str(pickle_file), "-o", str(tmp_path / "bad.pkl"), *argv]) == 2
        assert not (tmp_path / "bad.pkl").exists()
        return capsys.readouterr().err

    assert "needs --subject" in error("--by", "subject")
    assert "belong to --by subject" in error("--subject", "p")
    assert "belong to --by subject" in error("--first_subjects", "1")
    assert "whose sum is" in error("--parts", "a=0.5", "b=0.6")
    assert "--seed" in error("--seed", "-1")
    assert "--labels" in error("--labels", "x.npy")
    assert "none of the 20 samples is in this part" in error("--by", "random", "--parts", "a=0.99", "b=0.01")
    assert "file not found" in (run_command("split-data", ["gone.pkl", "-o", "x.pkl"]), capsys.readouterr().err)[1]
    content = pickle.loads(pickle_file.read_bytes())
    for annotation in content["annotations"]:
        annotation["label"] = None
    pickle_file.write_bytes(pickle.dumps(content))
    assert "have no labels" in error()
    assert run_command("split-data", [str(pickle_file), "-o", str(tmp_path / "ok.pkl"), "--by", "random"]) == 0
