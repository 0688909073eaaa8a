"""Write data sets atomically: pickles of plain data, and ``.npy`` files sample by sample."""
import io
import pickle
from contextlib import contextmanager

import numpy as np

from ..errors import DataError
from ..files import remove_temporary_files, replacing


def save_pickle(content, path):
    """Write plain data (dicts, lists, numbers, strings, numeric arrays) as a pickle.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        pickle.dump(content, file, protocol=4)


@contextmanager
def writing_annotations(path):
    """A function that writes the next annotation (a dict of plain data) of an annotation pickle.

    The pickle is written piece by piece, so that a data set may be larger than memory. The function's ``rest``, a dict
    of the file's other entries, such as its ``split``, is written at the end.

    Raises:
        OutputError: the file cannot be written.
    """
    remove_temporary_files(path)
    with replacing(path) as temporary, open(temporary, "wb") as file:

        def piece(value):
            # Protocol 3 has no frames, and a fast pickler no memo: pieces can be concatenated.
            buffer = io.BytesIO()
            pickler = pickle.Pickler(buffer, 3)
            pickler.fast = True
            pickler.dump(value)
            return buffer.getvalue()[2:-1]  # without PROTO and STOP

        def write(annotation):
            file.write(piece(annotation) + pickle.APPEND)

        write.rest = {"split": {}}
        file.write(pickle.PROTO + b"\x03" + pickle.EMPTY_DICT + pickle.MARK + piece("annotations") + pickle.EMPTY_LIST)
        yield write
        for key, value in write.rest.items():
            file.write(piece(key) + piece(value))
        file.write(pickle.SETITEMS + pickle.STOP)


@contextmanager
def writing_npy(path, shape, dtype):
    """A function that writes the next sample of an ``.npy`` file of ``shape`` ``(N, …)``.

    It is written sample by sample to save memory. A memory map is not used, because a full disk would then kill the
    process instead of raising an error.

    Raises:
        DataError: a sample has another shape, or there are fewer or more than N samples.
        OutputError: the file cannot be written.
    """
    dtype, written = np.dtype(dtype), 0
    remove_temporary_files(path)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": np.lib.format.dtype_to_descr(dtype),
                                                    "fortran_order": False, "shape": tuple(shape)})

        def write(sample):
            nonlocal written
            if sample.shape != tuple(shape[1:]) or written == shape[0]:
                raise DataError(path, f"got sample {written} of shape {sample.shape}, expected {shape[0]} samples of "
                                      f"shape {tuple(shape[1:])}")
            file.write(np.ascontiguousarray(sample, dtype).tobytes())
            written += 1

        yield write
        if written != shape[0]:
            raise DataError(path, f"got {written} samples, expected {shape[0]}")
