"""Code that a process runs first to lose root's right to ignore file permissions."""

DROP = """
import ctypes, os
if os.geteuid() == 0:
    # capset(2): the third version of its header, this process; no capability effective, permitted or inheritable.
    # The user stays root, so that the interpreter can still be read, wherever it is.
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")
"""
