"""From a config to a decision: stages as functions, and ``train``, ``evaluate`` and ``infer`` that run them."""
