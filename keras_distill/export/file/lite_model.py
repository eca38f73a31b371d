"""A TFLite file as a function from NumPy to NumPy."""

import os
import time
from typing import Any

import numpy as np

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_integer
from keras_distill.export.file.flatbuffer import check_tflite


class LiteModel:
    """A TFLite file as a function from NumPy to NumPy.

    Samples run in the batch size of the file (1 by default in
    `kd.export.tflite`), as on a device. Values for an int8, uint8 or int16
    input or output are quantized and dequantized with the scale and zero point
    in the file. Not thread-safe.

    Args:
        filepath: A `.tflite` file with one signature or none.
        num_threads: Threads of the interpreter. Defaults to `None`: LiteRT
            chooses.

    Attributes:
        input_names, output_names: Lists of the names in the file's signature.
        input_dtypes, output_dtypes: dict name -> NumPy dtype name.
        size_in_bytes: Size of the file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a TFLite file, is truncated, or has several
            signatures.
        RuntimeError: If the interpreter cannot prepare the network, for
            instance because it lacks an operator.

    Example:

    ```python
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    path = kd.export.tflite(student, "student.tflite")
    lite_model = kd.export.load(path)
    logits = lite_model(np.ones((5, 6)))  # (5, 3)
    logits = lite_model({"input": np.ones((5, 6))})  # by name
    ```
    """

    def __init__(
        self, filepath: str | os.PathLike, num_threads: int | None = None
    ):
        from ai_edge_litert.interpreter import Interpreter

        self.filepath = as_path("`filepath`", filepath)
        checked_integer("`num_threads`", num_threads, or_none=True)
        check_tflite(self.filepath)
        self.size_in_bytes = self.filepath.stat().st_size
        try:
            interpreter = Interpreter(
                model_path=str(self.filepath), num_threads=num_threads
            )
        except ValueError as error:
            raise ValueError(
                f"'{self.filepath}' ({self.size_in_bytes} bytes) is truncated "
                f"or damaged: {error}. Export or copy it again."
            ) from error
        self._interpreter = interpreter
        self._inputs, self._outputs = _details(interpreter, self.filepath)
        # Open sizes of a file are 1 until they are set, which may be too small
        # for its convolutions.
        self._is_allocated = all(
            -1 not in detail["shape_signature"]
            for detail in self._inputs.values()
        )
        if self._is_allocated:
            interpreter.allocate_tensors()
        self.input_names = list(self._inputs)
        self.output_names = list(self._outputs)
        self.input_dtypes = _dtype_names(self._inputs)
        self.output_dtypes = _dtype_names(self._outputs)

    def __call__(self, inputs: Any) -> np.ndarray | dict[str, np.ndarray]:
        """Runs a batch.

        Args:
            inputs: One array `(batch, ...)` for a file with one input, or a
                dict input name -> array.

        Returns:
            One array `(batch, ...)`, or a dict output name -> array if the
            file has several outputs. Quantized and float16 outputs come as
            float32.

        Raises:
            TypeError, ValueError: If names, shapes or dtypes do not fit.
        """
        inputs = self._validated(inputs)
        count = len(next(iter(inputs.values())))
        size = self._batch_size(count)
        parts: dict[str, list] = {name: [] for name in self._outputs}
        for start in range(0, count, size):
            part = {k: v[start : start + size] for k, v in inputs.items()}
            real = len(next(iter(part.values())))
            if real < size:  # fill the batch of the file, drop the rest after
                part = {
                    k: np.concatenate([v] + [v[-1:]] * (size - real))
                    for k, v in part.items()
                }
            self._set(part)
            self._interpreter.invoke()
            for name, value in self._get().items():
                parts[name].append(value[:real])
        results = {k: np.concatenate(v) for k, v in parts.items()}
        return next(iter(results.values())) if len(results) == 1 else results

    @property
    def output_numbers(self):
        """A dict name of an output -> number of its tensor."""
        return {name: d["index"] for name, d in self._outputs.items()}

    def free_batch(self):
        """Runs all samples of a call at once from now on.

        Not every file can: one that reshapes to a fixed batch fails, or gives
        something else.
        """
        for detail in self._inputs.values():
            detail["shape_signature"][0] = -1

    def measure_latency(
        self, inputs: Any, runs: int = 50, warm_up: int = 5
    ) -> np.ndarray:
        """Measures milliseconds per sample of single calls.

        Args:
            inputs: As for `__call__`; the first sample is used.
            runs: Number of timed calls. Defaults to 50.
            warm_up: Number of calls before them. Defaults to 5.

        Returns:
            An array `(runs,)`. It is the time of the interpreter alone, on
            this machine and not on a phone.
        """
        checked_integer("`runs`", runs)
        checked_integer("`warm_up`", warm_up, least=0)
        self._set(self._one_call(inputs))
        times = milliseconds(self._interpreter.invoke, runs, warm_up)
        return times / self._batch_size(1)

    def raw_inputs(self, inputs: Any) -> dict[int, np.ndarray]:
        """Returns what the interpreter gets in one call.

        Args:
            inputs: As for `__call__`; the first sample is used.

        Returns:
            A dict number of the tensor -> array of its dtype.
        """
        return {
            self._inputs[name]["index"]: array
            for name, array in self._one_call(inputs).items()
        }

    def _one_call(self, inputs):
        """Fills the batch of the file with the first sample."""
        size = self._batch_size(1)
        return {
            name: np.repeat(array[:1], size, axis=0)
            for name, array in self._validated(inputs).items()
        }

    def _batch_size(self, count):
        """Returns the batch size of the file, or `count` if it is open."""
        size = next(iter(self._inputs.values()))["shape_signature"][0]
        return max(count, 1) if size == -1 else int(size)

    def _validated(self, inputs):
        """Returns a dict name -> array of the dtype that the file takes."""
        if not isinstance(inputs, dict):
            if len(self._inputs) > 1 or isinstance(inputs, (list, tuple)):
                raise TypeError(
                    f"'{self.filepath.name}' has the inputs "
                    f"{self.input_names}; pass one array for a single input, "
                    "and a dict input name -> array for several. Received: "
                    f"{type(inputs).__name__}"
                )
            inputs = {self.input_names[0]: inputs}
        if set(inputs) != set(self._inputs):
            raise ValueError(
                f"'{self.filepath.name}' has the inputs {self.input_names}. "
                f"Received: {list(inputs)}"
            )
        arrays = {}
        for name, detail in self._inputs.items():
            array = np.asarray(inputs[name])
            expected = tuple(int(s) for s in detail["shape_signature"])
            if len(array.shape) != len(expected) or any(
                e not in (-1, a) for a, e in zip(array.shape[1:], expected[1:])
            ):
                raise ValueError(
                    f"Input '{name}' of '{self.filepath.name}' takes the shape "
                    f"{('batch',) + expected[1:]}. Received: {array.shape}"
                )
            arrays[name] = _quantized(array, detail, name)
        counts = {name: len(array) for name, array in arrays.items()}
        if len(set(counts.values())) > 1 or 0 in counts.values():
            raise ValueError(
                "Inputs need the same number of samples, at least one. "
                f"Received: {counts}"
            )
        return arrays

    def _set(self, arrays):
        details = self._interpreter.get_input_details()
        shapes = {d["index"]: tuple(d["shape"]) for d in details}
        changed = False
        for name, array in arrays.items():
            index = self._inputs[name]["index"]
            if shapes[index] != array.shape:
                self._interpreter.resize_tensor_input(index, array.shape)
                changed = True
        if changed or not self._is_allocated:
            self._interpreter.allocate_tensors()
            self._is_allocated = True
        for name, array in arrays.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], array)

    def _get(self):
        return {
            name: _dequantized(
                self._interpreter.get_tensor(detail["index"]), detail
            )
            for name, detail in self._outputs.items()
        }


