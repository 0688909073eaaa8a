"""NTU RGB+D 60 and 120: raw ``.skeleton`` files → ``.npy`` sets and annotation pickles, with the published splits."""
import logging
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..data.writers import save_pickle, writing_annotations, writing_npy
from ..errors import ConfigError, DataError
from .journal import Journal, list_sources, read_all
from .ntu_bodies import align, centre, choose_persons, to_data
from .ntu_skeleton import JOINTS, read_bodies
from .outputs import array_paths, log_summary, need_room, need_samples, training_line, write_skipped

logger = logging.getLogger(__name__)

FRAMES = 300
NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
PROTOCOLS = {60: ("xsub", "xview"), 120: ("xsub", "xset")}
PARTS = ("train", "val")
STEMS = {60: "ntu-rgb-d", 120: "ntu-rgb-d120"}
# The 53 of NTU RGB+D 120; those up to 40 are the 20 of NTU RGB+D 60.
TRAINING_SUBJECTS = frozenset((
    1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38, 45, 46, 47, 49, 50, 52, 53, 54, 55, 56,
    57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103))
TRAINING_CAMERAS = (2, 3)
PAIR_ACTIONS = frozenset((*range(50, 61), *range(106, 121)))  # of two persons
MISSING_HINT = ("The authors list {} recordings whose skeletons are missing or incomplete; published accuracies leave "
                "them out: get the text file from their page (NTURGB-D on GitHub, 'Samples with missing skeletons') "
                "and name it with --missing")
MISSING_COUNT = {60: 302, 120: 535}
LISTED = "listed: stands in the list of missing skeletons"
TEXT_BYTES = 7  # of a file for each byte of coordinates; real files have about 10
FORMAT = 1  # of what the work folder holds; a change in reading or choosing must raise it


@dataclass(frozen=True)
class Recording:
    """What a file's name tells: ``S001C002P003R002A013``."""
    setup: int
    camera: int
    subject: int
    repetition: int
    action: int

    @classmethod
    def of(cls, name):
        """The recording of a name without suffix; None if it is none."""
        found = NAME.fullmatch(name)
        return found and cls(*map(int, found.groups()))

    def is_training(self, protocol):
        """Whether it is for training in ``xsub``, ``xview`` or ``xset``; otherwise it is for validation."""
        return {"xsub": self.subject in TRAINING_SUBJECTS, "xview": self.camera in TRAINING_CAMERAS,
                "xset": self.setup % 2 == 0}[protocol]


@dataclass(frozen=True)
class Choices:
    """What is made of the recordings.

    Attributes:
        classes: 60 or 120; recordings of other actions are left out.
        protocols: some of those of the set, ``PROTOCOLS``; empty: all.
        forms: of ``npy`` and ``pickle``.
        centred: see ``centre``; None: for ``npy``, not for ``pickle``, whose recipes do it themselves.
        aligned: see ``align``.
        repeat: ``.npy`` sets hold after a sequence's end the sequence from its beginning; otherwise zeros.
        dtype: of a pickle's coordinates, ``float32`` or ``float16``.
        bystanders: keep a second person in actions of one person too.
    """
    classes: int = 60
    protocols: tuple = ()
    forms: tuple = ("npy",)
    centred: bool = None
    aligned: bool = False
    repeat: bool = False
    dtype: str = "float32"
    bystanders: bool = False

    def change(self, form):
        """What is done to the persons of a recording for a form: a function of ``(M, T, 25, 3)``."""
        centred = form == "npy" if self.centred is None else self.centred
        return partial(prepare, centred=centred, aligned=self.aligned)


