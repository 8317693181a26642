"""The benchmarks of fastbp, run by asv from the folder above."""
