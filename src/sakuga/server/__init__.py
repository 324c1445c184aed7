"""sakuga over HTTP."""
