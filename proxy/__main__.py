"""``python -m proxy``: the `ringfence` command."""

from proxy.cli import main

if __name__ == "__main__":
    main()
