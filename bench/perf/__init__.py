"""The efficiency benchmark: steps timed in turns, against references and the machine's matrix-product peak."""
