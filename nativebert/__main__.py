"""``python -m nativebert`` is the command line."""

from nativebert.cli import main

raise SystemExit(main())
