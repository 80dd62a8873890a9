"""Is the report one complete, escaped, self-contained page?"""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from aistat_jax._errors import InputError
from aistat_jax.uncertainty.triage import Concern
from aistat_jax.views.report import write_report
from aistat_jax.views.style import new_figure

VOID = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of order."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def a_target(**changes):
    return {
        "id": "lesion-1",
        "method": "laplace",
        "diagnostics": {
            "converged": True,
            "khat": 0.31,
            "ess_min": 912.4,
            "rhat_max": None,
            "divergences": None,
            "reasons": [],
        },
        "size": {
            "unit": "mm2",
            "mean": 1447.2,
            "sd": 42.0,
            "q025": 1370.0,
            "q500": 1446.0,
            "q975": 1530.0,
        },
        "band_half_width_mm": {"median": 1.9, "q95": 5.04, "max": 6.9},
        "grade": {
            "case": "amber",
            "reasons": ["23% of the boundary may be off by more than 2.0 mm."],
            "fraction": {"green": 0.64, "amber": 0.17, "red": 0.19},
        },
        "seconds": {"evidence": 0.1, "fit": 0.4, "total": 0.6},
        **changes,
    }


def a_summary(*targets):
    return {"schema": 1, "version": "9.9", "seed": 7, "inputs": ["p.nii.gz"], "targets": targets}


def read(path):
    parser = Balanced()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    assert parser.open == []
    return parser


def test_page_is_whole_and_fetches_nothing(tmp_path):
    figure = new_figure(2.0, 2.0)
    figure.add_subplot().plot([0, 1])
    path = write_report(
        tmp_path / "report.html",
        title="Contours",
        summary=a_summary(a_target()),
        figures=[("The slice", figure)],
        version="0.1.0",
    )
    page = read(path)
    assert page.links
    assert all(link.startswith(("data:image/png;base64,", "#t")) for link in page.links)
    assert "http" not in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_page_says_what_the_summary_says(tmp_path):
    path = write_report(tmp_path / "r.html", title="T", summary=a_summary(a_target()))
    words = " ".join(read(path).words)
    for expected in (
        "1,447 ± 42.0 mm²",
        "1,446 mm² (1,370 to 1,530)",
        "1,446 (1,370 to 1,530) mm²",
        "median 1.90, 95% point 5.04, largest 6.90 mm",
        "▲ amber",
        "● green 64%",
        "23% of the boundary may be off by more than 2.0 mm.",
        "912",
        "0.31",
        "nested Laplace",
        "project's own definition",
        "aistat_jax 9.9",
        "seed 7",
        "p.nii.gz",
    ):
        assert expected in words


def test_how_probably_a_target_is_there_is_told_where_it_is_said(tmp_path):
    said = a_summary(a_target(presence=0.434), a_target(id="lesion-2"))
    words = read(write_report(tmp_path / "r.html", title="T", summary=said)).words
    assert {"Present", "Present, probability", "43%", "100%"} <= set(words)
    silent = a_summary(a_target())
    words = read(write_report(tmp_path / "r.html", title="T", summary=silent)).words
    assert not {"Present", "Present, probability"} & set(words)


def test_grade_can_be_read_without_colour(tmp_path):
    marks = set()
    for case in ("green", "amber", "red"):
        target = a_target(grade={"case": case, "reasons": [], "fraction": {}})
        path = write_report(tmp_path / "r.html", title="T", summary=a_summary(target))
        marks.update(re.findall(rf'<span class="grade {case}">(. {case})</span>', path.read_text()))
    assert marks == {"● green", "▲ amber", "■ red"}


def test_text_is_escaped(tmp_path):
    nasty = "<script>alert('x')</script> & \"more\""
    target = a_target(
        id=nasty,
        method=nasty,
        diagnostics={"converged": False, "reasons": [nasty]},
        grade={"case": nasty, "reasons": [nasty], "fraction": {}},
    )
    figure = new_figure(1.0, 1.0)
    summary = {**a_summary(target), "inputs": [nasty], "seed": nasty}
    path = write_report(
        tmp_path / "r.html", title=nasty, summary=summary, figures=[(nasty, figure)], version=nasty
    )
    assert "<script" not in path.read_text(encoding="utf-8")
    assert nasty in "".join(read(path).words)


@pytest.mark.parametrize("targets", [(), ({"id": "bare"},)])
def test_little_to_say_is_still_a_page(tmp_path, targets):
    read(write_report(tmp_path / "r.html", title="T", summary=a_summary(*targets)))


def test_both_half_widths_are_said(tmp_path):
    """That of the whole contour, and that of any one place where the summary has it."""
    told = a_target(pointwise_half_width_mm={"median": 1.2, "q95": 3.1, "max": 4.4})
    words = " ".join(
        read(write_report(tmp_path / "r.html", title="T", summary=a_summary(told))).words
    )
    assert "pointwise) median 1.20, largest 4.40 mm" in words
    older = write_report(tmp_path / "o.html", title="T", summary=a_summary(a_target()))
    assert "pointwise" not in " ".join(read(older).words)


