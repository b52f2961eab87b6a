"""PyTorch: the equations operation by operation, or compiled; on a GPU replayed as a CUDA graph."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mnistbench.backends.base import Availability, Backend, Metrics, Trainer
from mnistbench.datasets import Dataset, Split
from mnistbench.errors import BackendUnavailable
from mnistbench.measurement.clock import timed
from mnistbench.network import Parameters
from mnistbench.threads import resolve
from mnistbench.workload import Network, Workload
