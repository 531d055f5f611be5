"""`transvae data ...`: from images to data sets, and a look at what is in them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from transvae_platform.cli.jobs import Address, Follow, same_command

app = typer.Typer(help="Ingest images, look at data sets, extract latents.", no_args_is_help=True)

Home = Annotated[Path, typer.Option(help="Folder of studies and data sets.", envvar="TRANSVAE_HOME")]
DataSetName = Annotated[str, typer.Argument(help="A name, a fingerprint, a folder or a URI.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]


@app.command()
def ingest(
    context: typer.Context,
    location: Annotated[str, typer.Argument(help="A folder, a file or a URI (s3://, gs://, ...).", show_default=False)],
    name: Annotated[str, typer.Option(help="What to call the data set.", show_default=False)],
    resolution: Annotated[int, typer.Option(help="Height and width of a sample in pixels.")] = 256,
    layout: Annotated[str, typer.Option(help="auto, folder, classes, imagenet, coco, webdataset, ...")] = "auto",
    geometry: Annotated[str, typer.Option(help="shorter_side, adm or shorter_side_bilinear.")] = "shorter_side",
    enlarge: Annotated[
        bool | None,
        typer.Option(
            "--enlarge/--no-enlarge", help="Images below the resolution; default only with adm.", show_default=False
        ),
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(
            help="Share held out, 0 for none, 1 for all; default the source's own split, or 0.1.", show_default=False
        ),
    ] = None,
    captions: Annotated[
        str | None,
        typer.Option(help="A JSON Lines file with captions of images that have none beside them.", show_default=False),
    ] = None,
    edits: Annotated[
        str | None,
        typer.Option(
            help="Columns of tables with two images in a row: SOURCE,EDIT,INSTRUCTION[,CAPTION].", show_default=False
        ),
    ] = None,
    quarantine: Annotated[float, typer.Option(help="Largest share of unreadable, and of too small images.")] = 0.001,
    seed: Annotated[int, typer.Option(help="Of the hold-out draw.")] = 0,
    check: Annotated[bool, typer.Option("--check", help="List every unusable file and image; make nothing.")] = False,
    home: Home = Path("runs"),
    address: Address = None,
    follow: Follow = True,
) -> None:
    """Make a data set of a source: decoded, cropped, checked, in shards. The same command again continues it.

    Without --address it runs here, or on the cluster that RAY_ADDRESS names when this machine is its head. With
    --address it becomes a job of that cluster.
    """
    from dataclasses import replace

    from transvae_platform.cli.bar import bar
    from transvae_platform.cli.render_data import print_data_set, print_problems
    from transvae_platform.data.listing.section import list_section
    from transvae_platform.data.making.ingest import ingest as make
    from transvae_platform.data.making.ingest import refuse_taken_name
    from transvae_platform.data.making.problems import find_problems
    from transvae_platform.data.sets.catalogue import check_name, find_data_set, give_name
    from transvae_platform.study.load import read_data

    check_name(name)
    data = read_data(
        {
            "source": "folder", "path": location, "layout": layout, "resolution": resolution, "seed": seed,
            "view": {"kind": "centre", "geometry": geometry, **({} if enlarge is None else {"enlarge": enlarge})},
            "holdout": holdout, "quarantine": quarantine, "captions": captions, "edits": _columns(edits),
        }
    )  # fmt: skip
    if address is not None:
        from transvae_platform.cluster.jobs import Job, check_shared, submit_job

        check_shared("LOCATION", location)
        if captions is not None:
            check_shared("--captions", captions)
        submit_job(Job(same_command(context, "data"), {"data_set": name}), address, home, follow=follow)
        return
    listing = list_section(data, home, skip_broken=check)
    if check:
        with bar("checking") as listen:
            problems = sorted(find_problems(listing, data, listen))
        print_problems(listing, problems)
        raise typer.Exit(1 if problems or listing.broken else 0)
    from transvae_platform.cluster.mapping import ray_mapper

    home = home.resolve()
    refuse_taken_name(listing, data, home, name)
    with ray_mapper(os.environ.get("RAY_ADDRESS")) as mapper, bar("ingesting") as listen:
        manifest = make(listing, data, home, mapper, listen)
    give_name(home, name, manifest)
    print_data_set(replace(find_data_set(home, name), manifest=manifest))  # with what was passed over today


def _columns(edits: str | None) -> dict[str, str | None] | None:
    """What `--edits` says, as the key `data.edits`; without a fourth name sources have no captions."""
    if edits is None:
        return None
    names = edits.split(",")
    if len(names) not in (3, 4) or not all(names):
        from transvae_platform.errors import SpecError

        raise SpecError(
            f"--edits: {edits!r} names {len(names)} columns - give SOURCE,EDIT,INSTRUCTION or SOURCE,EDIT,INSTRUCTION,"
            "CAPTION, e.g. original_image,edited_image,edit_prompt,original_prompt"
        )
    return dict(zip(("source", "edit", "instruction", "caption"), [*names, None], strict=False))


@app.command("list")
def list_all(home: Home = Path("runs"), as_json: AsJson = False) -> None:
    """List the data sets of a home, and below them the folders whose manifest cannot be used."""
    from dataclasses import asdict

    from transvae_platform.cli.render_data import print_data_sets
    from transvae_platform.data.sets.catalogue import look_through

    found, unusable = look_through(home.resolve())
    if as_json:
        document = {"schema_version": 1, "data_sets": [asdict(each) for each in found], "unusable": unusable}
        print(json.dumps(document, indent=1))
    else:
        print_data_sets(found, unusable)


@app.command()
def show(
    data_set: DataSetName,
    out: Annotated[
        Path | None, typer.Option(help="The contact sheet's file; default beside the data set.", show_default=False)
    ] = None,
    split: Annotated[
        Literal["train", "validation"] | None,
        typer.Option(help="Which samples to draw; default train, where there are any.", show_default=False),
    ] = None,
    home: Home = Path("runs"),
) -> None:
    """Print what a data set holds and draw samples of it."""
    from transvae_platform.cli.render_data import print_data_set
    from transvae_platform.data.exchange.sheet import contact_sheet, sheet_path
    from transvae_platform.data.sets.catalogue import find_data_set
    from transvae_platform.data.sets.remote import CACHE_BYTES, default_cache
    from transvae_platform.data.sets.samples import open_data
    from transvae_platform.errors import SpecError

    found = find_data_set(home.resolve(), data_set)
    print_data_set(found)
    if found.manifest.kind == "images":
        train, validation = open_data(found.location, default_cache(), CACHE_BYTES)
        split = split or ("train" if len(train) else "validation")
        path = (out or sheet_path(found, split)).resolve()
        sheet = contact_sheet(train if split == "train" else validation)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sheet.save(path)
        except (OSError, ValueError) as error:  # ValueError: a suffix that Pillow does not know
            raise SpecError(f"--out: {path} cannot be written ({error}) - give another file, e.g. sheet.png") from None
        print(f"sheet:     {path}")


@app.command()
def verify(data_set: DataSetName, home: Home = Path("runs")) -> None:
    """Compare every shard with the manifest, and the manifest with its shards; names all that is damaged."""
    from transvae_platform.cli.bar import bar
    from transvae_platform.cli.render import format_bytes
    from transvae_platform.cli.render_data import counted
    from transvae_platform.data.making.verify import MANIFEST, find_damage
    from transvae_platform.data.sets.catalogue import find_data_set
    from transvae_platform.data.sets.identity import FORMAT
    from transvae_platform.errors import UserError

    found = find_data_set(home.resolve(), data_set)
    shards = found.manifest.shards
    with bar("verifying") as listen:
        damaged = find_damage(found.location, found.manifest, listen)
    if damaged:
        count = sum(file != MANIFEST for file, _ in damaged)
        what = f"{count} of {len(shards)} shards of {data_set} are damaged" if count else f"{data_set} was changed"
        raise UserError(
            f"{what} - delete {found.location} and make or copy the data set again:"
            + "".join(f"\n  {file}: {problem}" for file, problem in damaged)
        )
    if FORMAT not in found.manifest.versions:
        raise UserError(
            f"{data_set}: the shards are sound, but its fingerprint cannot be checked, and with it settings, classes "
            "and quarantine list: manifest.json lacks versions.format, as it is old or was changed - make or copy the "
            "data set again"
        )
    print(f"{counted(len(shards), 'shard')}, {format_bytes(found.manifest.bytes)}: as the manifest says")


@app.command()
def copy(
    data_set: DataSetName,
    destination: Annotated[
        str, typer.Argument(help="A URI, e.g. s3://bucket/imagenet-256, or a folder.", show_default=False)
    ],
    home: Home = Path("runs"),
) -> None:
    """Copy a data set to an object store, from where studies stream it, or back. The same command again continues."""
    from transvae_platform.cli.bar import bar
    from transvae_platform.data.sets.catalogue import find_data_set
    from transvae_platform.data.sets.transfer import copy_set

    found = find_data_set(home.resolve(), data_set)
    with bar("copying") as listen:
        done = 0
        for size in copy_set(found.location, found.manifest, destination):
            done += size
            listen(done, found.manifest.bytes)
    print(destination)
