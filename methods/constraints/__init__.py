"""The registered constraints, one paper or idea per file; the catalog finds them by itself."""
