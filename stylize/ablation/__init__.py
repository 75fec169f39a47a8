"""One painting learned with several norms, all else equal, and what that shows."""
