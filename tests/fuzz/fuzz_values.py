"""Values as digests, so that what one process read can be compared with what another one wrote."""
import hashlib

import numpy as np


def digest(value):
    """A text that is the same for equal values: containers, numbers, texts, arrays, and objects of these."""
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha, value):
    if isinstance(value, np.ndarray):
        # Where an array lies and how it is stored is not its content.
        plain = np.ascontiguousarray(value, value.dtype.newbyteorder("="))
        sha.update(f"array {value.shape} {plain.dtype.str}".encode() + plain.tobytes())
    elif isinstance(value, dict):
        sha.update(f"dict {len(value)}".encode())
        for key, item in value.items():
            _feed(sha, key)
            _feed(sha, item)
    elif isinstance(value, (list, tuple)):
        sha.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)}".encode())
        for item in value:
            _feed(sha, item)
    elif isinstance(value, (set, frozenset)):
        sha.update(b"set" + b"".join(sorted(digest(item).encode() for item in value)))
    elif isinstance(value, (str, bytes, bytearray, int, float, complex, bool, type(None), np.generic)):
        sha.update(f"{type(value).__name__} {value!r};".encode("utf-8", "backslashreplace"))
    elif hasattr(value, "__dict__"):
        _feed(sha, {"class": type(value).__name__, **vars(value)})
    else:
        raise TypeError(f"no digest of a {type(value).__name__}")
