"""What the benchmarks share: workloads, the daemon's part, contestants, what a process costs, cells, tables."""
