"""Writes quickstart.ipynb from quickstart.py: the same cells, no output.

python examples/_shared/make_notebook.py
"""

import json
import pathlib

EXAMPLES = pathlib.Path(__file__).parents[1]


def cells(source):
    """Cells of a script in percent format: `# %%` and `# %% [markdown]`."""
    for number, block in enumerate(source.split("# %%")[1:]):
        head, _, body = block.partition("\n")
        lines = body.strip("\n").splitlines()
        kind = "markdown" if "[markdown]" in head else "code"
        if kind == "markdown":
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        while lines and not lines[-1].strip():
            lines.pop()
        cell = {
            "cell_type": kind,
            "id": f"cell-{number}",
            "metadata": {},
            "source": [line + "\n" for line in lines[:-1]] + lines[-1:],
        }
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        yield cell


def notebook(source):
    return {
        "cells": list(cells(source)),
        "metadata": {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def main():
    source = (EXAMPLES / "quickstart.py").read_text()
    text = json.dumps(notebook(source), indent=1) + "\n"
    (EXAMPLES / "quickstart.ipynb").write_text(text)


if __name__ == "__main__":
    main()
