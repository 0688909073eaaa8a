"""What a reader is to the fuzz suite: how it is called on a folder of files, its errors, what its values must be."""
from dataclasses import dataclass, field

READERS = {}


@dataclass
class Reader:
    """``read(folder)`` gives a value or raises one of ``errors``; ``check(value)`` fails where it is not right."""
    read: object
    errors: tuple
    check: object = field(default=lambda value: None)


def reader(*errors):
    """Decorator: the function is the reader of its name; the checks of its value go in ``checks``."""
    def register(function):
        READERS[function.__name__] = Reader(function, errors)
        return function
    return register


def checks(name):
    """Decorator: the function checks the value of the reader ``name``."""
    def register(function):
        READERS[name].check = function
        return function
    return register
