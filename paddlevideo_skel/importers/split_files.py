"""A split written into the files of a data set: into an annotation pickle, or as pairs of ``.npy`` and ``.pkl``."""
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.readers import annotation_entries, parse_annotations
from ..data.writers import save_pickle, writing_npy
from ..errors import ConfigError, DataError
from ..safe_pickle import load_pickle
from .convert import open_array, splits_of
from .labels import read_label_list
from .split import describe_parts, find_subjects, split_by_class, split_by_subject, split_random, subject_key

WAYS = ("class", "subject", "random")


def choose_parts(names, labels, shares, by="class", seed=0, subject=None, first=None):
    """The part of each sample ``(N,)``, and the subject of each or None.

    Args:
        labels: class numbers, or None. shares: dict of part → share.
        by: one of ``WAYS``. subject: regular expression, or a list file ``name,subject``. first: see
            ``split_by_subject``.

    Raises:
        ConfigError, DataError: see ``splitting``; a part without a sample.
    """
    subjects, portions = None, list(shares.values())
    if (by == "subject") != (subject is not None) or (first is not None and by != "subject"):
        raise ConfigError("--by", f"found {by!r}; --subject and --first_subjects belong to --by subject, which needs "
                                  "--subject")
    if by == "subject":
        subjects = _listed(names, subject) if Path(subject).is_file() else find_subjects(names, subject)
        parts = split_by_subject(subjects, portions, seed, first)
    elif by == "random":
        parts = split_random(names, portions, seed)
    else:
        if labels is None:
            raise ConfigError("--by class", "the samples have no labels", "Choose --by random or --by subject")
        parts = split_by_class(names, labels, portions, seed)
    for number, part in enumerate(shares):
        if not (parts == number).any():
            raise DataError(part, f"no sample of {len(names)} is left for this part", "Choose other shares")
    return parts, subjects


def _listed(names, path):
    known = dict(read_label_list(path))
    for name in names:
        if name not in known:
            raise DataError(path, f"tells no subject for the sample {name!r}",
                            "Expected a line 'name,subject' for each")
    return [subject_key(known[name]) for name in names]


def split_pickle(path, output, shares, replace=False, **choice):
    """Write ``path`` again as ``output`` with the parts among its splits; all else in it stays as it is.

    Args:
        output: may be ``path``. shares: dict of part → share. replace: whether splits of these names may go.
        choice: see ``choose_parts``.

    Returns:
        lines that tell what each part holds.
    """
    content = load_pickle(path)
    entries, splits = annotation_entries(content, path)
    annotations, splits = parse_annotations(content, path), splits_of(splits, path)
    names, labels = [a.name for a in annotations], [a.label for a in annotations]
    there = [part for part in shares if part in splits]
    if there and not replace:
        raise ConfigError(path, f"has the splits {', '.join(there)} already", "Add --replace, or name the parts anew")
    labels = None if None in labels else labels
    parts, subjects = choose_parts(names, labels, shares, **choice)
    whole = content if isinstance(content, dict) and "annotations" in content else {"annotations": list(entries)}
    own = {part: [name for name, where in zip(names, parts) if where == number] for number, part in enumerate(shares)}
    save_pickle({**whole, "split": {**splits, **own}}, output)
    return describe_parts(parts, list(shares), labels, subjects=subjects)


def split_array(path, output, shares, labels=None, replace=False, progress=False, **choice):
    """Write ``{part}_data.npy`` and ``{part}_label.pkl`` into the folder ``output``, sample by sample.

    Args:
        path: ``.npy``. labels: its label file; None: see ``label_file``. Others: see ``split_pickle``; ``replace``:
            whether files of these names may go.
    """
    dataset = open_array(path, labels)
    names, numbers, inputs = dataset.names, dataset.labels.tolist(), [Path(file).resolve() for file in dataset.files]
    targets = [(Path(output) / f"{part}_data.npy", Path(output) / f"{part}_label.pkl") for part in shares]
    for target in (file for pair in targets for file in pair):
        if target.exists() and (not replace or target.resolve() in inputs):
            raise ConfigError(target, "is there already", "Choose another folder, or add --replace; the input itself "
                                                          "is never written over")
    parts, subjects = choose_parts(names, numbers, shares, **choice)
    for number, (data_file, labels_file) in enumerate(targets):
        inside = np.flatnonzero(parts == number).tolist()
        with writing_npy(data_file, (len(inside), *dataset.data.shape[1:]), dataset.data.dtype) as write:
            for i in tqdm(inside, desc=data_file.name, leave=False, disable=None if progress else True):
                write(dataset.read(i, i + 1)[0])
        save_pickle(([names[i] for i in inside], [numbers[i] for i in inside]), labels_file)
    return describe_parts(parts, list(shares), numbers, subjects=subjects)
