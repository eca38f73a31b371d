"""An ONNX file as the source of a black box."""

import keras
import numpy as np

from keras_distill._arguments import one_of
from keras_distill.teachers.sources.files import File

_CHANNELS = (1, 3, 4)
_DTYPES = {"float": "float32", "double": "float64"}


@keras.saving.register_keras_serializable(package="keras_distill")
class ONNXFile(File):
    """An ONNX file, run by onnxruntime on the CPU.

    Args:
        filepath: The file.
        data_format: `"channels_first"` or `"channels_last"`: of images in the
            file. Yours are channels last, as in Keras. Defaults to what the
            shape says: 1, 3 or 4 channels.
        **options: See `File`.
    """

    def __init__(self, filepath, data_format=None, **options):
        super().__init__(filepath, **options)
        self.data_format = one_of(
            "data_format",
            data_format,
            ("channels_first", "channels_last", None),
        )
        self._session = _session(self.filepath, self.num_threads)
        found = self._session.get_inputs()
        self._shapes = {x.name: _sizes(x.shape) for x in found}
        self._dtypes = {x.name: _dtype(x.type) for x in found}
        self._first = {
            name: self._is_channels_first(name, shape)
            for name, shape in self._shapes.items()
        }
        self.inputs = {
            name: (
                _channels_last(shape[1:]) if self._first[name] else shape[1:],
                "int64" if self._dtypes[name] == "int64" else "float32",
            )
            for name, shape in self._shapes.items()
        }
        names = [x.name for x in self._session.get_outputs()]
        self._output = self.choose_output(names)

    def __call__(self, inputs):
        if not isinstance(inputs, dict):
            inputs = {next(iter(self._shapes)): inputs}
        arrays = {name: self._array(name, x) for name, x in inputs.items()}
        parts = [self._run(part) for part in self._pieces(arrays)]
        output = np.concatenate(parts)[: len(next(iter(arrays.values())))]
        if output.ndim == 4 and any(self._first.values()):
            output = np.moveaxis(output, 1, -1)
        return output

    def _run(self, arrays):
        (output,) = self._session.run([self._output], arrays)
        return output

    def _pieces(self, arrays):
        """Yields batches of the file's size, the last one filled up."""
        sizes = {shape[0] for shape in self._shapes.values()} - {None}
        if not sizes:
            yield arrays
            return
        (size,) = sizes
        for start in range(0, len(next(iter(arrays.values()))), size):
            part = {k: v[start : start + size] for k, v in arrays.items()}
            missing = size - len(next(iter(part.values())))
            yield {
                name: np.concatenate([v] + [v[-1:]] * missing)
                for name, v in part.items()
            }

    def _array(self, name, array):
        dtype = np.dtype(self._dtypes[name])
        if dtype.kind in "iu" and array.dtype.kind == "f":
            limits = np.iinfo(dtype)
            array = np.clip(np.round(array), limits.min, limits.max)
        if self._first[name]:
            array = np.moveaxis(array, -1, 1)
        return np.ascontiguousarray(array, dtype)

    def _is_channels_first(self, name, shape):
        if len(shape) != 4:
            return False
        if self.data_format is not None:
            return self.data_format == "channels_first"
        first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
        if first == last:
            raise ValueError(
                f"data_format: '{self.filepath.name}' takes '{name}' of shape "
                f"{shape}, which does not show where the channels are. Pass "
                'data_format="channels_first" (PyTorch) or "channels_last".'
            )
        return first

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}


def _session(filepath, num_threads):
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"'{filepath}' is run by onnxruntime, which is not installed: "
            "pip install onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3  # Errors.
    try:
        return onnxruntime.InferenceSession(
            str(filepath), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # Of onnxruntime, one class per status.
        raise ValueError(
            f"onnxruntime cannot run '{filepath}': {error}"
        ) from error


def _sizes(shape):
    """Returns a shape with `None` for the sizes that are named or unknown."""
    return tuple(size if isinstance(size, int) else None for size in shape)


def _dtype(type_name):
    name = type_name.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(name, name)


def _channels_last(shape):
    return (*shape[1:], shape[0])
