"""How several teachers run: each once, and only those that a loss reads."""

import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_distill._training.teacher_pass import TeacherPass
from keras_distill.taps.paths import find_way
from keras_distill.taps.taps import Shape
from keras_distill.taps.taps import Taps
from keras_distill.teachers.combination import Combination
from keras_distill.teachers.member import StoredTeacher


class TeachersPass(TeacherPass):
    """The forward pass of a `kd.Teachers`, see `TeacherPass`.

    Args:
        teachers: The `kd.Teachers`.
        student: The `keras.Model` that they teach.
        names: A list of what losses read: names of teachers, of their layers
            and of combinations.
        all_outputs: Whether a loss reads the output of every teacher.
        **kwargs: See `TeacherPass`.
    """

    def __init__(self, teachers, student, names, all_outputs, **kwargs):
        ways = {name: find_way(teachers, name, "teacher")[0] for name in names}
        self.ways = ways
        heads = [way[0] for way in ways.values()]
        combinations = [x for x in heads if isinstance(x, Combination)]
        self.combinations = {
            x.name: x for x in combinations if x.rule != "sample"
        }
        self.sampled = {x.name: x for x in combinations if x.rule == "sample"}
        needed = [x.name for x in heads if not isinstance(x, Combination)]
        needed += teachers.members if all_outputs else []
        needed += _members_of(self.combinations)
        either = [*needed, *_members_of(self.sampled)]
        self.stored = {
            key: member
            for key, member in teachers.members.items()
            if isinstance(member, StoredTeacher) and key in either
        }
        live = teachers.live
        always = teachers.only([key for key in live if key in needed])
        inside = [
            name
            for name, way in ways.items()
            if len(way) > 1 and not isinstance(way[0], StoredTeacher)
        ]
        super().__init__(teachers, student, inside, **kwargs)
        self.teacher = teachers.only([key for key in live if key in either])
        self.taps.model = self.teacher
        # In training, without those of which a step draws one.
        self._taps_of_step = Taps(teachers, inside, "teacher")
        self._taps_of_step.model = always
        _warn_of_unused(teachers, [key for key in live if key not in either])

    def __call__(self, x, own_precision=False, stored=None, y=None, step=None):
        """Runs the teachers.

        Args:
            x: Their input.
            own_precision: As in `TeacherPass`.
            stored: The outputs that the data carries, a dict name of a teacher
                -> outputs, or `None`.
            y: The labels. Without them, combinations that need them are left
                out.
            step: A function that returns the number of the step, or `None`:
                nothing is drawn.

        Returns:
            `(outputs, taken)`: a dict name of a teacher -> output, and a dict
            of what losses read.
        """
        stored = self._checked(stored)
        if step is not None and self.sampled:
            draws = {k: _draw(c, step()) for k, c in self.sampled.items()}
        else:
            draws = {}
        outputs, taken = {}, {}
        if self.teacher.members:
            # The stored outputs go along with the samples, in pieces too.
            given = x, {k: v["output"] for k, v in stored.items() if draws}
            outputs, taken = self._run(given, own_precision, draws)
        outputs |= {k: v["output"] for k, v in stored.items() if "output" in v}
        drawn = {k: taken.pop(k) for k in draws if k in taken}
        return self._named(outputs, taken, drawn, stored, y)

    def _outputs(self, given, draws):
        x, stored = given
        if not draws:
            return self.taps(x, training=False)
        outputs, taken = self._taps_of_step(x, training=False)
        for key, index in draws.items():
            taken[key] = self._of_one(
                self.sampled[key], index, x, {**stored, **outputs}
            )
        return outputs, taken

    def _of_one(self, combination, index, x, outputs):
        """Runs the teacher of the step, if it did not run."""

        def branch(name):
            def run():
                output = outputs.get(name)
                if output is None:
                    output = self.teacher.only([name])(x, training=False)[name]
                return combination.of_one(name, output)

            return run

        return tf.switch_case(index, [branch(n) for n in combination.teachers])

    def _named(self, outputs, taken, drawn, stored, y):
        """Returns all outputs, and what losses read by its name."""
        taken = dict(taken)
        for name, way in self.ways.items():
            head = way[0].name
            if head in drawn:
                taken[name] = drawn[head]
            elif isinstance(way[0], Combination):
                if y is not None or not way[0].needs_labels:
                    taken[name] = way[0](outputs, _one_label(way[0], y))
            elif len(way) == 1:
                taken[name] = self._output(name, outputs)
            elif head in stored:
                tap = "/".join(layer.name for layer in way[1:])
                taken[name] = stored[head]["taps"][tap]
        return outputs, taken

    def _output(self, name, outputs):
        if name in outputs:
            return outputs[name]
        raise ValueError(
            f"A loss reads the output of the teacher '{name}', but its cache "
            "holds layers only. Name one of them: "
            f"{list(self.stored[name].shapes()[1])}"
        )

    def _checked(self, stored):
        """Returns the stored outputs of the teachers that are needed."""
        for key, member in self.stored.items():
            if key not in (stored or {}):
                raise ValueError(
                    f"The teacher '{key}' is cached, but the data carries no "
                    "outputs of it. Train with cache.join(dataset, "
                    f"name='{key}'), where cache = kd.TeacherCache("
                    f"'{member.cache_path}')."
                )
        return {key: stored[key] for key in self.stored}

    def shapes(self):
        """Returns the shapes of all outputs and of what losses read, `None` if
        they show only on data."""
        outputs, taken = {}, {}
        if self.teacher.members:
            found = super().shapes()
            if found is None:
                return None
            outputs, taken = (dict(part) for part in found)
        stored = {}
        for key, member in self.stored.items():
            output, taps = member.shapes()
            stored[key] = {"taps": taps}
            if output is not None:
                outputs[key] = output
        for name, way in self.ways.items():
            if isinstance(way[0], Combination):
                taken[name] = Shape(way[0].check_shapes(outputs))
            elif len(way) == 1:
                taken[name] = self._output(name, outputs)
            elif way[0].name in stored:
                tap = "/".join(layer.name for layer in way[1:])
                taken[name] = stored[way[0].name]["taps"][tap]
        return outputs, taken


def _members_of(combinations):
    return [name for c in combinations.values() for name in c.teachers]


def _draw(combination, step):
    """Draws the place of one teacher, a function of seed and step."""
    seed = [combination.seed % 2**31, tf.cast(step, tf.int32)]
    draw = tf.random.stateless_uniform([], seed)
    bounds = np.cumsum(combination.weights_of_teachers)[:-1]
    passed = draw >= tf.constant(bounds, tf.float32)
    return tf.reduce_sum(tf.cast(passed, tf.int32))


def _one_label(combination, y):
    if keras.tree.is_nested(y) and combination.needs_labels:
        raise ValueError(
            f"The combination '{combination.name}' chooses teachers by the "
            "label, and the data has several labels for each sample: "
            f"{keras.tree.map_structure(lambda a: tuple(a.shape), y)}. Take "
            "another rule."
        )
    return y if combination.needs_labels else None


def _warn_of_unused(teachers, unused):
    for key in unused:
        model = teachers.members[key].layer
        size = sum(
            int(np.prod(v.shape)) * tf.as_dtype(v.dtype).size
            for v in model.weights
        )
        warnings.warn(
            f"teacher: no loss reads the teacher '{key}' of "
            f"{list(teachers.members)}. It does not run, but its "
            f"{model.count_params():,} weights take {size / 2**20:.3g} MiB of "
            f"memory. Name it in a loss, teacher_layer_name='{key}', or leave "
            "it out.",
            stacklevel=2,
        )
