"""The files of `BackupAndResume`: whole, checked, the last two of each process.

process_0_backup_000012.npz    of the chief: all that the processes share
process_1_backup_000012.npz    of another machine: what only it knows
"""

import contextlib
import pathlib
import re
import warnings

from keras_distill._files import UNFINISHED
from keras_distill._files import write_whole
from keras_distill.callbacks.plain_values import from_bytes
from keras_distill.callbacks.plain_values import to_bytes

_KEPT = 2
_NAME = re.compile(r"process_(\d+)_backup_(\d+)\.npz")


class BackupFiles:
    """The folder of backups.

    Args:
        directory: The folder. It is made when a backup is written.
        process: The number of this process; the chief's is 0.
        processes: How many processes train together.
    """

    def __init__(self, directory, process=0, processes=1):
        self.directory = pathlib.Path(directory)
        self.process, self.processes = process, processes

    def latest(self):
        """Returns the latest backup that every process has whole.

        Returns:
            `(number, shared, local)`: its number, what the chief wrote for all
            and what this process wrote for itself. `None` if there is none.

        Raises:
            ValueError: If all backups are damaged.
        """
        numbers = set.intersection(
            *(set(self._numbers(p)) for p in range(self.processes))
        )
        for number in sorted(numbers, reverse=True):
            contents = [self._read(p, number) for p in range(self.processes)]
            if None not in contents:
                local = contents[self.process]["local"]
                return number, contents[0]["shared"], local
        if numbers:
            raise ValueError(
                f"All backups in '{self.directory}' are damaged. Delete the "
                "directory to start the training again."
            )
        return None

    def write(self, number, content):
        """Writes the backup of this process, and keeps the one before."""
        self.directory.mkdir(parents=True, exist_ok=True)
        write_whole(self._file(self.process, number), to_bytes(content))
        for old in self._numbers(self.process):
            if old <= number - _KEPT:
                self._file(self.process, old).unlink(missing_ok=True)

    def remove(self):
        """Removes the files of this process, and the folder if it is empty."""
        if not self.directory.exists():
            return
        for number in self._numbers(self.process):
            self._file(self.process, number).unlink(missing_ok=True)
        for file in self.directory.glob(
            f"{UNFINISHED}process_{self.process}_*"
        ):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others' files are still there
            self.directory.rmdir()

    def _read(self, process, number):
        file = self._file(process, number)
        try:
            return from_bytes(file.read_bytes())
        except ValueError as error:
            warnings.warn(
                f"The backup '{file}' is damaged ({error}): training goes on "
                "from the one before.",
                stacklevel=2,
            )
            return None

    def _numbers(self, process):
        """The numbers of the backups of a process."""
        if not self.directory.is_dir():
            return []
        matches = map(
            _NAME.fullmatch, (p.name for p in self.directory.iterdir())
        )
        return [int(m[2]) for m in matches if m and int(m[1]) == process]

    def _file(self, process, number):
        return self.directory / f"process_{process}_backup_{number:06d}.npz"
