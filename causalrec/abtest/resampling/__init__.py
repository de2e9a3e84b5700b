"""Bootstrap, permutation and A/A simulation: blocks of replicates in bounded memory."""
