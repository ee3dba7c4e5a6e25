#!/bin/bash
# All reward workers are gone for a whole minute.
EDGES_GONE_S=60 exec "$SOURCE_DIR/tests/integration/edges_outbox.sh"
