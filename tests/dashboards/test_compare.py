"""Comparisons of trials and of studies: what stands beside each other, pictures included."""

import re

import numpy as np
import pytest
from PIL import Image

from transvae_dashboards.figures.comparison import comparison_panel
from transvae_dashboards.figures.curves import Look
from transvae_dashboards.live.pages import Pages


@pytest.fixture
def pages(write_study, tmp_path):
    """Two studies with two seeds that share a ViT of size T."""
    for name, families in (("demo", {"vit": "T", "cnn": "T"}), ("other", {"vit": "TB"})):
        study = write_study(families, study=name, grid__seeds=(0, 1))
        study.submit()
        study.run_all()
    return Pages(tmp_path)


def text_of(pages, path):
    answer = pages.answer(path)
    assert answer.status == 200
    return answer.body.decode()


def pictures_in(page):
    part = page[page.index('<section id="pictures">') :]
    return re.findall(r"<h3>([^<]+)</h3>", part), re.findall(r"<figcaption>([^<]+)</figcaption>", part), part


def test_studies_show_the_pictures_of_the_models_that_both_have(pages):
    models, columns, part = pictures_in(text_of(pages, "/study/demo/compare?with=other"))
    assert models == ["ViT T"]
    assert columns == ["Original", "demo", "other"]
    assert part.count('data-rows="4"') == 3  # a click enlarges each beside its difference
    assert len(re.findall(r"<p>\d+\.\d dB</p>", part)) == 2


def test_other_data_have_originals_of_their_own(pages, tmp_path):
    for path in tmp_path.glob("studies/other/trials/*/pictures/*.png"):
        Image.fromarray(np.zeros((64, 192, 3), np.uint8)).save(path)
    _, columns, _ = pictures_in(text_of(pages, "/study/demo/compare?with=other"))
    assert columns == ["Original", "demo", "Original", "other"]


def test_trials_show_their_pictures_and_studies_without_any_say_so(pages, tmp_path):
    first, second = (path.name for path in sorted(tmp_path.glob("studies/demo/trials/vit-T*")))
    _, columns, part = pictures_in(text_of(pages, f"/study/demo/compare?a={first}&b={second}"))
    assert columns == ["Original", "demo: vit-T seed 0", "demo: vit-T seed 1"]
    assert part.count('data-rows="4"') == 3
    for path in tmp_path.glob("studies/other/trials/*/pictures/*.png"):
        path.unlink()
    assert "No pictures yet" in text_of(pages, "/study/demo/compare?with=other")


def test_seeds_of_a_size_share_one_label(pages):
    studies = [pages.studies.open(name).state for name in ("demo", "other")]
    first, second = (
        [(study, trial) for trial in study.trials.values() if trial.trial.family == "vit"] for study in studies
    )
    panel = comparison_panel(first, second, Look(), ["demo", "other"])
    assert sorted(re.findall(r">([TB])</text>", panel.svg)) == ["B", "T"]
