"""Google's ai-edge-quantizer: from a float file to a file of a recipe."""

import contextlib
import io
import re
import warnings

from keras_distill._progress import ProgressBar
from keras_distill.export import quiet
from keras_distill.export import recipes
from keras_distill.export.conversion import converter
from keras_distill.export.conversion.explanation import ExportError
from keras_distill.export.file import flatbuffer

# How many operators an error message lists.
_LISTED = 12
_IO = ("INPUT", "OUTPUT")
# Its names of operators, where they are not TFLite's.
_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}


class FloatFile:
    """A float file that recipes quantize.

    Args:
        data: Its bytes, with the names that `layer_names.named` gives.
        operators: A list of `LayerOperator`.
        settings: As for `converter.converted`.
    """

    def __init__(self, data, operators, settings):
        self.data = data
        self.operators = operators
        self.settings = settings
        self._ranges = None

    def calibrate(self, samples, recipe, verbose):
        """Measures the range of every tensor on representative samples.

        Args:
            samples: A list of dicts input name -> array `(1, ...)`.
            recipe: The recipe; some algorithms measure more than ranges.
            verbose: Whether to show a progress bar.
        """
        from ai_edge_quantizer import calibrator
        from ai_edge_quantizer import recipe_manager
        from ai_edge_quantizer.utils import qsv_utils

        manager = recipe_manager.RecipeManager()
        modes = calibrator.CalibrationMode
        mode, options = modes.CALIBRATION_PRESERVE_ALL_TENSORS, {}
        if recipes.measures_more_than_ranges(recipe):
            manager.load_quantization_recipe(recipe)
        else:
            # 40 times as fast. The default averages the ranges of samples,
            # which cuts off the largest values.
            mode = modes.CALIBRATION_PROFILER_BASED
            options = {"qsv_update_func": qsv_utils.min_max_update}
        bar = ProgressBar(len(samples), "sample", verbose)
        batches = converter.calibration_batches(
            samples, self.settings, lambda: bar.update(bar.current + 1)
        )
        with _silence():
            measuring = calibrator.Calibrator(
                self.data, num_threads=1, mode=mode, **options
            )
            for batch in batches:
                measuring.calibrate(
                    {self.settings["signature_name"]: [batch]}, manager
                )
        self._ranges = measuring.get_model_qsvs()

    def quantized(self, recipe, io_rules=()):
        """Returns the bytes of the quantized file.

        Args:
            recipe: A list of rules.
            io_rules: Rules for the inputs and outputs, if the recipe has none.
        """
        from ai_edge_quantizer import quantizer

        if not {rule["operation"] for rule in recipe} & set(_IO):
            recipe = [*recipe, *io_rules]
        with _silence():
            engine = quantizer.Quantizer(self.data)
            engine.load_quantization_recipe(recipe)
            ranges = self._ranges if engine.need_calibration else None
            result = engine.quantize(
                ranges,
                enable_progress_bar=False,
                enable_progress_report=False,
            )
        # It puts large constants behind the flatbuffer, where not every reader
        # looks for them.
        data = bytes(result.quantized_model)
        return flatbuffer.packed(flatbuffer.unpacked(data))

    def check(self, recipe):
        """Raises for a rule that chooses nothing, or what cannot be done."""
        for number, rule in enumerate(recipe):
            where = f"`quantization[{number}]`"
            algorithms = self._algorithms(rule, where)
            if rule["operation"] in _IO:
                continue
            if not self._chosen(rule):
                raise ValueError(
                    f'{where}["regex"] {rule["regex"]!r} names no operator of '
                    "the file. It is looked for in names that begin with the "
                    f"layer's: {self._names()}."
                )
            if rule["algorithm_key"] == recipes.NONE:
                continue
            if set(algorithms.values()) == {recipes.NONE}:
                raise ValueError(
                    f"{where} quantizes nothing: ai-edge-quantizer cannot give "
                    f'{", ".join(algorithms)} its "op_config", '
                    f"{rule['op_config']}."
                )

    def quantizes(self, recipe):
        """Whether some rule quantizes some operator."""
        return any(
            algorithm != recipes.NONE
            for rule in recipe
            for algorithm in self._algorithms(rule).values()
        )

    def _chosen(self, rule):
        """The operators whose names a rule finds."""
        return [
            operator
            for operator in self.operators
            if re.search(rule["regex"], operator.scope)
        ]

    def _algorithms(self, rule, where="a rule"):
        """What a rule does: a dict kind of operator -> algorithm."""
        manager = _manager(rule, where)
        return {
            kind: manager.get_quantization_configs(kind, operator.scope)[0]
            for operator in self._chosen(rule)
            for kind in [_NAMES.get(operator.operator, operator.operator)]
            if rule["operation"] in ("*", kind)
        }

    def _names(self):
        names = list(dict.fromkeys(f"{o.layer};" for o in self.operators))
        more = len(names) - _LISTED
        listed = ", ".join(map(repr, names[:_LISTED]))
        return f"{listed} and {more} more" if more > 0 else listed


def _manager(rule, where):
    """Returns ai-edge-quantizer's view of one rule."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer import recipe_manager

    known = [operation.value for operation in qtyping.TFLOperationName]
    if rule["operation"] not in known:
        raise ValueError(
            f'{where}["operation"] must be one of {", ".join(known)}. '
            f"Received: {rule['operation']!r}"
        )
    manager = recipe_manager.RecipeManager()
    try:
        manager.load_quantization_recipe([rule])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{where} is no rule of ai-edge-quantizer: {error}"
        ) from error
    return manager


def quantized(file, request, verbose=True):
    """Quantizes the float file of a request by its recipe.

    Args:
        file: A `FloatFile`.
        request: The `ExportRequest`.
        verbose: Whether to show the progress of the calibration.
    """
    file.check(request.recipe)
    try:
        if request.samples is not None:
            file.calibrate(request.samples, request.recipe, verbose)
        return file.quantized(request.recipe, request.io_rules)
    except (ValueError, RuntimeError) as error:
        raise ExportError(
            f"'{request.model.name}' cannot be quantized by this recipe. "
            f"ai-edge-quantizer says: {error}"
        ) from error


@contextlib.contextmanager
def _silence():
    """A context without ai-edge-quantizer's bars and LiteRT's log."""
    with (
        quiet.without_native_log(),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message=".*_preserve_all_tensors")
        yield
