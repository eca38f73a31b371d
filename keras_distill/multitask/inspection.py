"""What heads of several tasks have learned to share."""

import dataclasses
import os
from typing import Any

import numpy as np
from keras import ops

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_instance
from keras_distill.multitask.clustering import TaskClustering
from keras_distill.multitask.decomposition import ParameterDecomposition
from keras_distill.multitask.heads import Heads


@dataclasses.dataclass(frozen=True, eq=False)
class Inspection:
    """What `kd.multitask.inspect` found. `print` it, or `plot` it.

    Attributes:
        tasks: The names of the tasks.
        singular_values: Those of the kernel, largest first.
        rank: How many are above a thousandth of the largest.
        features: How many rows of the kernel are not 0.
        similarity: `(tasks, tasks)`, from 0 to 1: `|cos|` of the kernels of
            two tasks of one output; of several, `||W_a' W_b||` over the root of
            `||W_a' W_a|| ||W_b' W_b||`.
        shares: With `TaskClustering`, `(groups, tasks)`: the length of each
            task's share in each group. `None` without.
        components: With `ParameterDecomposition`, a dict `"norm k"` -> the
            component, `(features, columns)`. `None` without.
    """

    tasks: list[str]
    singular_values: np.ndarray
    rank: int
    features: int
    similarity: np.ndarray
    shares: np.ndarray | None = None
    components: dict[str, np.ndarray] | None = None

    @property
    def groups(self) -> list[list[str]] | None:
        """The tasks of each group, largest share first; `None` without."""
        if self.shares is None:
            return None
        return [
            [self.tasks[t] for t in np.argsort(-row) if row[t] > 0]
            for row in self.shares
        ]

    def shared_with(self, task: str) -> list[str]:
        """Returns the other tasks, the most similar one first.

        With `TaskClustering` only those that have a group in common with it.
        """
        if task not in self.tasks:
            raise ValueError(
                f"task must be one of {self.tasks}. Received: {task!r}"
            )
        index = self.tasks.index(task)
        order = np.argsort(-self.similarity[index], kind="stable")
        others = [t for t in order if t != index]
        if self.shares is not None:
            used = self.shares > 0
            others = [t for t in others if np.any(used[:, t] & used[:, index])]
        return [self.tasks[t] for t in others]

    def __str__(self) -> str:
        shown = ", ".join(f"{s:.3g}" for s in self.singular_values[:8])
        more = ", ..." if len(self.singular_values) > 8 else ""
        lines = [
            f"{len(self.tasks)} tasks, rank {self.rank} of "
            f"{len(self.singular_values)}, {self.features} features in use",
            f"singular values: {shown}{more}",
        ]
        for index, names in enumerate(self.groups or []):
            lines.append(f"group {index}: {_shortened(names) or 'no task'}")
        for name, component in (self.components or {}).items():
            used = component != 0
            lines.append(
                f"{name}: length {np.linalg.norm(component):.3g}, "
                f"{used.any(axis=1).sum()} features, "
                f"{used.any(axis=0).sum()} of {component.shape[1]} columns"
            )
        for task in self.tasks[:20]:
            lines.append(f"{task}: {_shortened(self.shared_with(task)[:3])}")
        return "\n".join(lines)

    def plot(self, filepath: str | os.PathLike | None = None) -> Any:
        """Draws singular values, similar tasks, and groups or components.

        Similar tasks stand side by side. Needs matplotlib.

        Args:
            filepath: Where to save the picture. Defaults to `None`: nowhere.

        Returns:
            The matplotlib `Figure`.
        """
        from matplotlib.figure import Figure

        order = _side_by_side(self.similarity)
        names = [self.tasks[t] for t in order]
        third = self.shares is not None or self.components is not None
        figure = Figure(
            figsize=(15 if third else 10, 4.5), layout="constrained"
        )
        axes = figure.subplots(1, 3 if third else 2)
        places = np.arange(1, len(self.singular_values) + 1)
        axes[0].bar(places, self.singular_values)
        axes[0].set(
            title=f"rank {self.rank} of {len(places)}",
            xlabel="number",
            ylabel="singular value",
        )
        image = axes[1].imshow(
            self.similarity[np.ix_(order, order)],
            vmin=0,
            vmax=1,
            cmap="viridis",
        )
        figure.colorbar(image, ax=axes[1], label="similarity")
        axes[1].set(title="which tasks share")
        _name_tasks(axes[1], names, both=True)
        if self.shares is not None:
            self._plot_groups(figure, axes[2], order, names)
        elif self.components is not None:
            self._plot_components(axes[2])
        if filepath is not None:
            path = as_path("filepath", filepath)
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=120)
        return figure

    def _plot_groups(self, figure, axes, order, names):
        image = axes.imshow(
            self.shares[:, order], aspect="auto", cmap="magma_r"
        )
        figure.colorbar(image, ax=axes, label="share")
        axes.set(
            title="groups of tasks",
            ylabel="group",
            yticks=range(len(self.shares)),
        )
        _name_tasks(axes, names)

    def _plot_components(self, axes):
        """The length of each row: which features a component uses."""
        for name, component in self.components.items():
            lengths = np.sort(np.linalg.norm(component, axis=1))[::-1]
            axes.plot(np.arange(1, len(lengths) + 1), lengths, label=name)
        axes.set(
            title="components", xlabel="feature, by length", ylabel="length"
        )
        axes.legend(frameon=False)


