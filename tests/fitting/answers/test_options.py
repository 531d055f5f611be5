"""What a form does not use is refused by name: a document must not record a choice that nobody read."""

import pytest
from tests.fitting.answers.test_identity import refused, table

OPTIONS = [
    ("L(N)", {"delta": 1e-3}, "delta"), ("L(N)", {"residuals": "linear"}, "residuals"),
    ("L(N)", {"least_absolute": True}, "least_absolute"), ("L(N)", {"bins": 3}, "bins"),
    ("L(N)", {"predict": "size == 'G'"}, "predict"), ("power-law", {"at": (1e9,)}, "at"),
    ("power-law", {"margin": 0.02}, "margin"), ("curve", {"far": True}, "far"),
    ("isoflop", {"delta": 1.0}, "delta"), ("envelope", {"level": 0.95}, "level"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "options", "name"), OPTIONS)
def test_unused_options(form, options, name):
    said = refused(table(), form, **options)
    assert f"the form {form} does not use {name}" in said
