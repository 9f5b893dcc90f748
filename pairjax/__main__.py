"""Makes `python -m pairjax` the same as the script `pairjax`."""

import sys

from pairjax.cli.main import main

sys.exit(main())
