"""Counts are kept, never for another version, and a table that is damaged or cannot be written only costs time."""

import json

import pytest

from transvae.accounting import count_model
from transvae.memory import count_activations
from transvae.registry import model_config
from transvae_platform.study.counts import SHIPPED, Counts, counting_version

GIVEN = [{"width": 8}, 32]


def never():
    pytest.fail("counted again")


@pytest.fixture
def open_counts(tmp_path):
    return lambda version="a", shipped=None: Counts(tmp_path, version, shipped or tmp_path / "none.json")


def test_a_count_is_made_once(open_counts):
    table = open_counts()
    assert table.get("model", GIVEN, lambda: (1, 2)) == (1, 2)
    assert table.get("model", GIVEN, never) == (1, 2)
    assert open_counts().get("model", GIVEN, never) == (1, 2)


def test_counts_of_another_question_or_version_are_not_taken(open_counts):
    open_counts().get("model", GIVEN, lambda: (1, 2))
    assert open_counts().get("model", [{"width": 9}, 32], lambda: (3,)) == (3,)
    assert open_counts().get("activations", GIVEN, lambda: (4,)) == (4,)
    assert open_counts("b").get("model", GIVEN, lambda: (5,)) == (5,)


def test_a_torn_line_is_counted_again(open_counts, tmp_path):
    open_counts().get("model", GIVEN, lambda: (1, 2))
    (file,) = tmp_path.glob("counts-*")
    file.write_text("\x00{}\n[]\n" + file.read_text()[:-3] + "\n")
    assert open_counts().get("model", GIVEN, lambda: (1, 2)) == (1, 2)
    assert open_counts().get("model", GIVEN, never) == (1, 2)


def test_a_folder_that_cannot_be_written_is_no_fault(tmp_path):
    (tmp_path / "file").write_text("")
    assert Counts(tmp_path / "file", "a").get("model", GIVEN, lambda: (1, 2)) == (1, 2)


def test_the_shipped_table_serves_its_version_only(open_counts, tmp_path):
    shipped = tmp_path / "shipped.json"
    table = open_counts(shipped=shipped)
    table.get("model", GIVEN, lambda: (1, 2))
    assert table.ship() == 1
    elsewhere = tmp_path / "elsewhere"
    assert Counts(elsewhere, "a", shipped).get("model", GIVEN, never) == (1, 2)
    assert Counts(elsewhere, "b", shipped).get("model", GIVEN, lambda: (3, 4)) == (3, 4)


def test_the_table_that_ships_is_of_these_sources():
    assert json.loads(SHIPPED.read_text())["version"] == counting_version(), (
        "models/transvae changed: run `make counts`"
    )


def test_what_ships_is_what_is_counted(tmp_path):
    table, config = Counts(tmp_path, counting_version()), model_config("vit-T/f16d32")
    found = count_model(config, 256)
    flops = (found.encoder_forward_flops, found.decoder_forward_flops, found.training_flops)
    expected = (found.encoder_parameters, found.decoder_parameters, *flops)
    assert table.get("model", [config.to_dict(), 256], never) == expected
    kept = count_activations(config, 256, bf16=True, checkpointing=True)
    assert table.get("activations", [config.to_dict(), 256, True, True], never) == (kept,)
