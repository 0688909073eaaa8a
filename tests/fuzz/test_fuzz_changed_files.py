"""Valid files of every format, changed in bytes: each reads as something valid, or is refused by the documented error.

``docs/reliability.md``, section "Bad input", says what is covered.
"""

import pytest
from fuzz_harness import CASES, CUTS, Session, mutate, numbered
from paths import SHARED

GROUPS = ("pickles", "arrays", "converters", "raw_files", "texts", "checkpoints", "road", "runs")
REAL = {"example_ntu60_skeleton.pkl": "annotations", "example_ucf101_skeleton.pkl": "annotations",
        "mini_ntu60_hrnet.pkl": "annotations", "example_ntu_rgbd_skeleton.npy": "sample_npy"}


def read_changed(session, seed, others, cuts=range(CUTS), cases=None):
    """Read the seed unchanged, cut, and changed in ``cases`` ways (None: all ``seed.cases``)."""
    folder, whole = session.prepare(seed.reader, seed.files), seed.files[seed.target]
    right = session.read(seed.reader, folder, seed.target, whole, "as it is", with_digest=True)
    assert right["outcome"] == "value", f"{seed.name}: {right['text']}"
    for cut in cuts:
        content = whole[:len(whole) * cut // CUTS]
        answer = session.read(seed.reader, folder, seed.target, content, f"its first {len(content)} bytes", True)
        if seed.whole and answer["outcome"] == "value" and answer["digest"] != right["digest"]:
            session.broke(seed.reader, folder, f"its first {len(content)} bytes", {**answer, "text": "read as another"})
    for number in range(seed.cases if cases is None else cases):
        part, how = mutate(seed.part(), numbered(seed.name, number), others)
        session.read(seed.reader, folder, seed.target, seed.with_part(part), f"case {number} of {seed.name!r}, {how}")


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_changed_files(session, seeds_of, group):
    seeds = seeds_of(group)
    for seed in seeds:
        read_changed(session, seed, [other.part() for other in seeds if other.target == seed.target])
    assert session.refused > session.count / 3  # the changes are not all harmless
    session.finish(f"changed files: {group}")


@pytest.mark.parametrize("group", GROUPS)
def test_some_changed_files(session, seeds_of, group):
    """A sample of the same cases for the fast tests."""
    seeds = seeds_of(group)
    for seed in seeds:
        read_changed(session, seed, [other.part() for other in seeds if other.target == seed.target], cuts=(CUTS // 2,),
                     cases=3)
    assert not session.broken, session.report()


@pytest.mark.slow
def test_a_changed_state_of_a_run(children, tmp_path):
    from fuzz_seeds import Seed

    session = Session(children["fuzz_paddle_readers"], tmp_path / "cases")
    folder = session.prepare("training_state", {})  # the reader makes the state where there is none
    state = (folder / "x.pdstate").read_bytes()
    read_changed(session, Seed("training_state", {"x.pdstate": state}, "x.pdstate", 180, whole=True), [state])
    session.finish("a changed state of a run")


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.joinpath("data").is_dir(), reason="the real samples are not here")
def test_changed_real_files(session):
    """Beyond the cases that are promised: the same with files of the data sets themselves."""
    from fuzz_seeds import Seed

    for name, reader in REAL.items():
        content, target = (SHARED / "data" / name).read_bytes(), f"x{name[-4:]}"
        read_changed(session, Seed(reader, {target: content}, target, 60, name, whole=True), [content])
    session.finish("changed real files")


def test_there_are_ten_thousand_cases():
    promised = {test: count for test, count in CASES.items() if test != "changed real files"}
    assert sum(promised.values()) >= 10_000
