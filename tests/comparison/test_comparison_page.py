"""The page of several runs: complete without network, harmless whatever runs say, and usable without a mouse."""

import base64
import hashlib
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dpo_lab.comparison.best import standing
from dpo_lab.comparison.metric import metric_of
from dpo_lab.comparison.page import page_of
from dpo_lab.comparison.runs import runs_named
from tests.comparison.simulated import on_disk

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">$x_1$ '\"&{{ 7*7 }}"
BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
without_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_in(tmp_path: Path, count: int = 4, hostile: str = "") -> str:
    random = np.random.default_rng(0)
    hard = random.normal(0, 0.3, 60)
    directories = []
    for number in range(count):
        gold = 0.5 + 0.02 * (number // 2) + hard + random.normal(0, 0.1, 60)
        loss = {"class": f"a.L{number // 2}{hostile}", "beta": 10.0 ** -(number // 2 % 7)}
        config = {"loss": loss, "seed": number % 2}
        kl = 1.0 + number
        made = on_disk(tmp_path / "outputs", f"r{number}{hostile}", gold, config, kl=kl, note=hostile, answer=hostile or "fine")
        (made / "report.html").write_text("x")
        directories.append(made)
    runs = runs_named(directories)
    metric = metric_of(runs)
    assert metric is not None
    return page_of(runs, standing(runs, metric), title=hostile or "four", command=f"dpo-lab {hostile}", place=tmp_path)


def test_the_page_has_table_curves_scatter_coordinates_answers_and_shared_parts(tmp_path: Path) -> None:
    page = page_in(tmp_path)
    elements = Elements(page)
    assert {"runs", "best", "curves", "tradeoffs", "samples", "shared", "again"} <= {each.get("id") for _, each in elements.found}
    assert len([each for each in elements.named("tr") if "data-c" in each]) == 4
    assert len(elements.named("svg")) == 4  # loss, margin, scatter, parallel coordinates
    assert page.count('<g data-c="0">') >= 6  # two lines without a band, two points, two lines of the coordinates
    assert "question 0?" in page
    assert "saved 0:28" in page  # 9.5 s of a model that four runs share
    links = [each["href"] for each in elements.named("a") if str(each["href"]).endswith("report.html")]
    assert all((tmp_path / str(link)).is_file() for link in links)
    assert len(links) == 4


def test_only_keys_that_differ_are_columns(tmp_path: Path) -> None:
    heads = [each["data-key"] for each in Elements(page_in(tmp_path)).named("th") if "data-key" in each]
    assert heads == ["run", "loss", "beta", "seed", "gold/after", "kl", "state", "seconds"]


def test_names_notes_answers_and_values_of_runs_stay_text(tmp_path: Path) -> None:
    page = page_in(tmp_path, hostile=HOSTILE)
    elements = Elements(page)
    assert len(elements.named("script")) == 1
    assert elements.named("img") == []
    assert [name for _, attributes in elements.found for name in attributes if name.startswith("on")] == []
    assert "{{ 7*7 }}" in page
    assert all(not str(each.get("href")).lower().startswith("javascript") for each in elements.named("a"))


def test_the_page_runs_its_own_script_alone_and_loads_nothing(tmp_path: Path) -> None:
    page = page_in(tmp_path)
    (policy,) = [str(each["content"]) for each in Elements(page).named("meta") if "http-equiv" in each]
    script = page[page.index("<script>") + len("<script>") : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_tables_charts_and_fields_are_named_for_a_screen_reader_and_reached_by_keys(tmp_path: Path) -> None:
    elements = Elements(page_in(tmp_path))
    assert all(each.get("aria-label") for each in elements.named("figure"))
    assert all(each.get("scope") for each in elements.named("th"))
    assert elements.named("html")[0]["lang"] == "en"
    assert any(each.get("for") == "filter" for each in elements.named("label"))
    regions = [each for _, each in elements.found if each.get("role") == "region"]
    assert all(region.get("tabindex") == "0" and region.get("aria-label") for region in regions)


@pytest.mark.slow
def test_a_hundred_runs_make_a_page_below_six_megabytes_in_time(tmp_path: Path) -> None:
    page_in(tmp_path, 2)
    started = time.process_time()
    page = page_in(tmp_path / "many", 100)
    assert len(page.encode()) < 6e6
    assert time.process_time() - started < 30  # with writing a hundred runs to disk


CLICKS = """
const said = [], row = (at) => document.querySelector("table.runs").tBodies[0].rows[at].cells[0].textContent.trim();
const head = [...document.querySelectorAll("th[data-key]")].find((each) => each.dataset.key === "kl");
head.querySelector("button").click(); said.push(row(0)); head.querySelector("button").click(); said.push(row(0));
const filter = document.querySelector("#filter");
filter.value = "kl>2.5"; filter.dispatchEvent(new Event("input"));
said.push(document.querySelector("#said").textContent, head.getAttribute("aria-sort"));
const first = document.querySelector("table.runs tbody tr:not([hidden])");
first.querySelector("a").dispatchEvent(new Event("focusin", { bubbles: true }));
said.push(first.className, document.querySelectorAll("svg .dim").length > 0, document.documentElement.scrollWidth <= innerWidth);
document.title = said.join("|");
"""


def titled(page: Path) -> str:
    """Return the title that a page has in a browser when its scripts have run."""
    assert BROWSER is not None
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    where = ["--disable-background-networking", f"--user-data-dir={page.parent / 'browser'}", "--dump-dom", page.as_uri()]
    done = subprocess.run([BROWSER, *words, *where], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<title>(.*?)</title>", done.stdout, re.S)
    return found[1] if found else ""


@pytest.mark.slow
@without_browser
def test_in_a_browser_the_table_sorts_and_filters_and_charts_follow(tmp_path: Path) -> None:
    """A second script, which the policy of the page would refuse, does what a person does."""
    page = re.sub(r"<meta http-equiv[^>]*>", "", page_in(tmp_path)).replace("</body>", f"<script>{{{CLICKS}}}</script></body>")
    (tmp_path / "page.html").write_text(page)
    least, most, count, sort, marked, dims, fits = titled(tmp_path / "page.html").split("|")
    assert (least.split("-")[0], most.split("-")[0]) == ("r0", "r3")
    assert (count, sort, marked, dims, fits) == ("2 of 4 runs", "descending", "marked", "true", "true")


@pytest.mark.slow
@without_browser
def test_in_a_browser_no_text_of_a_run_runs(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page_in(tmp_path, hostile=HOSTILE))
    assert titled(tmp_path / "page.html").startswith("&lt;/script&gt;")
    attacked = page_in(tmp_path).replace("<main>", "<main><script>document.title='owned'</script>")
    (tmp_path / "attacked.html").write_text(attacked)
    assert titled(tmp_path / "attacked.html") == "four"  # the policy refuses a script that is not the page's own
