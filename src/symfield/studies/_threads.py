"""One thread for small tensors, under the name that studies import."""

from symfield.experiments.threads import one_thread

__all__ = ["one_thread"]
