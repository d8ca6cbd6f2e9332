"""Takes a stored run out of the benchmark: folders that peft and timm alone can load, each with its card."""
