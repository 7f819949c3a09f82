"""`python -m heliograph_agent`."""

import sys

from heliograph_agent.cli import main

sys.exit(main())
