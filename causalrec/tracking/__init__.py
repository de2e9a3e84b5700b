"""Runs in MLflow: a parent run per command, a child run per stage. Tracking never stops a run."""

from causalrec.tracking._models import log_learner
from causalrec.tracking._names import flatten, git_commit, legal_name, package_versions, result_metrics
from causalrec.tracking._runs import Stage, Tracker
from causalrec.tracking._store import resolve_uri, serve_ui

__all__ = [
    "Stage",
    "Tracker",
    "flatten",
    "git_commit",
    "legal_name",
    "log_learner",
    "package_versions",
    "resolve_uri",
    "result_metrics",
    "serve_ui",
]
