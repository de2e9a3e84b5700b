"""From a table to aggregates: the one part of ``abtest`` that knows of engines."""
