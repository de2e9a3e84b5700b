"""Losses of predicted effects that need no truth: those of :mod:`causalrec.nuisance`, beside the other metrics."""

from causalrec.nuisance.losses import dr_loss, r_loss

__all__ = ["dr_loss", "r_loss"]
