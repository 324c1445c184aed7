"""`python -m sakuga`."""

from sakuga.cli import main

if __name__ == "__main__":
    main()
