"""From effects to a decision, and how effects come about: proxies, cannibalisation, segments, funnels."""
