"""Between the native wall and the public classes: operations, event loops, worker threads."""