def load(
    filepath: str | os.PathLike, num_threads: int | None = None
) -> LiteModel:
    """Opens a TFLite file: `LiteModel(filepath, num_threads)`."""
    return LiteModel(filepath, num_threads)


def details(filepath):
    """Describes inputs and outputs of a file, without preparing the network.

    Returns:
        Two dicts name -> dict of the interpreter (`"shape"`, `"dtype"`,
        `"quantization"`, ...).
    """
    from ai_edge_litert.interpreter import Interpreter

    return _details(Interpreter(model_path=str(filepath)), filepath)


def _details(interpreter, filepath):
    signatures = list(interpreter.get_signature_list())
    if len(signatures) > 1:
        raise ValueError(
            f"'{filepath}' has several signatures, {signatures}; only files "
            "with one are supported."
        )
    if signatures:
        runner = interpreter.get_signature_runner(signatures[0])
        return runner.get_input_details(), runner.get_output_details()
    return (
        {d["name"]: d for d in interpreter.get_input_details()},
        {d["name"]: d for d in interpreter.get_output_details()},
    )


def float_tensors(filepath):
    """Lists the float tensors of a file, except its inputs and outputs.

    The converter leaves in float what it cannot quantize, silently. The list
    is empty for a file that is integer throughout.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = Interpreter(
        model_path=str(filepath),
        experimental_op_resolver_type=(
            OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    ends = interpreter.get_input_details() + interpreter.get_output_details()
    ends = {detail["index"] for detail in ends}
    return [
        detail["name"]
        for detail in interpreter.get_tensor_details()
        if np.dtype(detail["dtype"]).kind == "f" and detail["index"] not in ends
    ]


def _dtype_names(details):
    return {k: np.dtype(d["dtype"]).name for k, d in details.items()}


def _quantized(array, detail, name):
    dtype = np.dtype(detail["dtype"])
    scale, zero_point = detail["quantization"]
    if dtype.kind not in "iu":
        return array.astype(dtype)
    limits = np.iinfo(dtype)
    if scale:
        array = np.round(array / scale) + zero_point
        return np.clip(array, limits.min, limits.max).astype(dtype)
    cast = array.astype(dtype)
    if not np.array_equal(cast, array):
        raise ValueError(
            f"Input '{name}' takes {dtype.name} without a scale: whole numbers "
            f"in [{limits.min}, {limits.max}]. Received: {array.dtype} in "
            f"[{array.min()}, {array.max()}]"
        )
    return cast


def _dequantized(array, detail):
    scale, zero_point = detail["quantization"]
    if scale and array.dtype.kind in "iu":
        return np.float32(scale) * (array.astype("float32") - zero_point)
    return array.astype("float32") if array.dtype == np.float16 else array


def milliseconds(function, runs, warm_up=5):
    """Measures `(runs,)` wall-clock times of `function()`, after a warm-up."""
    times = []
    for _ in range(warm_up + runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * np.array(times[warm_up:])
