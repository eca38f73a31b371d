"""What a Distiller exports: the deployable student, seen as in evaluation."""

import keras
import numpy as np

from keras_distill.export import model_inputs
from keras_distill.export.formats import export_model
from keras_distill.export.network import student_input


def export_distilled(distiller, filepath, format=None, **options):
    """`export_model` of a Distiller's deployable student.

    The representative data is the Distiller's own kind of data: it passes the
    view's `evaluation`, unless `preprocessing` puts that into the file.

    Args:
        distiller: A `kd.Distiller`.
        filepath, format, **options: As for `export_model`.
    """
    model = distiller.deployable_student()
    data = options.get("representative_dataset")
    if data is not None and options.get("preprocessing") is None:

        def seen(x):
            x = student_input(model, x, distiller.views)
            return keras.tree.map_structure(np.asarray, x)

        options["representative_dataset"] = model_inputs.Seen(data, seen)
    return export_model(model, filepath, format=format, **options)
