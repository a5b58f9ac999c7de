"""`python -m faults`: enters a mount namespace while this process has one thread only, and then runs the campaign."""

from __future__ import annotations

import sys

from faults.disks import enter_namespace

if __name__ == "__main__":
    refusal = enter_namespace()
    # Not before: packages that it imports start threads, and then the kernel refuses a user namespace.
    from faults.campaign import main

    sys.exit(main(refusal=refusal))
