"""Split a data set by class, by subject or at random, and write the split; the same seed gives the same parts.

Shares are exact fractions. ``n`` samples are divided by the method of the largest remainder: every part gets its share
of ``n`` rounded down; the remaining samples go, one by one, to the parts with the largest remainders. On a tie, the
first part wins.
"""
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.readers import annotation_entries, parse_annotations
from ..data.writers import save_pickle, writing_npy
from ..errors import ConfigError, DataError
from ..safe_pickle import load_pickle
from .convert import open_array, splits_of
from .labels import read_label_list


def read_share(text, where):
    """A share between 0 and 1 as an exact ``Fraction``, from a text such as ``0.8`` or ``2/3``."""
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share < 1:
        raise ConfigError(where, f"found {text!r}, expected a share between 0 and 1, such as 0.8")
    return share


def read_shares(texts):
    """Parts and their shares from strings such as ``train=0.8``: dict of name → ``Fraction``; the sum is 1."""
    shares = {}
    for text in texts:
        name, equals, share = text.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+", name) or name in shares:
            raise ConfigError(f"part {text!r}", "expected a unique name and a share, such as train=0.8")
        shares[name] = read_share(share, f"part {text!r}")
    if sum(shares.values()) != 1:
        raise ConfigError("parts", f"found {' '.join(texts)}, whose sum is {float(sum(shares.values())):g}, expected "
                                   "1", "For example: train=0.8 val=0.2")
    return shares


def allocate(count, shares):
    """How many of ``count`` samples each part gets: a list of integers with the sum ``count``."""
    exact = [count * Fraction(str(share)) for share in shares]
    sizes = [int(amount) for amount in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda part: sizes[part] - exact[part])
    for part in by_remainder[:count - sum(sizes)]:
        sizes[part] += 1
    return sizes


def split_random(names, shares, seed):
    """The part of each sample, ``(N,)`` numbers from 0, drawn at random."""
    return _deal(sorted(range(len(names)), key=names.__getitem__), allocate(len(names), shares),
                 np.random.default_rng(seed), len(names))


def split_by_class(names, labels, shares, seed):
    """The part of each sample, ``(N,)``; every part gets its share of each class.

    A part that would get no sample of a class gets one from the largest part, unless the class has fewer samples than
    there are parts.
    """
    parts, rng = np.zeros(len(names), int), np.random.default_rng(seed)
    for label in sorted(set(labels)):
        members = sorted((i for i, other in enumerate(labels) if other == label), key=names.__getitem__)
        sizes = allocate(len(members), shares)
        while 0 in sizes and len(members) >= len(sizes):
            sizes[sizes.index(max(sizes))] -= 1
            sizes[sizes.index(0)] += 1
        chosen = _deal(members, sizes, rng, len(names))
        parts[members] = chosen[members]
    return parts


def split_by_subject(subjects, shares, seed, first=None):
    """The part of each sample, ``(N,)``; no subject is in two parts, and shares are shares of the subjects.

    Args:
        subjects: the subject of each sample, strings.
        first: subjects of the first part; all others are in the second. None: drawn at random.

    Raises:
        ConfigError: there are fewer subjects than parts, or one in ``first`` has no sample.
    """
    known = sorted(set(subjects))
    if len(known) < len(shares):
        raise ConfigError("subjects", f"found {len(known)} ({', '.join(known)}), expected at least one "
                                      f"for each of the {len(shares)} parts")
    if first is None:
        sizes = allocate(len(known), shares)
        if 0 in sizes:
            raise ConfigError("subjects", f"{len(known)} subjects give parts of {sizes}, one of them empty",
                              "Choose other shares")
        part_of = dict(zip(known, _deal(range(len(known)), sizes, np.random.default_rng(seed), len(known))))
    else:
        first = [subject_key(subject) for subject in first]
        unknown = sorted(set(first) - set(known))
        if unknown or len(shares) != 2 or set(first) == set(known):
            raise ConfigError("subjects of the first part", f"{', '.join(unknown) or 'found ' + ', '.join(first)}; "
                              f"expected some of {', '.join(known)}, and two parts")
        part_of = {subject: int(subject not in first) for subject in known}
    return np.array([part_of[subject] for subject in subjects])


def _deal(members, sizes, rng, count):
    parts = np.zeros(count, int)
    parts[rng.permutation(np.array(members))] = np.repeat(np.arange(len(sizes)), sizes)
    return parts


def subject_key(text):
    """The subject that a string names: a number without leading zeros, or the string itself."""
    text = str(text).strip()
    return str(int(text)) if text.isascii() and text.isdigit() else text


