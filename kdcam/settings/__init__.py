"""Settings as frozen, closed models, and the words of messages about them."""
