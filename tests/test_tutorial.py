"""The tutorial: every block prints what its page says, every picture is of its page, and what is stale is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.tutorial import run
from tests.support import example
from tests.support.paths import ROOT

PAGE = """
```python
from pathlib import Path
from mnistbench import charts
from matplotlib.figure import Figure
share = 1 / 3
print(f"a third is {share:.3f}")
```

```text
a third is 0.333
```

```python
figure = Figure()
figure.subplots().plot([0, share])
charts.write(figure, Path("line.svg"))
```

```python
print("seconds: 5.1")
```

```text measured
seconds: 1.3
```
"""


def stale(page: Path) -> list[str]:
    return run.Run(page, page.parent).complete().stale


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page whose picture is up to date."""
    path = tmp_path / "1-page.md"
    path.write_text(PAGE)
    run.Run(path, tmp_path, write=True).complete()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("page", [run.PAGES[0], run.PAGES[2]], ids=lambda page: page.stem)
def test_a_page_prints_what_it_says(page: Path) -> None:
    assert stale(page) == []


@pytest.mark.compiles
def test_the_page_that_compiles_prints_what_it_says() -> None:
    assert stale(run.PAGES[1]) == []


@pytest.mark.process
def test_the_page_of_an_installed_backend_prints_what_it_says(tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("hatchling")
    ran = example.python(example.install(tmp_path_factory), "docs/tutorial/run.py", "4")
    assert ran.returncode == 0, ran.stderr
    assert "blocks float64: agrees" in ran.stdout


def test_every_page_is_tested_and_linked() -> None:
    assert [page.stem[0] for page in run.PAGES] == ["1", "2", "3", "4"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"docs/tutorial/{run.PAGES[0].name}" in readme
    for page, following in zip(run.PAGES, run.PAGES[1:], strict=False):
        assert "Next: [" in page.read_text(encoding="utf-8")
        assert f"]({following.name})." in page.read_text(encoding="utf-8")


def test_every_picture_is_on_a_page() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in run.PAGES)
    pictures = {path.name for path in run.FOLDER.glob("*.svg")}
    assert pictures
    assert all(f"]({name})" in shown for name in pictures)


def test_the_network_has_fewer_than_60_lines() -> None:
    network = run.PAGES[0].read_text(encoding="utf-8").partition("## What it learned")[0]
    lines = [line for found in run.BLOCK.finditer(network) for line in found[1].splitlines() if line]
    assert 30 < len(lines) < 60


# What is stale


def test_what_is_measured_may_change_and_nothing_is_written(page: Path) -> None:
    before = page.read_text()
    page.write_text(before.replace("5.1", "2.6"))
    (page.parent / "line.svg").chmod(0o444)
    assert stale(page) == []


def test_writing_again_changes_only_what_is_measured(page: Path) -> None:
    first, picture = page.read_text(), (page.parent / "line.svg").read_bytes()
    assert first == PAGE.replace("1.3", "5.1")
    run.Run(page, page.parent, write=True).complete()
    assert page.read_text() == first
    assert (page.parent / "line.svg").read_bytes() == picture


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("is 0.333", "is 0.343", "1-page.md:2: this block prints\na third is 0.333"),
        ("is 0.333", "was 0.333", "1-page.md:2: this block prints"),
        ("```text\na third is 0.333\n```\n", "", "1-page.md:2: this block prints"),
        ("seconds: 1.3", "minutes: 1.3", "this block prints\nseconds: 5.1"),
        ("[0, share]", "[share, 0]", "line.svg is of an earlier 1-page.md"),
        ("share = 1 / 3", "share = 1.0 / 3", "line.svg is of an earlier 1-page.md"),
    ],
)
def test_what_is_stale_is_named(page: Path, old: str, new: str, found: str) -> None:
    text = page.read_text().replace("5.1\n```", "1.3\n```")
    assert old in text
    page.write_text(text.replace(old, new))
    assert found in "\n".join(stale(page))
    run.Run(page, page.parent, write=True).complete()
    assert stale(page) == []


def test_a_missing_picture_is_stale(page: Path) -> None:
    (page.parent / "line.svg").unlink()
    assert len(stale(page)) == 1


@pytest.mark.parametrize(
    ("text", "printed", "same"),
    [
        ("loss 0.50", "loss 0.51", True),
        ("loss 0.50", "loss 0.52", False),
        ("loss 0.50", "loss -0.50", False),
        ("5 of 1,000", "6 of 1,000", False),
        ("1.5e-07", "1.6e-07", True),
        ("1.5e-07", "1.5e-06", False),
        ("nan", "0.1", False),
        ("a  b\nc", "a b c", True),
        ("a 1.0", "a 1.0 b", False),
    ],
)
def test_numbers_may_differ_in_their_last_decimal(text: str, printed: str, same: bool) -> None:
    assert run.agree(text, printed) == same


@given(st.floats(-1e6, 1e6), st.integers(1, 6), st.integers(-3, 3))
def test_a_number_agrees_with_those_beside_it_and_no_others(value: float, decimals: int, units: int) -> None:
    one = f"{abs(value):.{decimals}f}"
    other = f"{float(one) + 20 + units / 10**decimals:.{decimals}f}"
    assert run.agree(f"{float(one) + 20:.{decimals}f}", other) == (abs(units) <= 1)
