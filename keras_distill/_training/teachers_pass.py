"""How several teachers run: each once, and only those that a loss reads."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_distill._keras.heads import output_keys
from keras_distill._keras.recurrent_states import is_stateful
from keras_distill._training.tasks import label_of
from keras_distill._training.teacher_pass import TeacherPass
from keras_distill.losses.structures import as_list
from keras_distill.taps.paths import find_way
from keras_distill.taps.taps import Shape
from keras_distill.taps.taps import Taps
from keras_distill.teachers.combination import Combination


class TeachersPass(TeacherPass):
    """The forward pass of a `kd.Teachers`, see `TeacherPass`.

    Args:
        teachers: The `kd.Teachers`.
        student: The `keras.Model` that they teach.
        losses: A list of the distillation losses: they name what they read, a
            teacher, one of its layers or a combination.
        **kwargs: See `TeacherPass`.
    """

    def __init__(self, teachers, student, losses, **kwargs):
        self.tasks, everything = _read_by(losses, teachers)
        self.ways = {n: find_way(teachers, n, "teacher")[0] for n in self.tasks}
        self.answer = _answer(losses)
        heads = [way[0] for way in self.ways.values()]
        combinations = [x for x in heads if _is_combination(x)]
        self.sampled = {x.name: x for x in combinations if x.rule == "sample"}
        needed = {x.name for x in heads if not _is_combination(x)}
        needed.update(teachers.members if everything else ())
        for combination in combinations:
            if combination.name not in self.sampled:
                needed.update(combination.teachers)
        either = needed.union(*(c.teachers for c in self.sampled.values()))
        live = teachers.live
        self.stored = {
            key: member
            for key, member in teachers.members.items()
            if key in either and key not in live
        }
        if any(is_stateful(live[key].layer) for key in either if key in live):
            for name in self.sampled:
                raise ValueError(
                    f"The combination '{name}' (rule=\"sample\") runs one "
                    "teacher in each step, and one of them has stateful=True "
                    "layers, which must read every batch. Choose another rule."
                )
        inside = [
            name
            for name, way in self.ways.items()
            if len(way) > 1 and way[0].name in live
        ]
        super().__init__(teachers, student, inside, **kwargs)
        self.teacher = teachers.only([key for key in live if key in either])
        self.taps.model = self.teacher
        # In training, without those of which a step draws one.
        self._taps_of_step = Taps(teachers, inside, "teacher")
        self._taps_of_step.model = teachers.only(
            [key for key in live if key in needed]
        )
        _warn_of_unused(
            teachers, [key for key in teachers.members if key not in either]
        )

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
            `(output, taken)`: a dict name of a teacher -> output, or the one
            that the student's output is compared with; and a dict of what
            losses read.
        """
        stored = self._checked(stored)
        if step is not None and self.sampled:
            draws = {k: _draw(c, step()) for k, c in self.sampled.items()}
        else:
            draws = {}
        # The stored outputs go along with the samples, in pieces too.
        drawn_from = {
            key: value["output"]
            for key, value in stored.items()
            if draws and "output" in value
        }
        if self.teacher.members:
            given = x, drawn_from
            outputs, taken = self._run(given, own_precision, draws)
        else:
            outputs, taken = {}, self._drawn(draws, x, drawn_from)
        outputs |= {k: v["output"] for k, v in stored.items() if "output" in v}
        drawn = {k: taken.pop(k) for k in draws if k in taken}
        return self._named(outputs, taken, drawn, stored, y)

    def _outputs(self, given, draws):
        x, stored = given
        if not draws:
            return self.taps(x, training=False)
        outputs, taken = self._taps_of_step(x, training=False)
        taken |= self._drawn(draws, x, {**stored, **outputs})
        return outputs, taken

    def _drawn(self, draws, x, outputs):
        """Returns the output of the teacher that each combination draws."""
        return {
            key: self._of_one(self.sampled[key], index, x, outputs)
            for key, index in draws.items()
        }

    def _of_one(self, combination, index, x, outputs):
        """Runs the teacher of the step, if it did not run."""

        def branch(name):
            def run():
                output = outputs.get(name)
                if output is None:
                    output = self.teacher.only([name])(x, training=False)[name]
                return combination.of_one(name, output)

            return run

        return ops.switch(index, [branch(n) for n in combination.teachers])

    def _named(self, outputs, taken, drawn, stored, y):
        """Returns the output, and what losses read by its name."""
        for name, way in self.ways.items():
            head = way[0]
            if head.name in drawn:
                taken[name] = drawn[head.name]
            elif _is_combination(head):
                label = self._label_for(name, y)
                if label is not None or not head.needs_labels:
                    taken[name] = head(self._outputs_of(head, outputs), label)
            else:
                self._take(name, way, outputs, taken, stored)
        return self._answered(outputs, taken)

    def _label_for(self, name, y):
        """Returns the labels by which a combination chooses, or `None`."""
        if not self.ways[name][0].needs_labels or not keras.tree.is_nested(y):
            return y
        tasks = self.tasks[name]
        if len(tasks) == 1:
            keys = output_keys(self.student) or tasks
            return label_of(y, tasks[0], keys)
        if tasks:
            why = (
                f"losses of several tasks read it: {tasks}. Give each task a "
                "combination of its own"
            )
        else:
            shapes = keras.tree.map_structure(
                lambda a: a if a is None else tuple(a.shape), y
            )
            why = (
                f"the data has several labels for each sample: {shapes}. Give "
                "the loss that reads it by task, "
                "distillation_losses={'<task>': loss}"
            )
        raise ValueError(
            f"The combination '{name}' chooses teachers by the label, and "
            f"{why}, or take another rule."
        )

    def _take(self, name, way, outputs, taken, stored):
        """Adds the output of a teacher, or a tap of a cached one."""
        if len(way) == 1:
            taken[name] = self._output(name, outputs)
        elif way[0].name in stored:
            tap = "/".join(layer.name for layer in way[1:])
            taken[name] = stored[way[0].name]["taps"][tap]

    def _answered(self, outputs, taken):
        """Returns `(output, taken)`, see `__call__`."""
        combined = [n for n, w in self.ways.items() if _is_combination(w[0])]
        outputs = {**outputs, **{n: taken[n] for n in combined if n in taken}}
        answer = taken.get(self.answer)
        one = answer is not None and not isinstance(answer, dict)
        if not one or getattr(answer, "shape", answer)[-1] == 1:
            return outputs, taken
        return answer, taken

    def _outputs_of(self, combination, outputs):
        """Returns the outputs that a combination mixes, by teacher."""
        return {n: self._output(n, outputs) for n in combination.teachers}

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
            if _is_combination(way[0]):
                combination = way[0]
                shapes = self._outputs_of(combination, outputs)
                taken[name] = Shape(combination.check_shapes(shapes))
            else:
                self._take(name, way, outputs, taken, stored)
        return self._answered(outputs, taken)