def import_ntu(folders, output, choices, missing=None, workers=0, strict=False):
    """Import the ``.skeleton`` files of some folders.

    Args:
        folders: of the unpacked files; more than one are taken together.
        output: folder; for 60 classes ``ntu-rgb-d/<protocol>/{train,val}_data.npy`` and ``_label.pkl`` and
            ``ntu60_3danno.pkl`` come into it, for 120 ``ntu-rgb-d120/…`` and ``ntu120_3danno.pkl``.
        choices: ``Choices``.
        missing: text file of the authors with the names of recordings to leave out; None: none.
        workers: processes; 0: this one.
        strict: stop at the first file that cannot be used; otherwise such are skipped and listed.

    Returns:
        the paths of the files written.

    Raises:
        ConfigError: the set has no such protocol, or a recording stands in two folders.
        DataError: nothing can be used; with ``strict``: the first file that cannot.
        OutputError: the output cannot be written, or has too little room.
    """
    output, stem, known = Path(output), f"ntu{choices.classes}", PROTOCOLS[choices.classes]
    protocols = choices.protocols or known
    if not set(protocols) <= set(known):
        raise ConfigError("--protocols", f"found {' '.join(protocols)}, expected some of {' '.join(known)}",
                          f"These are the protocols of NTU RGB+D {choices.classes}")
    sources, skipped = select(folders, choices.classes, load_missing(missing) if missing else ())
    if not missing:
        logger.warning(MISSING_HINT.format(MISSING_COUNT[choices.classes]))
    need_room(output, room(sources, len(protocols), choices.forms))
    folder, pickle, files = output / STEMS[choices.classes], output / f"{stem}_3danno.pkl", []
    with Journal(output / f".import-{stem}", {"format": FORMAT, "bystanders": choices.bystanders}, sources) as journal:
        read_all(journal, partial(read_persons, bystanders=choices.bystanders), workers, strict, "file")
        samples, bad = journal.outcome()
        need_samples(samples, skipped + bad, folders[0])
        if "npy" in choices.forms:
            files += write_arrays(journal, folder, protocols, choices.change("npy"), choices.repeat)
        if "pickle" in choices.forms:
            write_annotations(journal, pickle, protocols, choices.change("pickle"), choices.dtype)
            files.append(pickle)
        journal.remove()
    listing = output / f"{stem}_skipped.tsv"
    write_skipped(listing, skipped + bad)
    log_summary(stem, [(label_of(name), *result["shape"][:2]) for name, result in samples], skipped + bad, files,
                listing)
    logger.info("now train: %s", training_command(output, choices))
    return [*files, listing]


def room(sources, protocols, forms):
    """Bytes that an import needs at most: its journal, and what it writes."""
    coordinates = sum(source.size for source in sources) // TEXT_BYTES
    arrays = len(sources) * 3 * FRAMES * JOINTS * 2 * 4
    return coordinates + ("npy" in forms) * protocols * arrays + ("pickle" in forms) * coordinates


def select(folders, classes, missing):
    """The ``Source``s of a set, sorted by name, and ``(file, reason)`` for those that are left out."""
    sources, skipped, others = {}, [], 0
    for source in (source for folder in folders for source in list_sources(folder, ".skeleton")):
        recording = Recording.of(source.name)
        if source.name in sources:
            raise ConfigError(source.path, f"stands in {Path(sources[source.name].path).parent} too",
                              "Name every folder once")
        if recording is None:
            skipped.append((Path(source.path).name, "name: is not of the form SsssCcccPpppRrrrAaaa"))
        elif source.name in missing:
            skipped.append((Path(source.path).name, LISTED))
        elif 1 <= recording.action <= classes:
            sources[source.name] = source
        else:
            others += 1
    if others:
        logger.info("%d recordings of other actions than 1 to %d are left out", others, classes)
    if not sources:
        raise DataError(folders[0], f"holds no recording of the actions 1 to {classes}",
                        "Check --classes, and that these are the files of NTU RGB+D")
    return [sources[name] for name in sorted(sources)], skipped


