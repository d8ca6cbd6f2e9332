"""One file per command, each with its options and its action; found by themselves."""
