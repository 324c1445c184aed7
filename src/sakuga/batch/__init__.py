"""Many pictures into one folder: a job, its journal, and the processes that draw it."""
