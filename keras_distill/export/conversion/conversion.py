"""From a Keras model to the bytes of a TFLite file.

The parent writes a SavedModel; TFLite's converter reads that. For the integer
quantizations it does so in a child process: there the converter runs the
network on the representative data inside of this process's memory, and that
has been seen to end the whole process (SIGSEGV: LSTM, GRU). In the child a
crash is an error of ours. The child costs the import of TensorFlow (3.5 s of
processor time), so that the float conversions, which run nothing, stay in the
parent: when they fail, they raise.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import keras

from keras_distill.export.conversion import converter
from keras_distill.export.conversion import explanation
from keras_distill.export.conversion.operators import operators
from keras_distill.export.errors import ExportError

# Whether integer conversions run in a child process.
IN_CHILD = True


def convert(network, signature, request, samples, verbose):
    """Converts what a file is to compute.

    Args:
        network: A `network.Network`.
        signature: Of its inputs, as `ExportArchive.add_endpoint` takes it.
        request: As for `converter.converted`, without how to calibrate.
        samples: A list of what to calibrate on, or `None`.
        verbose: Whether to show progress.

    Returns:
        The bytes of the file.

    Raises:
        ExportError: If TFLite cannot convert it; the message names operators
            and layers.
    """
    model = network.model
    unroll = samples is not None or any(
        spec.shape[0] is None for spec in keras.tree.flatten(signature)
    )
    with tempfile.TemporaryDirectory(prefix="keras_distill-") as folder:
        folder = pathlib.Path(folder)
        with convertible(network.layers(), unroll):
            archive = keras.export.ExportArchive()
            archive.track(model)
            archive.add_endpoint(
                request["signature_name"], network, input_signature=signature
            )
            archive.write_out(str(folder), verbose=False)
        try:
            if samples is None:
                return converter.converted(folder, request)
            request = {**request, **_calibration(signature)}
            progress = _Progress(len(samples), verbose)
            if not IN_CHILD:
                return converter.converted(folder, request, samples, progress)
            return _converted_in_child(folder, request, samples, progress)
        except Exception as error:
            raise _explained(error, folder, model, request) from error


def _calibration(signature):
    """How samples are fed: what `converter.converted` has to know of it."""
    specs = keras.tree.flatten(signature)
    return {
        "calibration_dtypes": {spec.name: spec.dtype.name for spec in specs},
        "calibration_batch": specs[0].shape[0] or 1,
    }


@contextlib.contextmanager
def convertible(layers, unroll):
    """The layers as TFLite can take them; put back at the end.

    TFLite has no half-precision arithmetic of its own, so layers compute in
    float32 from the weights they have. Loops are unrolled where `unroll`:
    calibrating a recurrent layer that is a loop crashes the process, and with
    an open batch size such a loop is no builtin operator. cuDNN's recurrent
    operator, which Keras takes where there is a GPU, is none of TFLite's.
    """
    changed = []
    try:
        for layer in layers:
            if layer.compute_dtype in ("float16", "bfloat16", "float64"):
                changed.append((layer, "dtype_policy", layer.dtype_policy))
                layer.dtype_policy = keras.DTypePolicy("float32")
            if unroll and isinstance(layer, keras.layers.RNN):
                changed.append((layer, "unroll", layer.unroll))
                layer.unroll = True
            if getattr(layer, "use_cudnn", False):
                changed.append((layer, "use_cudnn", layer.use_cudnn))
                layer.use_cudnn = False
        yield
    finally:
        for layer, name, value in reversed(changed):
            setattr(layer, name, value)


class _Progress:
    """A bar for the samples; `seen` counts them in every round."""

    def __init__(self, count, verbose):
        self.seen = 0
        self._count = count
        self._bar = keras.utils.Progbar(
            count, verbose=int(bool(verbose)), unit_name="sample"
        )

    def __call__(self):
        self.seen += 1
        if self.seen <= self._count:
            self._bar.update(self.seen)


class ConverterCrash(Exception):
    """The converter's process ended without a word of its own."""


class ConverterFailure(Exception):
    """What the converter raised in its process."""


def _converted_in_child(folder, request, samples, progress):
    (folder / converter.REQUEST).write_text(json.dumps(request))
    converter.store_samples(folder / converter.SAMPLES, samples)
    noise = folder / "stderr.txt"
    # -P: the folder of the file, with modules named as ours, is no place to
    # import from. The rest of the path is the parent's.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **os.environ,
        "PYTHONPATH": path,
        "CUDA_VISIBLE_DEVICES": "-1",  # a device is the parent's alone
    }
    with (
        open(noise, "wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-P", converter.__file__, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            text=True,
        ) as process,
    ):
        try:
            for line in process.stdout:
                if line == "sample\n":
                    progress()
        except BaseException:  # an interrupt: no process is left behind
            process.kill()
            process.wait()
            raise
    failure = folder / converter.FAILURE
    if failure.exists():
        failure = json.loads(failure.read_text())
        raise ConverterFailure(f"{failure['type']}: {failure['text']}")
    if process.returncode:
        doing = (
            "while it ran the network on the representative data (sample "
            f"{progress.seen} of {len(samples)})"
            if progress.seen
            else "before it ran the network"
        )
        last = noise.read_text(errors="replace").strip().splitlines()[-20:]
        fatal = [line for line in last if "Check failed" in line]
        said = f" It said: {fatal[0]}." if fatal else ""
        raise ConverterCrash(
            f"its process {explanation.crash(process.returncode)} {doing}."
            f"{said}"
        )
    return (folder / converter.CONVERTED).read_bytes()


def _explained(error, folder, model, request):
    """-> the `ExportError` for what the converter raised."""
    quantization = request["quantization"]
    begin = (
        f"'{model.name}' cannot be converted with quantization={quantization!r}"
    )
    if isinstance(error, ConverterCrash):
        return ExportError(
            f"{begin}: TFLite's converter crashed; {error} Loops are the usual "
            "cause (layers of your own that use keras.ops.while_loop, scan or "
            "RNN cells): write them unrolled, or choose another quantization."
        )
    text = str(error)
    parts = explanation.unsupported(text)
    if not parts:
        kind = type(error).__name__
        if isinstance(error, ConverterFailure):
            kind, text = text.split(": ", 1)
        return ExportError(f"{begin}. {kind}: {text[:500]}")
    if any(not part.path for part in parts):
        parts = explanation.located(parts, _float_operators(folder, request))
    advice = "Write that part of the model with other operations"
    names = {part.operator for part in parts}
    if any("Random" in name for name in names):
        advice = (
            "Random numbers are for training: let the layer draw them only "
            "if `training`"
        )
    elif any(name.startswith("TensorList") for name in names):
        advice = (
            "A loop needs a fixed batch size (batch_size=1) and a fixed "
            "number of steps, or a layer with unroll=True"
        )
    return ExportError(
        f"{begin}. TFLite has no builtin operator of that kind for: "
        f"{explanation.described(parts, model)}. {advice}, or choose another "
        "quantization."
    )


def _float_operators(folder, request):
    """The operators of the same network in float: a second conversion."""
    request = {**request, "quantization": None}
    path = folder / "float.tflite"
    try:
        path.write_bytes(converter.converted(folder, request))
        return operators(path)
    except Exception:  # it is for the message only
        return []
