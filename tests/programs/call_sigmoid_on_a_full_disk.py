"""Calls two kernels where nothing can be written to the cache."""

from call_sigmoid import call, kernels, out, z
from numba.core.caching import IndexDataCacheFile


def save(*args):
    raise OSError(28, "No space left on device")


IndexDataCacheFile._save_data = save
kernels.tanh(z, out)
call()
