"""Parting a data set: class by class, by subject, or at random; the same seed gives the same parts.

Shares are exact fractions. ``n`` things are parted by the method of the largest remainder: every part gets its share of
``n`` rounded down, and what is left goes, one by one, to the parts with the largest remainders, the first at a tie.
"""
import re
from fractions import Fraction

import numpy as np

from ..errors import ConfigError, DataError


def read_share(text, where):
    """A share between 0 and 1 as a ``Fraction``: texts such as ``0.8`` and ``2/3`` are meant exactly."""
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share < 1:
        raise ConfigError(where, f"found {text!r}, expected a share between 0 and 1, like 0.8")
    return share


def read_shares(texts):
    """Parts and their shares from texts such as ``train=0.8``: dict of name → ``Fraction``, summing to 1."""
    shares = {}
    for text in texts:
        name, equals, share = text.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+", name) or name in shares:
            raise ConfigError(f"part {text!r}", "expected a new name and a share, like train=0.8")
        shares[name] = read_share(share, f"part {text!r}")
    if sum(shares.values()) != 1:
        raise ConfigError("parts", f"found {' '.join(texts)}, whose shares sum to {float(sum(shares.values())):g}, "
                                   "expected 1", "For example train=0.8 val=0.2")
    return shares


def allocate(count, shares):
    """How many of ``count`` things each part gets: a list of whole numbers that sum to ``count``."""
    exact = [count * Fraction(str(share)) for share in shares]
    sizes = [int(amount) for amount in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda part: sizes[part] - exact[part])
    for part in by_remainder[:count - sum(sizes)]:
        sizes[part] += 1
    return sizes


def split_random(names, shares, seed):
    """The part of each sample, ``(N,)`` numbers from 0, by chance alone."""
    return _deal(sorted(range(len(names)), key=names.__getitem__), allocate(len(names), shares),
                 np.random.default_rng(seed), len(names))


def split_by_class(names, labels, shares, seed):
    """The part of each sample, ``(N,)``, such that every part has its share of each class.

    A part that would get none of a class gets one from the largest part, unless the class has fewer samples than there
    are parts.
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
    """The part of each sample, ``(N,)``, such that no subject is in two parts; shares are shares of the subjects.

    Args:
        subjects: the subject of each sample, texts.
        first: the subjects of the first part; all others are the second's. None: by chance.

    Raises:
        ConfigError: fewer subjects than parts; one in ``first`` that has no sample.
    """
    known = sorted(set(subjects))
    if len(known) < len(shares):
        raise ConfigError("subjects", f"found {len(known)} ({', '.join(known)}), expected one for each of the "
                                      f"{len(shares)} parts at least")
    if first is None:
        sizes = allocate(len(known), shares)
        if 0 in sizes:
            raise ConfigError("subjects", f"{len(known)} of them give parts of {sizes}: one would be empty",
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
    """What tells a subject: a number without leading zeros, or the text itself."""
    text = str(text).strip()
    return str(int(text)) if text.isascii() and text.isdigit() else text


def find_subjects(names, pattern):
    """The subject of each sample, the first group (or the whole match) of a regular expression in its name.

    Raises:
        ConfigError: the expression is none. DataError: a name in which it is not found.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"subject {pattern!r}", f"is no regular expression ({error})") from error
    subjects = []
    for name in names:
        found = expression.search(name)
        group = found and (found[1] if expression.groups else found[0])
        if not group:
            raise DataError(f"sample {name!r}", f"its name tells no subject by {pattern!r}",
                            "The expression's first group is the subject, like 'P(\\d+)'")
        subjects.append(subject_key(group))
    return subjects


def describe_parts(parts, part_names, labels, class_names=None, subjects=None):
    """Lines that tell what each part holds, and which classes are missing from one of them.

    Args:
        parts: part of each sample. labels: of each sample, or None where they are not known.
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
