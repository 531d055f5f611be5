"""The page of table 2: settings apart, spread and floors beside, the paper's parts as printed."""

import re

import numpy as np
import pytest

from transvae_dashboards.figures.latents import comparable_densities, density_panels, told_apart
from transvae_dashboards.figures.probes import comparable_probes, probe_epoch_panel, probe_size_panel
from transvae_dashboards.follow.study import FollowedStudy
from transvae_dashboards.printed import makers
from transvae_dashboards.scene import Scene
from transvae_dashboards.table2 import render
from transvae_dashboards.views.latents import maps
from transvae_dashboards.views.tables import in_order
from transvae_platform.evaluation.latent_space.records import LatentRecord, keep_map

PAPERS = {
    "grid__ladder": "paper", "grid__code": "f16d32", "data__resolution": 256, "recipe__losses": {"vf": {"weight": 0.1}},
}  # fmt: skip


def density(name, n=1000):
    values = {"density_cv": 0.21, "normalised_entropy": 0.997, "gini": 0.12}
    result = {"n": n, "runs": 10, "mean": values, "spread": dict.fromkeys(values, 0.004),
              "settings": {"perplexity": 30.0},
              "floors": {"uniform disc": dict.fromkeys(values, 0.1567)}}  # fmt: skip
    latents = {"name": name, "model": {"name": "m"}, "content": "sample", "resolution": 256, "images": "f"}
    return LatentRecord(name, "density", latents, result, {})


def probe(name, **changes):
    protocol = {"features": "flatten", "solver": "lbfgs", "c": [0.316], "iterations": 1000, "epochs": 100,
                "batch_size": 9,
                "learning_rate": 0.1, "augment": "none", "seed": 0, **changes}  # fmt: skip
    result = {"accuracy": 0.4661, "images": {"train": 90, "validation": 10}, "classes": 3, "chosen_c": 0.316,
              "protocol": protocol}  # fmt: skip
    latents = {"name": name, "model": {"name": "m"}, "content": "mean", "resolution": 256, "images": "f"}
    return LatentRecord(name, "probe", latents, result, {})


def test_maps_that_were_kept_are_drawn_with_their_measures(write_study, tmp_path):
    study = write_study({"vit": "T"})
    study.submit()
    records = [density("ours"), density("theirs"), probe("ours")]
    keep_map(tmp_path, "ours", np.random.default_rng(0).normal(size=(400, 2)))
    (tmp_path / "evaluations" / "latents" / "theirs.npy").write_bytes(b"cut off")
    ((_, drawn),) = maps(Scene(FollowedStudy(study.folder)), records)
    assert drawn.label.startswith("t-SNE map of ours: density CV 0.210")
    assert drawn.svg.count("<use ") >= 400
    names = [panel.name for panel in density_panels(records[:2])]
    assert names == ["latents-density_cv", "latents-normalised_entropy", "latents-gini"]


def test_latents_stand_in_the_order_of_families_and_sizes(write_study, tmp_path):
    study, names = (
        write_study({"vit": "TL", "transvae": "T"}),
        ["another", "demo-transvae-T", "demo-vit-L", "demo-vit-T"],
    )
    study.submit()
    for n, (family, size) in enumerate((("transvae", "T"), ("vit", "L"), ("vit", "T")), start=1):
        study.journal.append(
            "registered", trial=study.find(family, size).id, name=names[n], version=1, uri=f"models:/{names[n]}/1",
            psnr=20.0, sha256=str(n) * 64,
        )  # fmt: skip
    records = [density(name) for name in names]
    for n, record in enumerate(records):
        record.latents["model"] = {"name": record.key, "weights_sha256": str(n) * 64}
    found = in_order(Scene(FollowedStudy(study.folder)), records)
    assert [record.key for record in found] == ["demo-transvae-T", "demo-vit-T", "demo-vit-L", "another"]


def test_spread_and_floor_stand_beside_each_value():
    text = render([density("ours")])
    assert "0.2100 ± 0.0040" in text
    assert "floor: uniform disc" in text
    assert "0.1567" in text


def test_what_cannot_be_ranked_is_said():
    apart = density("c")
    apart.result["mean"] |= {"gini": 0.2}
    text = render([density("a"), density("b"), apart])
    assert "overlap: a and b by density cv, normalised entropy, gini." in text
    assert "overlap: a and c by density cv, normalised entropy." in text


def test_other_settings_have_a_table_of_their_own():
    assert render([density("a"), density("b")]).count("<h2>Density of the latents") == 1
    assert render([density("a"), density("b", n=999)]).count("<h2>Density of the latents") == 2
    others = density("b")
    others.latents["images"] = "g"
    assert render([density("a"), others]).count("<h2>Density of the latents") == 2
    assert render([probe("a"), probe("b", epochs=3)]).count("<h2>Linear probe") == 1  # epochs are of sgd
    assert render([probe("a"), probe("b", features="gap")]).count("<h2>Linear probe") == 2
    assert "46.61" in render([probe("a")])


