"""The report's parts beside the journals: registry and comparison, from the very tables of the live page."""

import re
import shutil

import pytest
from tests.dashboards.test_page import Outline, shown

from transvae_dashboards import write_with_files
from transvae_dashboards.follow.study import FollowedStudy
from transvae_dashboards.live.pages import Pages
from transvae_dashboards.loading import code_lines
from transvae_dashboards.page import Beside, render
from transvae_platform.cli.beside import beside
from transvae_platform.errors import SpecError
from transvae_platform.study.state import StudyState
from transvae_platform.study.trial import QUALITY, Trial


def version_of(trial):
    """What MLflow tells of a registered version."""
    move = {"alias": "best", "version": "1", "at": "2026-11-22T10:00:00", "how": "registration", "by": "<ana>"}
    return {
        "uri": f"models:/demo.{trial.label}/1", "aliases": ["best", "<champion>"], "run": "f00d", "promotions": [move],
        "metrics": {"val/psnr": 20.125}, "lineage": {"lineage.code": "0.1.0+gaaaa", "note": "<b>"},
    }  # fmt: skip


@pytest.fixture
def two(write_study):
    """Two studies with two sizes of ViT; a model of the first is registered."""
    for name, rate in (("demo", 1e-3), ("other", 5e-4)):
        study = write_study({"vit": "TB"}, study=name, recipe__learning_rate=rate)
        study.submit()
        study.run_all()
        if name == "demo":
            study.register(study.find("vit", "B"))
            first = study
    return first, study


def whole_page(page):
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    places = {target.removeprefix("#") for target in outline.fetched if target.startswith("#")}
    assert places <= set(outline.ids)


def table_of(page, label):
    """A table as it stands on a page, but for where its links lead."""
    start = page.index(f'aria-label="{label}"')
    return re.sub(r'href="[^"]*"', "", page[start : page.index("</table>", start)])


def test_registry_is_the_live_pages(two, tmp_path, monkeypatch):
    study, _ = two
    title = "demo.vit-B, version 1"
    versions = [version_of(study.find("vit", "B"))]
    report = render(study.state(), beside=Beside(registry=lambda: versions))
    pages = Pages(tmp_path)
    monkeypatch.setattr(pages._registries, "ask", lambda name: versions)
    live = pages.answer("/study/demo/registry").body.decode()
    for label in ("Registered models", f"Evaluation of {title}", f"Lineage of {title}"):
        assert table_of(report, label) == table_of(live, label)
    text = shown(report)
    assert "@best @<champion>" in text
    assert "@best, 2026-11-22 10:00, registration" in text
    assert 'vae = load_model("models:/demo.vit-B/1"' in text
    assert "val/psnr 20.125" in text
    assert "f00d" in text
    assert "<champion>" not in report
    whole_page(report)


@pytest.mark.parametrize("answer", [[], "MLflow at <there> does not answer"])
def test_registry_without_an_answer_says_so_and_keeps_the_journals_part(two, answer):
    study, _ = two
    page = render(study.state(), beside=Beside(registry=lambda: answer))
    text = shown(page[page.index('id="registry"') : page.index('id="provenance"')])
    assert (answer or "MLflow holds none of these models") in text
    assert "[]" not in text
    assert 'vae = load_model("models:/demo.vit-B/1"' in text


def test_lines_and_names_of_the_report_lead_to_the_registered_model(two, tmp_path):
    study, _ = two
    model, other = study.find("vit", "B").id, study.find("vit", "T").id
    page, *files = write_with_files(study.state(), tmp_path / "page.html", figures_in=tmp_path / "figures")
    text = page.read_text()
    assert f'<a xlink:href="#{model}"' in text
    assert f'<a href="#{model}">B</a>' in text
    assert f"#{other}" not in text  # it is not registered
    whole_page(text)
    assert all("#vit-B" not in path.read_text() for path in files if path.suffix == ".svg")


def test_report_compares_studies_and_trials_where_it_is_asked_to(two, tmp_path):
    study, other = two
    plain = render(study.state())
    assert "compared" not in plain
    studies = render(study.state(), beside=Beside(other=FollowedStudy(other.folder)))
    text = shown(studies)
    assert "demo against other" in text
    assert "recipe.learning_rate 0.001 0.0005" in text
    assert 'id="chart-compare-l1-vit"' in studies
    assert re.findall(r"<h3>(ViT [TB])</h3>", studies[studies.index('id="pictures"') :]) == ["ViT T", "ViT B"]
    whole_page(studies)
    trials = (study.find("vit", "T").id, study.find("vit", "B").id)
    page = render(study.state(), beside=Beside(trials=trials))
    assert "demo: vit-T seed 0 against demo: vit-B seed 0" in shown(page)
    assert "<form" not in page
    whole_page(page)


def test_trials_are_named_by_id_or_by_what_stands_before_its_hash(two, tmp_path):
    study, other = two
    small, large = study.find("vit", "T"), other.find("vit", "B")
    found = beside(study.state(), tmp_path, "other", (small.id, "vit-B-s0"))
    assert (found.other.name, found.trials) == ("other", (small.id, large.id))
    with pytest.raises(SpecError, match=r"study demo has no trial 'vit-H-s0' - did you mean 'vit-"):
        beside(study.state(), tmp_path, None, ("vit-H-s0", small.id))


def test_loading_code_follows_a_home_that_was_moved(two, tmp_path):
    study, _ = two
    (tmp_path / "mlflow.db").touch()
    study.journal.append(
        "submitted", spec=study.spec.model_dump(mode="json"), lineage={"code": "c"},
        tracking=f"sqlite:///{tmp_path}/mlflow.db", cluster="local",
    )  # fmt: skip
    before = code_lines(study.state(), "models:/a/1")
    assert f'load_model("models:/a/1", home="{tmp_path}")' in before
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("studies", "mlflow.db"):
        shutil.move(tmp_path / name, moved / name)
    after = code_lines(StudyState(moved / "studies" / "demo"), "models:/a/1")
    assert f'load_model("models:/a/1", home="{moved}")' in after


def test_files_of_tables_are_named_for_what_they_hold(two, tmp_path):
    study, _ = two
    for seed in (3, 4, 5):  # as many models of one name as there are seeds
        study.journal.append(
            "registered", trial=study.find("vit", "T").id, name="demo.vit-T", version=seed, psnr=20.0, sha256="1" * 64,
            uri=f"models:/demo.vit-T/{seed}",
        )  # fmt: skip
    found = {**version_of(study.find("vit", "T")), "uri": "models:/demo.vit-T/5"}
    shown = Beside(registry=lambda: [version_of(study.find("vit", "B")), found])
    _, *files = write_with_files(study.state(), tmp_path / "page.html", beside=shown, tables_in=tmp_path / "tables")
    names = {path.name for path in files}
    assert {"demo-lineage-of-demo-vit-b-version-1.csv", "demo-lineage-of-demo-vit-t-version-5.csv"} <= names
    assert not any("more" in name for name in names)


def test_models_that_are_chosen_by_another_metric_show_it(two, monkeypatch):
    study, _ = two
    monkeypatch.setattr(Trial, "ranked_by", property(lambda self: QUALITY["semantic_random"]))
    study.journal.append(
        "registered", trial=study.find("vit", "T").id, name="demo.vit-T", version=1, uri="models:/demo.vit-T/1",
        semantic_random=0.12344, sha256="1" * 64,
    )  # fmt: skip
    assert "semantic_random 0.1234" in render(study.state())
