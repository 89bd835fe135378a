"""``python -m sentikit`` is the command line."""

from sentikit.cli import main

if __name__ == "__main__":
    main()
