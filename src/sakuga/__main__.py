"""`python -m sakuga`."""

from sakuga.commands.cli import main

if __name__ == "__main__":
    main()
