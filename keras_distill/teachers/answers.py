"""What named teachers answer, as a network with the student's outputs."""

import keras


class Answers(keras.Model):
    """A part of a `kd.Teachers` that answers what the student answers.

    Args:
        teachers: The `kd.Teachers`.
        names: The name of a teacher or combination, or a dict from the key of
            an output to a name. See `can_answer`.

    Returns:
        `call`: one output, or a dict of outputs.
    """

    splits_inputs = True

    def __init__(self, teachers, names):
        one = isinstance(names, str)
        super().__init__(name=names if one else teachers.name, autocast=False)
        self.answered = names
        self.combinations = {
            name: teachers.combinations[name]
            for name in keras.tree.flatten(names)
            if name in teachers.combinations
        }
        needed = set(keras.tree.flatten(names)) - set(self.combinations)
        needed.update(*(c.teachers for c in self.combinations.values()))
        self.teachers = teachers.only(sorted(needed))
        self.built = True

    # As of a Functional model, see `Ensemble`.

    @property
    def inputs(self):
        return self.teachers.inputs

    @property
    def input(self):
        return self.teachers.input

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs, training=None):
        outputs = self.teachers(inputs, training=training)
        outputs |= {k: mix(outputs) for k, mix in self.combinations.items()}
        return keras.tree.map_structure(outputs.__getitem__, self.answered)

    def activation_of(self, output):
        """The activation that an output ends in, as `final_activation`."""
        name = self.answered if output is None else self.answered[output]
        return self.teachers.activation_of(name)


def can_answer(teachers, name):
    """Whether a name stands for an output that the data alone gives.

    Cached teachers do not run, and `rule="label"` needs labels.
    """
    if name in teachers.combinations:
        combination = teachers.combinations[name]
        live = all(n in teachers.live for n in combination.teachers)
        return live and not combination.needs_labels
    return name in teachers.live
