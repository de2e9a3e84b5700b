"""Beliefs about arms and effects: posteriors, which arm is best, what a wrong choice would cost."""
