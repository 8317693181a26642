"""Kernels' building blocks in LLVM IR; they know no network."""
