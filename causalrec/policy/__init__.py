"""What to do about it: whom to treat under a budget, what that gains, costs and earns."""

__all__: list[str] = []
