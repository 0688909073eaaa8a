"""The suite can fail: payloads do run where a reader lets them, and the watch and the limits see what they shall."""
import pickle

import fuzz_payloads
import numpy as np
import pytest
from fuzz_harness import Session
from fuzz_seeds import annotation_set, entry, npy

BROKEN = {
    "hang": "more than its 2 s", "hoard": "more than 1024 MiB",
    "hoard_and_say_no": "more than 1024 MiB", "abort": "SIGABRT", "look_elsewhere": "open ('/etc/hostname'",
    "write_elsewhere": "elsewhere", "start": "subprocess.Popen", "stumble": "KeyError", "leave": "SystemExit",
    "half": "assert np.isfinite(keypoint).all()",
}


@pytest.fixture
def unsafe(children, tmp_path):
    return Session(children["fuzz_unsafe_readers"], tmp_path / "cases")


@pytest.mark.parametrize("reader", BROKEN)
def test_what_no_reader_may_do_is_seen(unsafe, reader):
    folder = unsafe.folder / reader
    folder.mkdir(parents=True)
    (folder / "x.pkl").write_bytes(pickle.dumps(entry(0)))
    unsafe.child.read("nothing", folder, watched=False)
    answer = unsafe.child.read(reader, folder)
    assert answer["outcome"] == "broken" and BROKEN[reader] in f"{answer['text']} {answer['notes']}", answer


def test_after_a_broken_case_the_next_is_read(unsafe):
    folder = unsafe.prepare("nothing", {"x.pkl": b""})
    assert unsafe.child.read("abort", folder)["outcome"] == "broken"
    assert unsafe.child.read("nothing", folder)["outcome"] == "value"


@pytest.mark.parametrize("name", ["os.system", "eval", "exec", "subprocess", "runpy", "open", "os.mkdir", "shutil.copy",
                                  "pathlib", "np.save"])
def test_the_payloads_run_where_they_are_let(unsafe, tmp_path, name):
    evil = fuzz_payloads.calls(tmp_path / "mark")[name]
    folder = unsafe.prepare("nothing", {"x.pkl": pickle.dumps(evil)})
    answer = unsafe.child.read("as_pickle_does", folder)
    assert answer["outcome"] == "broken" and "pickle.find_class" in str(answer["notes"])
    assert list(tmp_path.glob("mark*"))


def test_so_do_those_in_arrays_and_tags(unsafe, tmp_path):
    mark, objects = tmp_path / "mark", np.empty(1, object)
    objects[0] = fuzz_payloads.calls(mark)["os.system"]
    files = {"x.npy": npy(objects), "x.yaml": f"a: !!python/object/apply:os.system ['touch {mark}']".encode()}
    folder = unsafe.prepare("nothing", files)
    for reader in ("as_numpy_does", "as_yaml_does"):
        assert "os.system" in str(unsafe.child.read(reader, folder)["notes"])
        mark.unlink()


def test_a_broken_case_is_kept_and_told(children, session, tmp_path):
    folder = session.prepare("annotations", {"x.pkl": annotation_set()})
    session.broke("annotations", folder, "this one", {"text": "it broke", "notes": []}, b"its bytes")
    with pytest.raises(AssertionError, match=r"1 of 0 cases broke:\nannotations, this one: it broke .*\n.*its bytes"):
        session.finish("bombs: values")


def test_a_missing_case_is_told(session):
    with pytest.raises(AssertionError, match=r"0 cases were read, expected \d+"):
        session.finish("bombs: values")
