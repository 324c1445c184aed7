"""`python -m sakuga`, and the command `sakuga`."""

import os


def main() -> None:
    """Run the command line; what goes wrong from here on ends in a sentence."""
    try:
        from sakuga.commands import interrupts, streams

        interrupts.arm()
    except KeyboardInterrupt:
        os._exit(130)
    streams.mend()
    from sakuga.commands.cli import main as run

    run()


if __name__ == "__main__":
    main()
