"""What the fork server holds ready beside `preload`: a run of a second should not wait for it.

All of our own code is imported here and its state is asked for at the same moment, so that a run executes what its
record names, whatever is edited while its runner is at work. Files are read and parsed; tensors are not touched, for
the reason given in `preload`.
"""

import signal
from contextlib import suppress

import safetensors.torch  # noqa: F401
import torch._dynamo  # noqa: F401  # the first optimizer step imports it

import bench.embedded.model
import bench.engine.heads
import bench.engine.pretrained
import bench.engine.record  # noqa: F401
from bench.engine import checkpoint, env, prefix
from datasets import registry
from methods.catalog import catalog
from methods.outside import imported

for part in catalog().values():
    with suppress(Exception):  # a broken file is the failure of the runs that use it, which say so in their records
        imported(part.module)
registry.names()
env.code_state()
env.cpu_name()
env.versions()
checkpoint._code_hash()
prefix._program()
signal.signal(signal.SIGINT, signal.default_int_handler)  # `preload` had it ignored
