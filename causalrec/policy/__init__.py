"""What to do about it: whom to treat under a budget, what that gains, costs and earns."""

from causalrec.policy.segments import SegmentRule, describe_segments, learn_segments, segment_units

__all__ = ["SegmentRule", "describe_segments", "learn_segments", "segment_units"]
