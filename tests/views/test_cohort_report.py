"""Does a cohort's page say everything of its cases, whatever they are called, and fetch nothing?"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.views.cohort_files import cases_table, write_cohort_files
from aistat_jax.views.outputs import stack_size, stack_volume
from aistat_jax.views.page import picture
from aistat_jax.views.summary import summary_of
from tests.helpers import make_surface, make_volume
from tests.test_summary import make_case

NASTY = "P_01 <b>&'x"


def write(folder, name, summary, record) -> dict:
    (folder / name).mkdir(parents=True)
    (folder / name / "summary.json").write_text(json.dumps(summary))
    (folder / name / "report.html").write_text("")
    return {"state": "done"} | record


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two cases that are done, one of them a stack, and one that failed."""
    folder = tmp_path_factory.mktemp("cohort")
    summary = summary_of(make_case(draws=200, count=2))
    records = {
        "P2": write(folder / "cases", "P2", summary, {"volume_ml": [12.0, 0.5, 1.5]}),
        NASTY: write(folder / "cases", NASTY, summary, {"look_at": ["z001 (amber): <wide>"]}),
        "P3": {"state": "failed", "sentence": "pet.nii.gz: <damaged>"},
    }
    from matplotlib.figure import Figure

    (folder / "cases" / "P2" / "thumbnail.png").write_bytes(picture(Figure((1, 1)), 20))
    names = write_cohort_files(folder, folder / "cases", records, "Cohort: <study>")
    return folder, names, records, summary


def test_the_table_has_every_case_in_order(written):
    import pandas as pd

    folder, names, records, summary = written
    assert set(names) == {p.name for p in folder.iterdir()} - {"cases"}
    table = pd.read_csv(folder / "cases.csv")
    assert table["case"].tolist() == list(records)
    assert table["state"].tolist() == ["done", "done", "failed"]
    row = table.iloc[0]
    assert (row["volume_ml"], row["volume_ml_low"], row["volume_ml_high"]) == (12.0, 10.5, 13.5)
    assert np.isnan(table.iloc[1]["volume_ml"])
    assert table.iloc[2]["targets"] == 0
    kept = pd.read_parquet(folder / "cases.parquet")
    assert kept.equals(cases_table(records, {name: summary for name in list(records)[:2]}))


def test_the_page_is_escaped_and_fetches_nothing(written):
    page = (written[0] / "report.html").read_text(encoding="utf-8")
    assert "2 of 3 cases are done, 1 failed" in page
    assert "pet.nii.gz: &lt;damaged&gt;" in page
    assert "Cohort: &lt;study&gt;" in page
    for raw in ("<b>", "<damaged>", "<wide>", "<study>"):
        assert raw not in page
    assert 'href="cases/P_01%20%3Cb%3E%26%27x/report.html"' in page
    assert "12.0 (10.5 to 13.5)" in page
    assert page.count("data:image/png;base64,") == 1
    assert not re.search(r"(?:src|href)=\"(?:https?:|//)", page)
    assert page.index("<h2>Failed</h2>") < page.index("<h2>Every case</h2>")


def test_nothing_done_is_said(tmp_path):
    records = {"P1": {"state": "failed", "sentence": "no such file"}}
    names = write_cohort_files(tmp_path, tmp_path / "cases", records, "Cohort")
    assert names == ["cases.csv", "cases.parquet", "report.html"]
    assert "No case is done." in (tmp_path / "report.html").read_text()


def test_parquet_names_its_extra(tmp_path, monkeypatch):
    import sys

    table = aj.cohort_table({"a": make_case(draws=200)})
    assert aj.write_cohort(tmp_path / "a.parquet", table).is_file()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(aj.InputError, match=r"pip install 'aistat_jax\[cohort\]'"):
        aj.write_cohort(tmp_path / "b.parquet", table)
    assert not (tmp_path / "b.parquet").exists()


def test_volumes_of_stacks_and_surfaces():
    case, stack = make_case(draws=200, count=3), []
    for n, each in enumerate(case):
        plane = replace(each.chart.plane, offset=n * each.chart.plane.thickness)
        chart = replace(each.chart, plane=plane)
        stack.append(replace(each, posterior=replace(each.posterior, chart=chart)))
    total, independent, alike = stack_volume(stack) or (0.0, 0.0, 0.0)
    areas = sum(each.content.mean for each in stack)
    assert total == pytest.approx(areas * stack[0].chart.plane.thickness / 1000)
    assert 0 < independent < alike
    assert f"{total:.3g} ml" in stack_size(stack)
    assert stack_volume(stack[::2]) is None  # a slice is missing between them
    volume = make_volume()
    surface = aj.contour_of(make_surface())
    solid = aj.Case(volume, (surface,))
    table = cases_table({"a": {"state": "done"}}, {"a": summary_of(solid)})
    assert table.loc[0, "volume_ml"] == pytest.approx(surface.content.quantiles["q500"] / 1000)
