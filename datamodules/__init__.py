import os

# Albumentations asks the network for its newest version on import, which stalls on a cluster node.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
