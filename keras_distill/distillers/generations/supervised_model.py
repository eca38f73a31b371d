"""A network by itself, on the kind of data that a Distiller takes."""

import keras

from keras_distill._data.batch_fields import unpacked
from keras_distill._keras.layers import call_model
from keras_distill._keras.loss_scaling import computes_in_float16
from keras_distill._keras.loss_scaling import with_loss_scaling
from keras_distill.distillers import checks
from keras_distill.views import for_network


class SupervisedModel(keras.Model):
    """Trains a network from labels, or evaluates one, and leaves it as it is:
    the network itself is not compiled.

    Args:
        network: A built `keras.Model`.
        role: Whose part of a batch it takes, `"student"` or `"teacher"`.
    """

    def __init__(self, network, role="student"):
        super().__init__(name="plain", dtype="float32", autocast=False)
        self.network, self.role = network, role
        self.built = True

    def compile(self, optimizer="rmsprop", loss=None, *, metrics=None):
        _, metrics = checks.split_metrics(metrics)
        super().compile(optimizer, loss, metrics=metrics, auto_scale_loss=False)
        if computes_in_float16(self.network):
            self.optimizer = with_loss_scaling(self.optimizer)

    def call(self, x, training=None):
        x = for_network(self.network, unpacked(x).inputs, self.role)
        return call_model(self.network, x, training)

    def compute_loss(self, *args, **kwargs):
        if self.loss is None:  # Nothing but metrics is asked for.
            return keras.ops.zeros(())
        return super().compute_loss(*args, **kwargs)
