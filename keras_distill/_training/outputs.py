"""What one forward pass of a network gives."""

from typing import Any
from typing import NamedTuple


class ForwardOutputs(NamedTuple):
    """What a network computed (or the shapes of it): output and taps."""

    output: Any
    taps: dict

    def of(self, layer_names):
        """What one loss asked for: a tensor, or a dict for several taps."""
        if layer_names is None:
            return self.output
        if isinstance(layer_names, str):
            return self.taps[layer_names]
        return {name: self.taps[name] for name in layer_names}

    def taps_for(self, loss):
        """What a loss asked of its teacher, where this is the teacher's."""
        return self.of(loss.teacher_layer_name)

    def shared_with(self, loss):
        """Further arguments of a loss's `compute_loss`: none."""
        return {}
