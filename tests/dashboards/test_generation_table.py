"""Table 2b's FID column: settings apart, the paper's value only beside a distance that was made as the paper's was."""

import pytest

from transvae_dashboards.generation_table import generation_sections
from transvae_dashboards.table2 import render
from transvae_platform.study.journal import Journal

PAPERS = {
    "generators": ["B/2"], "tokenizers": {"flux-vae": {"model": "flux-vae", "code": "f8d16"}},
    "recipe": {"steps": 200_182}, "evaluation": {"every": 200_182}, "sampler": {"method": "dopri5"},
    "curve": {"samples": 10_000},
}  # fmt: skip


@pytest.fixture
def study(write_study):
    def write(**changes):
        writer = write_study(
            {"transvae": "L"}, downstream={**PAPERS, **changes}, grid__ladder="paper", grid__code="f8d16",
            data__resolution=256,
        )  # fmt: skip
        writer.submit()
        return writer

    return write


def end(writer, **metrics):
    """Every generator ends with these metrics; of two, the second with one more."""
    for number, trial in enumerate(t for t in writer.trials.values() if t.generator):
        path = writer.folder / "trials" / trial.id / "journal.jsonl"
        journal = Journal(path, clock=writer.clock, steady=lambda: writer.now)
        steps = trial.recipe.steps
        lineage = {"code": "0.1.0+gaaaa"}
        journal.append("started", step=0, resumed_from=0, world=1, device="cpu", attention="sdpa", lineage=lineage)
        values = {key.replace("__", "/"): value + number for key, value in metrics.items()}
        journal.append("validated", step=steps, images=steps, flops=1e9, metrics=values)
        journal.append("finished", step=steps)
        journal.close()
    return render([], [writer.state()])


def test_the_papers_value_stands_beside_a_distance_made_as_its_own(study):
    text = end(study(), val__gfid=38.45)
    assert text.count("<h2>Generation on the latents") == 1
    assert "28.72 (+9.73)" in text  # of TransVAE-L
    assert "37.45 (+2.00)" in text  # of FLUX-VAE, with 39.45
    assert "B-2, 200,182 steps of 1,024; n = 10,000, dopri5" in text


@pytest.mark.parametrize(
    "changes", [{"curve": {"samples": 5000}}, {"sampler": {"method": "dopri5", "guidance": {"scale": 2.0}}},
                {"generators": ["B/1"]}, {"recipe": {"steps": 200_000}, "evaluation": {"every": 200_000}}],
)  # fmt: skip
def test_nothing_stands_beside_what_was_made_otherwise(study, changes):
    assert "37.45 (" not in end(study(**changes), val__gfid=38.45)


def test_random_features_are_no_fid_and_have_a_table_of_their_own(study):
    text = end(study(curve={"samples": 10_000, "inception": "random"}), val__gfid_random=38.45)
    assert "no FID" in text
    assert "37.45 (" not in text


def test_what_has_not_ended_is_not_shown(study):
    assert generation_sections([study().state()]) == []
