"""NTU RGB+D 60 and 120: ``.skeleton`` files to ``.npy`` sets and annotation pickles, with the published splits."""
import logging
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..data.writers import save_pickle, writing_annotations, writing_npy
from ..errors import ConfigError, DataError
from .journal import Journal, list_sources, read_all
from .ntu_bodies import align_spine, centre_spine, choose_persons, pad_sequence
from .ntu_skeleton import NTU_JOINTS, read_bodies
from .outputs import array_paths, log_summary, require_samples, require_space, training_line, write_skipped

logger = logging.getLogger(__name__)

MAX_NTU_FRAMES = 300
RECORDING_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
PROTOCOLS = {60: ("xsub", "xview"), 120: ("xsub", "xset")}
NTU_PARTS = ("train", "val")
STEMS = {60: "ntu-rgb-d", 120: "ntu-rgb-d120"}
# The 53 subjects of NTU RGB+D 120; those up to 40 are the 20 subjects of NTU RGB+D 60.
TRAINING_SUBJECTS = frozenset((
    1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38, 45, 46, 47, 49, 50, 52, 53, 54, 55, 56,
    57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103))
TRAINING_CAMERAS = (2, 3)
PAIR_ACTIONS = frozenset((*range(50, 61), *range(106, 121)))  # actions of two persons
MISSING_HINT = ("The authors list {} recordings with missing or incomplete skeletons, which published accuracies omit. "
                "Get the text file from their page (NTURGB-D on GitHub, 'Samples with missing skeletons') and pass it "
                "with --missing")
MISSING_COUNT = {60: 302, 120: 535}
LISTED = "listed: in the list of missing skeletons"
MIN_TEXT_RATIO = 7  # file bytes per byte of coordinates; real files have about 10
NTU_FORMAT = 1  # version of the journal; increase it whenever reading or the choice of persons changes


@dataclass(frozen=True)
class Recording:
    """What a file name such as ``S001C002P003R002A013`` says."""
    setup: int
    camera: int
    subject: int
    repetition: int
    action: int

    @classmethod
    def of(cls, name):
        """The recording of a name without suffix; None for any other name."""
        found = RECORDING_NAME.fullmatch(name)
        return found and cls(*map(int, found.groups()))

    def is_training(self, protocol):
        """Whether it belongs to the training set of ``xsub``, ``xview`` or ``xset``, and not to the validation set."""
        return {"xsub": self.subject in TRAINING_SUBJECTS, "xview": self.camera in TRAINING_CAMERAS,
                "xset": self.setup % 2 == 0}[protocol]


@dataclass(frozen=True)
class Choices:
    """What to write.

    Attributes:
        classes: 60 or 120; recordings of other actions are omitted.
        protocols: some of the set's ``PROTOCOLS``; empty: all.
        forms: ``npy``, ``pickle`` or both.
        centred: whether to call ``centre_spine``; None: for ``npy``, but not for ``pickle``, whose configs do it.
        aligned: whether to call ``align_spine``.
        repeat: pad ``.npy`` sets by repeating the sequence; otherwise with zeros.
        dtype: type of a pickle's coordinates, ``float32`` or ``float16``.
        bystanders: keep a second person also in actions of one person.
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
        """The function of ``(M, T, 25, 3)`` that centres and aligns the persons for a form."""
        centred = form == "npy" if self.centred is None else self.centred
        return partial(centre_and_align, centred=centred, aligned=self.aligned)


def import_ntu(folders, output, choices, missing=None, workers=0, strict=False):
    """Import the ``.skeleton`` files of some folders.

    Args:
        folders: one or more folders of unpacked files, which form one set.
        output: folder to write: for 60 classes ``ntu-rgb-d/<protocol>/{train,val}_data.npy`` and ``_label.pkl`` and
            ``ntu60_3danno.pkl``, for 120 classes ``ntu-rgb-d120/…`` and ``ntu120_3danno.pkl``.
        choices: ``Choices``.
        missing: the authors' text file with names of recordings to omit; None: omit none.
        workers: number of processes; 0: this one.
        strict: stop at the first unusable file; otherwise skip and list such files.

    Returns:
        paths of the files written.

    Raises:
        ConfigError: a protocol that the set does not have, or a recording in two folders.
        DataError: no file is usable; with ``strict``: a file is unusable.
        OutputError: the output cannot be written, or its disk is too small.
    """
    output, stem, known = Path(output), f"ntu{choices.classes}", PROTOCOLS[choices.classes]
    protocols = choices.protocols or known
    if not set(protocols) <= set(known):
        raise ConfigError("--protocols", f"found {' '.join(protocols)}, expected some of {' '.join(known)}",
                          f"These are the protocols of NTU RGB+D {choices.classes}")
    sources, skipped = select_recordings(folders, choices.classes, load_missing(missing) if missing else ())
    if not missing:
        logger.warning(MISSING_HINT.format(MISSING_COUNT[choices.classes]))
    require_space(output, required_bytes(sources, len(protocols), choices.forms))
    folder, pickle, files = output / STEMS[choices.classes], output / f"{stem}_3danno.pkl", []
    settings = {"format": NTU_FORMAT, "bystanders": choices.bystanders}
    with Journal(output / f".import-{stem}", settings, sources) as journal:
        read_all(journal, partial(read_persons, bystanders=choices.bystanders), workers, strict, "file")
        samples, bad = journal.outcome()
        require_samples(samples, skipped + bad, folders[0])
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
    logger.info("Now train: %s", training_command(output, choices))
    return [*files, listing]


def required_bytes(sources, protocols, forms):
    """The most bytes that an import needs, for its journal and its outputs."""
    coordinates = sum(source.size for source in sources) // MIN_TEXT_RATIO
    arrays = len(sources) * 3 * MAX_NTU_FRAMES * NTU_JOINTS * 2 * 4
    return coordinates + ("npy" in forms) * protocols * arrays + ("pickle" in forms) * coordinates


def select_recordings(folders, classes, missing):
    """The ``Source``s of a set, sorted by name, and ``(file, reason)`` of the skipped files."""
    sources, skipped, others = {}, [], 0
    for source in (source for folder in folders for source in list_sources(folder, ".skeleton")):
        recording = Recording.of(source.name)
        if source.name in sources:
            raise ConfigError(source.path, f"is also in {Path(sources[source.name].path).parent}",
                              "Keep each recording in one folder only")
        if recording is None:
            skipped.append((Path(source.path).name, "name: expected SsssCcccPpppRrrrAaaa"))
        elif source.name in missing:
            skipped.append((Path(source.path).name, LISTED))
        elif 1 <= recording.action <= classes:
            sources[source.name] = source
        else:
            others += 1
    if others:
        logger.info("%d recordings of actions other than 1 to %d are omitted", others, classes)
    if not sources:
        raise DataError(folders[0], f"has no recording of the actions 1 to {classes}",
                        "Check --classes, and that the files are NTU RGB+D's")
    return [sources[name] for name in sorted(sources)], skipped


def load_missing(path):
    """The names in the authors' list of missing skeletons; other lines are ignored.

    Raises:
        DataError: the list cannot be read, or has no name.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "Pass the authors' text file") from error
    names = {line.strip().removesuffix(".skeleton") for line in text.splitlines()}
    names = {name for name in names if RECORDING_NAME.fullmatch(name)}
    if not names:
        raise DataError(path, "has no recording name, expected lines such as S001C002P005R002A008",
                        "Pass the authors' list of samples with missing skeletons")
    logger.info("%s: %d recordings to omit", path, len(names))
    return names


