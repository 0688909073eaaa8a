"""Maps the names used in configs to classes."""
import inspect

from .errors import ConfigError, near_miss


class Registry:
    """Classes by the name that configs use for them.

    Args:
        kind: what the classes are, for messages: ``"backbone"``, ``"transform"`` ...
    """

    def __init__(self, kind):
        self.kind = kind
        self.classes = {}

    def register(self, cls):
        """Class decorator: ``cls`` is found under its own name."""
        self.classes[cls.__name__] = cls
        return cls

    def get(self, name, where):
        """The class called ``name``; ``where`` is the key path for the error."""
        if name not in self.classes:
            raise ConfigError(where, f"unknown {self.kind} {name!r}", near_miss(name, self.classes))
        return self.classes[name]

    def check(self, name, arguments, where, given=()):
        """Check a name and its arguments without building anything.

        Args:
            arguments: dict of the config's arguments for the class.
            given: names of arguments that the caller passes itself.
        """
        cls = self.get(name, where)
        if not isinstance(arguments, dict):
            raise ConfigError(where, f"found {arguments!r} as arguments of {name}, expected key: value pairs")
        parameters = inspect.signature(cls).parameters
        for key in arguments:
            if key not in parameters or key in given:
                known = [p for p in parameters if p not in given]
                raise ConfigError(f"{where}.{key}", f"{name} takes no argument {key!r}", near_miss(key, known))
        for key, parameter in parameters.items():
            if parameter.default is parameter.empty and key not in arguments and key not in given:
                raise ConfigError(where, f"{name} needs the argument {key!r}", f"Add {where}.{key}")
        return cls

    def build(self, name, arguments, where, **given):
        """Check, then construct; a ``ValueError`` or ``TypeError`` of the class is reported with ``where``."""
        cls = self.check(name, arguments, where, given)
        try:
            return cls(**arguments, **given)
        except (ValueError, TypeError) as error:
            raise ConfigError(where, f"{name}: {error}") from error

    def build_spec(self, spec, where, **given):
        """Build from a mapping with the class under ``name`` and its arguments next to it."""
        name, arguments = split_name(spec, where)
        return self.build(name, arguments, f"{where}", **given)


def split_name(spec, where):
    """``{"name": "A", "x": 1}`` → ``("A", {"x": 1})``."""
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise ConfigError(where, f"found {spec!r}, expected a mapping with the key 'name'")
    return spec["name"], {k: v for k, v in spec.items() if k != "name"}
