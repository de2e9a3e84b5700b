"""causalrec: what did it cause, for whom, and what should we do next?"""

from causalrec.exceptions import CausalRecError

__version__ = "0.1.0"

__all__ = ["CausalRecError", "__version__"]
