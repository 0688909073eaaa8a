"""Cases and the processes that read them: every case is one set of files given to one reader."""
import json
import os
import random
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
WALL = 300  # seconds; only for a process that waits: time that it computes is limited to much less
MAX_BROKEN = 6  # cases after which a test ends: each may take two seconds
EXAMPLES = 100  # that hypothesis makes for a test
CUTS = 8  # places at which a file is cut
# How many cases each test reads at least. Their sum is what the documentation promises.
CASES = {
    "a changed state of a run": 180,
    "bombs: archives of arrays": 18,
    "bombs: code elsewhere": 280,
    "bombs: code in pickles": 640,
    "bombs: documents": 970,
    "bombs: headers": 540,
    "bombs: json": 560,
    "bombs: layouts and sections": 360,
    "bombs: machines": 310,
    "bombs: names": 390,
    "bombs: overrides": 240,
    "bombs: tables": 190,
    "bombs: values": 2020,
    "bombs: yaml": 480,
    "changed files: arrays": 850,
    "changed files: checkpoints": 860,
    "changed files: converters": 750,
    "changed files: pickles": 1140,
    "changed files: raw_files": 1120,
    "changed files: road": 1810,
    "changed files: runs": 280,
    "changed files: texts": 1090,
    "changed real files": 270,
    "generated: anything, part 0": 100,
    "generated: anything, part 1": 100,
    "generated: configs": 100,
    "generated: keypoint_tables": 100,
    "generated: label_lists": 100,
    "generated: npy_arrays": 100,
    "generated: ntu_recordings": 100,
    "generated: paddle_checkpoints": 100,
    "generated: plain_data": 100,
    "generated: right_annotations": 100,
    "generated: torch_checkpoints": 100,
    "generated: weights of ctrgcn_lite": 100,
    "generated: weights of posec3d_hmdb51": 100,
    "generated: weights of stgcn_kinetics": 100,
    "generated: weights of stgcn_plusplus_coco": 100,
    "generated: wrong_annotations": 100,
}


