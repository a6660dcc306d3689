import sys

from chatapi.cli import main

sys.exit(main())
