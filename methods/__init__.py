"""Changes how a backbone learns: adapters, regularizers, constraints, and their composition."""
