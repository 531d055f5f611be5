"""The data section of a study file: which photographs, how they become samples, how a training goes through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from transvae_platform.study.section import Section, Seed

Holdout = Annotated[
    Annotated[float, Field(ge=0, le=1), Tag("<share>")]
    | Annotated[tuple[str, ...], Field(min_length=1), Tag("<names>")],
    Discriminator(lambda value: "<names>" if isinstance(value, (list, tuple)) else "<share>"),
]

Layout = Literal["auto", "folder", "classes", "imagenet", "coco", "webdataset", "parquet", "huggingface"]
Geometry = Literal["shorter_side", "adm", "shorter_side_bilinear"]

INGEST_KEYS = ("view", "holdout", "quarantine", "seed")
"""What was decided when a data set was made: a study that trains on it cannot change it."""

TABLES = ("parquet", "huggingface")
"""Layouts whose images are rows of tables."""

SMALLEST_SHARE = 1024
"""Choices between data sets or sizes repeat after so many samples or steps, in which each has its exact share."""


def training_sizes(sampling: Sampling, resolution: int) -> tuple[tuple[int, float], ...]:
    """The sizes of the buckets with their shares of the steps, or the one resolution."""
    buckets = sampling.buckets or (Bucket(size=resolution),)
    total = sum(bucket.share for bucket in buckets)
    return tuple((bucket.size, bucket.share / total) for bucket in buckets)


def _refuse_rare(shares: Mapping[str, float], key: str) -> None:
    for name, share in shares.items():
        if share * SMALLEST_SHARE < sum(shares.values()):
            raise ValueError(f"{key}: the share of {name} is below 1/{SMALLEST_SHARE} of the sum, it would never come")


class CentreView(Section):
    """One sample per photograph: the shorter side resized to the resolution, then the central square."""

    kind: Literal["centre"] = "centre"
    geometry: Geometry = "shorter_side"
    """`shorter_side`: antialiased bicubic; `adm`: ADM's crop (LightningDiT's latents); `shorter_side_bilinear`:
    torchvision's Resize and CenterCrop (VA-VAE's evaluation). Published numbers compare at equal geometry only."""
    enlarge: bool = False
    """Whether a photograph with a side below the resolution is enlarged, by the geometry's own filter; otherwise it is
    left out, by name. By default `adm` enlarges, as ADM does, and the others do not."""

    @model_validator(mode="before")
    @classmethod
    def _as_adm_does(cls, values: Any) -> Any:
        return {"enlarge": True, **values} if isinstance(values, dict) and values.get("geometry") == "adm" else values


class CropsView(Section):
    """Many samples per photograph: square crops at random places of the photograph at several scales."""

    kind: Literal["crops"]
    per_photograph: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Crops cut from each photograph."""
    scales: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (1.0, 0.5, 0.25)
    """The photograph is shrunk by one of these factors (drawn per crop) before the crop is cut."""


