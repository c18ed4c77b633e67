"""Long jobs: a task over a table of any size, in shards that are whole or not there; planned, resumed, verified."""