def test_charts_are_of_latents_of_one_kind_and_of_the_same_images():
    larger, means = density("larger"), density("means")
    larger.latents["images"], means.latents["content"] = "g", "mean"
    first = density("first")
    assert comparable_densities([first, larger, means, density("second")]) == [first, density("second")]
    of_others = probe("b")
    of_others.latents["images"] = "g"
    assert comparable_probes([probe("a"), of_others]) == [probe("a")]


def test_the_papers_parts_are_whole():
    text = render([])
    assert "No latents were measured yet" in text
    for printed in ("58.77", "14.87", "0.9976", "0.126", "0.66 / 0.58", "34.06 / 36.38", "33.52"):
        assert printed in text


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["s-micro-transvae-L-no-vf/1", "s-micro-transvae-T/1"], ["L-no-vf/1", "T/1"]),
        (["s-micro-vit-L/1", "s-micro-transvae-L/1"], ["vit-L/1", "transvae-L/1"]),
        (["one-name/1"], ["one-name/1"]),
        (["same", "same"], ["same", "same"]),
        (["a-b", "a-b-c"], ["b", "b-c"]),
    ],
)
def test_names_in_charts_lack_what_all_of_them_begin_with(names, short):
    assert told_apart(names) == short


def registered(study, trial, sha256):
    """The trial's best checkpoint, as the registry keeps it."""
    name = f"{trial.study}-{trial.label}"
    study.journal.append(
        "registered", trial=trial.id, name=name, version=1, uri=f"models:/{name}/1", psnr=20.0, sha256=sha256
    )


def made_by(record, sha256):
    record.latents["model"] = {"name": "m", "weights_sha256": sha256}
    return record


def test_probes_are_a_curve_over_the_sizes_of_a_family(write_study):
    study = write_study({"vit": "TB", "cnn": "T"})
    study.submit()
    probes = []
    for number, trial in enumerate(study.trials.values()):
        registered(study, trial, f"{number}" * 64)
        probes.append(made_by(probe(f"latents-{trial.label}"), f"{number}" * 64))
        probes[-1].result["accuracy"] = 0.3 + 0.1 * number
    found = makers(study.state(), probes)
    assert {key: trial.trial.label for key, trial in found.items()} == {
        f"latents-{trial.label}": trial.label for trial in study.trials.values()
    }
    panel = probe_size_panel(probes, found)
    assert panel is not None
    assert re.findall(r">(ViT B|CNN T|T)<", panel.svg) == ["T", "ViT B", "CNN T"]
    alone = [record for record in probes if "cnn" in record.key]
    assert probe_size_panel(alone, makers(study.state(), alone)) is None


def test_probes_that_learned_in_epochs_are_curves_along_them():
    learned = probe("learned", solver="sgd")
    learned.result["curve"] = [[1, 0.2], [50, 0.4], [100, 0.45]]
    panel = probe_epoch_panel([learned, probe("older")])
    assert panel is not None
    assert "epoch of the classifier" in panel.svg
    assert "older" not in panel.svg
    assert probe_epoch_panel([probe("older")]) is None


@pytest.mark.parametrize(("images", "beside"), [(50_000, "46.61 (+0.39)"), (10_000, "–")])
def test_paper_stands_beside_a_probe_of_its_model_and_images_only(write_study, images, beside):
    study = write_study({"transvae": "T"}, **PAPERS)
    study.submit()
    (trial,) = study.trials.values()
    registered(study, trial, "a" * 64)
    ours, other = made_by(probe("ours"), "a" * 64), made_by(probe("other"), "b" * 64)
    for record in (ours, other):
        record.result.update(accuracy=0.47, classes=1000, images={"train": 1_281_167, "validation": images})
    text = render([ours, other], [study.state()])
    assert re.findall(r"47\.00</td><td[^>]*>([^<]*)", text) == [beside, "–"]


def test_paper_stands_beside_a_density_made_as_its_was(write_study):
    ours = density("ours", n=10_000)
    ours.latents["model"] = {"name": "sd3.5-vae", "weights_sha256": "a"}
    assert "0.22 (−0.0100)" in render([ours])
    assert "0.22 (−0.0100)" not in render([density("ours", n=10_000)])
    fewer = density("ours")
    fewer.latents["model"] = {"name": "sd3.5-vae", "weights_sha256": "a"}
    assert "0.22 (−0.0100)" not in render([fewer])
