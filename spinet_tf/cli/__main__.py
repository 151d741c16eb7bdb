"""`python -m spinet_tf.cli`."""

import sys

from spinet_tf.cli import main

sys.exit(main())
