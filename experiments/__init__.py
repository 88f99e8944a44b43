"""The scripts that a person starts: the notebooks' experiments, tools, lessons, benchmarks."""
