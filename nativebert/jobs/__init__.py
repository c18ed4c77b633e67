"""Long jobs: a task over a table of any size, in shards, each written completely or not at all; planned, resumed, verified."""
