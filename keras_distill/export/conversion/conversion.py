"""From an `ExportRequest` to the bytes of a TFLite file.

The parent process writes a SavedModel, and TFLite's converter reads it. For
the integer quantizations the converter runs in a child process: it runs the
network on the representative data in its own memory, and that has ended whole
processes (SIGSEGV: LSTM, GRU). A crash of the child is an `ExportError` here.
The child has to import TensorFlow (3.5 s of processor time). The float
conversions, and those of a network that has its ranges (`kd.quantization`), run
nothing and raise when they fail, so they stay in the parent.
"""

import contextlib
import json
import os
import subprocess
import sys

import keras

from keras_distill._keras.precision import compute_in
from keras_distill._keras.precision import set_policy
from keras_distill._progress import ProgressBar
from keras_distill.export import quiet
from keras_distill.export.conversion import converter
from keras_distill.export.conversion import explanation
from keras_distill.export.conversion import quantizer
from keras_distill.export.file import layer_names
from keras_distill.export.temporary import temporary_folder


def convert(request, verbose=True, in_child=True):
    """Converts what a file is to compute.

    Args:
        request: The `ExportRequest`.
        verbose: Whether to show the progress of the calibration.
        in_child: Whether integer conversions run in a child process.

    Returns:
        The bytes of the file.

    Raises:
        ExportError: If TFLite cannot convert it; the message names operators
            and layers.
    """
    if request.recipe is not None:
        return quantizer.quantized(float_file(request), request, verbose)
    settings, samples = _settings(request), request.samples
    with _saved_model(request, settings) as folder:
        if samples is None:
            return _converted_to_float(folder, settings)
        progress = _Progress(len(samples), verbose)
        run = _converted_in_child if in_child else converter.converted
        return run(folder, settings, samples, progress)


def float_file(request):
    """Converts to the `quantizer.FloatFile` that recipes quantize."""
    settings = _settings(request)
    with _saved_model(request, settings) as folder:
        data = _converted_to_float(folder, {**settings, "quantization": None})
    data, operators = layer_names.named(data, request.model)
    return quantizer.FloatFile(data, operators, settings)


@contextlib.contextmanager
def _saved_model(request, settings):
    """Yields a SavedModel; an error inside is explained by its layers."""
    with temporary_folder("keras_distill-") as folder:
        _write_saved_model(request, folder)
        try:
            yield folder
        except Exception as error:
            raise explanation.explained(
                error, folder, request.model, settings
            ) from error


def _converted_to_float(folder, settings):
    with quiet.without_native_log(), quiet.without_python_log():
        return converter.converted(folder, settings)


def _settings(request):
    """Returns what `converter.converted` has to know, as JSON can hold it."""
    specs = keras.tree.flatten(request.signature)
    return {
        "quantization": request.quantization,
        "has_ranges": request.is_aware,
        "signature_name": request.interface.signature_name,
        "select_tf_ops": bool(request.interface.allow_select_tf_ops),
        "input_dtype": request.file_inputs.dtype,
        "output_dtype": request.output_dtype,
        "calibration_dtypes": {spec.name: spec.dtype.name for spec in specs},
        "calibration_batch": specs[0].shape[0] or 1,
    }


def _write_saved_model(request, folder):
    unroll = request.samples is not None or any(
        spec.shape[0] is None for spec in keras.tree.flatten(request.signature)
    )
    with (
        quiet.without_python_log(),
        request.file_inputs.tracing(),
        convertible(request.network.layers(), unroll),
    ):
        archive = keras.export.ExportArchive()
        archive.track(request.model)
        if request.is_aware and request.network.preprocessing is not None:
            archive.track(request.network.preprocessing)
        archive.add_endpoint(
            request.interface.signature_name,
            request.network,
            input_signature=request.signature,
        )
        archive.write_out(str(folder), verbose=False)


@contextlib.contextmanager
def convertible(layers, unroll):
    """A context in which layers compute as TFLite can.

    TFLite has no half-precision arithmetic of its own, so layers compute in
    float32 from the weights they have. cuDNN's recurrent operator, which Keras
    uses on a GPU, is not an operator of TFLite.

    Args:
        layers: A list of layers; they are left as they were.
        unroll: Whether recurrent layers are unrolled. Calibration of a loop
            crashes the process, and with an open batch size a loop is not a
            builtin operator.
    """
    with contextlib.ExitStack() as undo:
        for layer in layers:
            if layer.compute_dtype in ("float16", "bfloat16", "float64"):
                undo.callback(set_policy, layer, compute_in(layer, "float32"))
            if unroll and isinstance(layer, keras.layers.RNN):
                undo.callback(setattr, layer, "unroll", layer.unroll)
                layer.unroll = True
            if getattr(layer, "use_cudnn", False):
                undo.callback(setattr, layer, "use_cudnn", layer.use_cudnn)
                layer.use_cudnn = False
        yield


class _Progress:
    """A bar for the samples; `count` counts them in every round."""

    def __init__(self, samples, verbose):
        self.count = 0
        self._samples = samples
        self._bar = ProgressBar(samples, "sample", verbose)

    def __call__(self):
        self.count += 1
        if self.count <= self._samples:
            self._bar.update(self.count)


def _converted_in_child(folder, settings, samples, progress):
    """As `converter.converted`, in a process of its own."""
    (folder / converter.SETTINGS).write_text(json.dumps(settings))
    converter.store_samples(folder / converter.SAMPLES, samples)
    stderr = folder / "stderr.txt"
    process = _run_child(folder, stderr, progress)
    failure = folder / converter.FAILURE
    if failure.exists():
        failure = json.loads(failure.read_text())
        raise explanation.ConverterFailure(
            f"{failure['type']}: {failure['text']}"
        )
    if process.returncode:
        doing = (
            "while it ran the network on the representative data (sample "
            f"{progress.count} of {len(samples)})"
            if progress.count
            else "before it ran the network"
        )
        last = stderr.read_text(errors="replace").strip().splitlines()[-20:]
        fatal = [line for line in last if "Check failed" in line]
        said = f" It said: {fatal[0]}." if fatal else ""
        raise explanation.ConverterCrash(
            f"its process {explanation.crash(process.returncode)} {doing}."
            f"{said}"
        )
    return (folder / converter.CONVERTED).read_bytes()


def _run_child(folder, stderr, progress):
    """Runs `converter.py` by its path, and returns the ended process."""
    # -P: Python must not import from the folder of that file, which has
    # modules named as ours. The rest of the path is the parent's.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **os.environ,
        "PYTHONPATH": path,
        "CUDA_VISIBLE_DEVICES": "-1",  # the parent may hold the device
    }
    with (
        open(stderr, "wb") as stderr,
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
        except BaseException:  # an interrupt must leave no process behind
            process.kill()
            process.wait()
            raise
    return process