class RandomCrop(Section):
    """A random part of every training sample, resized (RandomResizedCrop); keyed by seed, sample and epoch."""

    size: Annotated[int, Field(ge=8, le=4096)]
    """Height and width in pixels of what the model sees; validation takes the central square of this size."""
    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.08, 1.0)
    """Smallest and largest share of the sample's area."""
    ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (3 / 4, 4 / 3)
    """Smallest and largest width / height."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> RandomCrop:
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is a range, the smaller number first: {[high, low]}")
        return self


class Bucket(Section):
    """One of several sizes that the training alternates between."""

    size: Annotated[int, Field(ge=8, le=4096)]
    """Height and width in pixels of what the model sees; samples are resized to it, or cropped to it by `crop`."""
    share: Annotated[float, Field(gt=0)] = 1.0
    """Of the steps, in any unit; every step is a whole batch of one size."""


class Sampling(Section):
    """How training goes through a data set: what is done to a sample, and in which order they come."""

    flip: bool = True
    """Mirror training samples left-right with probability 1/2 (keyed by seed, sample and epoch)."""
    crop: RandomCrop | None = None
    """Cut a random part out of every training sample; none by default."""
    buckets: Annotated[tuple[Bucket, ...], Field(min_length=2)] | None = None
    """Train on several sizes, a step at a time, instead of on one; validation keeps `crop.size` or `resolution`."""
    shuffle_window: Annotated[int, Field(ge=1)] | None = None
    """Shuffle within this many shards at a time, so that no more need be at hand (for data larger than the disks);
    by default over the whole data set."""

    @model_validator(mode="after")
    def _sizes_differ_and_come(self) -> Sampling:
        sizes = [bucket.size for bucket in self.buckets or ()]
        if len(set(sizes)) != len(sizes):
            raise ValueError(f"buckets names a size twice: {sizes}")
        _refuse_rare({str(bucket.size): bucket.share for bucket in self.buckets or ()}, "buckets")
        return self


class EditColumns(Section):
    """Columns of a table whose rows hold two images, one an edit of the other (names: InstructPix2Pix's set)."""

    source: str = "original_image"
    """The image that was edited,"""
    edit: str = "edited_image"
    """and what became of it."""
    instruction: str = "edit_prompt"
    """How the one is made of the other: the edit's caption."""
    caption: str | None = "original_prompt"
    """What the source shows: its caption; null: sources have none, which text-to-image studies refuse."""

    @model_validator(mode="after")
    def _are_two_images(self) -> EditColumns:
        if self.source == self.edit:
            raise ValueError(f"edits: source and edit are the same column {self.source!r}")
        return self


class Data(Section):
    """Which photographs, how they are cut into samples, and which are held out for validation."""

    source: Literal["bundled", "folder", "dataset", "mixture"]
    """`bundled`: photographs that ship inside scikit-image, scikit-learn and matplotlib; `folder`: your own images;
    `dataset`: a data set that `transvae data ingest` made; `mixture`: several of those."""
    path: str | None = None
    """Of `folder`: where the images lie, relative to the study file, or a URI (s3://, gs://, ...). Of `dataset`: its
    name, its folder or its URI."""
    parts: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=2)] | None = None
    """Of `mixture`: each data set (name, folder or URI) with its share of the training samples, in any unit."""
    layout: Layout = "auto"
    """How the images of `folder` are laid out: plain or class folders, ImageNet, COCO, WebDataset tars, Parquet,
    Hugging Face on disk; `auto` looks."""
    captions: str | None = None
    """Of `bundled` and `folder`: a JSON Lines file with captions, relative to the study file, in lines such as
    `{"file_name": "rocket.jpg", "caption": "a rocket on its pad"}`, with
    `"source": "pad.jpg"` for an edit of that image. WebDataset, Parquet and COCO bring their own."""
    edits: EditColumns | None = None
    """Of `folder` with Parquet or Hugging Face tables: the columns of rows that hold two images, one an edit of the
    other. Each row gives two images of the data set; without this key a table has one image column."""
    resolution: Annotated[int, Field(ge=8, le=4096)]
    """Height and width of a sample in pixels."""
    view: Annotated[CentreView | CropsView, Field(discriminator="kind")] = CentreView()
    """How samples are cut out of a photograph."""
    holdout: Holdout | None = None
    """Whole photographs kept for validation: a share of all, or the names (file stems) of those photographs. By default
    the source's own validation split, or a tenth where it has none. 0: all images are for training, which makes a data
    set that no study can validate on (`transvae data ingest`)."""
    quarantine: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Largest share of images that may be unreadable, and of those that may be too small (both are left out, by name);
    one image always may."""
    sampling: Sampling = Sampling()
    cache_bytes: Annotated[int, Field(ge=10**6)] = 50 * 10**9
    """Local disk per node for shards of a data set on an object store (assumption)."""
    seed: Seed = 0
    """Seed of crop places and of the hold-out draw: the same samples for every trial."""

    @model_validator(mode="after")
    def _path_goes_with_source(self) -> Data:
        if (self.source in ("folder", "dataset")) != (self.path is not None):
            raise ValueError("`path` is needed with `source: folder` and `source: dataset`, and with no other")
        if (self.source == "mixture") != (self.parts is not None):
            raise ValueError("`parts` is needed with `source: mixture`, and with no other")
        if self.captions is not None and self.source not in ("bundled", "folder"):
            raise ValueError(
                "`captions` belongs to `source: bundled` and `source: folder`: other data sets bring theirs"
            )
        if self.layout != "auto" and self.source != "folder":
            raise ValueError("`layout` belongs to `source: folder`")
        if self.edits is not None and (self.source != "folder" or self.layout not in ("auto", *TABLES)):
            raise ValueError("`edits` belongs to `source: folder` with tables (parquet, huggingface)")
        if self.edits is not None and self.captions is not None:
            raise ValueError(
                "`edits` (--edits) names the columns of captions, `captions` (--captions) a file of them - keep one"
            )
        self._refuse_idle_keys()
        if self.model_resolution > self.resolution:
            raise ValueError(f"sampling.crop.size is above the samples' resolution of {self.resolution}")
        for size, _ in self.training_sizes:
            if size > self.resolution:
                raise ValueError(f"sampling.buckets: {size} is above the samples' resolution of {self.resolution}")
        _refuse_rare(self.parts or {}, "parts")
        return self

    def _refuse_idle_keys(self) -> None:
        """A key that changes nothing misleads; one at its default says nothing wrong."""
        is_made = self.source in ("dataset", "mixture")
        fields = type(self).model_fields
        idle = [
            key for key in (INGEST_KEYS if is_made else ("cache_bytes",)) if getattr(self, key) != fields[key].default
        ]
        if idle:
            why = "belong to ingests" if is_made else "belongs to `dataset` and `mixture`"
            names = ", ".join(f"`{key}`" for key in idle)
            raise ValueError(f"{names} {why}: no effect with `source: {self.source}` - remove it")

    @property
    def model_resolution(self) -> int:
        """Height and width in pixels of what the model sees in validation, and in training without buckets."""
        return self.sampling.crop.size if self.sampling.crop else self.resolution

    @property
    def training_sizes(self) -> tuple[tuple[int, float], ...]:
        """Height and width of what the model sees in training, each with its share of the steps (they sum to 1)."""
        return training_sizes(self.sampling, self.model_resolution)

    def decides_samples(self) -> dict[str, Any]:
        """The settings that decide which samples an ingest makes: the rest may differ between studies of one set."""
        return self.model_dump(mode="json", include={"resolution", "view", "holdout", "seed"})
