"""What the files of black boxes have in common."""

import hashlib
import os

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_string


class File:
    """A file that a black box runs.

    Args:
        filepath: The file.
        num_threads: Threads of the interpreter. Defaults to all cores: a
            teacher usually runs by itself, into a cache.
        output: The name of the output, if the file has several.
        sha256: What the file must be, of a saved configuration.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If its contents are not those of `sha256`.
    """

    activation = None
    class_names = None

    def __init__(self, filepath, num_threads=None, output=None, sha256=None):
        self.filepath = as_path("source", filepath)
        self.num_threads = checked_integer(
            "num_threads", num_threads or os.cpu_count()
        )
        self.output = checked_string("output", output, or_none=True)
        if not self.filepath.is_file():
            raise FileNotFoundError(f"There is no file '{filepath}'.")
        with open(self.filepath, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if sha256 not in (None, digest):
            raise ValueError(
                f"'{filepath}' is not the file that was saved: its SHA-256 is "
                f"{digest[:12]}..., expected {sha256[:12]}..."
            )
        self.source_sha256 = digest

    def choose_output(self, names):
        """Returns the output's name, out of those in the file."""
        if self.output is None and len(names) > 1:
            raise ValueError(
                f"output: '{self.filepath.name}' has the outputs "
                f"{list(names)}, and a teacher gives one. Choose: "
                f'kd.load_teacher("{self.filepath.name}", '
                f'output="{list(names)[0]}").'
            )
        if self.output not in (None, *names):
            raise ValueError(
                f"output must be one of {list(names)}. Received: "
                f"{self.output!r}"
            )
        return self.output or list(names)[0]

    def get_config(self):
        return {
            "filepath": str(self.filepath),
            "output": self.output,
            "sha256": self.source_sha256,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)
