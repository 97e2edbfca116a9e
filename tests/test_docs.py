"""The documentation site builds without a warning, and has the settings as the code prints them."""

import re
import subprocess
import sys

import pytest
from places import ROOT


@pytest.mark.slow
def test_the_site_builds_and_every_page_is_in_it(tmp_path):
    words = ["-b", "html", "-W", "--keep-going", "-n", "-q", "-d", str(tmp_path / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *words, str(ROOT / "docs"), str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "site" / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f'href="{page.stem}.html"' in index or page.stem == "index", f"{page.name} is in no toctree"
    method = (tmp_path / "site" / "method.html").read_text()
    assert "<math" in method and '<script src="http' not in method, "formulas need no network"
    api = (tmp_path / "site" / "api.html").read_text()
    assert api.count("skin_gan.") > 10 and "uint8 [count,3,S,S]" in api


def test_the_site_is_built_by_make_docs_with_warnings_as_errors():
    said = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"sphinx .*-W .*-n .*docs docs/_build", said)


def test_links_between_readme_and_docs_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_is_short_and_says_what_it_must():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 90
    for must in (
        "Not for clinical use",
        "CC BY-NC 4.0",
        "make demo",
        "make test",
        "doi.org/10.7910/DVN/DBW86T",
    ):
        assert must in text
