"""The folder of a report: what was found, pictures, and the attacks that are finished."""

import contextlib
import json
import pathlib

import numpy as np

from kdkeras import files, locks

VERSION = 1
# What is stored as digests, which say nothing in a message.
DIGESTS = ("model", "images", "labels")
REPORT, CURVE, PICTURES = _OURS = ("report.json", "curve.png", "adversarial.png")


@contextlib.contextmanager
def opened(path, identity, overwrite):
    """A block with a `Folder`, which no other process writes meanwhile.

    Args:
        path: The folder; None for none, in which case the block has None.
        identity, overwrite: As of `Folder`.

    Raises:
        ValueError: Something else stands there, or another process is writing there.
    """
    if path is None:
        yield None
        return
    path = pathlib.Path(path)
    with locks.alone(path / locks.NAME, of=path):
        files.sweep(path, _OURS)
        files.sweep(path / "attacks")
        yield Folder(path, identity, overwrite)


class Folder:
    """A folder that belongs to one model, one set of images and one threat model.

    Args:
        path: The folder; it is made if need be.
        identity: Plain JSON: what determines the figures.
        overwrite: Whether to replace the report of something else, or to begin again.

    Raises:
        ValueError: Something else stands there.
    """

    def __init__(self, path, identity, overwrite):
        self.path = pathlib.Path(path)
        self.attacks = self.path / "attacks"
        identity = {"version": VERSION, **json.loads(json.dumps(identity))}
        there = self.attacks / "identity.json"
        # What stands while another's attacks are removed: who is killed meanwhile goes on with it.
        clearing = {"clearing_for": identity}
        anew = overwrite or (there.exists() and files.read_json(there) == clearing)
        if not anew:
            self._refuse_others(there, identity)
        self.attacks.mkdir(parents=True, exist_ok=True)
        if anew:
            files.write_json(there, clearing, sealed=True)
            for old in [*self.attacks.glob("*.npz"), *map(self.path.joinpath, _OURS)]:
                old.unlink(missing_ok=True)
        files.write_json(there, identity, sealed=True)

    def _refuse_others(self, there, identity):
        if there.exists():
            stored = files.read_json(there)
            if not isinstance(stored, dict):
                raise ValueError(f"'{there}' is damaged. Delete '{self.path}' to begin again.")
            differing = "; ".join(_differences(stored, identity))
            if differing:
                raise ValueError(
                    f"'{self.path}' holds the attacks on something else ({differing}). Take "
                    "another folder, or replace them with overwrite=True."
                )
            return
        foreign = [name for name in _OURS if (self.path / name).exists()]
        foreign += [f"attacks/{path.name}" for path in self.attacks.glob("*.npz")]
        if foreign:
            raise ValueError(
                f"'{self.path}' holds {', '.join(foreign)} of which it is not known what they are "
                "of. Take another folder, or replace them with overwrite=True."
            )

    def stored(self, attack, count):
        """What `running.run` found for an attack, or None if it was not finished.

        Raises:
            ValueError: It was run with other settings, or its file is damaged.
        """
        path = self.attacks / f"{attack.name}.npz"
        if not path.exists():
            return None
        try:
            found = files.read_arrays(path)
            settings = json.loads(str(found["settings"]))
            done = {
                "right": found["right"],
                "pictures": found["pictures"],
                "seconds": float(found["seconds"]),
            }
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"'{path}' is damaged ({error}). Delete it to run it again."
            ) from error
        wanted = json.loads(json.dumps(attack.settings))
        differing = sorted(key for key in wanted if settings.get(key) != wanted[key])
        if differing or len(done["right"]) != count:
            said = ", ".join(
                f"{key}: {settings.get(key)!r} there, {wanted[key]!r} here" for key in differing
            )
            raise ValueError(
                f"'{path}' was run with other settings ({said or 'other examples'}). Take another "
                "folder, or begin again with overwrite=True."
            )
        return done

    def store(self, attack, found):
        """Keeps what was found for a finished attack."""
        with files.atomic_path(self.attacks / f"{attack.name}.npz") as temporary:
            settings = json.dumps(attack.settings)
            np.savez_compressed(temporary, settings=settings, **found)


def _differences(stored, wanted):
    for key, value in wanted.items():
        if stored.get(key) != value:
            there, here = json.dumps(stored.get(key)), json.dumps(value)
            yield f"other {key}" if key in DIGESTS else f"{key}: {there} there, {here} here"
