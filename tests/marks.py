"""Rows of a test that do not run in CI."""

import pytest


def nightly(*rows):
    """These rows of a parametrized test, marked so."""
    return [pytest.param(row, marks=pytest.mark.nightly) for row in rows]
