"""The outputs of one forward pass of a network."""

from typing import Any
from typing import NamedTuple


class ForwardOutputs(NamedTuple):
    """Output and taps of a network, or their shapes."""

    output: Any
    taps: dict

    def select(self, layer_names, task=None):
        """Returns what a loss looks at.

        Args:
            layer_names: A name, a list of names, or `None` for the output.
            task: The key of the output, if the outputs are a dict that has
                it.

        Returns:
            A tensor; a dict name -> tensor for a list.
        """
        if layer_names is None:
            if isinstance(self.output, dict) and task in self.output:
                return self.output[task]
            return self.output
        if isinstance(layer_names, str):
            return self._tap(layer_names)
        return {name: self._tap(name) for name in layer_names}

    def _tap(self, name):
        if name not in self.taps:
            raise ValueError(
                f"A loss reads the combination '{name}' of the teachers, which "
                "needs labels, but the data has none."
            )
        return self.taps[name]

    def taps_for(self, loss):
        """Returns what a loss looks at, of these outputs of its teacher."""
        return self.select(loss.teacher_layer_name, loss.task)

    def shared_with(self, loss):
        """Returns further arguments of a loss's `compute_loss`: none."""
        return {}
