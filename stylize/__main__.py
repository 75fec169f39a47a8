"""`python -m stylize`, the same as `stylize`."""

from stylize.cli import main

main()
