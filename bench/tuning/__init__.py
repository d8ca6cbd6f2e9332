"""Search on validation images: spaces, samplers, the search, the rules of choice, the budget curve."""
