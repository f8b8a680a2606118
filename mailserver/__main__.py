"""Entry point of the ``pli`` command."""

from mailserver.cli.main import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
