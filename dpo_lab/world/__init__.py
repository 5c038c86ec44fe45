"""The embedded world: short film reviews from a small grammar, whose true reward is known for any text."""
