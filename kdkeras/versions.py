"""Whether TensorFlow and Keras are new enough, found out before they are loaded."""

import importlib.metadata

FRAMEWORKS = ("tensorflow", "keras")


def check():
    """Refuses a TensorFlow or Keras that is older than kdkeras supports.

    What is needed stands in setup.cfg alone, and is read from the metadata of the installed
    kdkeras. Without metadata (a checkout that was never installed) nothing is checked, nor is a
    framework whose version is unknown (installed under another name, say tf-nightly). As pip has
    it, 3.12.0rc1 is older than 3.12, and 3.13.0rc1 is not.

    Raises:
        ImportError: Where one is too old: what is there, what is needed, and how to get it.
    """
    needed = {name: specifier for name, specifier in _needed() if name in FRAMEWORKS}
    found = {name: _version(name) for name in needed}
    old = [
        name
        for name, specifier in needed.items()
        if found[name] is not None and not specifier.contains(found[name], prereleases=True)
    ]
    if old:
        wanted = " and ".join(f"{name}{needed[name]}" for name in old)
        received = " and ".join(f"{name} {found[name]}" for name in old)
        quoted = " ".join(f'"{name}{needed[name]}"' for name in old)
        raise ImportError(
            f"kdkeras needs {wanted}. Received: {received}. "
            f"To upgrade: pip install --upgrade {quoted}"
        )


def _needed():
    """(name, specifiers) of each package without which the installed kdkeras does not run."""
    from packaging.requirements import Requirement

    try:
        requirements = importlib.metadata.requires("kdkeras") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name, requirement.specifier


def _version(name):
    """The installed version; None where it is unknown."""
    from packaging.version import InvalidVersion, Version

    try:
        # A half-removed package can have metadata without a version.
        return Version(importlib.metadata.version(name) or "")
    except (importlib.metadata.PackageNotFoundError, InvalidVersion, KeyError):
        return None
