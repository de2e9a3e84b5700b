"""Looks before the end: always valid intervals, group-sequential bounds, a monitor."""