def load_missing(path):
    """The names in the authors' list of missing skeletons; its lines of prose are passed over.

    Raises:
        DataError: it cannot be read, or holds no name.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "Name the authors' text file") from error
    names = {line.strip().removesuffix(".skeleton") for line in text.splitlines()}
    names = {name for name in names if NAME.fullmatch(name)}
    if not names:
        raise DataError(path, "holds no name of a recording, expected lines such as S001C002P005R002A008",
                        "Name the authors' list of samples with missing skeletons")
    logger.info("%s: %d names of recordings to leave out", path, len(names))
    return names


def read_persons(source, bystanders):
    """The persons of a recording, ``(M, T, 25, 3)``, and no further facts."""
    pair = Recording.of(source.name).action in PAIR_ACTIONS
    return choose_persons(read_bodies(source.path), 2 if pair or bystanders else 1), {}


def prepare(persons, centred, aligned):
    """Centred, then aligned, where that is asked for."""
    persons = centre(persons) if centred else persons
    return align(persons) if aligned else persons


def label_of(name):
    """The class of a recording: its action, counted from 0."""
    return Recording.of(name).action - 1


def belongs(name, protocol, part):
    """Whether a recording belongs to ``train`` or ``val`` of a protocol."""
    return Recording.of(name).is_training(protocol) == (part == "train")


def write_arrays(journal, folder, protocols, change, repeat):
    """Write ``{train,val}_data.npy`` and ``_label.pkl`` for each protocol; returns the paths."""
    files, samples = [], journal.outcome()[0]
    cut = sum(result["shape"][1] > FRAMES for _, result in samples)
    if cut:
        logger.warning("%d samples are longer than %d frames and were cut", cut, FRAMES)
    for protocol in protocols:
        for part in PARTS:
            chosen = partial(belongs, protocol=protocol, part=part)
            names = [name for name, _ in samples if chosen(name)]
            if not names:
                logger.warning("%s has no sample for %s: nothing is written for it", protocol, part)
                continue
            data, labels = folder / protocol / f"{part}_data.npy", folder / protocol / f"{part}_label.pkl"
            with writing_npy(data, (len(names), 3, FRAMES, JOINTS, 2), "<f4") as write:
                for _, _, persons in journal.samples(chosen):
                    write(to_data(change(persons), FRAMES, repeat))
            save_pickle((names, [label_of(name) for name in names]), labels)
            files += [data, labels]
    return files


def write_annotations(journal, path, protocols, change, dtype):
    """Write the annotation pickle: ``split`` and ``annotations``, as in pyskl's ``ntu60_3danno.pkl``."""
    names = [name for name, _ in journal.outcome()[0]]
    with writing_annotations(path) as write:
        for source, _, persons in journal.samples():
            write({"frame_dir": source.name, "label": label_of(source.name), "total_frames": persons.shape[1],
                   "keypoint": change(persons).astype(dtype)})
        write.rest = {"split": {f"{protocol}_{part}": [name for name in names if belongs(name, protocol, part)]
                                for protocol in protocols for part in PARTS}}


def training_command(output, choices):
    """The command that trains on what was written: CTR-GCN on ``.npy`` sets, ST-GCN++ on a pickle."""
    protocol = (choices.protocols or PROTOCOLS[choices.classes])[0]
    if "npy" in choices.forms:
        config, folder = "ctrgcn/ctrgcn_ntucs_joint.yaml", output / STEMS[choices.classes] / protocol
        given = array_paths(folder)
    else:
        config = "stgcn_plusplus/stgcn_plusplus_ntu3d_joint.yaml"
        path = output / f"ntu{choices.classes}_3danno.pkl"
        given = {f"DATASET.{part}.{key}": value
                 for part, split in (("train", "train"), ("valid", "val"), ("test", "val"))
                 for key, value in (("file_path", path), ("split", f"{protocol}_{split}"))}
    usual = choices.classes == 60 and protocol == "xsub" and output == Path("data")
    given = {} if usual else given
    if choices.classes != 60:
        given["MODEL.head.num_classes"] = choices.classes
    return training_line(config, given)
