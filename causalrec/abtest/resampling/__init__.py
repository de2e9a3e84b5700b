"""Bootstrap, permutation and A/A simulation."""
