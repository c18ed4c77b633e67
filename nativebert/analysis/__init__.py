"""What people do with vectors: find near-duplicates and clusters, label by nearness, evaluate a model against a table, keep vectors for later."""
