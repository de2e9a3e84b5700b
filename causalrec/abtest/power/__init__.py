"""Design before the experiment: sample size, power, detectable effect, runtime."""
