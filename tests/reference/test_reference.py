"""The losses against reference values, and the check itself."""

import json
import pathlib

import check
import numpy as np
import pytest

KEPT = check.HERE / "cases"
SHARED = check.HERE.parents[2] / "shared"
WHOLE = [SHARED / "reference", SHARED / "reference-tasks"]
WHOLE = all((folder / "manifest.json").exists() for folder in WHOLE) and WHOLE
FOLDERS = WHOLE or [KEPT]


@pytest.mark.parametrize("dtype", check.DTYPES)
@pytest.mark.parametrize(
    "folder, case",
    [
        pytest.param(folder, case, id=case["id"])
        for folder in FOLDERS
        for case in check.load_cases(folder, check.adapter.GROUPS)
    ],
)
def test_case(folder, case, dtype):
    result = check.check_case(case, folder, dtype)
    assert result.status == "ok", str(result)


def test_every_group_has_a_kept_case():
    kept = {case["group"] for case in check.load_cases(KEPT)}
    assert kept == set(check.adapter.GROUPS)


# The check: what it must not let through.


@pytest.fixture
def stored():
    """The kept cases whose result is altered below, and their manifest."""
    return {case["id"]: case for case in check.load_cases(KEPT)}


@pytest.fixture
def alter(monkeypatch):
    """Returns a function that alters what the adapter computes."""
    evaluate = check.adapter.evaluate

    def install(change):
        def altered(case, arrays, dtype):
            results = evaluate(case, arrays, dtype)
            change(results)
            return results

        monkeypatch.setattr(check.adapter, "evaluate", altered)

    return install


def run(capsys, *arguments):
    """Exit code and printed lines of the command."""
    code = check.main([str(a) for a in arguments])
    return code, capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_all_ok_exits_0(capsys):
    code, lines = run(capsys, KEPT)
    cases = len(check.load_cases(KEPT))
    assert code == 0
    assert [line.split()[0] for line in lines[:-1]] == ["ok"] * 2 * cases
    assert f"{cases} cases" in lines[-1] and f"{2 * cases} ok" in lines[-1]


@pytest.mark.parametrize("dtype", check.DTYPES)
@pytest.mark.parametrize("key", ["loss", "grad_student_logits"])
def test_a_wrong_value_fails(capsys, alter, stored, key, dtype):
    rtol = "loss_rtol" if key == "loss" else "grad_rtol_of_max"
    tolerance = stored["kd_ce_02"]["tolerance"][dtype]

    def scaled(factor):
        def change(results):
            results[key] = results[key] * (1 + factor * tolerance[rtol])

        return change

    arguments = (KEPT, "--groups", "kd_ce", "--dtype", dtype)
    alter(scaled(0.5))
    assert run(capsys, *arguments)[0] == 0
    alter(scaled(20))
    code, lines = run(capsys, *arguments)
    assert code == 1
    assert lines[0].startswith("FAIL") and f"{key} differs" in lines[0]


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda r: r.pop("grad_student_logits"), "grad_student_logits is miss"),
        (lambda r: r.pop("loss_ce"), "loss_ce is missing"),
        (lambda r: r.update(loss=np.nan), "loss differs by nan"),
        (lambda r: r.update(loss=np.ones(1)), "loss is (1,), not ()"),
        (
            lambda r: r.update(
                grad_student_logits=r["grad_student_logits"] * np.nan
            ),
            "grad_student_logits differs by nan",
        ),
        (
            lambda r: r.update(grad_student_logits=np.zeros((1, 1))),
            "grad_student_logits is (1, 1)",
        ),
        (lambda r: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_is_no_value_fails(alter, stored, change, complaint):
    alter(change)
    result = check.check_case(stored["kd_total_02"], KEPT, "float64")
    assert result.status == "FAIL"
    assert complaint in result.message


@pytest.mark.slow
def test_an_unknown_group_is_not_ok(capsys, monkeypatch):
    monkeypatch.delitem(check.adapter.GROUPS, "kd_ce")
    code, lines = run(capsys, KEPT, "--dtype", "float64")
    assert code == 1
    assert [line for line in lines if line.startswith("unknown kd_ce_02")]
    assert "0 FAIL, 1 unknown" in lines[-1]
    with pytest.raises(check.adapter.UnknownGroup, match="kd_ce"):
        check.adapter.evaluate({"group": "kd_ce"}, {})


def test_nothing_checked_is_not_ok(capsys, tmp_path):
    assert run(capsys, KEPT, "--groups", "kd_kl,no_such_group")[0] == 1
    (tmp_path / "manifest.json").write_text(json.dumps({"cases": []}))
    assert run(capsys, tmp_path)[0] == 1


def test_expected_values_are_hidden_from_the_adapter(monkeypatch, stored):
    monkeypatch.setattr(
        check.adapter, "evaluate", lambda case, arrays, dtype: arrays
    )
    for case in stored.values():
        result = check.check_case(case, KEPT, "float64")
        assert "loss is missing" in result.message
        assert not result.comparisons


@pytest.mark.parametrize(
    "reference, tolerated",
    [([2.0, -4.0], 0.1 + 0.5 * 4.0), ([0.0, 0.0], 0.1), ([], 0.1)],
)
def test_tolerance_of_a_gradient(reference, tolerated):
    tolerance = {"grad_atol": 0.1, "grad_rtol_of_max": 0.5}
    reference = np.array(reference)
    comparison = check.compare("grad_x", reference, reference, tolerance)
    assert comparison.ok
    np.testing.assert_allclose(comparison.allowed, tolerated)
    for factor, ok in ((0.99, True), (1.01, False)):
        moved = reference + factor * tolerated
        if len(reference):
            assert check.compare("grad_x", moved, reference, tolerance).ok == ok


def test_kept_cases_are_small():
    size = sum(path.stat().st_size for path in pathlib.Path(KEPT).iterdir())
    assert size < 400_000
