"""`python -m zarpar`: what scripts/deploy starts."""

from zarpar.cli import main

main()
