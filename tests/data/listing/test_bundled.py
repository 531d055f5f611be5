"""The photographs of the quick start are installed with the dependencies, each with a licence."""

import pytest
from PIL import Image

from transvae_platform.data.listing.bundled import BUNDLED, list_bundled
from transvae_platform.errors import SpecError


def test_bundled_photographs_are_installed_with_a_licence_each():
    listing = list_bundled()
    names = listing.table.column("name").to_pylist()
    assert len(names) == sum(map(len, BUNDLED.values())) >= 10
    assert names == sorted(names)
    for path in listing.table.column("path").to_pylist():
        with Image.open(path) as image:
            assert min(image.size) >= 256
    for entries in BUNDLED.values():
        assert all("CC" in licence or "public domain" in licence or "no known" in licence for _, licence in entries)


def test_dependency_without_its_photographs_is_refused(monkeypatch):
    monkeypatch.setitem(BUNDLED, "skimage/data", (("gone.png", "CC0"),))
    with pytest.raises(
        SpecError, match=r"data.source: skimage of this installation has no gone.png - run `make install`"
    ):
        list_bundled()
    monkeypatch.setitem(BUNDLED, "no_such_package/data", (("a.png", "CC0"),))
    monkeypatch.delitem(BUNDLED, "skimage/data")
    with pytest.raises(SpecError, match="bundled photographs need the package no_such_package"):
        list_bundled()
