"""`transvae doctor`: look at everything a study needs, change nothing, say what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from transvae_platform.cli.study import AsJson, Home, Tracking, refuse_unknown

if TYPE_CHECKING:
    from transvae_platform.cluster.doctor import Finding


def doctor(
    study: Annotated[str | None, typer.Argument(help="A study's name, or its file.", show_default=False)] = None,
    home: Home = Path("runs"),
    tracking_uri: Tracking = None,
    as_json: AsJson = False,
) -> None:
    """Check home, study, data, MLflow and machine (or the cluster of RAY_ADDRESS), and say what to do. Changes nothing.

    Ends with 1 if something is wrong, else with 0.
    """
    from transvae_platform.cluster.doctor import examine
    from transvae_platform.study.load import load_study

    spec = load_study(Path(study)) if study and study.endswith((".yaml", ".yml")) else None
    name = spec.study if spec else study
    if study and not spec:
        refuse_unknown(study, home)
    findings = examine(home.resolve(), name, spec, tracking_uri, os.environ.get("RAY_ADDRESS"))
    if as_json:
        print(json.dumps({"schema_version": 1, "findings": [vars(finding) for finding in findings]}, indent=1))
    else:
        _print(findings)
    if any(finding.verdict == "wrong" for finding in findings):
        raise typer.Exit(1)


def _print(findings: list[Finding]) -> None:
    from transvae_platform.cli.tables import console

    out = console()
    colours = {"ok": "green", "warn": "yellow", "wrong": "red"}
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        way_out = f" - {finding.way_out}" if finding.way_out else ""
        out.print(f"[{colours[finding.verdict]}]{finding.verdict:<5}[/]", end=" ")
        out.print(
            f"{finding.check:<{width}}  {' '.join(finding.what.split())}{way_out}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
