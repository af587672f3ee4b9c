"""`python -m ops.cli`: the `kindred` command where it is not on the path."""

from ops.cli import main

if __name__ == "__main__":
    main()
