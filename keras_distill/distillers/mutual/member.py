"""One student of a cohort: a Distiller whose teachers are its peers."""

from keras import ops

from keras_distill._keras.cloning import clone_from_config
from keras_distill._keras.layers import batch_normalizations
from keras_distill._keras.layers import recurrent_states
from keras_distill._keras.masks import without_gradient
from keras_distill._keras.method_patching import intercepted
from keras_distill._keras.untracked import Untracked
from keras_distill._training.fused_means import FusedMeans
from keras_distill._training.logged_model import results_of
from keras_distill._training.networks import TeacherStudent
from keras_distill._training.outputs import ForwardOutputs
from keras_distill.distillers.distiller import Distiller
from keras_distill.taps.taps import Taps


class Peers:
    """The passes of several networks, in the place of a teacher's.

    Args:
        outputs: A dict peer -> its `ForwardOutputs`.
        peer_of: A dict `id` of a loss -> the peer that it learns from.
    """

    def __init__(self, outputs, peer_of):
        self._outputs = outputs
        self._peer_of = peer_of

    def taps_for(self, loss):
        return self._outputs[self._peer_of[id(loss)]].taps_for(loss)


class StudentAndPeer(TeacherStudent):
    """A student with all taps that it needs, as a student and as a peer."""

    needs_teacher = ()

    def __init__(self, student, losses):
        super().__init__(student, losses)
        names = [*self._taps_of("student"), *self._taps_of("teacher")]
        self.student_taps = Taps(student, list(dict.fromkeys(names)), "student")


class Member(Distiller):
    """One student of a cohort. The training step sees it as a Distiller.

    It has a copy of each distillation loss for each of its peers. The mean
    over the peers is its L_D.

    Args:
        student: The `keras.Model`.
        peers: A dict name -> `keras.Model`, without the student.
        distillation_losses: A dict name -> loss. The member copies them.
        distillation_loss_weights: A dict name -> number.
        alpha: As in `Distiller`.
        views: As in `Distiller`.
        name: The student's name.
    """

    def __init__(
        self,
        *,
        student,
        peers,
        distillation_losses,
        distillation_loss_weights,
        alpha,
        views,
        name,
    ):
        keys = [(peer, kind) for peer in peers for kind in distillation_losses]
        share = 1.0 / len(peers)
        losses = {
            _key(peer, kind): clone_from_config(distillation_losses[kind])
            for peer, kind in keys
        }
        for peer, kind in keys:
            losses[_key(peer, kind)]._choose_network("teacher", peer)
            losses[_key(peer, kind)]._choose_network("student", name)
        super().__init__(
            student=student,
            distillation_losses=losses,
            distillation_loss_weights={
                _key(peer, kind): share * distillation_loss_weights[kind]
                for peer, kind in keys
            },
            alpha=alpha,
            views=views,
            name=name,
        )
        self._copied = Untracked(distillation_losses)
        self._peer_names = tuple(peers)
        losses = dict(self.distillation_losses)
        self._held_networks = Untracked(StudentAndPeer(student, losses))
        self._peer_of = {
            id(losses[_key(peer, kind)]): peer for peer, kind in keys
        }
        with_peers = {}
        for peer, network in peers.items():
            taught = {k: losses[_key(peer, k)] for k in distillation_losses}
            with_peers[peer] = TeacherStudent(student, taught)
            with_peers[peer].set_teacher(network)
        self._with_peers = Untracked(with_peers)

    def bind(self, shapes):
        """Binds the losses to student and peers, and builds connectors.

        Args:
            shapes: A dict student -> `ForwardOutputs` of shapes, for the whole
                cohort.
        """
        networks = self._networks()
        with self.distribute_strategy.scope():
            for peer, with_peer in self._with_peers.value.items():
                with_peer.bind(shapes[peer], shapes[self.name])
        networks.student_output_shape = shapes[self.name].output
        networks.bound = True

    def loss_shapes(self):
        """Returns the shapes that each loss was built for, a dict by name."""
        losses = self.distillation_losses.items()
        return {k: loss.get_build_config() for k, loss in losses if loss.built}

    def build_losses(self, configs):
        """Builds losses from saved shapes, see `loss_shapes`."""
        for key, config in configs.items():
            loss = self.distillation_losses[key]
            if config and not loss.built:
                loss.build_from_config(config)

    def peers(self, outputs):
        """Returns the passes of the whole cohort as this student's `Peers`."""
        return Peers(outputs, self._peer_of)

    def states(self):
        """Returns the values of recurrent states, which a pass changes."""
        return [ops.copy(state) for state in recurrent_states(self.student)]

    def shown_again(self, x, states):
        """Runs the student again after its update, for its peers.

        The pass runs in training mode, like the one before, but leaves the
        moving statistics and the recurrent states as they were.

        Args:
            x: As for `student_pass`.
            states: The recurrent states to begin with, see `states`.

        Returns:
            A `ForwardOutputs`.
        """
        statistics = [
            variable
            for layer in batch_normalizations(self.student)
            for variable in (layer.moving_mean, layer.moving_variance)
        ]
        recurrent = recurrent_states(self.student)
        statistics += recurrent
        before = [ops.copy(variable) for variable in statistics]
        for variable, value in zip(recurrent, states):
            variable.assign(value)
        outputs = stopped(self._networks().student_pass(x, training=True))
        for variable, value in zip(statistics, before):
            variable.assign(value)
        return outputs

    def compiled_metrics(self):
        """The metrics that Keras made of `compile(loss, metrics)`."""
        return [m for m in self.metrics if not isinstance(m, FusedMeans)]

    def update_compiled_metrics(self, y, output, sample_weight):
        self._update_compiled_metrics(y, output, sample_weight)

    def results(self):
        """The current values of the compiled metrics, by name."""
        return results_of(self.compiled_metrics())

    # Logs: every number with the student's name, as the mean over its peers.

    def log_names(self):
        """The names of what `log` returns, in its order."""
        kinds = self._copied.value
        return [
            f"{self.name}_{rest}"
            for rest in (
                "loss",
                "student_loss",
                "distillation_loss",
                *(f"{kind}_loss" for kind in kinds),
                *(
                    f"{kind}_{extra}"
                    for kind, loss in kinds.items()
                    for extra in loss.extra_log_names
                ),
            )
        ]

    def log(self, terms):
        """Returns this student's logs, from the terms of its objective."""
        start = len(self.name) + 1
        logs = {}
        for name in self.log_names():
            rest = name[start:]
            values = [
                terms[key]
                for key in (rest, *(_key(p, rest) for p in self._peer_names))
                if key in terms
            ]
            if values:
                logs[name] = sum(values) / len(values)
        return logs


def finalized_together(members):
    """A context in which `fit` sets each student to its averages at the end.

    Keras does so with those of the one optimizer that it knows.
    """
    first, *others = members

    def finalize_all(_, finalize, variables):
        finalize(first.trainable_variables)
        for member in others:
            member.optimizer.finalize_variable_values(
                member.trainable_variables
            )

    return intercepted(
        [first.optimizer], "finalize_variable_values", finalize_all
    )


def stopped(outputs):
    """A `ForwardOutputs` through which no gradient flows."""
    return ForwardOutputs(*without_gradient(outputs))


def _key(peer, rest):
    # No student and no loss may have a colon in its name.
    return f"{peer}:{rest}"
