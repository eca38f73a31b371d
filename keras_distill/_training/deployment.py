"""What ships, if that is more than the student.

A loss may put a connector and the teacher's classifier on top of the student's
features and deploy these. It then defines

    deployed_logits(student_outputs, training)   # computes what ships from
                                                 # the taps of the loss

and optionally

    connect(student_outputs, training)           # what deployed_logits and
                                                 # compute_loss share: runs
                                                 # once, passed as connected=
    deployed_graph(student_outputs)              # deployed_logits on symbolic
                                                 # tensors, with plain Keras
                                                 # layers only

No code here knows a loss by its class.
"""

import contextlib
import functools
import warnings
from typing import Any
from typing import NamedTuple

import keras

from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.graph import symbolic_output
from keras_distill._keras.symbolic_pass import symbolic_pass


class Deployed(NamedTuple):
    """The outputs of a student, with the deployed logits as its output.

    Attributes:
        output: The deployed logits.
        student: The student's own `ForwardOutputs`, with the taps of all
            losses.
        loss: The loss that deploys the logits.
        connected: What its `connect` returned.
    """

    output: Any
    student: Any
    loss: Any
    connected: Any = None

    def select(self, layer_names, task=None):
        return self.student.select(layer_names, task)

    def shared_with(self, loss):
        """Returns further arguments of a loss's `compute_loss`."""
        if loss is not self.loss or self.connected is None:
            return {}
        return {"connected": self.connected}


class Deployment:
    """Computes the deployed logits of one loss.

    Args:
        loss: The loss that defines `deployed_logits`.
    """

    def __init__(self, loss):
        self.loss = loss

    def deployed(self, student, training):
        """Returns the `Deployed` of a student's `ForwardOutputs`."""
        taps = student.select(self.loss.student_layer_name)
        training = bool(training)
        if not hasattr(self.loss, "connect"):
            logits = self.loss.deployed_logits(taps, training=training)
            return Deployed(logits, student, self.loss)
        connected = self.loss.connect(taps, training=training)
        logits = self.loss.deployed_logits(
            taps, training=training, connected=connected
        )
        return Deployed(logits, student, self.loss, connected)

    def shape(self, student):
        """Returns the shape of the logits.

        Args:
            student: `ForwardOutputs` of shapes.
        """
        shapes = student.select(self.loss.student_layer_name)
        symbolic = keras.tree.map_structure(
            lambda shape: keras.KerasTensor(tuple(shape)), shapes
        )
        logits = symbolic_pass(
            lambda taps: self.loss.deployed_logits(taps, training=False),
            symbolic,
        )
        return type(keras.tree.flatten(shapes)[0])(logits.shape)

    def model(self, student, tap_layers):
        """Makes one plain Keras model of the student and what is behind it.

        Args:
            student: The student.
            tap_layers: A dict name of a tap -> (layer, number of its call).

        Returns:
            A `keras.Model` on the layers of the student and of the loss.

        Raises:
            ValueError: If the student has no graph of its layers.
        """
        _check_symbolic(student, self.loss)
        self.check_built()
        names = self.loss.student_layer_name
        taps = {
            name: symbolic_output(student, *tap_layers[name])
            for name in ([names] if isinstance(names, str) else names)
        }
        missing = [name for name, tensor in taps.items() if tensor is None]
        if missing:
            raise _no_graph(
                student,
                self.loss,
                f"its layers {missing} are inside a subclassed layer",
            )
        graph = getattr(self.loss, "deployed_graph", None)
        if graph is None:
            graph = functools.partial(self.loss.deployed_logits, training=False)
        outputs = graph(taps[names] if isinstance(names, str) else taps)
        return keras.Model(
            symbolic_inputs(student), outputs, name=f"{student.name}_deployed"
        )

    def check_built(self):
        """Raises if the loss has no weights yet."""
        if not self.loss.built:
            raise ValueError(
                f"The deployed network is not built: the loss "
                f"'{self.loss.name}' has not seen the networks yet. Call fit "
                "or train_on_batch first."
            )


def find_deployment(losses):
    """Returns the `Deployment` of the one loss that has one, or `None`.

    Args:
        losses: A dict name -> distillation loss.

    Raises:
        ValueError: If several losses define `deployed_logits`.
    """
    names = [
        n for n, loss in losses.items() if hasattr(loss, "deployed_logits")
    ]
    if len(names) > 1:
        described = ", ".join(
            f"'{name}' ({type(losses[name]).__name__})" for name in names
        )
        raise ValueError(
            "Only one distillation loss can decide what ships, but these "
            f"define deployed logits: {described}. Keep one of them. To match "
            "features as well, use a loss such as kd.losses.Hint."
        )
    return Deployment(losses[names[0]]) if names else None


@contextlib.contextmanager
def untrained_head(deployment):
    """A context without Keras's warning of weights that have no gradient.

    If a loss deploys its own logits, the student's head has none, rightly."""
    if deployment is None:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gradients do not exist")
        yield


def _check_symbolic(student, loss):
    if not getattr(student, "inputs", None):
        raise _no_graph(student, loss, "it is a subclassed model")
    own_call = [
        c.__name__
        for c in type(student).__mro__
        if "call" in vars(c) and not c.__module__.startswith("keras.")
    ]
    if own_call:
        raise _no_graph(student, loss, f"{own_call[0]} overrides `call`")


def _no_graph(student, loss, reason):
    return ValueError(
        f"The student '{student.name}' and what '{loss.name}' puts behind it "
        "cannot become one plain Keras model: that needs the graph of the "
        f"student's layers, but {reason}. Write the student with the "
        "Functional API, or as a keras.Sequential. (Training, evaluate and "
        "predict of this Distiller work as they are.)"
    )
