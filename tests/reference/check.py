"""Checks `keras_distill.losses` against a folder of reference values.

    python tests/reference/check.py FOLDER [--dtype float64|float32|both]
                                           [--groups kd_kl,at_paper]

The folder holds `manifest.json` and one `.npz` per case. Prints a line per case
and dtype, then a summary. Exits 0 if all of them are right, else 1: also if a
group is not known here, or nothing was checked.

Tolerances are those of the manifest, per dtype:

    loss:      |a - ref| <= loss_atol + loss_rtol * |ref|
    gradient:  max|g - ref| <= grad_atol + grad_rtol_of_max * max|ref|

Every expected value of a case must be returned: the loss, all gradients, and
what else the manifest lists as expected (scalars are held to the tolerance of
the loss, arrays to that of the gradients).
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HERE = pathlib.Path(__file__).resolve().parent
for folder in (HERE, HERE.parents[1]):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import adapter  # noqa: E402
import numpy as np  # noqa: E402

DTYPES = ("float64", "float32")


@dataclasses.dataclass
class Comparison:
    """One computed value beside its reference."""

    name: str
    error: float  # largest absolute difference
    allowed: float
    largest: float  # largest absolute value of the reference

    @property
    def ok(self):
        return bool(self.error <= self.allowed)  # False for NaN

    @property
    def relative(self):
        return self.error / self.largest if self.largest > 0 else self.error


@dataclasses.dataclass
class Result:
    """What became of one case: `status` is "ok", "FAIL" or "unknown"."""

    case_id: str
    dtype: str
    status: str
    comparisons: list = dataclasses.field(default_factory=list)
    message: str = ""

    def __str__(self):
        line = f"{self.status:<7} {self.case_id:<24} {self.dtype}"
        for kind, chosen in (
            ("loss", [c for c in self.comparisons if c.name == "loss"]),
            ("gradient", [c for c in self.comparisons if _is_gradient(c)]),
        ):
            if chosen:
                worst = max(chosen, key=_severity)
                name = worst.name.removeprefix("grad_")
                where = f" ({name})" if kind == "gradient" else ""
                line += f"  {kind} {worst.relative:.1e}{where}"
        return f"{line}  {self.message}".rstrip()


def check_case(case, folder, dtype):
    """Computes one case of the manifest and compares it with its `.npz`.

    Args:
        case: An entry of the manifest.
        folder: Where the case's file lies.
        dtype: `"float64"` or `"float32"`.

    Returns:
        A `Result`. An exception of the library is a `FAIL` that says so.
    """
    with np.load(pathlib.Path(folder) / case["file"]) as file:
        arrays = {name: file[name] for name in file.files}
    expected = {n: arrays.pop(n) for n in list(arrays) if _expected(n, case)}
    result = Result(case["id"], dtype, "FAIL")
    try:
        computed = adapter.evaluate(case, arrays, dtype)
    except adapter.UnknownGroup:
        result.status, result.message = "unknown", f"group {case['group']}"
        return result
    except Exception as error:
        message = " ".join(str(error).split())
        result.message = f"{type(error).__name__}: {message[:300]}"
        return result
    problems = []
    for name, reference in expected.items():
        if name not in computed:
            problems.append(f"{name} is missing")
            continue
        value = np.asarray(computed[name], "float64")
        if value.shape != reference.shape:
            problems.append(f"{name} is {value.shape}, not {reference.shape}")
            continue
        comparison = compare(name, value, reference, case["tolerance"][dtype])
        result.comparisons.append(comparison)
        if not comparison.ok:
            problems.append(
                f"{name} differs by {comparison.error:.3g}, "
                f"allowed {comparison.allowed:.3g}"
            )
    if "loss" not in expected:
        problems.append("the file has no loss to compare with")
    result.status = "FAIL" if problems else "ok"
    result.message = "; ".join(problems)
    return result


def compare(name, value, reference, tolerance):
    """Compares two arrays of one shape under the manifest's tolerance."""
    largest = float(np.max(np.abs(reference), initial=0.0))
    error = float(np.max(np.abs(value - reference), initial=0.0))
    if name.startswith("grad_") or reference.ndim:
        absolute, relative = "grad_atol", "grad_rtol_of_max"
    else:
        absolute, relative = "loss_atol", "loss_rtol"
    allowed = tolerance[absolute] + tolerance[relative] * largest
    return Comparison(name, error, allowed, largest)


def _expected(name, case):
    role = case.get("arrays", {}).get(name, {}).get("role", "")
    return (
        name == "loss"
        or name.startswith(("loss_", "grad_"))
        or role.startswith("expected")
    )


def _is_gradient(comparison):
    return comparison.name.startswith("grad_")


def _severity(comparison):
    if np.isnan(comparison.error):
        return float("inf")
    return comparison.error / max(comparison.allowed, sys.float_info.min)


def load_cases(folder, groups=None):
    """The entries of a folder's manifest, all or those of some groups."""
    manifest = json.loads((pathlib.Path(folder) / "manifest.json").read_text())
    return [c for c in manifest["cases"] if not groups or c["group"] in groups]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", help="where manifest.json lies")
    parser.add_argument("--dtype", choices=(*DTYPES, "both"), default="both")
    parser.add_argument("--groups", help="only these, comma-separated")
    options = parser.parse_args(arguments)
    dtypes = DTYPES if options.dtype == "both" else (options.dtype,)
    groups = options.groups.split(",") if options.groups else None

    cases = load_cases(options.folder, groups)
    missing = set(groups or ()) - {case["group"] for case in cases}
    counts = {"ok": 0, "FAIL": 0, "unknown": 0}
    for case in cases:
        for dtype in dtypes:
            result = check_case(case, options.folder, dtype)
            counts[result.status] += 1
            print(result, flush=True)
    if missing:
        print(f"no case of: {', '.join(sorted(missing))}")
    print(
        f"{len(cases)} cases in {' and '.join(dtypes)}: "
        + ", ".join(f"{count} {status}" for status, count in counts.items())
    )
    all_ok = counts["ok"] == len(cases) * len(dtypes) and cases and not missing
    return 0 if all_ok else 1


if __name__ == "__main__":
    sys.exit(main())
