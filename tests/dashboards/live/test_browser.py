"""The real pages in a real browser: no error on any view, news without a reload, and the report without a network."""

import re

import pytest
from tests.dashboards.live.conftest import serving

from transvae_dashboards import write_report
from transvae_dashboards.tables import study_table
from transvae_dashboards.views import VIEWS
from transvae_platform.study.journal import Journal

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `test`)").expect


@pytest.mark.parametrize("view", [*VIEWS, "trial"])
def test_every_view_opens_without_an_error(dashboard, page, whole, view):
    path = f"trial/{whole.find('transvae', 'G').id}" if view == "trial" else view
    page.goto(f"{dashboard.url}study/demo/{path}")
    assert "demo – TransVAE" in page.title()
    assert page.locator("main h1, main h2").count() >= 1
    assert page.evaluate(
        "document.querySelectorAll('img').length == [...document.images].filter(i => i.complete).length"
    )
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # only tables and wide charts scroll


def test_numbers_are_those_of_the_journals(dashboard, page, whole):
    page.goto(f"{dashboard.url}study/demo/overview")
    shown = page.locator("table.trials").inner_text()
    for row in study_table(whole.state()):
        assert re.search(rf"{row.psnr:.2f}\s+{row.ssim:.3f}\s+{row.val_l1:.4f}\s+{row.val_mse:.5f}", shown)


def test_from_a_curve_to_the_loading_code_in_three_clicks(dashboard, page, whole):
    trial = whole.find("transvae", "G")
    page.goto(f"{dashboard.url}study/demo/curves")
    page.locator("table a", has_text=re.compile("^G$")).first.click()
    page.wait_for_url(f"**/study/demo/trial/{trial.id}")
    assert "400 (best)" in page.locator("#checkpoints").inner_text()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#loading button.copy").click()
    expect(page.locator("#loading button.copy")).to_have_text("Copied")
    assert f"models:/demo.{trial.label}/1" in page.evaluate("navigator.clipboard.readText()")


def test_lines_of_charts_lead_to_their_trial(dashboard, page, whole):
    page.goto(f"{dashboard.url}study/demo/curves?family=cnn&size=T")
    page.locator("svg.chart a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/trial/{whole.find('cnn', 'T').id}")


def test_running_study_is_updated_without_a_reload(write_study, tmp_path, page):
    study = write_study({"vit": "T"})
    study.submit()
    trial = study.find("vit", "T")
    study.run(trial, until=100)
    with serving(tmp_path) as server:
        page.goto(f"{server.url}study/demo/overview")
        page.evaluate("window.same = true")
        page.locator("summary", has_text="attempts").click()
        page.locator(".scroll[aria-label='Study table']").focus()
        page.evaluate("scrollTo(0, 200)")
        assert "100 / 400" in page.locator("table.trials").inner_text()
        folder = study.folder / "trials" / trial.id
        journal = Journal(folder / "journal.jsonl", clock=study.clock, steady=lambda: study.now)
        losses = {"train/l1": 0.5, "train/loss": 0.5}
        journal.append("step", step=120, images=1920, flops=1.0, metrics=losses, skipped=0, seconds_per_step=0.1)
        journal.close()
        expect(page.locator("table.trials")).to_contain_text("120 / 400", timeout=30_000)
        assert page.evaluate("[window.same, scrollY, document.activeElement.ariaLabel]") == [True, 200, "Study table"]
        assert page.locator("details", has_text="attempts").get_attribute("open") is not None


def test_pictures_are_enlarged_beside_their_difference(dashboard, page):
    page.goto(f"{dashboard.url}study/demo/reconstructions")
    page.locator(".columns img").nth(2).click()
    dialog = page.locator("dialog.zoom")
    assert "Reconstructions of held-out images by TransVAE B" in dialog.inner_text()
    assert dialog.locator("canvas").count() == 3
    before = dialog.inner_text()
    assert re.search(r"this one \d+\.\d dB", before)
    page.keyboard.press("ArrowDown")
    assert dialog.inner_text() != before  # another picture, another PSNR
    sums = [
        page.evaluate(
            "n => { const c = document.querySelectorAll('dialog canvas')[n];"
            "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.reduce((a, b) => a + b, 0) }", n
        )
        for n in range(3)
    ]  # fmt: skip
    assert 0 < sums[2] < sums[0]
    assert sums[0] != sums[1]
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)  # a closed dialog is taken away a moment later


def test_report_opens_from_a_file_without_a_network(page, whole, tmp_path):
    path = write_report(whole.state(), tmp_path / "report.html")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.context.set_offline(True)
    page.goto(path.as_uri())
    assert 'Is 1 < 2 & "so on"? <script>alert(1)</script>' in page.locator(".question").inner_text()
    assert page.locator("button.copy").first.is_visible()
    page.locator("nav a", has_text="Curves").click()
    page.wait_for_timeout(500)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_comparison_of_studies_fits_a_telephone_and_enlarges_pictures(write_study, tmp_path, page):
    for name in ("demo", "a-study-with-a-name-that-is-longer-than-a-telephone-is-wide"):
        study = write_study({"vit": "T"}, study=name)
        study.submit()
        study.run_all()
    page.set_viewport_size({"width": 390, "height": 844})
    with serving(tmp_path) as server:
        page.goto(f"{server.url}study/demo/compare?with={name}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("#pictures .columns img").nth(1).focus()
        page.keyboard.press("Enter")
        said = page.locator("dialog.zoom").inner_text()
        page.keyboard.press("ArrowRight")
        assert f"Reconstructions by ViT T, {name}" in page.locator("dialog.zoom").inner_text()
        assert "Reconstructions by ViT T, demo" in said
        page.keyboard.press("Escape")


def test_one_click_copies_even_where_the_browser_gives_no_clipboard(dashboard, page):
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.goto(f"{dashboard.url}study/demo/registry")
    page.evaluate("document.addEventListener('copy', () => { window.copied = String(document.activeElement.value); })")
    page.locator("td button.copy").first.click()
    expect(page.locator("td button.copy").first).to_have_text("Copied")
    assert "load_model(" in page.evaluate("window.copied")


def test_report_on_paper_is_cut_nowhere(page, whole, tmp_path):
    path = write_report(whole.state(), tmp_path / "report.html")
    page.set_viewport_size({"width": 700, "height": 1000})  # A4 between margins of 12 mm
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.emulate_media(media="print", color_scheme="dark")
    beyond = page.evaluate(
        "[...document.querySelectorAll('main table, main pre, main figure, main img, main p')]"
        ".filter((one) => one.getBoundingClientRect().right > 701 || one.scrollWidth > one.clientWidth + 1)"
        ".map((one) => one.outerHTML.slice(0, 99))"
    )
    assert beyond == []
    columns = page.evaluate("getComputedStyle(document.querySelector('.panels')).gridTemplateColumns")
    assert len(columns.split()) == 2  # not the single one of small screens
    assert not page.locator("button.copy").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
