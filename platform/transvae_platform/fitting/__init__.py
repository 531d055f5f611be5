"""Scaling laws of a study: rows of (family, size, seed, x, loss) in, fitted laws with honest intervals out.

Imports nothing of this platform and needs only numpy and scipy. Sources: Chinchilla (arXiv 2203.15556), its
replication by Besiroglu et al. (arXiv 2404.10102), variable projection for scaling laws (vpnls, arXiv 2603.22339).
"""

from transvae_platform.fitting.answers.answer import answer
from transvae_platform.fitting.answers.request import Request
from transvae_platform.fitting.laws.forms import UserForm, register
from transvae_platform.fitting.refusals import Refusal
from transvae_platform.fitting.report import FamilyFit, FitReport, Prediction
from transvae_platform.fitting.runs.read import Runs, TableError, read_runs, runs_of
from transvae_platform.fitting.study import fit_families
from transvae_platform.fitting.table import Point

__all__ = [
    "FamilyFit", "FitReport", "Point", "Prediction", "Refusal", "Request", "Runs", "TableError", "UserForm", "answer",
    "fit_families", "read_runs", "register", "runs_of",
]  # fmt: skip
