"""``python -m causalrec``: the command line."""

from causalrec.cli import main

if __name__ == "__main__":
    main()
