"""The fused engine: forward, backward and update of K trials by hand, for the nets of the lectures."""
