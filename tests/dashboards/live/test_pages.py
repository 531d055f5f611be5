"""Every address of the dashboard, for studies in every state, without a socket and without a browser."""

import io
import json
import os
import re
import shutil
import zipfile

import pytest

from transvae_dashboards.live.pages import Pages
from transvae_dashboards.live.registries import Registries
from transvae_dashboards.scene import Scene, study_url
from transvae_dashboards.tables import study_table
from transvae_dashboards.views import VIEWS, View
from transvae_platform.study.journal import Journal


@pytest.fixture(scope="module")
def pages(whole):
    return Pages(whole.folder.parents[1])


def text_of(answer):
    return answer.body.decode()


def test_home_lists_studies_and_an_empty_one_says_how_to_begin(pages, tmp_path):
    assert '<a href="/study/demo/overview">demo</a>' in text_of(pages.answer("/"))
    assert "transvae study submit studies/quickstart.yaml" in text_of(Pages(tmp_path).answer("/"))


def test_study_leads_to_its_first_view(pages):
    answer = pages.answer("/study/demo")
    assert (answer.status, answer.headers["Location"]) == (302, "/study/demo/overview")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing", "/study/", "/study/other/overview", "/study/demo/nothing", "/study/demo/overview/more",
        "/study/..%2f..%2fetc/overview", "/study/../demo/overview", "/study/demo/file/..%2f..%2fjournal.jsonl",
        "/study/demo/file/journal.jsonl", "/study/demo/trial/..%2f..", "/study/demo/trial/nobody",
        "/page.css/../app.js", "/study/demo%2ftrials/overview", "/study/%2e%2e/overview",
    ],
)  # fmt: skip
def test_what_is_no_page_is_none(pages, path):
    answer = pages.answer(path)
    assert answer.status == 404
    assert b"<script>" not in answer.body


def test_text_of_addresses_is_escaped(pages):
    for path in ("/study/<script>alert(1)</script>/overview", "/study/demo/curves?metric=<script>&family=<b>&x=<i>"):
        assert not re.search(r"<script>|<b>&|<i>", text_of(pages.answer(path)))


def test_equal_states_are_not_sent_twice(pages):
    first = pages.answer("/study/demo/overview")
    assert pages.answer("/study/demo/overview", first.headers["ETag"]).status == 304
    assert pages.answer("/study/demo/overview", '"0"').status == 200


def test_curves_of_a_selection(pages, whole):
    page = text_of(pages.answer("/study/demo/curves?metric=psnr&family=cnn,vit&size=T&x=images&xlog=1"))
    assert re.findall(r'id="chart-([^"]+)"', page) == ["curves-psnr-images-cnn", "curves-psnr-images-vit"]
    trial = whole.find("cnn", "T")
    assert f'href="/study/demo/trial/{trial.id}"' in page
    assert f'xlink:href="/study/demo/trial/{trial.id}"' in page  # its line leads to it, too
    assert (
        '<a href="/study/demo/curves?metric=psnr&amp;family=vit&amp;size=T&amp;x=images&amp;xlog=1" aria-current'
        in page
    )


def test_trial_has_its_code_checkpoints_and_attempts(pages, whole):
    trial = whole.find("transvae", "G")
    page = text_of(pages.answer(f"/study/demo/trial/{trial.id}"))
    assert "load_model(" in page
    assert f"models:/demo.{trial.label}/1" in page
    assert "secret" not in page
    assert "400 (best)" in page
    resumed = whole.find("transvae", "H")
    assert "died" in text_of(pages.answer(f"/study/demo/trial/{resumed.id}"))


def test_files_of_a_view_are_its_charts_and_tables(pages, whole):
    answer = pages.answer("/study/demo/file/overview.zip")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        names = archive.namelist()
        assert {"demo-timeline.svg", "demo-timeline.pdf", "demo-trials.csv", "demo-trials.tex"} <= set(names)
        assert archive.read("demo-timeline.pdf").startswith(b"%PDF")
        lines = archive.read("demo-trials.csv").decode().splitlines()
    rows = study_table(whole.state())
    assert len(lines) == 1 + len(rows)
    for line, row in zip(lines[1:], rows, strict=True):
        assert f",{row.psnr:.2f},{row.ssim:.3f},{row.val_l1:.4f},{row.val_mse:.5f}," in line
    found = json.loads(pages.answer("/study/demo/file/data.json").body)["trials"]
    assert found == [json.loads(json.dumps(row.as_dict())) for row in rows]


def test_queued_running_failed_and_damaged_studies_show_something(write_study, tmp_path):
    study = write_study({"vit": "TB"})
    study.submit()
    pages = Pages(tmp_path)
    trial = study.find("vit", "T")
    journal = study.folder / "trials" / trial.id / "journal.jsonl"
    for change, said in (
        (lambda: None, "queued"),
        (lambda: study.run(trial, until=200), "running"),
        (lambda: study.run(trial, until=200, failed="out of <memory>"), "out of &lt;memory&gt;"),
        (lambda: damage(study, trial), f"{journal}, line 2"),
    ):
        change()
        pages = Pages(tmp_path)
        for view in VIEWS:
            answer = pages.answer(f"/study/demo/{view}")
            assert answer.status == 200, view
        assert said in text_of(pages.answer("/study/demo/overview"))
    assert "No process runs this study, 1 of its trials are not over" in text_of(pages.answer("/study/demo/overview"))


def damage(study, trial):
    """Of a trial that nobody has kept yet (`follow/store.py`, 3)."""
    shutil.rmtree(study.folder / "dashboard")
    path = study.folder / "trials" / trial.id / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"train/l1":', b'"train/l2":', 1))


