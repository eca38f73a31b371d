"""A folder with finished generations, and the one that is being trained.

settings.json           what the generations were trained with
generation_1.keras      its network
generation_1.json       its history and metrics: written last
backup.npz              the running generation after its last whole epoch
tensorboard/generation_1/
"""

import hashlib
import json
import os
import pathlib

from keras_distill.distillers.generations.backup import Backup
from keras_distill.teachers.cache.folder import UNFINISHED
from keras_distill.teachers.cache.folder import write_whole

SETTINGS = "settings.json"
FORMAT = "keras_distill.distillers.generations.born_again"
VERSION = 1


class Directory:
    """
    Args:
        path: The folder. It is made if it is not there.
        settings: A dict that JSON knows. A folder made with others is refused.
        networks: A dict generation -> a line that describes the network. Those
            of the folder must be the same; more of them are welcome.

    Raises:
        ValueError: for a folder with other settings or of another kind.
    """

    def __init__(self, path, settings, networks):
        self.path = pathlib.Path(path)
        settings = {**settings, "format": FORMAT, "version": VERSION}
        # As they come back from the file.
        settings = json.loads(json.dumps(settings, default=repr))
        networks = {str(number): line for number, line in networks.items()}
        file = self.path / SETTINGS
        if file.exists():
            before = json.loads(file.read_text())
            known = before.pop("networks", {})
            differences = [
                *_differences(before, settings),
                *_differences(
                    {n: line for n, line in known.items() if n in networks},
                    {n: line for n, line in networks.items() if n in known},
                    "networks/",
                ),
            ]
            if differences:
                listed = "\n  ".join(differences)
                raise ValueError(
                    f"'{path}' holds generations that were made with other "
                    f"settings:\n  {listed}\nGive the same settings to go on "
                    "with them, or another directory."
                )
            networks = {**known, **networks}
        elif self.path.exists() and any(
            not p.name.startswith(UNFINISHED) for p in self.path.iterdir()
        ):
            raise ValueError(
                f"'{path}' holds something else than born-again generations. "
                "Give another directory."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        content = {**settings, "networks": networks}
        write_whole(file, _json(content))

    def load(self, generation, network):
        """Puts the weights of a finished generation into its network.

        Returns:
            `(history, metrics)`, or `None` if it is not finished.
        """
        record = self._file(generation, "json")
        if not record.exists():
            return None
        found = json.loads(record.read_text())
        network.load_weights(self._file(generation, "keras"))
        return found["history"], found["metrics"]

    def save(self, generation, network, history, metrics):
        """Keeps a finished generation; its backup is not needed any more."""
        file = self._file(generation, "keras")
        unfinished = file.with_name(f"{UNFINISHED}{file.name}")
        network.save(unfinished)
        os.replace(unfinished, file)
        record = {"history": history, "metrics": metrics}
        write_whole(self._file(generation, "json"), _json(record))
        self.backup(generation).remove()

    def backup(self, generation):
        return Backup(
            self.path / "backup.npz",
            generation,
            self.path / "tensorboard" / f"generation_{generation}",
        )

    def _file(self, generation, suffix):
        return self.path / f"generation_{generation}.{suffix}"


def describe(network):
    """A line that tells networks of different shapes apart."""
    shapes = json.dumps([list(weight.shape) for weight in network.weights])
    digest = hashlib.sha256(shapes.encode()).hexdigest()[:12]
    return f"{network.count_params():,} parameters, shapes {digest}"


def _json(content):
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _differences(before, now, path=""):
    """Lines `path: a in the directory, b given`."""
    if isinstance(before, dict) and isinstance(now, dict):
        lines = []
        for key in sorted(before.keys() | now.keys()):
            lines += _differences(
                before.get(key), now.get(key), f"{path}{key}/"
            )
        return lines
    if before == now:
        return []
    return [f"{path[:-1]}: {before!r} in the directory, {now!r} given"]
