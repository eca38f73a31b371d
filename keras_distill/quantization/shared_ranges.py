"""Which tensors of a network have one range in its file."""

from keras_distill.quantization import rules


class SharedRanges:
    """Groups of values that have one range.

    A layer that only moves values gives them the range of its input. What is
    concatenated has one range, unless TFLite fixes that of a part: the part is
    rounded once more.

    Args:
        graph: A `Graph`.
    """

    def __init__(self, graph):
        self._above = {}
        self._fixed = {}
        for call in graph.calls:
            output = rules.rule_of(call.operation).output
            if output in (rules.SAME, rules.ROUNDED_AS_INPUT):
                for value in call.outputs:
                    self._join(value, call.inputs[0])
            elif isinstance(output, tuple):
                self._fixed |= dict.fromkeys(call.outputs, output)
        for call in graph.calls:
            if rules.rule_of(call.operation).output == rules.SHARED:
                for value in call.inputs:
                    if self.fixed(value) is None:
                        self._join(value, call.outputs[0])

    def group(self, value):
        """Returns the value that stands for the group of a value."""
        while value in self._above:
            value = self._above[value]
        return value

    def fixed(self, value):
        """Returns the `(low, high)` that TFLite fixes for a value, or
        `None`."""
        return self._fixed.get(self.group(value))

    def _join(self, value, other):
        value, other = self.group(value), self.group(other)
        if value is not other:
            self._above[value] = other
