"""Whole photographs are held out, and the fingerprint names what the samples depend on."""

import shutil

import pytest

from transvae_platform.data.sources import list_photographs
from transvae_platform.data.split import data_fingerprint, split_photographs
from transvae_platform.errors import SpecError


def names(side):
    return {photo.name for photo in side}


@pytest.mark.parametrize(("share", "held"), [(0.01, 1), (0.2, 2), (0.5, 5), (0.9, 9)])
def test_share_of_the_photographs_is_held_out(photos, section, share, held):
    everything = list_photographs(section(photos(10)))
    train, validation = split_photographs(everything, section(holdout=share))
    assert len(validation) == held
    assert names(train) | names(validation) == names(everything)
    assert not names(train) & names(validation)


def test_draw_depends_on_contents_and_seed_and_not_on_names(photos, section):
    folder = photos(10)
    data = section(folder, holdout=0.3)
    held = {photo.sha256 for photo in split_photographs(list_photographs(data), data)[1]}
    for path in sorted(folder.iterdir()):
        path.rename(folder / f"renamed-{path.name}")
    assert {photo.sha256 for photo in split_photographs(list_photographs(data), data)[1]} == held
    draws = {
        frozenset(
            photo.sha256 for photo in split_photographs(list_photographs(data), section(holdout=0.3, seed=seed))[1]
        )
        for seed in range(5)
    }
    assert len(draws) > 1


@pytest.mark.parametrize("holdout", [0.2, ["p0"], ["copy"]])
def test_identical_files_are_on_the_same_side(photos, section, holdout):
    folder = photos(4)
    for index in range(4):
        (folder / f"sub{index}").mkdir()
        shutil.copy(folder / f"p{index}.png", folder / f"sub{index}" / ("copy.png" if index == 0 else "other.png"))
    data = section(folder, holdout=holdout)
    train, validation = split_photographs(list_photographs(data), data)
    assert len(validation) == 2
    assert not {photo.sha256 for photo in train} & {photo.sha256 for photo in validation}


def test_named_photographs_are_held_out(photos, section):
    data = section(photos(4), holdout=["p1", "p3"])
    train, validation = split_photographs(list_photographs(data), data)
    assert (names(train), names(validation)) == ({"p0.png", "p2.png"}, {"p1.png", "p3.png"})


@pytest.mark.parametrize(
    ("holdout", "message"),
    [
        (["p11"], "data.holdout: no photograph is named 'p11' - did you mean 'p1'?"),
        (["zebra"], "data.holdout: no photograph is named 'zebra' - there are: p0, p1, p2"),
        (["p0", "p1", "p2"], "data.holdout: all 3 photographs would be held out, none is left to train on"),
        (0.99, "data.holdout: all 3 photographs would be held out"),
    ],
)
def test_hold_out_that_cannot_be_is_refused(photos, section, holdout, message):
    data = section(photos(3), holdout=holdout)
    with pytest.raises(SpecError) as caught:
        split_photographs(list_photographs(data), data)
    assert message in str(caught.value)


def test_single_photograph_cannot_be_split(photos, section):
    data = section(photos(1))
    with pytest.raises(SpecError, match="none is left to train on"):
        split_photographs(list_photographs(data), data)


def test_fingerprint_changes_with_the_samples_only(photos, section):
    folder = photos(3)
    photographs = list_photographs(section(folder))

    def fingerprint(**changes):
        return data_fingerprint(photographs, section(folder, **changes))

    base = fingerprint()
    assert fingerprint(flip=False) == base
    assert data_fingerprint(photographs, section()) == base  # where the files lie is no part of it
    others = [
        fingerprint(resolution=24), fingerprint(seed=1), fingerprint(holdout=0.2), fingerprint(holdout=["p0"]),
        fingerprint(view={"kind": "crops"}), fingerprint(view={"kind": "crops", "per_photograph": 3}),
        data_fingerprint(photographs[:2], section(folder)),
    ]  # fmt: skip
    assert len({base, *others}) == 1 + len(others)
