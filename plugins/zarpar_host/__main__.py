"""Starts zarpar-host: `python3 -I -S <this folder> VERB`. Kept tiny, since Python compiles it at each start."""

import sys

from zarpar_host.cli import main

sys.exit(main(sys.argv[1:]))
