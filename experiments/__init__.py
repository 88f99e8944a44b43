"""What a person starts: the notebooks' experiments, tools, lessons and benchmarks."""
