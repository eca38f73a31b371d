"""A network by itself, on the kind of data that a Distiller takes."""

import keras

from keras_distill._data.batch_fields import unpacked
from keras_distill._data.class_weights import weigh_positions
from keras_distill._data.for_network import for_network
from keras_distill._keras.layers import call_model
from keras_distill._keras.loss_scaling import computes_in_float16
from keras_distill._keras.loss_scaling import with_loss_scaling
from keras_distill._training.positions import weight_of_each_position
from keras_distill._training.stream_trainer import StreamTrainer
from keras_distill.distillers import checks


class SupervisedModel(StreamTrainer):
    """Trains a network from labels, or evaluates it.

    The network itself is not compiled and stays as it is otherwise.

    Args:
        network: A built `keras.Model`.
        role: Whose part of a batch it takes, `"student"` or `"teacher"`.
    """

    def __init__(self, network, role="student"):
        super().__init__(name="plain", dtype="float32", autocast=False)
        self.network, self.role = network, role
        self.built = True

    def compile(self, *args, metrics=None, auto_scale_loss=True, **options):
        _, metrics = checks.split_metrics(metrics)
        super().compile(
            *args, metrics=metrics, auto_scale_loss=False, **options
        )
        if auto_scale_loss and computes_in_float16(self.network):
            self.optimizer = with_loss_scaling(self.optimizer)

    def call(self, x, training=None):
        x = for_network(self.network, unpacked(x).inputs, self.role)
        return call_model(self.network, x, training)

    def _trained_networks(self):
        return {self.role: self.network}

    # Weights of classes and of images count as in a Distiller.

    def fit(self, x, class_weight=None, **options):
        shape = getattr(self.network, "output_shape", None)
        x, _, class_weight = weigh_positions(x, None, None, class_weight, shape)
        return super().fit(x, class_weight=class_weight, **options)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        if self.loss is None:  # The caller wants metrics only.
            return keras.ops.zeros(())
        if not keras.tree.is_nested(y_pred):
            sample_weight = weight_of_each_position(
                sample_weight, tuple(y_pred.shape), self.loss
            )
        return super().compute_loss(x, y, y_pred, sample_weight, training)
