"""`transvae`: the one command line. Only light modules are imported here; every verb imports what it needs."""

from __future__ import annotations

import os
import sys

import typer

from transvae_platform.cli import dashboard, data, doctor, evaluate, fit, latent_space, registry, study
from transvae_platform.cli import exchange as _exchange  # noqa: F401 - adds verbs to data
from transvae_platform.cli import steering as _steering  # noqa: F401 - adds verbs to study
from transvae_platform.cli.text import harmless
from transvae_platform.errors import DetachedError, UserError
from transvae_platform.version import SUBMITTED_WITH

app = typer.Typer(
    help="Scaling studies of visual autoencoders: from photographs to scaling curves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(study.app, name="study")
app.add_typer(data.app, name="data")
app.add_typer(registry.app, name="registry")
app.command()(dashboard.dashboard)
app.command()(doctor.doctor)
app.command()(fit.fit)
app.command()(evaluate.evaluate)
app.command()(evaluate.tables)
app.command()(latent_space.density)
app.command()(latent_space.manifold)
app.command()(latent_space.probe)


def main() -> None:
    """Entry point: errors a user can mend become one message and an exit code, Ctrl-C becomes 130."""
    try:
        if submitted_with := os.environ.get(SUBMITTED_WITH):
            from transvae_platform.cluster.versions import refuse_other_versions

            refuse_other_versions(submitted_with)
        app()
    except DetachedError as left:
        print(left, file=sys.stderr)
        sys.exit(left.exit_code)
    except UserError as error:
        print(harmless(f"error: {error}"), file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == 130:  # what typer makes of Ctrl-C
            print("interrupted - the same command continues where this one stopped", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
