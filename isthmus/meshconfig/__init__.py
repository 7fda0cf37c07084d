"""What istiod's mesh configuration has to say of ours, what one does say, and on how many shards we served before."""