def read_persons(source, bystanders):
    """The persons of a recording, ``(M, T, 25, 3)``, and an empty dict of facts."""
    pair = Recording.of(source.name).action in PAIR_ACTIONS
    return choose_persons(read_bodies(source.path), 2 if pair or bystanders else 1), {}


def centre_and_align(persons, centred, aligned):
    """Persons ``(M, T, 25, 3)``, centred if ``centred``, then aligned if ``aligned``."""
    persons = centre_spine(persons) if centred else persons
    return align_spine(persons) if aligned else persons


def label_of(name):
    """The class of a recording: its action, numbered from 0."""
    return Recording.of(name).action - 1


def belongs(name, protocol, part):
    """Whether a recording belongs to ``train`` or ``val`` of a protocol."""
    return Recording.of(name).is_training(protocol) == (part == "train")


def write_arrays(journal, folder, protocols, change, repeat):
    """Write ``{train,val}_data.npy`` and ``_label.pkl`` for each protocol; returns their paths."""
    files, samples = [], journal.outcome()[0]
    cut = sum(result["shape"][1] > MAX_NTU_FRAMES for _, result in samples)
    if cut:
        logger.warning("%d samples are longer than %d frames and were cut", cut, MAX_NTU_FRAMES)
    for protocol in protocols:
        for part in NTU_PARTS:
            chosen = partial(belongs, protocol=protocol, part=part)
            names = [name for name, _ in samples if chosen(name)]
            if not names:
                logger.warning("%s has no samples for %s, which is not written", protocol, part)
                continue
            data, labels = folder / protocol / f"{part}_data.npy", folder / protocol / f"{part}_label.pkl"
            with writing_npy(data, (len(names), 3, MAX_NTU_FRAMES, NTU_JOINTS, 2), "<f4") as write:
                for _, _, persons in journal.samples(chosen):
                    write(pad_sequence(change(persons), MAX_NTU_FRAMES, repeat))
            save_pickle((names, [label_of(name) for name in names]), labels)
            files += [data, labels]
    return files


def write_annotations(journal, path, protocols, change, dtype):
    """Write an annotation pickle with ``split`` and ``annotations``, as pyskl's ``ntu60_3danno.pkl``."""
    names = [name for name, _ in journal.outcome()[0]]
    with writing_annotations(path) as write:
        for source, _, persons in journal.samples():
            write({"frame_dir": source.name, "label": label_of(source.name), "total_frames": persons.shape[1],
                   "keypoint": change(persons).astype(dtype)})
        write.rest = {"split": {f"{protocol}_{part}": [name for name in names if belongs(name, protocol, part)]
                                for protocol in protocols for part in NTU_PARTS}}


def training_command(output, choices):
    """The command that trains on the import: CTR-GCN on ``.npy`` sets, ST-GCN++ on a pickle."""
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
