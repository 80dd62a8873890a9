"""Do tables of a cohort hold what its cases say, and can LaTeX read them, whatever their names?"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.uncertainty.contour import estimate_volume
from aistat_jax.uncertainty.reference import agreement, with_references
from aistat_jax.views.cohort import cohort_text
from aistat_jax.views.summary import summary_of
from tests.helpers import make_posterior
from tests.test_summary import make_case

NASTY = r"P_01 & 50% $x$ #{a}~b^c\d <e> ²±–é \"q\""


def compared(**kwargs):
    """A case with a reference: its own estimate, moved by two voxels."""
    case = make_case(draws=200, **kwargs)
    like = case.image.primary
    volume = np.roll(estimate_volume(case.contours, like), 2, axis=0)
    contours = tuple(with_references(case.contours, volume, like))
    return replace(case, contours=contours, agreement=agreement(contours, volume, like))


def test_a_row_holds_what_the_summary_says(tmp_path):
    case = compared(count=2)
    summary = summary_of(case)
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    forms = {"a": tmp_path, "b": str(tmp_path / "summary.json"), "c": summary, "d": case}
    table = aj.cohort_table(forms)
    assert table["case"].tolist() == [name for name in forms for _ in range(2)]
    for first, second in zip(table.to_dict("records")[:2], summary["targets"], strict=True):
        assert first["target"] == second["id"]
        assert first["size_low"] == second["size"]["q025"]
        assert first["half_width_largest"] == second["band_half_width_mm"]["max"]
        assert first["grade"] == second["grade"]["case"]
        assert first["dice"] == second["reference"]["dice"]
    parts = [
        table[table["case"] == name].drop(columns="case").reset_index(drop=True) for name in forms
    ]
    for part in parts[1:]:
        assert part.equals(parts[0])


def test_agreement_of_a_target_is_with_its_own_reference():
    row = aj.cohort_table({"a": compared()}).iloc[0]
    assert 3.0 < row["hd95"] <= 4.5  # moved by 4 mm
    assert 0.6 < row["dice"] < 0.9
    alike = compared()
    own = alike.posteriors[0]
    one = replace(alike[0], reference=own.chart.surface(own.estimate))
    same = replace(alike, contours=(one,))
    assert aj.cohort_table({"a": same}).iloc[0]["dice"] == pytest.approx(1.0)


def test_a_row_a_case_counts_its_grades():
    cases = {"P01": compared(count=3), "P02": make_case(draws=200)}
    table = aj.cohort_table(cases, by="case")
    assert table["targets"].tolist() == [3, 1]
    assert (table[["green", "amber", "red"]].sum(axis=1) == table["targets"]).all()
    assert table.loc[0, "dice"] == cases["P01"].agreement.dice
    assert np.isnan(table.loc[1, "dice"])
    assert cohort_text(table).loc[1, "Dice"] == "--"


def test_posteriors_are_graded_at_the_tolerance_asked_for():
    posterior = make_posterior(draws=200)
    strict, lax = (
        aj.cohort_table({"a": posterior}, tolerance_mm=t).loc[0, "grade"] for t in (0.2, 9.0)
    )
    assert (strict, lax) == ("red", "green")
    assert len(aj.cohort_table({"a": [posterior, posterior]})) == 2
    assert "dice" not in aj.cohort_table({"a": posterior})


def test_units_stand_in_the_head_or_in_the_cells():
    alike = cohort_text(aj.cohort_table({"a": make_case(draws=200)}))
    assert "Size (mm²)" in alike
    assert "Half-width (mm)" in alike
    mixed = aj.cohort_table({"a": make_case(draws=200), "b": make_case(spacing=None, draws=200)})
    printed = cohort_text(mixed)
    assert printed["Size"].str.endswith(("mm²", "px²")).all()


def test_csv_holds_every_number(tmp_path):
    table = aj.cohort_table({NASTY: compared()})
    path = aj.write_cohort(tmp_path / "new" / "cohort.csv", table)
    (row,) = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    assert row["case"] == NASTY
    assert float(row["size_high"]) == table.loc[0, "size_high"]
    with pytest.raises(aj.InputError, match=r"written as \.csv, \.parquet or \.tex"):
        aj.write_cohort(tmp_path / "cohort.xlsx", table)


def unescaped(text: str) -> list[str]:
    """LaTeX's own signs that stand in a text without being meant."""
    bare = re.sub(r"\$\^\\?\w+\$|\$\\?[\w-]+\$|\\[&%$#_{}]|\\[a-z]+\{\}", "", text)
    return re.findall(r"[\\&%$#_{}~^<>]", bare)


@pytest.mark.parametrize("by", ["target", "case"])
def test_latex_is_escaped_and_of_one_shape(tmp_path, by):
    table = aj.cohort_table({NASTY: compared(count=2), "P02": make_case(draws=200)}, by=by)
    text = aj.write_cohort(tmp_path / "cohort.tex", table).read_text(encoding="utf-8")
    columns = re.match(r"\\begin\{tabular\}\{([lr]+)\}\n", text)
    assert columns is not None
    rows = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 1 + len(table)
    for row in rows:
        cells = re.split(r"(?<!\\) & ", row)
        assert len(cells) == len(columns[1])
        assert [unescaped(cell) for cell in cells] == [[]] * len(cells)
    assert unescaped(NASTY) != []  # negative control
    if shutil.which("pdflatex"):
        page = tmp_path / "page.tex"
        page.write_text(f"\\documentclass{{article}}\\begin{{document}}\n{text}\\end{{document}}\n")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", page.name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]


def test_what_is_no_case_is_refused(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "other.json").write_text("[1]")
    for cases, words in (
        ({}, "at least one case"),
        ({"a": tmp_path / "none"}, "cannot be read (no such file"),
        ({"a": tmp_path / "bad.json"}, "not JSON"),
        ({"a": tmp_path / "other.json"}, "not the summary of a contoured case"),
        ({"a": {"schema": 3, "targets": []}}, "schema 3 and this version reads 1 and 2"),
    ):
        with pytest.raises(aj.InputError) as refused:
            aj.cohort_table(cases)
        assert words in str(refused.value)