class Child:
    """A process that reads cases by the readers of a module; started when it is needed, and again when it has ended."""

    def __init__(self, table):
        self.table, self.process = table, None

    def start(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1",
                       "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "1"}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self.process = subprocess.Popen([sys.executable, str(HERE / "fuzz_child.py"), self.table], env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        if self._line() is None:
            raise RuntimeError(f"the reading process did not start: {self._end()}")

    def read(self, reader, folder, with_digest=False, watched=True):
        """What came of a case: see ``fuzz_child.read``. A process that ended or hangs has broken its limits."""
        if self.process is None:
            self.start()
        case = {"reader": reader, "folder": str(folder), "digest": with_digest, "watched": watched}
        self.process.stdin.write(json.dumps(case).encode() + b"\n")
        self.process.stdin.flush()
        line = self._line()
        return json.loads(line) if line else {"outcome": "broken", "text": self._end(), "notes": []}

    def _line(self):
        # Second by second: a machine that stood still for a while has not used up the time.
        waited = next((second for second in range(WALL) if self.selector.select(1)), None)
        return None if waited is None else self.process.stdout.readline() or None

    def _end(self):
        """How the process ended; it is ended now if it had not."""
        hangs = self.process.poll() is None and not self.selector.select(0)
        if hangs:
            self.process.kill()
        status = self.process.wait()
        self.errors.seek(0)
        told = self.errors.read()[-2000:].decode(errors="replace")
        self.close()
        if hangs:
            return f"was still waiting after {WALL} s"
        if -status == signal.SIGPROF:
            return "took more than its 2 s of processor time"
        return f"ended the process by {signal.Signals(-status).name if status < 0 else f'status {status}'}: {told}"

    def close(self):
        if self.process is not None:
            self.selector.close()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.errors.close()
            self.process = None


class Session:
    """Cases of one test, counted; what broke is kept and told at the end."""

    def __init__(self, child, folder):
        self.child, self.folder = child, folder
        self.folders, self.count, self.refused, self.broken = {}, 0, 0, []

    def prepare(self, reader, files):
        """A folder with the files (name → bytes) of a reader, which may import and write what it needs at this once."""
        folder = self.folder / f"{reader}-{len(self.folders)}"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        folder.mkdir(parents=True, exist_ok=True)
        self.folders[folder] = {name: [content, None] for name, content in files.items()}
        self.child.read(reader, folder, watched=False)
        self.restore(folder)
        return folder

    def restore(self, folder):
        """All files as they were; those that have changed are written again."""
        for name, file in self.folders[folder].items():
            path = folder / name
            if not path.exists() or _stamp(path) != file[1]:
                path.write_bytes(file[0])
                file[1] = _stamp(path)

    def read(self, reader, folder, target, content, what, with_digest=False):
        """Read a case: ``content`` in the file ``target``, all others whole. ``what`` tells it apart in the report."""
        self.restore(folder)
        (folder / target).write_bytes(content)
        self.count += 1
        answer = self.child.read(reader, folder, with_digest)
        self.refused += answer["outcome"] == "refused"
        if answer["outcome"] == "broken":
            self.broke(reader, folder, f"{target}: {what}", answer, content)
        return answer

    def broke(self, reader, folder, what, answer, content=b""):
        """Keep a case's files, and note what was wrong."""
        kept = Path(tempfile.mkdtemp(prefix=f"fuzz-{reader}-"))
        shutil.copytree(folder, kept, dirs_exist_ok=True, symlinks=True)
        self.broken.append(f"{reader}, {what}: {answer['text']} {answer['notes'] or ''}\n  it begins with "
                           f"{content[:100]!r}; its files are in {kept}; again: python tests/fuzz/fuzz_child.py "
                           f"{self.child.table} {reader} {kept}")
        assert len(self.broken) < MAX_BROKEN, self.report()

    def report(self):
        return f"{len(self.broken)} of {self.count} cases broke:\n" + "\n".join(self.broken)

    def finish(self, test, whole=True):
        """The test's last line: nothing broke, and as many cases were read as ``CASES`` says, if this is all of it."""
        assert not self.broken, self.report()
        assert self.count >= CASES[test] or not whole, f"{self.count} cases were read, expected {CASES[test]}"


def _stamp(path):
    about = path.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


NUMBERS = [b"NaN", b"-1", b"1e999", b"-1e999", b"99999999999999999999", b"0x10", b"", b"null", b"true", b"[]", b"{}",
           b'"text"', b'"', b"'", b"0", b"-0", b"1.5", b"2147483648", b"1e300", b"1_0", "٣".encode(), b"+5", b"1e-400"]
SIZES = [0, 1, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
MAGICS = [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x03\x00", b"PK\x03\x04", b"PK\x05\x06", b"\x80\x02",
          b"\x80\x04\x95", b"\x80\xff", b"\x89HDF\r\n\x1a\n", b"\x1f\x8b\x08", b"\x7fELF", b"%PDF", b"<?xml ",
          b"\xef\xbb\xbf", b"\xff\xfe", b"\x08\x0a\x12", b"{", b"[", b"---\n", b"\x00" * 16, b"(", b"GIF89a", b"ustar",
          b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."]


def mutate(content, rng, others=()):
    """Bytes that are not quite ``content``: what happens to files, and what somebody does to them.

    Returns:
        the bytes, and a word for what was done.
    """
    result, words = bytearray(content), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(tuple(WAYS))
        WAYS[name](result, rng, others)
        words.append(name)
    return bytes(result), "+".join(words)


def _at(result, rng):
    return rng.randrange(len(result) + 1)


def _slice(result, rng):
    start = _at(result, rng)
    return start, min(len(result), start + rng.choice((1, 2, 4, 8, 16, 64, 256)))


def _truncate(result, rng, _):
    del result[_at(result, rng):]


def _flip(result, rng, _):
    for _ in range(rng.choice((1, 1, 2, 8))):
        if result:
            result[rng.randrange(len(result))] ^= 1 << rng.randrange(8)


def _bytes(result, rng, _):
    start, end = _slice(result, rng)
    result[start:end] = rng.randbytes(end - start) if rng.random() < 0.5 else bytes([rng.choice((0, 255, 127, 32))]) * (
        end - start)


def _remove(result, rng, _):
    start, end = _slice(result, rng)
    del result[start:end]


def _repeat(result, rng, _):
    start, end = _slice(result, rng)
    result[end:end] = result[start:end] * rng.choice((1, 2, 30, 300))


def _swap(result, rng, _):
    start, end = _slice(result, rng)
    part = bytes(result[start:end])
    del result[start:end]
    place = _at(result, rng)
    result[place:place] = part


def _splice(result, rng, others):
    other = rng.choice(others) if others else bytes(result)
    start = rng.randrange(len(other) + 1)
    result[_at(result, rng):] = other[start:]


def _magic(result, rng, _):
    magic = rng.choice(MAGICS)
    result[:len(magic)] = magic


def _size(result, rng, _):
    place, width = _at(result, rng), rng.choice((1, 2, 4, 8))
    number = rng.choice(SIZES) & ((1 << 8 * width) - 1)
    result[place:place + width] = number.to_bytes(width, rng.choice(("little", "big")))


def _number(result, rng, _):
    digits = [i for i, byte in enumerate(result[:20_000]) if 48 <= byte <= 57]
    if digits:
        start = end = rng.choice(digits)
        while end < len(result) and result[end] in b"0123456789.eE+-":
            end += 1
        result[start:end] = rng.choice(NUMBERS)


def _line(result, rng, _):
    lines = bytes(result).split(b"\n")
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    way = rng.random()
    if way < 0.3:
        del lines[one]
    elif way < 0.6:
        lines.insert(two, lines[one])
    else:
        lines[one], lines[two] = lines[two], lines[one]
    result[:] = b"\n".join(lines)


WAYS = {"truncated": _truncate, "bits": _flip, "bytes": _bytes, "removed": _remove, "repeated": _repeat, "moved": _swap,
        "spliced": _splice, "magic": _magic, "size": _size, "number": _number, "lines": _line}


def numbered(name, number):
    """The random numbers of a case: a case can be made again from its name and number."""
    return random.Random(f"{name} {number}")