def find_subjects(names, pattern):
    """The subject of each sample: the first group, or the whole match, of a regular expression in its name.

    Raises:
        ConfigError: the expression is invalid.
        DataError: a name does not match it.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"subject {pattern!r}", f"is not a regular expression ({error})") from error
    subjects = []
    for name in names:
        found = expression.search(name)
        group = found and (found[1] if expression.groups else found[0])
        if not group:
            raise DataError(f"sample {name!r}", f"its name does not match {pattern!r}",
                            "The expression's first group is the subject, for example 'P(\\d+)'")
        subjects.append(subject_key(group))
    return subjects


def describe_parts(parts, part_names, labels, class_names=None, subjects=None):
    """Lines for the user about each part's samples, classes and subjects, and about classes missing in a part.

    Args:
        parts: the part of each sample.
        part_names: names of the parts.
        labels: the label of each sample, or None.
        class_names: names of the classes, or None.
        subjects: the subject of each sample, or None.
    """
    lines = []
    for number, name in enumerate(part_names):
        inside = np.flatnonzero(parts == number)
        words = [f"{name}: {len(inside)} samples ({len(inside) / len(parts):.1%})"]
        if labels is not None:
            words.append(f"{len({labels[i] for i in inside})} classes")
        if subjects is not None:
            own = sorted({subjects[i] for i in inside}, key=lambda s: (len(s), s))
            words.append(f"{len(own)} subjects: {' '.join(own)}")
        lines.append(", ".join(words))
    for label in sorted(set(labels or ())):
        counts = [sum(1 for i in np.flatnonzero(parts == number) if labels[i] == label)
                  for number in range(len(part_names))]
        if 0 in counts:
            name = class_names[label] if class_names else label
            lines.append(f"class {name} has only {sum(counts)} samples: " + ", ".join(
                f"{count} in {part}" for count, part in zip(counts, part_names)))
    return lines


def choose_parts(names, labels, shares, by="class", seed=0, subject=None, first=None):
    """The part of each sample ``(N,)``, and each sample's subject or None.

    Args:
        names: the samples' names.
        labels: class numbers, or None.
        shares: dict of part → share.
        by: ``class``, ``subject`` or ``random``.
        subject: regular expression, or the path of a list ``name,subject``.
        first: see ``split_by_subject``.

    Raises:
        ConfigError, DataError: see the functions above; or a part would be empty.
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
            raise DataError(part, f"none of the {len(names)} samples is in this part", "Choose other shares")
    return parts, subjects


def _listed(names, path):
    known = dict(read_label_list(path))
    for name in names:
        if name not in known:
            raise DataError(path, f"has no subject for the sample {name!r}",
                            "Write a line 'name,subject' for each sample")
    return [subject_key(known[name]) for name in names]


def split_pickle(path, output, shares, replace=False, **choice):
    """Write a copy of a pickle with the parts added to its splits; everything else stays the same.

    Args:
        path: annotation pickle.
        output: pickle to write; may be ``path``.
        shares: dict of part → share.
        replace: whether existing splits with these names may be replaced.
        choice: see ``choose_parts``.

    Returns:
        lines for the user about each part.
    """
    content = load_pickle(path)
    entries, splits = annotation_entries(content, path)
    annotations, splits = parse_annotations(content, path), splits_of(splits, path)
    names, labels = [a.name for a in annotations], [a.label for a in annotations]
    there = [part for part in shares if part in splits]
    if there and not replace:
        raise ConfigError(path, f"already has the splits {', '.join(there)}", "Add --replace, or choose other names")
    labels = None if None in labels else labels
    parts, subjects = choose_parts(names, labels, shares, **choice)
    whole = content if isinstance(content, dict) and "annotations" in content else {"annotations": list(entries)}
    own = {part: [name for name, where in zip(names, parts) if where == number] for number, part in enumerate(shares)}
    save_pickle({**whole, "split": {**splits, **own}}, output)
    return describe_parts(parts, list(shares), labels, subjects=subjects)


def split_array(path, output, shares, labels=None, replace=False, progress=False, **choice):
    """Write ``{part}_data.npy`` and ``{part}_label.pkl`` into the folder ``output``, sample by sample.

    Args:
        path: ``.npy`` file.
        output: folder to write to.
        shares: dict of part → share.
        labels: label file; None: see ``label_file``.
        replace: whether existing files with these names may be replaced.
        choice: see ``choose_parts``.

    Returns:
        lines for the user about each part.
    """
    dataset = open_array(path, labels)
    names, numbers, inputs = dataset.names, dataset.labels.tolist(), [Path(file).resolve() for file in dataset.files]
    targets = [(Path(output) / f"{part}_data.npy", Path(output) / f"{part}_label.pkl") for part in shares]
    for target in (file for pair in targets for file in pair):
        if target.exists() and (not replace or target.resolve() in inputs):
            raise ConfigError(target, "already exists", "Choose another folder, or add --replace; the input itself is "
                                                         "never replaced")
    parts, subjects = choose_parts(names, numbers, shares, **choice)
    for number, (data_file, labels_file) in enumerate(targets):
        inside = np.flatnonzero(parts == number).tolist()
        with writing_npy(data_file, (len(inside), *dataset.data.shape[1:]), dataset.data.dtype) as write:
            for i in tqdm(inside, desc=data_file.name, leave=False, disable=None if progress else True):
                write(dataset.read(i, i + 1)[0])
        save_pickle(([names[i] for i in inside], [numbers[i] for i in inside]), labels_file)
    return describe_parts(parts, list(shares), numbers, subjects=subjects)
