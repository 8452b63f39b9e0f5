"""`python -m pgha`."""

import sys

if sys.argv[1:2] == ["agent"]:
    from pgha import sigterm

    sigterm.heed()  # before the imports, which take the better part of a second

from pgha.cli import main  # noqa: E402

sys.exit(main())
