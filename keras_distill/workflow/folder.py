"""The folder of a run, which remembers what was done."""

import json
import os
import pathlib
import shutil
import time

from keras_distill._files import write_whole

STATE = "state.json"
# What a run writes into its folder. `overwrite` deletes these and no more.
OURS = (
    "log.txt",
    "report.html",
    "report.json",
    "settings.yaml",
    "student.keras",
    "student.tflite",
    "student_dynamic.tflite",
    "student_float16.tflite",
    "student_int16x8.tflite",
    "student_int8.tflite",
    "tensorboard",
    "verification.json",
    "work",
    STATE,
)


class RunFolder:
    """The folder of a run and its state, a file that is replaced as a whole.

    Args:
        path: The folder.
        arguments: What tells this run from another, a dict for JSON.
        resume: Whether a finished run may go on.
        overwrite: Whether to delete another run.

    Raises:
        FileExistsError: If the folder holds something else, a finished run or
            another one.
    """

    def __init__(self, path, arguments, *, resume=False, overwrite=False):
        self.path = pathlib.Path(path)
        arguments = json.loads(json.dumps(arguments))
        state = self._read()
        if overwrite and (self.path / STATE).exists():
            self._clear()
            state = None
        elif overwrite:
            self._check_not_yours()
        elif state is None:
            self._check_free()
        elif not state["steps"]:
            self._clear()  # It came to nothing; what it wrote is in the way.
            state = None
        else:
            self._check_same(state, arguments, resume)
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "work").mkdir(exist_ok=True)
        self.state = state or {
            "format": 1,
            "arguments": arguments,
            "finished": False,
            "steps": {},
        }
        self.resumes = bool(self.state["steps"])
        self._write()

    def work(self, name):
        """A path for what only the run itself needs."""
        return self.path / "work" / name

    def done(self, step):
        """What a step left, a dict; `None` if it was not done."""
        entry = self.state["steps"].get(step)
        return None if entry is None else entry["result"]

    def seconds(self):
        """How long all steps took together."""
        return sum(entry["seconds"] for entry in self.state["steps"].values())

    def finish_step(self, step, result, began):
        """Remembers that a step was done and what came of it."""
        self.state["steps"][step] = {
            "seconds": time.perf_counter() - began,
            "result": result,
        }
        self._write()

    def forget(self, steps):
        """Has steps done again that were done before."""
        for step in steps:
            self.state["steps"].pop(step, None)

    def finish(self):
        """Remembers that the run is over."""
        self.state["finished"] = True
        self._write()

    def _read(self):
        file = self.path / STATE
        if not file.is_file():
            return None
        try:
            state = json.loads(file.read_text())
            return state if state["format"] == 1 else None
        except (ValueError, TypeError, KeyError):
            return None

    def _write(self):
        content = json.dumps(self.state, indent=1, allow_nan=False)
        write_whole(self.path / STATE, content.encode())

    def _clear(self):
        self._check_is_folder()
        for name in OURS:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _check_is_folder(self):
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(
                f"output='{self.path}' is a file. Choose another folder."
            )

    def _check_not_yours(self):
        self._check_is_folder()
        taken = [name for name in OURS if (self.path / name).exists()]
        if taken:
            raise FileExistsError(
                f"output='{self.path}' holds no run, but {taken}, which a run "
                "would replace. Move them away, or choose another folder."
            )

    def _check_free(self):
        self._check_is_folder()
        if self.path.is_dir() and any(os.scandir(self.path)):
            raise FileExistsError(
                f"output='{self.path}' is not empty and holds no run. Choose "
                "another folder, or pass overwrite=True (--overwrite) to "
                "write into this one all the same; what is in it stays."
            )

    def _check_same(self, state, arguments, resume):
        before = state["arguments"]
        names = sorted({*before, *arguments})
        differ = [n for n in names if before.get(n) != arguments.get(n)]
        if differ:
            listed = "; ".join(
                f"{name}: {_short(before.get(name))}, now "
                f"{_short(arguments.get(name))}"
                for name in differ
            )
            raise FileExistsError(
                f"output='{self.path}' holds a run with other arguments "
                f"({listed}). Give them as before to go on with it, choose "
                "another folder, or pass overwrite=True (--overwrite)."
            )
        if state["finished"] and not resume:
            raise FileExistsError(
                f"output='{self.path}' holds the finished run of these "
                f"arguments: see {self.path / 'report.html'}. Choose another "
                "folder, pass overwrite=True (--overwrite) to run again, or "
                "resume=True (--resume) for the steps that it skipped."
            )


def _short(value, most=60):
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[:most]}..."
