"""The command line, as ``python -m sentikit``."""

from sentikit.cli import main

if __name__ == "__main__":
    main()
