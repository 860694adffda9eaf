"""What requests cost as work grows, a small table for each kind of work: `python -m bench.scale`."""
