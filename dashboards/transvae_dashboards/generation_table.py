"""The FID column of table 2b: what generators made of each autoencoder's latents at the end of their training.

Distances share a table only where all that they depend on is the same: generator, steps, number of samples, sampler,
seed, reference images and features. The paper's value stands beside one that was made as the paper's was.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from transvae_dashboards import formats
from transvae_dashboards.figures.generators import NAMES, source_of, words_of
from transvae_dashboards.markup import Html, section, table
from transvae_platform.evaluation.paper import GENERATION
from transvae_platform.study.state import StudyState, TrialState

DISTANCES = ("val/gfid", "val/gfid_random")
PAPER = {"sd3.5-vae": "SD3.5-VAE", "flux-vae": "FLUX-VAE", "transvae-L/f8d16": "TransVAE-L f8d16"}
"""What made the latents -> the paper's row."""
PAPER_STEPS = 200_182  # section 4.1: 160 epochs of 1,281,167 in batches of 1024
PAPER_SAMPLES = 10_000  # table 2b: FID-10k


def generation_sections(states: Sequence[StudyState]) -> list[Html]:
    """A table for each setting under which generators of these studies have ended with a distance."""
    ended = [
        (state, trial, distance)
        for state in states
        for trial in state.generators
        for distance in DISTANCES
        if trial.final.get(distance) is not None
    ]
    ended.sort(key=_setting)
    return [_table(list(group), number) for number, (_, group) in enumerate(groupby(ended, key=_setting))]


Ended = tuple[StudyState, TrialState, str]


def _setting(ended: Ended) -> tuple[str, ...]:
    _, trial, distance = ended
    of, recipe = trial.trial.generator, trial.trial.recipe
    assert of is not None
    assert of.curve is not None
    reference = f"{of.curve.originals:,} {of.curve.against} images of data set {trial.trial.data_fingerprint[:12]}"
    trained = f"{trial.trial.size}, {recipe.steps:,} steps of {recipe.batch_size:,}"
    return distance, trained, f"{words_of(trial)}, against {reference}"


def _table(ended: Sequence[Ended], number: int) -> Html:
    distance, trained, drawn = _setting(ended[0])
    body = [
        [source_of(trial), state.name, str(trial.trial.seed), formats.significant(trial.final[distance], 4),
         _beside(state, trial, distance)]
        for state, trial, _ in ended
    ]  # fmt: skip
    head = ["Latents of", "Study", "Seed", NAMES[distance], "Paper (ours above it)"]
    return section(
        "Generation on the latents", table(head, body, label="Generation on the latents", text=(1, 4)),
        anchor=f"generation-{number}", lead=f"{trained}; {drawn}.",
    )  # fmt: skip


def _beside(state: StudyState, trial: TrialState, distance: str) -> str:
    """The paper's value where the setting is the paper's, else nothing."""
    of, recipe = trial.trial.generator, trial.trial.recipe
    assert of is not None
    assert of.curve is not None
    maker = of.tokenizer.model if of.tokenizer else state.trials[str(of.autoencoder)].trial.model
    made_alike = (
        distance == "val/gfid"
        and maker in PAPER
        and trial.trial.size == "B-2"
        and (recipe.steps, of.curve.samples, of.curve.against) == (PAPER_STEPS, PAPER_SAMPLES, "train")
        and of.sampler.guidance is None
    )
    if not made_alike:
        return formats.NONE
    theirs = GENERATION[PAPER[maker]]
    return f"{theirs:g} ({trial.final[distance] - theirs:+.2f})".replace("-", "−")
