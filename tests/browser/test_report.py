"""Is the report of a lesion read on a few screens, and does every link lead somewhere?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.case import Case
from aistat_jax.space.image import Image
from tests.browser.lab import CHROMIUM, browser_page
from tests.helpers import make_image, make_posterior

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; install Debian's"),
]
SLICES = 28


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    one = make_image().primary.values[:, :, 0]
    image = Image.from_arrays(PT=np.stack([one] * SLICES, axis=-1), spacing_mm=2.0)
    posteriors = []
    for k in range(SLICES):
        found = make_posterior(sd=0.03 + 0.004 * k, draws=200, seed=k)
        chart = replace(found.chart, plane=image.primary.grid.plane(k))
        posteriors.append(replace(found, chart=chart, target_id=f"z{k:03d}"))
    aj.write_case(folder, Case(image, tuple(map(aj.contour_of, posteriors))))
    return (folder / "report.html").as_uri()


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1920, 1080)])
def test_a_lesion_of_28_slices_is_read_on_four_screens(address, width, height):
    with browser_page(width, height) as page:
        page.goto(address)
        wide, tall = page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        )
        assert wide <= width  # nothing runs out at the side
        assert tall <= 4 * 1080
        # what to do is on the first screen, in words that can be read
        places = page.evaluate("[...document.querySelectorAll('ol a')].map(a => a.offsetTop)")
        assert len(places) == 5
        assert max(places) < height
        smallest = page.evaluate(
            "Math.min(...[...document.querySelectorAll('p, td, li, summary')]"
            ".map(e => parseFloat(getComputedStyle(e).fontSize)))"
        )
        assert smallest >= 12
        page.click("ol a")
        shown = page.locator("article:target")
        assert shown.count() == 1
        shown.locator("summary").click()
        assert shown.locator("table").first.is_visible()
        assert page.problems == []
