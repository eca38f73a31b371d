"""One student of a cohort: a Distiller whose teachers are its peers."""

import keras
from keras import ops

from keras_distill._keras.cloning import clone_from_config
from keras_distill._keras.layers import batch_normalizations
from keras_distill._keras.untracked import Untracked
from keras_distill._training.fused_means import FusedMeans
from keras_distill._training.logged_model import results_of
from keras_distill._training.networks import TeacherStudent
from keras_distill._training.outputs import ForwardOutputs
from keras_distill.distillers.distiller import Distiller
from keras_distill.taps.taps import Taps


class Peers:
    """The passes of several networks in the place of a teacher's.

    Args:
        seen: Peer -> its `ForwardOutputs`.
        peer_of: `id` of a loss -> the peer that it learns from.
    """

    def __init__(self, seen, peer_of):
        self._seen = seen
        self._peer_of = peer_of

    def taps_for(self, loss):
        return self._seen[self._peer_of[id(loss)]].taps_for(loss)


class MemberPair(TeacherStudent):
    """A student with all taps that are taken of it, as student and as peer."""

    needs_teacher = ()

    def __init__(self, student, losses):
        super().__init__(student, losses)
        names = [*self._taps_of("student"), *self._taps_of("teacher")]
        self.student_taps = Taps(student, list(dict.fromkeys(names)), "student")


class Member(Distiller):
    """One student of a cohort, as the training step sees a Distiller.

    It has a copy of every distillation loss for each of its peers. The mean
    over the peers is its L_D.

    Args:
        student: The `keras.Model`.
        peers: Name -> `keras.Model`, without the student.
        distillation_losses: Name -> loss: these are copied.
        distillation_loss_weights: Name -> number.
        alpha, views, name: see `Distiller`; the name is the student's.
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
        super().__init__(
            student=student,
            distillation_losses={
                _key(peer, kind): clone_from_config(distillation_losses[kind])
                for peer, kind in keys
            },
            distillation_loss_weights={
                _key(peer, kind): share * distillation_loss_weights[kind]
                for peer, kind in keys
            },
            alpha=alpha,
            views=views,
            name=name,
        )
        self._kinds = Untracked(distillation_losses)
        self._peer_names = tuple(peers)
        losses = dict(self.distillation_losses)
        self._held_networks = Untracked(MemberPair(student, losses))
        self._peer_of = {
            id(losses[_key(peer, kind)]): peer for peer, kind in keys
        }
        pairs = {}
        for peer, network in peers.items():
            taught = {k: losses[_key(peer, k)] for k in distillation_losses}
            pairs[peer] = TeacherStudent(student, taught)
            pairs[peer].set_teacher(network)
        self._pairs = Untracked(pairs)

    def bind(self, shapes):
        """Lets the losses see student and peers, and builds connectors.

        Args:
            shapes: Name of a student -> `ForwardOutputs` of shapes, of the
                whole cohort.
        """
        own = self._networks()
        with self.distribute_strategy.scope():
            for peer, pair in self._pairs.value.items():
                pair.bind(shapes[peer], shapes[self.name])
        own.student_output_shape = shapes[self.name].output
        own.bound = True

    def loss_shapes(self):
        """Loss -> the shapes that it was built for, as configuration."""
        losses = self.distillation_losses.items()
        return {k: loss.get_build_config() for k, loss in losses if loss.built}

    def build_losses(self, configs):
        """Builds what subclassed students would show only on data."""
        for key, config in configs.items():
            loss = self.distillation_losses[key]
            if config and not loss.built:
                loss.build_from_config(config)

    def peers(self, shown):
        """-> `Peers`, of what every student of the cohort shows."""
        return Peers(shown, self._peer_of)

    def shown_again(self, x):
        """What the peers see after this student's update: a `ForwardOutputs`.

        The same mode as the pass that was trained, but it is no part of the
        training: moving statistics stay as they were.
        """
        statistics = [
            variable
            for layer in batch_normalizations(self.student)
            for variable in (layer.moving_mean, layer.moving_variance)
        ]
        before = [ops.copy(variable) for variable in statistics]
        seen = stopped(self._networks().student_pass(x, training=True))
        for variable, value in zip(statistics, before):
            variable.assign(value)
        return seen

    def compiled_metrics(self):
        """What Keras made of `compile(loss, metrics)`, to be reported."""
        return [m for m in self.metrics if not isinstance(m, FusedMeans)]

    def results(self):
        """The compiled metrics by name, as they stand."""
        return results_of(self.compiled_metrics())

    # Logs: every number with the student's name, the mean over its peers.

    def log_names(self):
        """The names of what `log` gives, in its order."""
        kinds = self._kinds.value
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
        """The terms of the objective -> a dict with this student's logs."""
        start = len(self.name) + 1
        logs = {}
        for name in self.log_names():
            rest = name[start:]
            found = [
                terms[key]
                for key in (rest, *(_key(p, rest) for p in self._peer_names))
                if key in terms
            ]
            if found:
                logs[name] = sum(found) / len(found)
        return logs


def stopped(seen):
    """A `ForwardOutputs` through which no gradient flows."""
    return ForwardOutputs(*keras.tree.map_structure(ops.stop_gradient, seen))


def _key(peer, rest):
    # No student and no loss may have a colon in its name.
    return f"{peer}:{rest}"
