"""Files made to do harm: nothing runs, nothing swells, nothing hangs, and no name leads out of its folder."""
from itertools import islice

import fuzz_bombs
import fuzz_documents
import fuzz_payloads
import pytest

JSON_FILES = (("examined_array", "examined.json"), ("kinetics_clip", "clip.json"),
              ("kinetics_labels", "kinetics_train_label.json"), ("keypoints_json", "x.json"),
              ("label_list_json", "list.json"), ("layout_file", "layout.yaml"), ("import_journal", "journal.jsonl"),
              ("export_folder", "tiny.metadata.json"), ("bin_folder", "bins.json"),
              ("results", "results/results.json"), ("results", "bins/bins.json"),
              ("begun_results", "results/begun.json"), ("begun_road", "deploy.json"),
              ("stream_of_frames", "frames.jsonl"), ("fused_results", "one.json"), ("config", "x.yaml"),
              ("run_lock", ".run.lock"))
DOCUMENTS = (("examined_array", "examined.json"), ("kinetics_labels", "kinetics_train_label.json"),
             ("kinetics_clip", "clip.json"), ("keypoints_json", "x.json"),
             ("label_list_json", "list.json"), ("export_folder", "tiny.metadata.json"),
             ("opened_export", "tiny.metadata.json"), ("bin_folder", "bins.json"), ("results", "results/results.json"),
             ("results", "bins/bins.json"), ("results_by_report", "results/results.json"),
             ("begun_results", "results/begun.json"), ("begun_results", "bins/bins.json"),
             ("fused_results", "one.json"), ("begun_road", "deploy.json"), ("run_lock", ".run.lock"))
ARRAYS = (("sample_npy", "x.npy"), ("npy_in_memory", "x.npy"), ("array_set", "x_data.npy"),
          ("array_set_with_npy_labels", "x_label.npy"), ("keypoints_npy", "x.npy"))
EVERY = 8  # of the documents with an entry replaced, one in so many is read, another part of them for each document


def for_readers(contents, readers):
    for content, what in contents:
        content = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        for reader, file in readers:
            yield reader, file, content, what


def replaced_documents(bases):
    for number, (reader, file) in enumerate(pair for pair in DOCUMENTS if pair[0] in bases):
        changed = list(fuzz_documents.replaced(bases[reader][file]))
        for content, what in changed[number % EVERY::EVERY]:
            yield reader, file, content, what


def overrides():
    for content, what in fuzz_documents.yaml_texts():
        yield f"MODEL.x={content.removeprefix('a: ')}", what


GROUPS = {
    "code in pickles": lambda bases, tmp, mark: fuzz_payloads.executing(mark),
    "code elsewhere": lambda bases, tmp, mark: fuzz_payloads.executing_otherwise(tmp, mark),
    "values": lambda bases, tmp, mark: fuzz_bombs.swollen_values(),
    "machines": lambda bases, tmp, mark: fuzz_bombs.swollen_machines(tmp),
    "headers": lambda bases, tmp, mark: for_readers(fuzz_documents.headers(), ARRAYS),
    "json": lambda bases, tmp, mark: for_readers(fuzz_documents.json_texts(), JSON_FILES),
    "documents": lambda bases, tmp, mark: replaced_documents(bases),
    "yaml": lambda bases, tmp, mark: for_readers(fuzz_documents.yaml_texts(), (("config", "x.yaml"),
                                                                          ("layout_file", "layout.yaml"))),
    "overrides": lambda bases, tmp, mark: for_readers(overrides(), (("config_override", "override.txt"),)),
    "layouts and sections": lambda bases, tmp, mark: fuzz_documents.yaml_documents(),
    "tables": lambda bases, tmp, mark: fuzz_documents.tables(),
    "names": lambda bases, tmp, mark: fuzz_documents.names(),
    "archives of arrays": lambda bases, tmp, mark: for_readers(fuzz_documents.archives_of_arrays(),
                                                               (("export_folder", "tiny.selfcheck.npz"),)),
}


def read_bombs(session, bases, tmp_path, group, every=1):
    """Read one case in ``every`` of a group."""
    mark, folders = tmp_path / "mark", {}
    (tmp_path / "work").mkdir()
    for reader, file, content, what in islice(GROUPS[group](bases, tmp_path / "work", mark), 0, None, every):
        if reader not in bases:
            continue
        if reader not in folders:
            folders[reader] = session.prepare(reader, bases[reader])
        session.read(reader, folders[reader], file, content, what)
    assert not list(tmp_path.glob("mark*"))


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_bombs(session, bases, tmp_path, group):
    read_bombs(session, bases, tmp_path, group)
    session.finish(f"bombs: {group}", whole="export_folder" in bases)


@pytest.mark.parametrize("group", GROUPS)
def test_some_bombs(session, bases, tmp_path, group):
    """A sample of the same cases for the fast tests."""
    read_bombs(session, bases, tmp_path, group, every=31)
    assert session.count and not session.broken, session.report()
