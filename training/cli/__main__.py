"""`python -m tailmoe.training.cli`, as launchers of several processes start it."""

import sys

from tailmoe.training.cli import main

sys.exit(main())
