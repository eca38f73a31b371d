"""The operators of a TFLite file, read from the file itself."""

import collections
import contextlib
import mmap
from typing import NamedTuple


class Operator(NamedTuple):
    """One operator of a file.

    Attributes:
        name: `"CONV_2D"`; of a custom operator its own, such as `"FlexErf"`.
        builtin: Whether every interpreter has it.
        outputs: Names of the tensors it computes. The converter puts the name
            scopes of the Keras layers there.
    """

    name: str
    builtin: bool
    outputs: tuple


def operators(filepath):
    """All operators of a file in their order, branches and loops after.

    Args:
        filepath: A `.tflite` file.

    Returns:
        A list of `Operator`.
    """
    from ai_edge_litert import schema_py_generated as schema

    names = {
        number: name
        for name, number in vars(schema.BuiltinOperator).items()
        if isinstance(number, int)
    }
    found = []
    with mapped(filepath) as data:
        model = schema.Model.GetRootAs(data, 0)
        for i in range(model.SubgraphsLength()):
            graph = model.Subgraphs(i)
            for j in range(graph.OperatorsLength()):
                operator = graph.Operators(j)
                code = model.OperatorCodes(operator.OpcodeIndex())
                # Numbers below 127 stand in the older of the two fields.
                number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
                builtin = number != schema.BuiltinOperator.CUSTOM
                name = names.get(number, str(number))
                if not builtin:
                    name = (code.CustomCode() or b"CUSTOM").decode()
                outputs = tuple(
                    (graph.Tensors(operator.Outputs(k)).Name() or b"").decode()
                    for k in range(operator.OutputsLength())
                )
                found.append(Operator(name, builtin, outputs))
    return found


def counts(found):
    """Operators -> dict name -> how many, the most frequent first."""
    return dict(
        collections.Counter(operator.name for operator in found).most_common()
    )


@contextlib.contextmanager
def mapped(filepath):
    """The bytes of a file, read where they are looked at."""
    with open(filepath, "rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