def test_pixel_units_are_named(tmp_path):
    target = a_target(
        size={"unit": "px2", "mean": 80.0, "sd": 2.0}, band_half_width_px={"median": 1.0}
    )
    del target["band_half_width_mm"]
    words = " ".join(
        read(write_report(tmp_path / "r.html", title="T", summary=a_summary(target))).words
    )
    assert "80.0 ± 2.00 px²" in words
    assert "largest - px" in words


def many(count):
    cases = ["red", "amber", "green"]
    return [
        a_target(id=f"z{n:03d}", grade={"case": cases[n % 3], "reasons": ["Why."], "fraction": {}})
        for n in range(count)
    ]


def test_the_page_opens_with_what_to_do(tmp_path):
    first = [Concern(f"z{n:03d}", n, "red", f"reason {n}") for n in (12, 3, 6, 9, 0, 15)]
    path = write_report(
        tmp_path / "r.html", title="T", summary=a_summary(*many(28)), first=first,
        size="The slices add up to 146 ml.",
    )  # fmt: skip
    text, page = path.read_text(encoding="utf-8"), read(path)
    words = " ".join(page.words)
    assert words.index("28 contours: 10 red, 9 amber, 9 green.") < words.index("146 ml")
    assert words.index("146 ml") < words.index("reason 12") < words.index("reason 3 ")
    assert "reason 15" not in words[: words.index("After them: 1 more.")]
    assert page.links[:5] == ["#t12", "#t3", "#t6", "#t9", "#t0"]
    assert set(page.links) == {f"#t{n}" for n in range(28)}
    # every link leads somewhere, and nowhere twice
    assert sorted(re.findall(r'id="(t\d+)"', text)) == sorted(f"t{n}" for n in range(28))


def test_nothing_to_look_at_is_said(tmp_path):
    sure = a_target(grade={"case": "green", "reasons": [], "fraction": {}})
    words = " ".join(
        read(write_report(tmp_path / "r.html", title="T", summary=a_summary(sure))).words
    )
    assert "1 contour: none red, none amber, 1 green." in words
    assert "Nothing is amber or red" in words


def test_inputs_are_named_without_their_folders(tmp_path):
    given = [
        "/home/me/secret/pet.nii.gz",
        "runs/ct.nii",
        r"C:\scans\mr.nii",
        "synthetic PET/CT, seed 3",
    ]
    summary = {**a_summary(a_target()), "inputs": given}
    path = write_report(tmp_path / "r.html", title="T", summary=summary)
    text = path.read_text(encoding="utf-8")
    assert "inputs: pet.nii.gz, ct.nii, mr.nii, synthetic PET/CT, seed 3" in text
    assert "secret" not in text
    assert "scans" not in text


def test_each_target_has_its_picture_or_none_has(tmp_path):
    figures = [new_figure(1.0, 1.0) for _ in range(3)]
    summary = a_summary(*many(3))
    text = write_report(
        tmp_path / "r.html", title="T", summary=summary, pictures=figures
    ).read_text()
    assert text.count("<img") == 3
    with pytest.raises(InputError, match="3 targets needs as many pictures, or none, got 2"):
        write_report(tmp_path / "r.html", title="T", summary=summary, pictures=figures[:2])


def test_a_surface_is_said_in_millilitres_and_stands_open(tmp_path):
    volume = {"unit": "mm3", "mean": 22400.0, "sd": 2200.0, "q025": 18100.0, "q500": 22350.0,
              "q975": 26600.0}  # fmt: skip
    solid = a_target(dims=3, size=volume)
    summary = {
        "schema": 2, "targets": [solid],
        "chosen": {"dims": 3, "reason": "13 slices show it"},
        "reference": {"scope": "volume", "dice": 0.9, "assd_mm": 1.0, "hd95_mm": 3.0,
                      "band_share": 1.0, "slices_compared": 1},
    }  # fmt: skip
    page = write_report(tmp_path / "r.html", title="T", summary=summary).read_text("utf-8")
    Balanced().feed(page)
    assert "22.4 (18.1 to 26.6) ml" in page
    assert "1 surface: " in page
    assert "1 of 1" in page
    assert "contoured as a surface: 13 slices show it" in page
    assert "<details>" not in page
    assert "slices go together" not in page
    small = a_target(dims=3, size={name: v if name == "unit" else v / 100
                                   for name, v in volume.items()})  # fmt: skip
    page = write_report(tmp_path / "s.html", title="T", summary={"targets": [small]}).read_text()
    assert "224 (181 to 266) mm³" in page
    flat = write_report(tmp_path / "f.html", title="T", summary={"targets": [a_target()]})
    assert "<details>" in flat.read_text("utf-8")  # negative control: a slice is a card
