"""`transvae study stop | resume | logs`: verbs for a study that runs, here or on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from transvae_platform.cli.jobs import Address, Follow
from transvae_platform.cli.study import Home, StudyName, Tracking, app, name_of, open_study

PATIENCE = 600.0  # seconds for all trials to save: a checkpoint of billions of parameters takes minutes (assumption)


@app.command()
def stop(
    study: StudyName,
    home: Home = Path("runs"),
    address: Address = None,
    wait: Annotated[bool, typer.Option(help="Wait until it has ended.")] = True,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait; then a job is ended anyway.")] = PATIENCE,
) -> None:
    """Let a running study save and end: every trial writes a checkpoint, none is lost; `resume` continues it."""
    if address is not None:
        from transvae_platform.cluster.remote import stop_there

        print(stop_there(name_of(study), address, home, patience))
        return
    from transvae_platform.errors import UserError
    from transvae_platform.study.stopping import ask_to_stop, wait_until_stopped

    folder = open_study(study, home).folder
    who = ask_to_stop(folder)
    if not wait:
        print(f"{who} was asked to stop")
    elif wait_until_stopped(folder, patience):
        print(f"{who} has ended; its trials are saved")
    else:
        raise UserError(
            f"{who} still runs after {patience:.0f} s: it waits for devices, or saves slowly - wait on, or end it; "
            "what was saved is kept"
        )


@app.command()
def resume(
    study: StudyName,
    home: Home = Path("runs"),
    tracking_uri: Tracking = None,
    address: Address = None,
    follow: Follow = True,
) -> None:
    """Continue a study as it was submitted, without its file; follow it if it runs."""
    if address is not None:
        from transvae_platform.cluster.jobs import Job, submit_job

        name = name_of(study)
        submit_job(Job(("study", "resume", name), {"study": name}, tracking_uri), address, home, follow=follow)
        return
    from transvae_platform.cli.running import run_here
    from transvae_platform.study.identity import submitted_spec

    run_here(submitted_spec(open_study(study, home)), home, tracking_uri)


@app.command()
def logs(study: StudyName, address: Address = None, follow: Follow = True) -> None:
    """Show the output of a study's newest job, until it ends; Ctrl-C leaves the job running."""
    from transvae_platform.errors import SpecError

    if address is None:
        raise SpecError(
            "--address: only jobs of a cluster have logs - a study that runs here shows its progress where it was "
            "submitted, and `transvae study status` shows how it stands"
        )
    from transvae_platform.cluster.remote import show_output

    show_output(name_of(study), address, follow=follow, write=lambda text: print(text, end=""))
