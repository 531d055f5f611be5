"""The one way in for tables: a Request and Runs, one document per group and metric out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from transvae_platform.fitting.answers import curves, families, laws, views
from transvae_platform.fitting.answers.document import document
from transvae_platform.fitting.answers.prepare import Prepared, prepare
from transvae_platform.fitting.answers.request import FAMILIES, READS, Request
from transvae_platform.fitting.laws.forms import CURVE, ENVELOPE, FRONTIER, ISOFLOP, form_named
from transvae_platform.fitting.runs.read import Runs, TableError
from transvae_platform.fitting.study import over_metrics

# form -> (its variables, kind of document, answer of a group, whether it takes whole curves)
VIEWS: dict[str, tuple[tuple[str, ...], str, Callable[[Prepared], dict[str, Any]], bool]] = {
    FRONTIER: (("C",), "line", views.answer_frontier, False),
    ISOFLOP: (("C", "N"), "isoflop", views.answer_isoflop, False),
    ENVELOPE: (("x",), "envelope", views.answer_envelope, False),
    CURVE: (("images",), "curve", curves.answer_curves, True),
}
# What a variable is called in tables of this platform, where the request names no column.
USUAL = {"N": "parameters", "C": "training_flops", "D": "images", "images": "images"}


def answer(runs: Runs, request: Request, further_metrics: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Documents, JSON-safe. further_metrics: fitted as well, for L(N) with one Holm correction over all.

    Raises:
        TableError: the table or the request cannot be used.
    """
    twice = [m for m in further_metrics if [request.loss, *further_metrics].count(m) > 1]
    if twice:
        raise TableError(f"the loss {twice[0]} is named twice, and would be tested twice")
    requests = [replace(request, loss=metric) for metric in (request.loss, *further_metrics)]
    if request.form == FAMILIES:
        _refuse_unused(request, "families", ("N",))
        return _families(runs, [_usual(r, runs, ("N",)) for r in requests])
    if request.form in VIEWS:
        variables, kind, respond, whole_curves = VIEWS[request.form]
    else:
        try:
            form = form_named(request.form)
        except ValueError as error:
            raise TableError(f"{error}, {', '.join(VIEWS)}") from None
        variables, kind, whole_curves = form.variables, "law", "D" in form.variables

        def respond(prepared: Prepared) -> dict[str, Any]:
            return laws.answer_law(form, prepared)

    _refuse_unused(request, kind, variables)
    return [
        document(kind, prepared, _answered(respond, prepared))
        for r in requests
        for prepared in prepare(runs, _usual(r, runs, variables), variables, whole_curves=whole_curves)
    ]


def _refuse_unused(request: Request, kind: str, variables: Sequence[str]) -> None:
    for name in request.columns:
        others = [text for other, text in request.columns.items() if other != name]
        read = " ".join([*others, *request.predict_columns.values(), request.loss])
        if name not in variables and not re.search(rf"\b{re.escape(name)}\b", read):
            raise TableError(
                f"the form {request.form} does not use -c {name}= - its variables are {', '.join(variables)}"
            )
    unused = request.unused(kind)
    if unused:
        raise TableError(
            f"the form {request.form} does not use {', '.join(unused)}, and a choice that nothing reads must not stand "
            f"in its document - it uses {', '.join(READS[kind])}"
        )


def _answered(respond: Callable[[Prepared], dict[str, Any]], prepared: Prepared) -> dict[str, Any]:
    """What a fit cannot take (a form that is none, points without a line) is an error of the request."""
    try:
        return respond(prepared)
    except TableError:
        raise
    except ValueError as error:
        raise TableError(f"{prepared.runs.source}: {prepared.request.form}: {error}") from None


def _families(runs: Runs, requests: Sequence[Request]) -> list[dict[str, Any]]:
    tables = [list(prepare(runs, r, ("N",), whole_curves=False)) for r in requests]
    documents = []
    for same_group in zip(*tables, strict=True):
        reports = [families.report_of(prepared) for prepared in same_group]
        if len(reports) > 1:
            reports = list(over_metrics(reports))
        documents += [
            document("families", prepared, families.answer_families(prepared, report))
            for prepared, report in zip(same_group, reports, strict=True)
        ]
    return documents


def _usual(request: Request, runs: Runs, variables: Sequence[str]) -> Request:
    named = {v: USUAL[v] for v in variables if v in USUAL and USUAL[v] in runs.columns and v not in request.columns}
    return replace(request, columns={**named, **request.columns})
