"""The registered regularizers, one paper or idea per file; the catalog finds them by itself."""
