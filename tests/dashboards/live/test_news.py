"""Pages that stay open all day: what must reach them, whoever's journal it is, and what they say when nothing comes."""

import os
import re
import threading

import pytest
from tests.dashboards.live.conftest import serving
from tests.dashboards.live.test_pages import text_of

from transvae_dashboards.live import pages as live_pages
from transvae_dashboards.live.pages import Pages
from transvae_dashboards.live.registries import Registries
from transvae_platform.study.journal import Journal

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `test`)").expect


def go_on(study, trial, step):
    """One more record of a running trial."""
    journal = Journal(study.folder / "trials" / trial.id / "journal.jsonl", clock=study.clock, steady=lambda: study.now)
    losses = {"train/l1": 0.5, "train/loss": 0.5}
    journal.append("step", step=step, images=16 * step, flops=1.0, metrics=losses, skipped=0, seconds_per_step=0.1)
    journal.close()


@pytest.fixture
def studies(write_study):
    """One that is over, and one that runs."""
    made = {}
    for name in ("over", "runs"):
        made[name] = write_study({"vit": "T"}, study=name)
        made[name].submit()
        made[name].run(made[name].find("vit", "T"), until=None if name == "over" else 100)
    return made


def test_comparison_follows_the_other_study(studies, tmp_path):
    pages, running = Pages(tmp_path), studies["runs"]
    trial, path = running.find("vit", "T"), "/study/over/compare?with=runs&a={}&b={}"
    path = path.format(studies["over"].find("vit", "T").id, trial.id)
    before = pages.answer(path)
    assert 'data-refresh="3"' in text_of(before)
    assert pages.answer(path, before.headers["ETag"]).status == 304
    go_on(running, trial, 120)
    for name in studies:
        pages.studies.open(name).looked = 0.0
    after = pages.answer(path, before.headers["ETag"])
    assert (after.status, ">120</td>" in text_of(after)) == (200, True)


def test_evaluations_of_the_home_reach_open_pages(studies, tmp_path):
    pages, record = Pages(tmp_path), tmp_path / "evaluations" / "k" / "record.json"
    before = pages.answer("/study/over/tables?of=home").headers["ETag"]
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    assert pages.answer("/study/over/tables?of=home").headers["ETag"] != before
    again = pages.answer("/study/over/tables?of=home").headers["ETag"]
    os.utime(record, ns=(1, record.stat().st_mtime_ns + 1))  # measured again
    assert pages.answer("/study/over/tables?of=home").headers["ETag"] != again


def test_page_of_another_process_is_not_taken_for_this_ones(studies, tmp_path):
    Pages(tmp_path).answer("/study/over/overview")  # from here on both read the store, and count alike
    tags = {Pages(tmp_path).answer("/study/over/overview").headers["ETag"] for _ in range(2)}
    assert len(tags) == 2


def test_open_registry_learns_of_promotions(studies, tmp_path):
    study, now, asked, aliases = studies["over"], [0.0], threading.Semaphore(0), ["best"]
    study.register(study.find("vit", "T"))

    def ask(name, home):
        asked.release()
        version = {"uri": "models:/over.vit-T/1", "run": "r", "metrics": {}, "lineage": {}, "promotions": []}
        return [{**version, "aliases": list(aliases)}]

    pages = Pages(tmp_path)
    pages._registries = Registries(tmp_path, ask, clock=lambda: now[0])
    pages._registries.settle("over")
    before = pages.answer("/study/over/registry")
    assert "@best" in text_of(before)
    aliases.append("champion")
    now[0] = 31.0
    assert pages.answer("/study/over/registry", before.headers["ETag"]).status == 304  # it asks meanwhile
    assert asked.acquire(timeout=10)
    assert asked.acquire(timeout=10)
    pages._registries.settle("over")
    after = pages.answer("/study/over/registry", before.headers["ETag"])
    assert (after.status, "@champion" in text_of(after)) == (200, True)


def test_report_that_is_taken_away_holds_registry_and_comparison(studies, tmp_path):
    study = studies["over"]
    study.register(study.find("vit", "T"))
    pages = Pages(tmp_path)
    version = {"uri": "models:/over.vit-T/1", "run": "r", "metrics": {}, "lineage": {}, "promotions": []}
    pages._registries = Registries(tmp_path, lambda name, home: [{**version, "aliases": ["mine"]}])
    links = re.findall(r'href="([^"]*)" download', text_of(pages.answer("/study/over/compare?with=runs")))
    zipped, trials, report = [link.replace("&amp;", "&") for link in links]
    assert zipped == "/study/over/file/compare.zip?with=runs"
    assert trials == "/study/over/file/data.json"
    text = text_of(pages.answer(report))
    assert "@mine" in text
    assert "over against runs" in text
    silent = Pages(tmp_path)
    silent._registries = Registries(tmp_path, lambda name, home: threading.Event().wait(60))
    silent._registries.settle = silent._registries.ask
    assert "takes a few seconds" not in text_of(silent.answer("/study/over/file/report.html"))


def test_addresses_with_any_key_are_pages(studies, tmp_path):
    assert Pages(tmp_path).answer("/study/over/curves?view=1&name=2&self=3&key=4").status == 200


def test_page_whose_dashboard_is_away_says_so_and_recovers(studies, tmp_path, browser):
    """Not the fixture `page`: the browser itself tells of requests that fail."""
    context = browser.new_context()
    page, running = context.new_page(), studies["runs"]
    with serving(tmp_path) as server:
        page.goto(f"{server.url}study/runs/overview")
        assert page.locator("#old").count() == 0
        context.set_offline(True)
        expect(page.locator("#old")).to_contain_text("The dashboard does not answer since", timeout=15_000)
        go_on(running, running.find("vit", "T"), 120)
        context.set_offline(False)
        expect(page.locator("#old")).to_have_count(0, timeout=15_000)
        expect(page.locator("table.trials")).to_contain_text("120 / 400")
    context.close()


def test_page_of_a_study_that_is_over_notices_when_it_is_resumed(studies, tmp_path, browser, monkeypatch):
    monkeypatch.setattr(live_pages, "SLOWLY", 1)
    study = studies["over"]
    context = browser.new_context()
    page = context.new_page()
    with serving(tmp_path) as server:
        page.goto(f"{server.url}study/over/overview")
        assert "1 of 1" in page.locator(".headlines").inner_text()
        study.register(study.find("vit", "T"))
        study.submit(code="0.1.0+gcccc")
        expect(page.locator("main")).to_contain_text("0.1.0+gcccc", timeout=15_000)
    context.close()