def _read_by(losses, teachers):
    """Returns what losses read, a dict name -> their tasks, and whether one
    reads all outputs."""
    tasks, everything = {}, False
    for loss in losses:
        wanted, task = loss.teacher_layer_name, getattr(loss, "task", None)
        # A loss of one task reads the teacher of this name.
        if wanted is None and task in teachers.names:
            wanted = task
        everything = everything or (wanted is None and bool(loss.needs_teacher))
        for name in [] if wanted is None else as_list(wanted):
            tasks.setdefault(name, set()).add(task)
    return {n: sorted(t - {None}) for n, t in tasks.items()}, everything


def _answer(losses):
    """The teacher, or combination, whose decisions the student's are compared
    with: that of the first loss on scores of the same classes."""
    for loss in losses:
        if (
            loss.compares_classes
            and loss.student_layer_name is None
            and getattr(loss, "task", None) is None
            and getattr(loss, "class_map", None) is None
        ):
            return loss.teacher_layer_name
    return None


def _is_combination(layer):
    return isinstance(layer, Combination)


def _draw(combination, step):
    """Draws the place of one teacher, a function of seed and step."""
    import tensorflow as tf

    seed = [combination.seed % 2**31, tf.cast(step, tf.int32)]
    draw = tf.random.stateless_uniform([], seed)
    bounds = np.cumsum(combination.weights_of_teachers)[:-1]
    passed = draw >= ops.convert_to_tensor(bounds, "float32")
    return ops.sum(ops.cast(passed, "int32"))


def _warn_of_unused(teachers, unused):
    for key in unused:
        costs = "Its cache is not read."
        if key in teachers.live:
            model = teachers.live[key].layer
            size = sum(
                int(np.prod(v.shape)) * np.dtype(v.dtype).itemsize
                for v in model.weights
            )
            costs = (
                f"It does not run, but its {model.count_params():,} weights "
                f"take {size / 2**20:.3g} MiB of memory."
            )
        warnings.warn(
            f"teacher: no loss reads the teacher '{key}' of "
            f"{list(teachers.members)}. {costs} Name it in a loss, "
            f"teacher_layer_name='{key}', or leave it out.",
            stacklevel=2,
        )
