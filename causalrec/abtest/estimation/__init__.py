"""Layer one: an effect, its standard error and degrees of freedom, from moments."""
