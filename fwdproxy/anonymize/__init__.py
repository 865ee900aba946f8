"""What an origin may see of a request. `rewrite` is the only way from a client's head to one that can be sent."""
