"""The page as people see it, in a real browser without network."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from swapmem.explain import html_page, text
from swapmem.explain.decisions import decision
from swapmem.explain.figures import figures
from swapmem.explain.measured import measured
from swapmem.explain.run_file import Run
from swapmem.sizes import format_bytes
from tests.explain import made_up_runs
from tests.explain.browser import Browser
from tests.planner import synthetic


@pytest.fixture(scope="module")
def file(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "run.html"
    html_page.write(run, path)
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Browser:
    browser.resize(1400, 1200)
    browser.open(file)
    assert browser.evaluate("document.body.dataset.ready") == "yes"
    return browser


def shown_seconds(page: Browser) -> float:
    """How much time the timeline shows."""
    return float(page.evaluate("chart.to - chart.from"))


def in_chart(page: Browser, across: float, down: float = 0.3) -> list[float]:
    """A point in the timeline, as shares of its plot."""
    left, top, width, height = page.evaluate(
        """(() => {
            document.getElementById("chart").scrollIntoView({ block: "center" });
            const { x, y, height } = document.querySelector("#chart svg").getBoundingClientRect();
            return [x + LEFT, y, chart.width, height];
        })()"""
    )
    return [left + across * width, top + down * height]


def test_it_asks_for_nothing_but_itself_and_has_no_errors(page: Browser, file: Path) -> None:
    assert page.requested == [file.as_uri()]
    assert page.problems == []


def test_what_it_would_load_is_refused(browser: Browser, file: Path, tmp_path: Path) -> None:
    changed = file.read_text().replace("<header>", '<header><img src="other.png">')
    (tmp_path / "changed.html").write_text(changed)
    (tmp_path / "other.png").write_bytes(b"")
    browser.open(tmp_path / "changed.html")
    assert any("Content Security Policy" in problem for problem in browser.problems)


def test_its_figures_are_those_of_the_text(page: Browser, run: Run) -> None:
    found = figures(run, measured(run))
    tiles = page.text("#tiles")
    for figure in (
        f"{found.seconds:.3f} s",
        f"{found.stall_seconds:.3f} s",
        f"{found.hidden_share:.0%}",
        format_bytes(found.budget_bytes or 0),
        format_bytes(found.out.bytes),
        format_bytes(found.in_.miss_bytes + found.out.miss_bytes),
    ):
        assert figure in tiles
    assert page.text("pre") == text.explanation(run, measured(run))


def test_the_timeline_has_tiers_budget_lanes_and_stalls(page: Browser) -> None:
    for look in (".tier0", ".tier1", ".budget", ".forward", ".backward", ".out", ".in", ".stall"):
        assert page.count(f"#chart {look}") > 0, look
    assert page.text("#budget").startswith("budget 1.1 GiB")
    labels = page.text("#chart svg")
    for label in ("compute", "copies out", "copies in", "stalls", "seconds since"):
        assert label in labels
    lanes = [
        page.evaluate(f"document.querySelector('#chart rect.{lane}').getBoundingClientRect().y")
        for lane in ("forward", "out", "in", "stall")
    ]
    assert lanes == sorted(lanes)


def test_no_label_lies_outside_the_page_or_on_another(page: Browser) -> None:
    for width in (1400, 900):
        page.resize(width, 1000)
        boxes = page.evaluate(
            """new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(
                [...document.querySelectorAll("#chart text:not(.name, #budget)")].map((node) => {
                    const { left, right, top, bottom } = node.getBoundingClientRect();
                    return [left, right, top, bottom, node.textContent];
                })))))"""
        )
        assert len(boxes) > 12
        for i, (left, right, top, bottom, name) in enumerate(boxes):
            assert left >= 0, name
            assert right <= width, name
            for other in boxes[:i]:
                apart = right <= other[0] or other[1] <= left
                assert apart or bottom <= other[2] or other[3] <= top, (name, other[4])


def test_a_stall_that_is_clicked_on_is_zoomed_to_and_explained(page: Browser, run: Run) -> None:
    stall = measured(run).longest_stalls()[1]
    whole = shown_seconds(page)
    page.click("#stalls tbody tr:nth-child(2)")
    assert shown_seconds(page) < whole / 4
    assert page.evaluate("chart.from") < stall.begin_seconds
    assert page.evaluate("chart.to") > stall.end_seconds
    assert stall.why in page.text("#detail")
    assert page.count("#chart .stall.chosen") >= 1


def test_ten_stalls_are_listed_with_causes(page: Browser, run: Run) -> None:
    rows = page.evaluate(
        "[...document.querySelectorAll('#stalls tbody tr')]"
        ".map((row) => [...row.children].map((cell) => cell.textContent))"
    )
    stalls = measured(run).longest_stalls()
    assert len(rows) == len(stalls) == 10
    for row, stall in zip(rows, stalls, strict=True):
        assert row[3] == f"{stall.op_name} (op {stall.op})"
        assert row[4:] == [stall.cause, stall.why]


def test_each_block_says_why_and_shows_its_copies(page: Browser, run: Run) -> None:
    assert run.plan is not None
    copied = next(copy for copy in measured(run).ins if copy.planned)
    page.write("#search", f"(block {copied.block})")
    assert page.count("#blocks tbody tr") == 1
    page.click("#blocks tbody tr")
    assert copied.block is not None
    assert run.plan.reasons[copied.block] in page.text("#detail")
    assert page.count("#chart .in.chosen") >= 1
    assert page.count("#chart .out.chosen") >= 1
    assert page.count("#chart .chosen[data-kind=op]") >= 2
    page.evaluate("document.getElementById('chart').focus()")
    page.key("Escape")
    assert page.count("#chart .chosen") == 0
    assert page.text("#detail") == ""


def test_blocks_are_found_by_decision_and_sorted_by_any_column(page: Browser, run: Run) -> None:
    assert run.plan is not None
    kinds = [decision(reason) for reason in run.plan.reasons]
    assert page.count("#decisions button") == len(set(kinds)) + 1
    for kind in set(kinds):
        page.evaluate(
            "[...document.querySelectorAll('#decisions button')]"
            f".find((button) => button.textContent.startsWith('{kind}')).click()"
        )
        assert page.text("#count").startswith(f"{kinds.count(kind)} blocks")
    page.evaluate("document.querySelector('#decisions button').click()")
    for column in range(6):
        shown = []
        for _ in range(2):
            page.evaluate(f"document.querySelectorAll('#blocks th button')[{column}].click()")
            shown.append(page.text(f"#blocks tbody td:nth-child({column + 1})"))
        assert shown[0] != shown[1] or column == 3, column


def test_dragging_zooms_in_and_a_double_click_shows_all(page: Browser) -> None:
    whole = shown_seconds(page)
    page.mouse([in_chart(page, 0.25), in_chart(page, 0.4), in_chart(page, 0.5)])
    assert shown_seconds(page) == pytest.approx(whole / 4, rel=0.02)
    assert page.evaluate("chart.from") == pytest.approx(whole / 4, rel=0.02)
    page.mouse([in_chart(page, 0.5)], clicks=2)
    assert shown_seconds(page) == whole


def test_keys_zoom_and_move(page: Browser) -> None:
    whole = shown_seconds(page)
    page.evaluate("document.getElementById('chart').focus()")
    page.key("+")
    page.key("+")
    assert shown_seconds(page) == pytest.approx(whole / 4)
    before = page.evaluate("chart.from")
    page.key("ArrowRight")
    assert page.evaluate("chart.from") == pytest.approx(before + whole / 16)
    page.key("0")
    assert shown_seconds(page) == whole


def test_the_mouse_is_told_what_is_below_it(page: Browser, run: Run) -> None:
    page.hover(*in_chart(page, 0.5, 0.2))
    assert re.search(r"at [\d.]+ s\s+device [\d.]+ MiB\s+file [\d.]+", page.text("#tip"))
    x, y = page.evaluate(
        """(() => {
            const { x, y, width, height } = document.querySelector("#chart rect.out")
                .getBoundingClientRect();
            return [x + width / 2, y + height / 2];
        })()"""
    )
    page.hover(x, y)
    assert "to the store" in page.text("#tip")


def test_the_plan_can_be_seen_beside_the_run(page: Browser) -> None:
    page.evaluate("document.querySelectorAll('#sources button')[1].click()")
    assert page.text("#sources [aria-pressed=true]") == "simulated"
    assert "iteration began, simulated" in page.text("#chart svg")
    assert page.problems == []


def test_names_are_never_taken_for_markup(browser: Browser, run: Run, tmp_path: Path) -> None:
    evil = (
        '</script><script>window.taken = 1</script><img src=x onerror="window.taken = 1">{{data}}'
    )
    assert run.trace is not None
    assert run.plan is not None
    blocks = tuple(replace(block, name=evil) for block in run.trace.blocks)
    hostile = replace(
        run,
        trace=replace(run.trace, blocks=blocks),
        plan=replace(run.plan, reasons=tuple(f"kept: {evil}" for _ in blocks)),
        events=tuple(event._replace(op=evil) for event in run.events),
        about={evil: evil},
        notices=(evil,),
    )
    html_page.write(hostile, tmp_path / "evil.html")
    browser.open(tmp_path / "evil.html")
    assert browser.evaluate("document.body.dataset.ready") == "yes"
    browser.click("#stalls tbody tr")
    browser.click("#blocks tbody tr")
    assert evil in browser.text("#detail")
    assert evil in browser.text("h1")
    assert browser.evaluate("window.taken") is None
    assert browser.count("img") == 0


@pytest.mark.parametrize("kept", ["events", "events and trace", "simulation"])
def test_a_run_of_which_less_is_known_is_shown_as_far_as_it_is(
    browser: Browser, run: Run, kept: str, tmp_path: Path
) -> None:
    less = {
        "events": Run(run.events, run.stats),
        "events and trace": Run(run.events, run.stats, run.trace),
        "simulation": replace(run, events=(), stats={}),
    }[kept]
    html_page.write(less, tmp_path / "less.html")
    browser.open(tmp_path / "less.html")
    assert browser.evaluate("document.body.dataset.ready") == "yes"
    assert browser.problems == []
    assert browser.count("#chart .tier0") == 1
    browser.click("#stalls tbody tr")
    assert "waited" in browser.text("#detail")


def test_without_scripts_the_text_is_there(browser: Browser, file: Path, run: Run) -> None:
    browser.set_scripts(on=False)
    try:
        browser.open(file)
    finally:
        browser.set_scripts(on=True)
    assert "Pictures and tables need scripts" in browser.text("noscript")
    assert text.explanation(run, measured(run)) == browser.text("pre")


def test_a_network_of_two_thousand_ops_is_drawn_at_once(browser: Browser, tmp_path: Path) -> None:
    trace = synthetic.resnet_like(4, 34, fraction=0.8, link=synthetic.rates(2e9))
    run = made_up_runs.planned_run(trace)
    assert len(trace.ops) > 1900
    html_page.write(run, tmp_path / "large.html")
    browser.open(tmp_path / "large.html")
    assert browser.problems == []
    assert browser.count("#chart [data-kind]") > 500
    # Twenty frames: it took 0.2 s where this was written.
    took = browser.evaluate(
        "(() => { const t = performance.now();"
        "for (let i = 0; i < 20; i++) chart.draw(); return performance.now() - t; })()"
    )
    assert took < 5000
