"""How kernels walk a network: records, threads, layers, batches; they emit no IR."""
