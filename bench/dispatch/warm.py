"""What the fork server of a cluster task holds ready beside `preload`: a run of a second should not wait for it.

Here alone, because a task runs a copy of the code that nobody edits: what is read once stays true for all its runs.
Files are read and parsed; tensors are not touched, for the reason given in `preload`.
"""

import bench.engine.record  # noqa: F401
from bench.engine import checkpoint, env
from datasets import registry
from methods.catalog import catalog

catalog()
registry.names()
env.code_state()
env.cpu_name()
checkpoint._code_hash()