def test_study_without_its_first_record_is_one_sentence(write_study, tmp_path):
    study = write_study({"vit": "T"})
    study.submit()
    path = study.folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"question", b"qestion", 1))
    answer = Pages(tmp_path).answer("/study/demo/overview")
    assert answer.status == 409
    assert "the record of the study" in text_of(answer)
    assert "the record of the study" in text_of(Pages(tmp_path).answer("/"))


def test_page_of_a_running_study_is_another_after_each_record(write_study, tmp_path):
    study = write_study({"vit": "T"})
    study.submit()
    trial = study.find("vit", "T")
    study.run(trial, until=100)
    pages = Pages(tmp_path)
    before = pages.answer("/study/demo/overview")
    assert 'data-refresh="3"' in text_of(before)
    journal = Journal(study.folder / "trials" / trial.id / "journal.jsonl", clock=study.clock, steady=lambda: study.now)
    journal.append("step", step=120, images=1920, flops=1.0, metrics={"train/l1": 0.5}, skipped=0, seconds_per_step=0.1)
    journal.close()
    pages.studies.open("demo").looked = 0.0
    after = pages.answer("/study/demo/overview", before.headers["ETag"])
    assert after.status == 200
    assert "120 / 400" in text_of(after)


def test_differences_are_originals_under_reconstructions(pages):
    plain, page = (text_of(pages.answer(f"/study/demo/reconstructions{query}")) for query in ("", "?show=difference"))
    assert plain.count('class="difference"') == 0
    assert page.count('class="difference"') == page.count('data-psnr="') == 15


def test_registry_is_asked_once_in_a_thread_and_then_shown(tmp_path):
    asked, now = [], [0.0]

    def ask(study, home):
        asked.append(study)
        return [{"uri": "models:/a/1"}]

    registries = Registries(tmp_path, ask, clock=lambda: now[0])
    assert "seconds" in registries.ask("demo")
    while registries.waits("demo"):
        pass
    assert registries.ask("demo") == [{"uri": "models:/a/1"}]
    assert (asked, registries.version("demo")) == (["demo"], 1)
    now[0] = 31.0
    registries.ask("demo")
    while registries.waits("demo"):
        pass
    assert (len(asked), registries.version("demo")) == (2, 1)


def test_addresses_quote_what_names_hold(write_study):
    assert study_url("a/b ?", "curves", x="step", y=None) == "/study/a%2Fb%20%3F/curves?x=step"
    study = write_study({"vit": "T"})
    study.submit()
    from transvae_dashboards.follow.study import FollowedStudy

    still = Scene(FollowedStudy(study.folder))
    assert (still.to("curves"), still.choice("X", "x", [("a", "b")], "a")) == (None, "")


def test_every_registered_model_is_copied_with_one_click(pages, whole):
    page = text_of(pages.answer("/study/demo/registry"))
    (row,) = re.findall(r"<td><button[^>]*data-code=\"([^\"]*)\"", page)
    assert f"models:/demo.{whole.find('transvae', 'G').label}/1" in row
    assert "load_model(" in row


def test_study_that_is_still_read_is_not_called_queued(write_study, tmp_path):
    study = write_study({"vit": "TB"})
    study.submit()
    study.run_all()
    pages = Pages(tmp_path)
    opened = pages.studies.open("demo")
    assert "2 of 2" in text_of(pages.answer("/"))
    opened.state.unread = 2
    home = text_of(pages.answer("/"))
    assert "reading journals: 2 of 2 trials are still to be read" in home
    assert "queued" not in home


def test_folders_of_any_name_hide_no_other_study(write_study, tmp_path):
    write_study({"vit": "T"}).submit()
    source = tmp_path / "studies" / "demo"
    shutil.copytree(source, tmp_path / "studies" / "研究")
    shutil.copytree(source, tmp_path / "studies" / os.fsdecode(b"\xff"))
    pages = Pages(tmp_path)
    assert ">研究</a>" in text_of(pages.answer("/"))
    answer = pages.answer("/study/%E7%A0%94%E7%A9%B6/file/tables.zip")
    answer.headers["Content-Disposition"].encode("latin-1")  # as the server sends it


def test_defect_of_a_view_is_a_page_that_says_so(write_study, tmp_path, monkeypatch, capsys):
    write_study({"vit": "T"}).submit()

    def broken(scene):
        raise KeyError("<size>")

    monkeypatch.setitem(VIEWS, "tables", View("Tables", "Tables 1 and 2", broken))
    pages = Pages(tmp_path)
    answer = pages.answer("/study/demo/tables")
    assert answer.status == 500
    assert "KeyError: &#x27;&lt;size&gt;&#x27;" in text_of(answer)
    assert "Traceback" in capsys.readouterr().err
    assert pages.answer("/study/demo/overview").status == 200


def test_trial_whose_metric_has_no_chart_does_not_lend_its_name_to_another(write_study, tmp_path):
    study = write_study({"vit": "T"})
    study.submit()
    trial = study.find("vit", "T")
    study.run(trial, until=40)
    journal = Journal(study.folder / "trials" / trial.id / "journal.jsonl", clock=study.clock, steady=lambda: study.now)
    metrics = {"train/gradient_norm": 0.0, "train/learning_rate": 0.001}  # nothing above 0 for a log axis
    journal.append("step", step=60, images=960, flops=1.0, metrics=metrics, skipped=0, seconds_per_step=0.1)
    journal.close()
    page = text_of(Pages(tmp_path).answer(f"/study/demo/trial/{trial.id}"))
    shown = re.findall(r'<h4>([^<]+)</h4><figure id="chart-curves-([a-z0-9_]+)-step', page)
    assert shown == [(name, name) for name in ("l1", "loss", "learning_rate", "seconds_per_step")]
