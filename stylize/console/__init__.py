"""Long jobs as a terminal shows them."""
