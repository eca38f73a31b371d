"""How much memory a TFLite file takes, measured in a process of its own.

The interpreter does not report it. A fresh process with the interpreter and
nothing else (no TensorFlow) reads its own resident set before it opens the file
and after it ran the network once. That process runs this file by its path.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np


def resident_memory(filepath, inputs, num_threads=1):
    """Measures how the resident set grows by running a file once.

    Args:
        filepath: A `.tflite` file.
        inputs: What to run it on: dict number of an input -> array, as
            `LiteModel.raw_inputs` gives it. An input that is missing is zero,
            on which some networks cannot run.
        num_threads: Threads of the interpreter.

    Returns:
        Bytes: the weights that were read, the arena of the activations, and
        what the interpreter itself needs (3.4 MiB for a file of 14 KiB, 50 MiB
        for one of 22 MiB in float32). `None` if the system does not report it.

    Warns:
        UserWarning: If the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        arrays = pathlib.Path(folder) / "inputs.npz"
        np.savez(arrays, **{str(number): a for number, a in inputs.items()})
        request = {
            "filepath": str(filepath),
            "inputs": str(arrays),
            "num_threads": num_threads,
        }
        # -P: Python must not import from the folder of this file.
        done = subprocess.run(
            [sys.executable, "-P", __file__, json.dumps(request)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        warnings.warn(
            f"The memory of '{filepath}' could not be measured: {last}",
            stacklevel=5,
        )
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _resident():
    """Returns the bytes of this process's resident set, `None` if unknown."""
    try:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
    except OSError:
        return None
    import resource

    return pages * resource.getpagesize()


def main(request):
    """Prints the growth of the resident set as JSON."""
    from ai_edge_litert.interpreter import Interpreter

    request = json.loads(request)
    with np.load(request["inputs"]) as arrays:
        inputs = {int(number): arrays[number] for number in arrays.files}
    before = _resident()
    interpreter = Interpreter(
        model_path=request["filepath"], num_threads=request["num_threads"]
    )
    for number, array in inputs.items():
        interpreter.resize_tensor_input(number, array.shape)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        array = inputs.get(detail["index"])
        if array is None:
            array = np.zeros(detail["shape"], detail["dtype"])
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    after = _resident()
    print(json.dumps(None if before is None else max(after - before, 0)))


if __name__ == "__main__":
    main(sys.argv[1])
