"""``python -m fwdproxy`` is ``fwdproxy``."""

from fwdproxy.cli import main

main()
