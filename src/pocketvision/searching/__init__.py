"""Networks made for a latency: a search with shared weights, NetAdapt, and who scores for them."""
