"""The section of generators: a line per latent, a name that says what the number is, a row for every trial."""

import re

import pytest

from transvae_dashboards.figures.generators import generator_panels, metric_of
from transvae_dashboards.live.pages import Pages
from transvae_dashboards.page import render
from transvae_platform.study.journal import Journal

DOWN = {
    "generators": ["micro-S/1", "micro-B/2"], "classes": 1, "recipe": {"steps": 40, "batch_size": 16},
    "curve": {"samples": 64, "inception": "random"}, "sampler": {"times": 10, "guidance": {"scale": 2.5}},
}  # fmt: skip


def validate(writer, trial, **values):
    journal = Journal(
        writer.folder / "trials" / trial.id / "journal.jsonl", clock=writer.clock, steady=lambda: writer.now
    )
    lineage = {"code": "0.1.0+gaaaa"}
    journal.append("started", step=0, resumed_from=0, world=1, device="cpu", attention="sdpa", lineage=lineage)
    for number, step in enumerate((20, 40), start=1):
        metrics = {key.replace("__", "/"): value / number for key, value in values.items()}
        journal.append("validated", step=step, images=16 * step, flops=1e9 * step, metrics=metrics)
    journal.close()


@pytest.fixture
def study(write_study):
    """Two autoencoders, finished, with two generators each, queued."""
    writer = write_study({"transvae": "T", "cnn": "T"}, downstream=DOWN)
    writer.submit()
    for trial in writer.trials.values():
        if trial.generator is None:
            writer.run(trial)
    return writer


def made(writer):
    return [trial for trial in writer.trials.values() if trial.generator]


def test_before_any_validation_the_page_names_what_waits(study):
    page = render(study.state())
    assert "the first validation of a generator makes the first point" in page
    assert page.count("<td>queued</td>") == 4


def test_random_features_are_never_called_fid(study):
    for number, trial in enumerate(made(study), start=1):
        validate(study, trial, val__loss=2.0, val__gfid_random=10.0 * number, val__nfe=9.0)
    state = study.state()
    panels = generator_panels(state)
    assert [panel.name for panel in panels] == ["generators-micro-B-2", "generators-micro-S-1"]
    for panel in panels:
        assert "Fréchet distance of random features (no FID)" in panel.svg
        assert "transvae-T" in panel.svg
        assert "cnn-T" in panel.svg
    page = render(state)
    assert "Inception has random weights in this study" in page
    assert "n = 64, euler, 10 times, shift 0.3, guidance 2.5, random labels, seed 0" in page
    assert "FID of samples" not in page


def test_published_features_are(study):
    for trial in made(study):
        validate(study, trial, val__loss=2.0, val__gfid=40.0)
    assert "FID of samples" in render(study.state())
    assert "Inception has random weights" not in render(study.state())


def test_without_a_curve_the_loss_is_drawn(study):
    one, *rest = made(study)
    validate(study, one, val__loss=2.0)
    assert metric_of(study.state().generators) == "val/loss"
    for trial in rest:
        validate(study, trial, val__loss=2.0, val__gfid=40.0)
    assert metric_of(study.state().generators) == "val/loss"  # what all of them have


def test_autoencoders_keep_their_page(study, write_study):
    validate(study, made(study)[0], val__loss=2.0)
    rows = render(study.state())
    assert "dit-micro" not in rows.split('id="scaling')[1].split("</section>")[0]


def test_curve_of_a_generator_leads_to_its_trial_which_has_curves(study, tmp_path):
    for trial in made(study):
        validate(study, trial, val__loss=2.0, val__gfid_random=10.0)
    page = Pages(tmp_path).answer("/study/demo/latents").body.decode()
    for trial in made(study):
        assert f'<a xlink:href="/study/demo/trial/{trial.id}"' in page  # its line
        assert f'<th scope="row"><a href="/study/demo/trial/{trial.id}"' in page  # its row
    own = Pages(tmp_path).answer(f"/study/demo/trial/{made(study)[0].id}").body.decode()
    assert 'id="chart-curves-loss-step-dit"' in own
    assert "Among the generators" in own


def test_seeds_of_an_autoencoder_share_one_label(write_study):
    writer = write_study({"transvae": "T"}, downstream=DOWN, grid__seeds=(0, 1, 2))
    writer.submit()
    for trial in made(writer):
        validate(writer, trial, val__loss=2.0, val__gfid_random=10.0)
    for panel in generator_panels(writer.state()):
        assert panel.svg.count(">transvae-T</text>") == 1


def test_headline_counts_generators_too(study):
    for trial in made(study):
        validate(study, trial, val__loss=2.0)
    assert re.search(r"<dt>Trials</dt><dd>2 of 6</dd>", render(study.state()))