def inspect(heads: Heads) -> Inspection:
    """Shows what the tasks of `Heads` share.

    Args:
        heads: A built `kd.multitask.Heads`.

    Returns:
        An `Inspection`: singular values, groups, similar tasks, a picture.

    Raises:
        TypeError, ValueError: For another layer, or one that is not built.

    Example:

    ```python
    heads = kd.multitask.Heads({"shape": 4, "texture": 3})
    heads.build((None, 16))
    inspection = kd.multitask.inspect(heads)
    print(inspection)
    inspection.plot("heads.png")
    ```
    """
    checked_instance("heads", heads, Heads, "kd.multitask.Heads", or_none=False)
    values = {n: ops.convert_to_numpy(p) for n, p in heads.parts().items()}
    kernel = np.asarray(ops.convert_to_numpy(heads.merged_kernel()), "float64")
    columns = heads.columns()
    singular = np.linalg.svd(kernel, compute_uv=False)
    shares = components = None
    if isinstance(heads.structure, TaskClustering):
        shares = np.stack(
            [
                np.linalg.norm(values["shares"][:, a:b], axis=1)
                for a, b in columns.values()
            ],
            axis=1,
        )
    if isinstance(heads.structure, ParameterDecomposition):
        pairs = enumerate(heads.structure.components)
        components = {
            f"{norm} {k}": values[f"component_{k}"] for k, (norm, _) in pairs
        }
    return Inspection(
        tasks=list(columns),
        singular_values=singular,
        rank=int(np.sum(singular > 1e-3 * singular[0])),
        features=int(np.sum(np.any(kernel != 0, axis=1))),
        similarity=_similarity([kernel[:, a:b] for a, b in columns.values()]),
        shares=shares,
        components=components,
    )


def _similarity(kernels):
    products = np.array(
        [[np.linalg.norm(a.T @ b) for b in kernels] for a in kernels]
    )
    own = np.sqrt(np.diag(products))
    scale = np.outer(own, own)
    return np.divide(products, scale, np.zeros_like(products), where=scale > 0)


def _side_by_side(similarity):
    """An order of the tasks: each is followed by the most similar one left."""
    left = list(range(len(similarity)))
    order = [int(np.argmax(similarity.sum(axis=1)))]
    left.remove(order[0])
    while left:
        order.append(max(left, key=lambda t: similarity[order[-1], t]))
        left.remove(order[-1])
    return order


def _name_tasks(axes, names, both=False):
    size = max(3.0, min(9.0, 250.0 / len(names)))
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    if both:
        axes.set_yticks(range(len(names)), names, fontsize=size)


def _shortened(names, most=8):
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
