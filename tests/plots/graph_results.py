"""Identifications, to draw."""

from __future__ import annotations

from typing import Any

from causalrec.results import IdentificationResult


def identified(**changes: Any) -> IdentificationResult:
    """A mail whose clicks are a mediator, with a cause of both that is seen and one of the mail that is not."""
    values: dict[str, Any] = {
        "estimand": "ate", "treatment": "mail", "outcome": "spend", "backdoor_variables": ("age",),
        "assumptions": (), "expression": "", "strategy": "backdoor", "instruments": ("lottery",),
        "bad_controls": (("clicks", "mediator: …"), ("lottery", "instrument: …")), "unobserved": ("taste",),
        "edges": (
            ("age", "mail"), ("age", "spend"), ("mail", "clicks"), ("clicks", "spend"), ("lottery", "mail"),
            ("taste", "age"), ("taste", "mail"),
        ),
    }  # fmt: skip
    return IdentificationResult(**(values | changes))
